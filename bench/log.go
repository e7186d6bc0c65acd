package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The suite of the log alone. What it promises: all subjects, the raw floor among them, take turns in short rounds on one
// file system, so that what disturbs the machine disturbs them alike; a latency is that of one batch, from the call to its
// return, when all its records are durable; a burst is counted only within space that was prepared before it, and of a
// sustained run everything counts, the making of space included.

// Log is a log under measurement.
type Log interface {
	// Append returns when all records are durable. The records are the caller's again.
	Append(records [][]byte) error
	// Begin is told before each turn, which is not measured: of a burst, to have space prepared. End follows the turn
	// and is measured: what a log does beside its appends ends with it.
	Begin(burst bool) error
	End() error
	// Spent says that the space prepared for a burst is used up.
	Spent() bool
	Close() error
}

// Ahead is a Log that takes the next batch while the one before it is on its way to the disk, as a server's does. Two are
// under way then; each is synced for itself, and its latency runs from Start to the end of its Wait.
type Ahead interface {
	Log
	// Start lays a batch out and returns. The records are the caller's again.
	Start(records [][]byte) error
	// Wait returns when the oldest batch that was started is durable.
	Wait() error
}

// Subject is a kind of log.
type Subject struct {
	Name string
	Open func(dir string, shape Shape) (Log, error)
}

// Shape is what a log is written with.
type Shape struct {
	Record int // bytes of a record
	Batch  int // records of a batch
}

// The modes of a row.
const (
	Burst     = "burst"
	Sustained = "sustained"
	Recovery  = "recovery"
)

// burstBytes bounds a burst, in bytes of records: every subject has a segment with so much room.
const burstBytes = 24 << 20

// turnBytes bounds a sustained turn, so that a fast log does not fill the disk.
const turnBytes = 2 << 30

// LogConfig says what to measure.
type LogConfig struct {
	Dir      string // on the file system that is meant; empty: the directory for temporary files
	Records  []int
	Batches  []int
	Modes    []string
	Duration time.Duration // of each row
	Trials   int           // turns that a row is divided into
	Recovery int64         // bytes of the log that is recovered; 0: none
	Subjects []Subject     // beside the floor, which is always the first
	Out      string
	Version  string
	Log      io.Writer // progress, for people
}

// Check says what is wrong with a LogConfig.
func (c *LogConfig) Check() error {
	for _, n := range c.Records {
		if n < 8 || n > 32<<10 {
			return fmt.Errorf("records of %d bytes, want 8 to %d", n, 32<<10)
		}
	}
	for _, n := range c.Batches {
		if n < 1 || n > 4096 {
			return fmt.Errorf("batches of %d records, want 1 to 4096", n)
		}
	}
	for _, m := range c.Modes {
		if m != Burst && m != Sustained {
			return fmt.Errorf("no mode %q, want %s or %s", m, Burst, Sustained)
		}
	}
	switch {
	case len(c.Records) == 0 || len(c.Batches) == 0 || len(c.Modes) == 0:
		return fmt.Errorf("nothing to measure: want records, batches and modes")
	case c.Trials < 1 || c.Trials > 1000:
		return fmt.Errorf("%d trials, want 1 to 1000", c.Trials)
	case c.Duration < 10*time.Millisecond*time.Duration(c.Trials):
		return fmt.Errorf("a duration of %v, want 10ms or more for each of %d trials", c.Duration, c.Trials)
	case c.Recovery < 0 || c.Recovery > 64<<30:
		return fmt.Errorf("recovery of %d bytes, want 0 to 64 GiB", c.Recovery)
	}
	return nil
}

