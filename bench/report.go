package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is everything a run found out; report.json is exactly this.
type Report struct {
	Machine  Machine  `json:"machine"`
	Settings Settings `json:"settings"`
	Seconds  float64  `json:"seconds"` // of the window of each row
	Floor    Floor    `json:"floor"`
	Rows     []Row    `json:"rows"`
}

// Machine is where it ran.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     string `json:"memory"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the servers' directories
	Go         string `json:"go"`
}

// Settings are what was asked for.
type Settings struct {
	Suite     string   `json:"suite"`
	Loop      string   `json:"loop"`
	Servers   int      `json:"servers"`
	Local     bool     `json:"local"` // the servers were started for this run, each a process
	Clients   []int    `json:"clients"`
	Duration  float64  `json:"duration_s"`
	WarmUp    float64  `json:"warm_up_s"`
	Keys      int      `json:"keys"`
	KeyBytes  int      `json:"key_bytes"`
	ValueSize int      `json:"value_size"`
	Seed      uint64   `json:"seed"`
	Processes int      `json:"processes"`         // of the clients
	MaxProcs  int      `json:"client_gomaxprocs"` // processors the clients' process uses
	Started   string   `json:"started"`
	Version   string   `json:"version"`
	Bound     string   `json:"bound"` // how bound_us is made
	Cluster   []string `json:"cluster,omitempty"`
}

// Floor is what the machine does by itself, over both measurements of it: before and after the rows.
type Floor struct {
	SyncPerSecond     float64      `json:"sync_per_s"`
	SyncP50           float64      `json:"sync_p50_us"`
	SyncNeighboursP50 float64      `json:"sync_neighbours_p50_us"`
	RoundTripP50      float64      `json:"udp_rtt_p50_us"`
	Before            *FloorSample `json:"before"`
	After             *FloorSample `json:"after"`
}

// FloorSample is one of the two.
type FloorSample struct {
	SyncPerSecond     float64 `json:"sync_per_s"`
	SyncP50           float64 `json:"sync_p50_us"`
	SyncNeighboursP50 float64 `json:"sync_neighbours_p50_us"`
	RoundTripP50      float64 `json:"udp_rtt_p50_us"`
}

// Row is one number of clients of one suite.
type Row struct {
	Suite        string   `json:"suite"`
	Case         string   `json:"case"`
	Clients      int      `json:"clients"`
	OpsPerSecond float64  `json:"ops_per_s"`
	P50          float64  `json:"p50_us"`
	P90          float64  `json:"p90_us"`
	P99          float64  `json:"p99_us"`
	P999         float64  `json:"p999_us"`
	Max          float64  `json:"max_us"`
	Errors       int64    `json:"errors"`
	Bound        float64  `json:"bound_us"`
	TimesBound   float64  `json:"times_bound"`  // p50 over the bound
	ServerCPU    *float64 `json:"server_cpu_s"` // of all servers in the window; null when they are not ours
	Seconds      float64  `json:"seconds"`      // the window as it was
	Histogram    string   `json:"histogram"`    // HdrHistogram V2, compressed, base64; in ns

	latency *hdrhistogram.Histogram
}

func (c *Config) settings(servers int) Settings {
	s := Settings{
		Suite: c.Suite, Loop: "closed: each client begins an operation when its last one has ended; not to be compared with an open loop",
		Servers: servers, Local: c.Start != nil, Clients: c.Clients, Duration: c.Duration.Seconds(), WarmUp: c.WarmUp.Seconds(),
		Keys: c.Keys, KeyBytes: len(keyBuffer{}), ValueSize: c.ValueSize, Seed: c.Seed, Processes: 1, MaxProcs: 1,
		Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version, Bound: commitBound, Cluster: c.Cluster,
	}
	if c.Suite == "read" {
		s.Bound = readBound
	}
	return s
}

// How the bound is made of the floor.
const (
	commitBound = "2 x udp_rtt_p50_us + sync_neighbours_p50_us: client to leader and back, leader to follower and back, one sync while the other servers sync"
	readBound   = "2 x udp_rtt_p50_us: client to leader and back, leader to follower and back"
)

