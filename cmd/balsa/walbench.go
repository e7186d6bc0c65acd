package main

import (
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
)

func walBenchCommand(s *streams) *cobra.Command {
	c := bench.DiskConfig{}
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "bench DIR", Short: "probe the disk: which way of writing is best here", Args: oneDir, DisableFlagsInUseLine: true,
		Long: `bench writes and syncs small files of its own in DIR, in every way in turns, and says which is best there: into space
filled with zeros before, by pwrite and fdatasync, with RWF_DSYNC, with O_DIRECT; into fallocated space; appending.
It leaves nothing behind. balsa bench wal measures the log itself.`,
		Example: "balsa wal bench /var/lib/balsa",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.Check(); err != nil {
				return usagef("wal bench: %w", err)
			}
			c.Dir, c.Log = args[0], s.err
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			report, err := bench.ProbeDisk(ctx, c)
			if err != nil {
				return fmt.Errorf("wal bench: %w", err)
			}
			if output.value == "json" {
				return report.WriteJSON(s.out)
			}
			return report.WriteText(s.out)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&c.Sizes, "sizes", []int{4096, 65536}, "bytes of a write")
	f.DurationVar(&c.Duration, "duration", 2*time.Second, "measured time of each way and size")
	f.IntVar(&c.Trials, "trials", 10, "rounds that it is divided into")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}
