// Package bench measures a cluster from outside, as its clients see it, and beside it what the machine itself can do.
//
// What it promises: a figure stands next to the floor that was measured in the same run on the same file system; a
// latency is that of every single operation, from the call to its return, in a histogram that is kept whole; warm-up
// is outside the window in which operations, and the servers' processor time, are counted.
//
// The clients of a closed loop are goroutines of this one process, which runs on one processor (GOMAXPROCS=1): with
// more, the scheduler splits up what would have shared a datagram. The report says so.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Servers is a cluster that was started for a measurement.
type Servers interface {
	Addrs() []string // HOST:PORT of every server
	Pids() []int     // process ids of those that run
	Dir() string     // on the servers' file system
	Close() error
}

// Config says what to measure.
type Config struct {
	Suite     string // commit or read
	Clients   []int  // a row each
	Duration  time.Duration
	WarmUp    time.Duration
	Keys      int
	ValueSize int // bytes
	Seed      uint64
	Out       string // directory of the report's files; empty: none
	Version   string // of what is measured, for the report
	Leases    bool   // Start gives servers whose leader serves reads by a lease, for the report

	Start   func(ctx context.Context) (Servers, error) // starts servers of our own; nil: measure Cluster
	Cluster []string                                   // HOST:PORT of servers that run already
	Helper  func(args ...string) *exec.Cmd             // a process that ends up in Help
	Log     io.Writer                                  // progress, for people
}

// Limits of a Config, beyond which a measurement would say nothing or not fit into this process.
const (
	maxClients   = 100_000
	maxKeys      = 100_000_000
	maxValueSize = 8 << 20
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	if c.Suite != "commit" && c.Suite != "read" {
		return fmt.Errorf("no suite %q", c.Suite)
	}
	if len(c.Clients) == 0 {
		return errors.New("no number of clients")
	}
	for _, n := range c.Clients {
		if n < 1 || n > maxClients {
			return fmt.Errorf("%d clients, want 1 to %d", n, maxClients)
		}
	}
	switch {
	case c.Duration < 100*time.Millisecond:
		return fmt.Errorf("a duration of %v, want 100ms or more", c.Duration)
	case c.WarmUp < 0:
		return fmt.Errorf("a warm-up of %v", c.WarmUp)
	case c.Keys < 1 || c.Keys > maxKeys:
		return fmt.Errorf("%d keys, want 1 to %d", c.Keys, maxKeys)
	case c.ValueSize < 0 || c.ValueSize > maxValueSize:
		return fmt.Errorf("values of %d bytes, want 0 to %d", c.ValueSize, maxValueSize)
	}
	return nil
}

// Run measures and gives the report, whose files are written when Config.Out is set.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if c.Log == nil {
		c.Log = io.Discard
	}
	servers, err := c.servers(ctx)
	if err != nil {
		return nil, err
	}
	report, err := c.measure(ctx, servers)
	if closed := servers.Close(); err == nil && closed != nil {
		err = fmt.Errorf("stopping the servers: %w", closed)
	}
	if err != nil {
		return nil, err
	}
	if c.Out != "" {
		err = saveReport(c.Out, report)
	}
	return report, err
}

func (c *Config) measure(ctx context.Context, servers Servers) (*Report, error) {
	others := len(servers.Addrs()) - 1
	report := &Report{
		Machine: describe(servers.Dir()), Settings: c.settings(len(servers.Addrs())), Seconds: c.Duration.Seconds(),
	}
	before, err := c.floor(ctx, servers.Dir(), others)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	for _, clients := range c.Clients {
		row, err := c.row(ctx, servers, clients)
		if err != nil {
			return nil, fmt.Errorf("%d clients: %w", clients, err)
		}
		report.Rows = append(report.Rows, row)
	}
	after, err := c.floor(ctx, servers.Dir(), others)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	report.setFloor(before, after)
	return report, nil
}

func (c *Config) servers(ctx context.Context) (Servers, error) {
	if c.Start == nil {
		return elsewhere{c.Cluster}, nil
	}
	fmt.Fprintln(c.Log, "starting the servers")
	return c.Start(ctx)
}

// elsewhere are servers that we did not start: their processor time is not ours to read, and the floor is that of the
// directory for temporary files here.
type elsewhere struct{ addrs []string }

func (e elsewhere) Addrs() []string { return e.addrs }
func (e elsewhere) Pids() []int     { return nil }
func (e elsewhere) Dir() string     { return os.TempDir() }
func (e elsewhere) Close() error    { return nil }

// report is what every suite ends with.
type report interface {
	WriteJSON(w io.Writer) error
	WriteHTML(w io.Writer) error
}

// saveReport writes a report's files into a directory, which it makes.
func saveReport(dir string, r report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{"report.json": r.WriteJSON, "report.html": r.WriteHTML} {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(write(file), file.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
