package main

import (
	"bufio"
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
)

func walTailCommand(s *streams) *cobra.Command {
	var f dumpFilter
	var count int
	var follow bool
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "tail DIR", Short: "print the last records, and those that come", Args: oneDir, DisableFlagsInUseLine: true,
		Long: `tail prints the last records of a log. With -f it goes on beside the live server, record by record as they are
written, until SIGINT or SIGTERM; it reads only and takes no lock.`,
		Example: "balsa wal tail data/1 -n 20\nbalsa wal tail data/1 -f -o json --type entry",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if count < 0 {
				return usagef("-n is %d, want 0 or more", count)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			t := tail{s: s, dir: args[0], filter: &f, json: output.value == "json"}
			if err := t.run(ctx, count, follow); err != nil {
				return fmt.Errorf("wal tail: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.VarP(output, "output", "o", "form of the answers")
	flags.IntVarP(&count, "lines", "n", 10, "how many records")
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	f.register(flags)
	return cmd
}

// tail shows the end of a log.
type tail struct {
	s      *streams
	dir    string
	filter *dumpFilter
	json   bool
	parts  partReader
}

// tailEvery is how often a follower looks.
const tailEvery = 100 * time.Millisecond

func (t *tail) run(ctx context.Context, count int, follow bool) error {
	report, err := t.last(count)
	if err != nil || !follow {
		return err
	}
	out := bufio.NewWriter(t.s.out)
	f := wal.Follow(vfs.OS, t.dir, &report)
	defer f.Close()
	stuck := 0
	for {
		still, err := f.Next(func(r *wal.Record) error {
			commands := t.parts.commands(r)
			if !t.filter.shows(r, commands) {
				return nil
			}
			return writeRecord(out, r, commands, t.json)
		})
		if flushed := out.Flush(); err == nil {
			err = flushed
		}
		if err != nil {
			return err
		}
		if stuck++; !still {
			stuck = 0
		}
		if stuck == int(5*time.Second/tailEvery) {
			return fmt.Errorf("what stands at the end has been no whole batch for 5 seconds; see balsa wal verify %s", t.dir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailEvery):
		}
	}
}

// last shows the last records. It reads no more segments than it needs for them.
func (t *tail) last(count int) (wal.Report, error) {
	for newest := 1; ; newest++ {
		ring := make([][]byte, 0, min(count, 1024))
		next := 0
		parts := partReader{}
		report, err := scanLog(t.s, t.dir, wal.ScanOptions{Newest: newest}, func(r *wal.Record) error {
			commands := parts.commands(r)
			if count == 0 || !t.filter.shows(r, commands) {
				return nil
			}
			line, err := t.line(r, commands)
			if len(ring) < count {
				ring = append(ring, line)
			} else {
				ring[next] = line
				next = (next + 1) % count
			}
			return err
		})
		if err != nil {
			return report, err
		}
		if len(ring) < count && inUse(&report) >= newest {
			continue
		}
		t.parts = parts
		for i := range ring {
			if _, err := t.s.out.Write(ring[(next+i)%len(ring)]); err != nil {
				return report, err
			}
		}
		return report, nil
	}
}

func inUse(report *wal.Report) int {
	n := 0
	for i := range report.Segments {
		if report.Segments[i].State != "spare" {
			n++
		}
	}
	return n
}

func (t *tail) line(r *wal.Record, commands []kv.Command) ([]byte, error) {
	var b lineBuffer
	err := writeRecord(&b, r, commands, t.json)
	return b, err
}

type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}
