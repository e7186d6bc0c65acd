package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"balsa/kv/client"
)

// The calls part of the wire suite says what a put costs beside its latency: system calls, datagrams, syncs, entries and
// processor time, of all servers together and for each put. A cluster of its own for each number of clients does nothing
// but these puts, and tells its totals when it is stopped; so signs of life and the search of paths are among them.

// CallsConfig says what to count.
type CallsConfig struct {
	Clients    []int
	Duration   time.Duration
	ValueSize  int
	Seed       uint64
	SecretFile string
	Out        string
	Version    string
	Start      func(ctx context.Context) (Counted, error)
	Log        io.Writer
}

// Counted is a cluster whose servers log in JSON and can be stopped before they are closed.
type Counted interface {
	Servers
	LogFiles() []string
	Stop() error // by SIGTERM; returns when all have ended
}

// CallsReport is everything found out; report.json is exactly this.
type CallsReport struct {
	Suite   string     `json:"suite"`
	Machine Machine    `json:"machine"`
	Started string     `json:"started"`
	Version string     `json:"version"`
	Sealed  bool       `json:"sealed"`
	Rows    []CallsRow `json:"rows"`
}

// CallsRow is one number of clients. All but the first four and the last two of the times are of all servers, for each put.
type CallsRow struct {
	Clients      int     `json:"clients"`
	Puts         int64   `json:"puts"`
	PerSecond    float64 `json:"puts_per_s"`
	P50          float64 `json:"p50_us"`
	Receives     float64 `json:"receive_calls"`
	Sends        float64 `json:"send_calls"`
	Looks        float64 `json:"looks"`
	Waits        float64 `json:"waits"`
	Batches      float64 `json:"batches"` // a write and a sync each
	Entries      float64 `json:"entries"` // the leader's
	Turns        float64 `json:"turns"`
	Received     float64 `json:"datagrams_in"`
	Sent         float64 `json:"datagrams_out"`
	Offloaded    float64 `json:"of_them_in_runs"`
	ServerUser   float64 `json:"server_user_us"`
	ServerSystem float64 `json:"server_system_us"`
	ClientUser   float64 `json:"client_user_us"`
	ClientSystem float64 `json:"client_system_us"`
	SystemCalls  float64 `json:"system_calls"`   // receives, sends, looks, a wait and its wake-up, a write and a sync a batch
	CallsPerPart float64 `json:"calls_a_server"` // the same, of one server
}

// Check says what is wrong with a CallsConfig.
func (c *CallsConfig) Check() error {
	probe := Config{Suite: "commit", Clients: c.Clients, Duration: c.Duration, Keys: 1, ValueSize: c.ValueSize}
	return probe.Check()
}

// RunCalls counts, and writes the report if a directory was named.
func RunCalls(ctx context.Context, c CallsConfig) (*CallsReport, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := &CallsReport{Suite: "wire-calls", Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version, Sealed: c.SecretFile != ""}
	for _, clients := range c.Clients {
		fmt.Fprintf(c.Log, "%d clients\n", clients)
		row, err := c.row(ctx, r, clients)
		if err != nil {
			return nil, fmt.Errorf("%d clients: %w", clients, err)
		}
		r.Rows = append(r.Rows, row)
	}
	if c.Out == "" {
		return r, nil
	}
	body, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(c.Out, 0o777)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.Out, "report.json"), append(body, '\n'), 0o666)
	}
	return r, err
}

