package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"balsa/bench"
	"balsa/wal/vfs"
)

// subjects are the logs beside the floor. Each as its makers ship it, synced after each batch.
func subjects() []bench.Subject {
	return []bench.Subject{bench.BalsaLog(0, vfs.Auto), bench.BalsaAhead(0, vfs.Auto), {Name: "etcd-wal", Open: again(openEtcdWAL)}, {Name: "raft-wal", Open: again(openRaftWAL)},
		{Name: "tidwall-wal", Open: again(openTidwall)}, {Name: "pebble-record", Open: again(openPebble)}, {Name: "bbolt", Open: again(openBolt)}}
}

func runLog(ctx context.Context, args []string) error {
	c := bench.LogConfig{Records: []int{128, 1024}, Batches: []int{1, 64, 1024}, Modes: []string{bench.Burst, bench.Sustained}, Log: os.Stderr}
	f := flag.NewFlagSet("log", flag.ContinueOnError)
	var wanted words
	f.StringVar(&c.Dir, "dir", "", "a directory on the file system that is meant")
	f.Var((*numbers)(&c.Records), "records", "bytes of a record")
	f.Var((*numbers)(&c.Batches), "batches", "records of a batch")
	f.Var((*words)(&c.Modes), "mode", "burst, sustained")
	f.Var(&wanted, "subjects", "which of them (default: all)")
	f.DurationVar(&c.Duration, "duration", 3*time.Second, "measured time of each row")
	f.IntVar(&c.Trials, "trials", 10, "rounds that a row is divided into")
	f.Int64Var(&c.Recovery, "recovery", 1<<30, "bytes of balsa's log that is recovered, 0 for none")
	f.StringVar(&c.Out, "out", "", "a directory for report.json and report.html")
	form := f.String("o", "text", "text or json")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, s := range subjects() {
		if wanted == nil || slices.Contains(wanted, s.Name) {
			c.Subjects = append(c.Subjects, s)
		}
	}
	if wanted != nil && len(c.Subjects) != len(wanted) {
		return fmt.Errorf("--subjects %v: some are not known", wanted)
	}
	report, err := bench.RunLog(ctx, c)
	if err != nil {
		return err
	}
	if *form == "json" {
		return report.WriteJSON(os.Stdout)
	}
	return report.WriteText(os.Stdout)
}

// library is a log of somebody else.
type library interface {
	append(records [][]byte) error
	close() error
}

// renewed is a library's log that begins anew for each burst: then it writes into its first file, which is what it has of
// prepared space. A sustained turn goes on with the log it had.
type renewed struct {
	open func(dir string) (library, error)
	dir  string
	log  library
}

func again(open func(dir string) (library, error)) func(string, bench.Shape) (bench.Log, error) {
	return func(dir string, _ bench.Shape) (bench.Log, error) { return &renewed{open: open, dir: dir}, nil }
}

func (r *renewed) Begin(burst bool) error {
	if r.log != nil && !burst {
		return nil
	}
	if err := r.Close(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	log, err := r.open(r.dir)
	if err == nil {
		r.log = log
	}
	return err
}

func (r *renewed) Append(records [][]byte) error { return r.log.append(records) }
func (r *renewed) End() error                    { return nil }
func (r *renewed) Spent() bool                   { return false }

func (r *renewed) Close() error {
	if r.log == nil {
		return nil
	}
	log := r.log
	r.log = nil
	return log.close()
}
