package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The floor is what the machine does without us, measured by the plainest program: one 128-byte record written into a
// file of real zeros and fdatasynced, again and again, on the servers' file system, alone and then with as many other
// processes doing the same as there are other servers; a UDP ping-pong between two processes; and the raw bound of a put and
// of a get (raw_linux.go).

const (
	floorRecord = 128      // bytes
	floorFile   = 16 << 20 // bytes; the loop begins again at its end
)

// floorTime is how long each part of the floor is measured: a second, less where the rows are shorter.
func (c *Config) floorTime() time.Duration { return min(time.Second, c.Duration) }

// floorRun is one measurement of the floor.
type floorRun struct {
	alone, neighbours, echo *hdrhistogram.Histogram // ns
	rawPut, rawGet          *hdrhistogram.Histogram
	syncs, seconds          float64 // of alone
}

func (c *Config) floor(ctx context.Context, dir string, others int) (*floorRun, error) {
	fmt.Fprintln(c.Log, "measuring the floor")
	place, err := os.MkdirTemp(dir, "floor-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(place)
	f := &floorRun{alone: newHistogram(), neighbours: newHistogram()}
	file, err := prepareFile(filepath.Join(place, "own"), floorFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if f.seconds, err = syncLoop(ctx, file, f.alone, c.floorTime()); err != nil {
		return nil, err
	}
	f.syncs = float64(f.alone.TotalCount())
	if err := c.withNeighbours(ctx, place, others, func() error {
		_, err := syncLoop(ctx, file, f.neighbours, c.floorTime())
		return err
	}); err != nil {
		return nil, err
	}
	if f.echo, err = c.raw(ctx, "", 0, c.floorTime()); err != nil {
		return nil, err
	}
	if f.rawGet, err = c.raw(ctx, "", others, c.floorTime()); err != nil {
		return nil, err
	}
	f.rawPut, err = c.raw(ctx, place, others, c.floorTime())
	return f, err
}

// prepareFile makes a file of so many real zeros, on disk before anything is measured.
func prepareFile(name string, size int64) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		_, err = file.WriteAt(zeros, off)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// syncLoop writes and syncs record after record for so long; it gives the seconds it took.
func syncLoop(ctx context.Context, file *os.File, latency *hdrhistogram.Histogram, long time.Duration) (float64, error) {
	record := make([]byte, floorRecord)
	for i := range record {
		record[i] = byte(i + 1)
	}
	began := time.Now()
	for off := int64(0); time.Since(began) < long && ctx.Err() == nil; off = (off + floorRecord) % floorFile {
		start := time.Now()
		if _, err := file.WriteAt(record, off); err != nil {
			return 0, err
		}
		if err := syncData(file); err != nil {
			return 0, fmt.Errorf("%s: sync: %w", file.Name(), err)
		}
		latency.RecordValue(min(int64(time.Since(start)), longest))
	}
	return time.Since(began).Seconds(), ctx.Err()
}

// withNeighbours runs measure while other processes sync beside it.
func (c *Config) withNeighbours(ctx context.Context, place string, others int, measure func() error) error {
	var helpers []*helper
	defer func() {
		for _, h := range helpers {
			h.end()
		}
	}()
	for i := range others {
		h, err := startHelper(c.Helper("sync", filepath.Join(place, fmt.Sprintf("neighbour-%d", i))))
		if err != nil {
			return err
		}
		helpers = append(helpers, h)
	}
	for _, h := range helpers {
		if _, err := h.line(); err != nil {
			return err
		}
	}
	return measure()
}

// raw measures the raw bound of a cluster of a leader and others; with a place, where their files are, of a put. Without
// others it is the ping-pong.
func (c *Config) raw(ctx context.Context, place string, others int, long time.Duration) (*hdrhistogram.Histogram, error) {
	path := func(name string) string {
		if place == "" {
			return ""
		}
		return filepath.Join(place, name)
	}
	var helpers []*helper
	defer func() {
		for _, h := range helpers {
			h.end()
		}
	}()
	start := func(args ...string) (port string, err error) {
		h, err := startHelper(c.Helper(args...))
		if err != nil {
			return "", err
		}
		helpers = append(helpers, h)
		return h.line()
	}
	leader := []string{"leader", path("raw-leader")}
	for i := range others {
		port, err := start("follower", path(fmt.Sprintf("raw-follower-%d", i)))
		if err != nil {
			return nil, err
		}
		leader = append(leader, port)
	}
	port, err := start(leader...)
	if err != nil {
		return nil, err
	}
	latency := newHistogram()
	return latency, askLoop(ctx, port, latency, long)
}

// helper is a process of ours beside this one. It ends when its standard input does, so it never outlives us.
type helper struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startHelper(cmd *exec.Cmd) (*helper, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("a helper process: %w", err)
	}
	return &helper{cmd, in, bufio.NewReader(out)}, nil
}

// line is the next thing a helper says: that it is ready.
func (h *helper) line() (string, error) {
	text, err := h.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("a helper process ended early: %w", err)
	}
	return strings.TrimSpace(text), nil
}

func (h *helper) end() {
	h.in.Close()
	h.cmd.Wait()
}

// Help is the life of a helper process: `sync FILE`, `follower FILE` and `leader FILE PORT...`, until standard input
// ends. A leader or a follower without a file ("") writes nothing.
func Help(args []string, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, in)
		stop()
	}()
	switch {
	case len(args) == 4 && args[0] == "take":
		return take(ctx, args[1:], out)
	case len(args) == 6 && args[0] == "offer":
		return offer(ctx, args[1:], out)
	case len(args) == 2 && args[0] == "sync":
		file, err := prepareFile(args[1], floorFile)
		if err != nil {
			return err
		}
		defer file.Close()
		fmt.Fprintln(out, "ready")
		for ctx.Err() == nil {
			if _, err := syncLoop(ctx, file, newHistogram(), time.Hour); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	case len(args) == 1 && strings.HasPrefix(args[0], "echo"):
		return echo(ctx, args[0], out)
	case len(args) == 2 && args[0] == "follower":
		return rawFollower(ctx, args[1], out)
	case len(args) >= 2 && args[0] == "leader":
		return rawLeader(ctx, args[1], args[2:], out)
	}
	return fmt.Errorf("a helper does not know %q", args)
}