// RunLog measures and gives the report, whose files are written when LogConfig.Out is set.
func RunLog(ctx context.Context, c LogConfig) (*LogReport, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	place, err := os.MkdirTemp(c.Dir, "bench-wal-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(place)
	c.Subjects = append([]Subject{RawFloor}, c.Subjects...)
	report := &LogReport{Machine: describe(place), Settings: c.settings(), Seconds: c.Duration.Seconds()}
	for _, record := range c.Records {
		for _, batch := range c.Batches {
			for _, mode := range c.Modes {
				rows, err := c.cell(ctx, place, Shape{record, batch}, mode)
				if err != nil {
					return nil, err
				}
				report.Rows = append(report.Rows, rows...)
			}
		}
	}
	if c.Recovery > 0 {
		row, err := c.recovery(ctx, place)
		if err != nil {
			return nil, fmt.Errorf("recovery: %w", err)
		}
		report.Rows = append(report.Rows, row)
	}
	if c.Out != "" {
		err = saveReport(c.Out, report)
	}
	return report, err
}

// contender is a subject in one cell of the table: it has a log of its own there.
type contender struct {
	Subject
	log Log
	*tally
	flying []time.Time // when each batch under way was started, oldest first
}

// tally is what one subject did in one mode.
type tally struct {
	latency *hdrhistogram.Histogram // ns, a batch
	records float64
	seconds float64
	rates   []float64 // records/s, a turn each
	journal journalCount
}

// cell measures every subject with one shape in one mode, in turns. The first turn of a sustained run is not counted: it
// begins with prepared space that it did not pay for.
func (c *LogConfig) cell(ctx context.Context, place string, shape Shape, mode string) ([]LogRow, error) {
	fmt.Fprintf(c.Log, "%s: records of %d bytes, batches of %d\n", mode, shape.Record, shape.Batch)
	var all []*contender
	defer func() {
		for _, s := range all {
			s.log.Close()
			os.RemoveAll(filepath.Join(place, s.Name))
		}
	}()
	for _, subject := range c.Subjects {
		log, err := subject.Open(filepath.Join(place, subject.Name), shape)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", subject.Name, err)
		}
		all = append(all, &contender{Subject: subject, log: log, tally: &tally{latency: newHistogram()}})
	}
	records := randomRecords(shape)
	turn := c.Duration / time.Duration(c.Trials)
	first := 0
	if mode == Sustained {
		first = -1
	}
	for trial := first; trial < c.Trials; trial++ {
		for i := range all {
			s := all[(i+trial+len(all))%len(all)]
			if trial < 0 {
				s = &contender{Subject: s.Subject, log: s.log, tally: &tally{latency: newHistogram()}}
			}
			if err := s.turn(ctx, mode, records, turn, place); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.Name, mode, err)
			}
		}
	}
	return tabulate(all, mode, shape), nil
}

// randomRecords are the records of a batch: bytes that no log compresses.
func randomRecords(shape Shape) [][]byte {
	random := rand.New(rand.NewPCG(1, uint64(shape.Record)))
	records := make([][]byte, shape.Batch)
	for i := range records {
		records[i] = make([]byte, shape.Record)
		for k := range records[i] {
			records[i][k] = byte(random.Uint32())
		}
	}
	return records
}

// turn lets one log write for so long. What the turn before it left to write back is written first.
func (s *contender) turn(ctx context.Context, mode string, records [][]byte, long time.Duration, place string) error {
	t := s.tally
	size := int64(len(records) * len(records[0]))
	var written, wrote int64
	var spent time.Duration
	var batches float64
	for spent < long && wrote < turnBytes && ctx.Err() == nil {
		if err := s.log.Begin(mode == Burst); err != nil {
			return err
		}
		runtime.GC()
		if err := settleDisk(place); err != nil {
			return err
		}
		before := journalOf(place)
		began := time.Now()
		last := began
		var failed error
		for written = 0; spent+last.Sub(began) < long && ctx.Err() == nil; {
			if mode == Burst && (written+size > max(burstBytes, size) || s.log.Spent()) || wrote+written >= turnBytes {
				break
			}
			if last, failed = s.append(records, last); failed != nil {
				break
			}
			written += size
			batches++
		}
		if err := s.land(0); failed == nil {
			failed = err
		}
		if err := s.log.End(); failed == nil {
			failed = err
		}
		spent += time.Since(began)
		t.journal.add(before, journalOf(place))
		wrote += written
		if failed != nil {
			return failed
		}
		if written == 0 {
			return fmt.Errorf("no batch of %d bytes in a turn", size)
		}
	}
	n := batches * float64(len(records))
	t.records += n
	t.seconds += spent.Seconds()
	t.rates = append(t.rates, n/spent.Seconds())
	return ctx.Err()
}

// append writes a batch and gives the time at which that ended; of a log that takes the next batch meanwhile, it is the batch
// before this one that is then durable.
func (s *contender) append(records [][]byte, began time.Time) (time.Time, error) {
	ahead, ok := s.log.(Ahead)
	if !ok {
		err := s.log.Append(records)
		now := time.Now()
		s.latency.RecordValue(min(int64(now.Sub(began)), longest))
		return now, err
	}
	if err := ahead.Start(records); err != nil {
		return began, err
	}
	s.flying = append(s.flying, began)
	err := s.land(1)
	return time.Now(), err
}

// land waits until no more batches than that are under way.
func (s *contender) land(left int) error {
	for len(s.flying) > left {
		began := s.flying[0]
		s.flying = slices.Delete(s.flying, 0, 1)
		if err := s.log.(Ahead).Wait(); err != nil {
			return err
		}
		s.latency.RecordValue(min(int64(time.Since(began)), longest))
	}
	return nil
}