func (c *CallsConfig) row(ctx context.Context, r *CallsReport, clients int) (row CallsRow, err error) {
	servers, err := c.Start(ctx)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, servers.Close()) }()
	if r.Machine == (Machine{}) {
		r.Machine = describe(servers.Dir())
	}
	store, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 10 * time.Second, SecretFile: c.SecretFile, Compression: "none"})
	if err != nil {
		return row, err
	}
	defer store.Close()
	value := make([]byte, c.ValueSize)
	random := rand.New(rand.NewPCG(c.Seed, 0))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	config := Config{Suite: "commit", Duration: c.Duration, Keys: 100_000, Seed: c.Seed}
	w := &window{operate: func(ctx context.Context, key []byte) error { return store.Put(ctx, key, value) }, keys: config.Keys, latency: newHistogram()}
	if err := store.Put(ctx, []byte("first"), value); err != nil { // when there is a leader
		return row, err
	}
	own := []int{os.Getpid()}
	su, ss, err1 := processorTimes(servers.Pids())
	cu, cs, err2 := processorTimes(own)
	measured, err := w.run(ctx, &config, servers.Pids(), clients)
	suAfter, ssAfter, err3 := processorTimes(servers.Pids())
	cuAfter, csAfter, err4 := processorTimes(own)
	if err = errors.Join(err, err1, err2, err3, err4); err != nil {
		return row, err
	}
	if measured.Errors > 0 {
		return row, fmt.Errorf("%d puts failed: %w", measured.Errors, w.failure)
	}
	if err := servers.Stop(); err != nil {
		return row, err
	}
	t, err := totals(servers.LogFiles())
	if err != nil {
		return row, err
	}
	puts := float64(t.Commands)
	row = CallsRow{Clients: clients, Puts: int64(t.Commands), PerSecond: measured.OpsPerSecond, P50: measured.P50, Receives: t.ReceiveCalls / puts, Sends: t.SendCalls / puts,
		Looks: t.Looks / puts, Waits: t.Waits / puts, Batches: t.Batches / puts, Entries: t.Entries / puts, Turns: t.Turns / puts, Received: t.Received / puts, Sent: t.Sent / puts, Offloaded: t.Offloaded / puts,
		ServerUser: (suAfter - su) * 1e6 / puts, ServerSystem: (ssAfter - ss) * 1e6 / puts, ClientUser: (cuAfter - cu) * 1e6 / puts, ClientSystem: (csAfter - cs) * 1e6 / puts}
	row.SystemCalls = row.Receives + row.Sends + row.Looks + 2*row.Waits + 2*row.Batches
	row.CallsPerPart = row.SystemCalls / float64(len(servers.Addrs()))
	return row, nil
}

// serverTotals are what the servers say at their ends, added up.
type serverTotals struct {
	Message      string  `json:"msg"`
	Commands     float64 `json:"commands"`
	Entries      float64 `json:"entries"`
	Turns        float64 `json:"turns"`
	Batches      float64 `json:"batches"`
	Received     float64 `json:"received"`
	Sent         float64 `json:"sent"`
	ReceiveCalls float64 `json:"receive_calls"`
	SendCalls    float64 `json:"send_calls"`
	Looks        float64 `json:"looks"`
	Waits        float64 `json:"waits"`
	Offloaded    float64 `json:"offloaded"`
}

func totals(logs []string) (sum serverTotals, err error) {
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return sum, err
		}
		told := false
		for line := range strings.Lines(string(text)) {
			var t serverTotals
			if json.Unmarshal([]byte(line), &t) != nil || t.Message != "totals" {
				continue
			}
			told = true
			sum.Commands, sum.Entries, sum.Turns, sum.Batches = sum.Commands+t.Commands, sum.Entries+t.Entries, sum.Turns+t.Turns, sum.Batches+t.Batches
			sum.Received, sum.Sent, sum.ReceiveCalls, sum.SendCalls = sum.Received+t.Received, sum.Sent+t.Sent, sum.ReceiveCalls+t.ReceiveCalls, sum.SendCalls+t.SendCalls
			sum.Looks, sum.Waits, sum.Offloaded = sum.Looks+t.Looks, sum.Waits+t.Waits, sum.Offloaded+t.Offloaded
		}
		if !told {
			return sum, fmt.Errorf("%s has no totals: the server did not end by itself", name)
		}
	}
	if sum.Commands == 0 {
		return sum, errors.New("the servers took no command")
	}
	return sum, nil
}

// WriteText writes a table for people.
func (r *CallsReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CLIENTS\tPUTS/S\tP50 µs\tCALLS\tRECEIVE\tSEND\tLOOKS\tWAITS\tSYNCS\tENTRIES\tTURNS\tIN\tOUT\tIN RUNS\tSERVERS µs\tSYSTEM\tCLIENTS µs\tSYSTEM\t")
	for _, x := range r.Rows {
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", x.Clients, x.PerSecond, x.P50, x.SystemCalls, x.Receives, x.Sends, x.Looks, x.Waits,
			x.Batches, x.Entries, x.Turns, x.Received, x.Sent, x.Offloaded, x.ServerUser, x.ServerSystem, x.ClientUser, x.ClientSystem)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nfor each put, of all servers together, sealed: %v. calls: recvmmsg, sendmmsg, ppoll (looks), two for a wait by the runtime (epoll and the wake-up), two for a sync (write and fdatasync)\nin, out: datagrams; in runs: of those out, left as one with others; then the processor's time, the programs' own and the system's\n", r.Sealed)
	return err
}
