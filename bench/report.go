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
	Leases    bool     `json:"leases,omitempty"` // reads are served by the leader's lease
}

// Floor is what the machine does by itself, over both measurements of it: before and after the rows.
type Floor struct {
	SyncPerSecond     float64      `json:"sync_per_s"`
	SyncP50           float64      `json:"sync_p50_us"`
	SyncNeighboursP50 float64      `json:"sync_neighbours_p50_us"`
	RoundTripP50      float64      `json:"udp_rtt_p50_us"`
	RawPutP50         float64      `json:"raw_put_p50_us"`
	RawGetP50         float64      `json:"raw_get_p50_us"`
	Before            *FloorSample `json:"before"`
	After             *FloorSample `json:"after"`
}

// FloorSample is one of the two.
type FloorSample struct {
	SyncPerSecond     float64 `json:"sync_per_s"`
	SyncP50           float64 `json:"sync_p50_us"`
	SyncNeighboursP50 float64 `json:"sync_neighbours_p50_us"`
	RoundTripP50      float64 `json:"udp_rtt_p50_us"`
	RawPutP50         float64 `json:"raw_put_p50_us"`
	RawGetP50         float64 `json:"raw_get_p50_us"`
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
		Leases: c.Leases,
	}
	if c.Suite == "read" {
		s.Bound = readBound
	}
	return s
}

// How the bound is made.
const (
	commitBound = "raw_put_p50_us: one client, one blocking thread a server, a datagram to the leader, to the followers, a record written and synced by each, a majority, the answer; no Raft, no store"
	readBound   = "raw_get_p50_us: one client, one blocking thread a server, a datagram to the leader, to the followers, a majority, the answer; nothing is written"
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

// floorOf puts the two measurements of the floor together.
func floorOf(before, after *floorRun) Floor {
	both := &floorRun{alone: newHistogram(), neighbours: newHistogram(), echo: newHistogram(), rawPut: newHistogram(), rawGet: newHistogram()}
	for _, f := range []*floorRun{before, after} {
		both.alone.Merge(f.alone)
		both.neighbours.Merge(f.neighbours)
		both.echo.Merge(f.echo)
		both.rawPut.Merge(f.rawPut)
		both.rawGet.Merge(f.rawGet)
		both.syncs += f.syncs
		both.seconds += f.seconds
	}
	s := both.sample()
	return Floor{s.SyncPerSecond, s.SyncP50, s.SyncNeighboursP50, s.RoundTripP50, s.RawPutP50, s.RawGetP50, before.sample(), after.sample()}
}

// setFloor puts the floor beside the rows, and beside each row its bound.
func (r *Report) setFloor(before, after *floorRun) {
	r.Floor = floorOf(before, after)
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Bound = r.Floor.RawGetP50
		if row.Suite == "commit" {
			row.Bound = r.Floor.RawPutP50
		}
		row.TimesBound = row.P50 / row.Bound
	}
}

func (f *floorRun) sample() *FloorSample {
	return &FloorSample{
		SyncPerSecond: f.syncs / f.seconds, SyncP50: microseconds(f.alone.ValueAtQuantile(50)),
		SyncNeighboursP50: microseconds(f.neighbours.ValueAtQuantile(50)), RoundTripP50: microseconds(f.echo.ValueAtQuantile(50)),
		RawPutP50: microseconds(f.rawPut.ValueAtQuantile(50)), RawGetP50: microseconds(f.rawGet.ValueAtQuantile(50)),
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
	if err := r.Floor.writeText(out, r.Machine.FileSystem, r.Settings.Servers); err != nil {
		return err
	}
	leases := ""
	if r.Settings.Leases {
		leases = "reads by the leader's lease, "
	}
	_, err := fmt.Fprintf(out, "\nbound: %s\n%sclosed loop, one client process with GOMAXPROCS=%d, %d keys of %d bytes, values of %d bytes\n",
		r.Settings.Bound, leases, r.Settings.MaxProcs, r.Settings.Keys, r.Settings.KeyBytes, r.Settings.ValueSize)
	return err
}

func (f *Floor) writeText(out io.Writer, fileSystem string, servers int) error {
	fmt.Fprintf(out, "\nfloor on %s, measured before and after the rows:\n", fileSystem)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tSYNCS/S\tSYNC P50 µs\tWITH %d NEIGHBOURS\tUDP ROUND TRIP\tRAW PUT\tRAW GET\t\n", servers-1)
	both := &FloorSample{f.SyncPerSecond, f.SyncP50, f.SyncNeighboursP50, f.RoundTripP50, f.RawPutP50, f.RawGetP50}
	for _, line := range []struct {
		name string
		s    *FloorSample
	}{{"before", f.Before}, {"after", f.After}, {"both", both}} {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.0f\t%.0f\t\n", line.name, line.s.SyncPerSecond, line.s.SyncP50,
			line.s.SyncNeighboursP50, line.s.RoundTripP50, line.s.RawPutP50, line.s.RawGetP50)
	}
	return w.Flush()
}
