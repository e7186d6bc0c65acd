package main

import (
	"fmt"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/wal/vfs"
)

func benchWALCommand(s *streams) *cobra.Command {
	c := bench.LogConfig{}
	var modes []string
	var ahead bool
	output := newChoice("text", "json")
	recovery, segment := byteSize(256<<20), byteSize(0)
	cmd := &cobra.Command{
		Use: "wal", Short: "the log alone, beside what the disk can do", Args: noWords,
		Long: `wal writes batches of records into a log of its own, each batch written and synced before the next one is begun (balsa),
or before the next one is written (balsa-ahead, as a server does), in turns with the raw floor: pwrite and fdatasync of
the bare bytes into a file filled with zeros.

  burst       within space that was prepared before it
  sustained   as fast as it goes, the making of space included

Then it measures how fast a log is opened again, from a warm cache.`,
		Example: "balsa bench wal\nbalsa bench wal --dir /var/lib/balsa --records 128 --batches 64 --trials 20 --out results",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Recovery = int64(recovery)
			var err error
			if c.Subjects, err = logSubjects(modes, ahead, int64(segment)); err != nil {
				return err
			}
			if err := c.Check(); err != nil {
				return usagef("bench wal: %w", err)
			}
			c.Version, c.Log = thisVersion().Commit, s.err
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			report, err := bench.RunLog(ctx, c)
			if err != nil {
				return fmt.Errorf("bench wal: %w", err)
			}
			if output.value == "json" {
				return writeJSON(s.out, report)
			}
			return report.WriteText(s.out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Dir, "dir", "", "a directory on the file system that is meant (default: that of temporary files)")
	f.IntSliceVar(&c.Records, "records", []int{128, 1024}, "bytes of a record")
	f.IntSliceVar(&c.Batches, "batches", []int{1, 64, 1024}, "records of a batch")
	f.StringSliceVar(&c.Modes, "mode", []string{bench.Burst, bench.Sustained}, "burst, sustained")
	f.DurationVar(&c.Duration, "duration", 3*time.Second, "measured time of each row")
	f.IntVar(&c.Trials, "trials", 10, "rounds that a row is divided into")
	f.Var(&recovery, "recovery", "size of the log that is recovered, 0 for none")
	f.StringSliceVar(&modes, "sync", []string{vfs.Auto.String()}, "ways of writing, a subject each: auto, buffered, dsync, direct, direct+dsync")
	f.BoolVar(&ahead, "ahead", true, "our log also as a server has it: the next batch is laid out while one is written and synced")
	f.Var(&segment, "segment-size", "size of a log segment (default 64MiB)")
	f.StringVar(&c.Out, "out", "", "a directory for report.json and report.html")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

// logSubjects are our log in each of the modes, if wanted also with two batches under way.
func logSubjects(names []string, ahead bool, segmentBytes int64) ([]bench.Subject, error) {
	var all []bench.Subject
	for _, name := range names {
		i := slices.IndexFunc(vfs.Modes, func(m vfs.Mode) bool { return m.String() == name })
		if i < 0 {
			return nil, usagef("--sync %q: want some of %v", name, vfs.Modes)
		}
		all = append(all, bench.BalsaLog(segmentBytes, vfs.Modes[i]))
		if ahead {
			all = append(all, bench.BalsaAhead(segmentBytes, vfs.Modes[i]))
		}
	}
	return all, nil
}