func microseconds(ns int64) float64 { return float64(ns) / 1e3 }

func newRow(suite string, clients int, seconds float64, h *hdrhistogram.Histogram) Row {
	raw, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		panic(err) // it writes into memory
	}
	name := "put"
	if suite == "read" {
		name = "get"
	}
	return Row{
		Suite: suite, Case: name, Clients: clients, OpsPerSecond: float64(h.TotalCount()) / seconds,
		P50: microseconds(h.ValueAtQuantile(50)), P90: microseconds(h.ValueAtQuantile(90)), P99: microseconds(h.ValueAtQuantile(99)),
		P999: microseconds(h.ValueAtQuantile(99.9)), Max: microseconds(h.Max()), Seconds: seconds, Histogram: string(raw), latency: h,
	}
}

// setFloor puts the two measurements of the floor together, and beside each row its bound.
func (r *Report) setFloor(before, after *floorRun) {
	both := &floorRun{alone: newHistogram(), neighbours: newHistogram(), echo: newHistogram()}
	for _, f := range []*floorRun{before, after} {
		both.alone.Merge(f.alone)
		both.neighbours.Merge(f.neighbours)
		both.echo.Merge(f.echo)
		both.syncs += f.syncs
		both.seconds += f.seconds
	}
	s := both.sample()
	r.Floor = Floor{s.SyncPerSecond, s.SyncP50, s.SyncNeighboursP50, s.RoundTripP50, before.sample(), after.sample()}
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Bound = 2 * r.Floor.RoundTripP50
		if row.Suite == "commit" {
			row.Bound += r.Floor.SyncNeighboursP50
		}
		row.TimesBound = row.P50 / row.Bound
	}
}

func (f *floorRun) sample() *FloorSample {
	return &FloorSample{
		SyncPerSecond: f.syncs / f.seconds, SyncP50: microseconds(f.alone.ValueAtQuantile(50)),
		SyncNeighboursP50: microseconds(f.neighbours.ValueAtQuantile(50)), RoundTripP50: microseconds(f.echo.ValueAtQuantile(50)),
	}
}

// WriteJSON writes report.json.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes a table for people.
func (r *Report) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CLIENTS\tOPS/S\tP50 µs\tP90\tP99\tP99.9\tMAX\tERRORS\tTIMES BOUND\tTIMES FLOOR\tSERVER CPU s\tper 100,000\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		cpu, each := "-", "-"
		if row.ServerCPU != nil {
			cpu = fmt.Sprintf("%.2f", *row.ServerCPU)
			each = fmt.Sprintf("%.2f", *row.ServerCPU/(row.OpsPerSecond*row.Seconds)*1e5)
		}
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%.2f\t%.2f\t%s\t%s\t\n", row.Clients, row.OpsPerSecond, row.P50, row.P90,
			row.P99, row.P999, row.Max, row.Errors, row.TimesBound, row.OpsPerSecond/r.Floor.SyncPerSecond, cpu, each)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	f := r.Floor
	_, err := fmt.Fprintf(out, `
floor: %.0f syncs/s, p50 %.0f µs alone, %.0f µs with %d neighbours; UDP round trip %.1f µs; on %s
       (before: %.0f, %.0f, %.0f, %.1f; after: %.0f, %.0f, %.0f, %.1f)
bound: %s
closed loop, one client process with GOMAXPROCS=%d, %d keys of %d bytes, values of %d bytes
`, f.SyncPerSecond, f.SyncP50, f.SyncNeighboursP50, r.Settings.Servers-1, f.RoundTripP50, r.Machine.FileSystem,
		f.Before.SyncPerSecond, f.Before.SyncP50, f.Before.SyncNeighboursP50, f.Before.RoundTripP50,
		f.After.SyncPerSecond, f.After.SyncP50, f.After.SyncNeighboursP50, f.After.RoundTripP50,
		r.Settings.Bound, r.Settings.MaxProcs, r.Settings.Keys, r.Settings.KeyBytes, r.Settings.ValueSize)
	return err
}
