package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/wire"
)

func benchWireCommand(s *streams) *cobra.Command {
	c := bench.WireConfig{}
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "wire", Short: "datagrams a second, their cost, and a round trip, beside the bare kernel's", Args: noWords,
		Long: `wire needs no cluster: it sends datagrams over loopback by the ways that this system has (a call each, a call a burst,
segmentation offload), and one to another process and back.`,
		Example: "balsa bench wire\nbalsa bench wire --size 100,1200 --duration 1s --out results",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Check(); err != nil {
				return usagef("bench wire: %w", err)
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			c.Version, c.Log = thisVersion().Commit, s.err
			c.Helper = func(args ...string) *exec.Cmd {
				return exec.Command(binary, append([]string{"bench", "helper"}, args...)...)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			report, err := bench.RunWire(ctx, c)
			if err != nil {
				return fmt.Errorf("bench wire: %w", err)
			}
			if output.value == "json" {
				return writeJSON(s.out, report)
			}
			return report.WriteText(s.out)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&c.Sizes, "size", []int{100, wire.SafeDatagram, 8192}, "bytes of a datagram, a row each")
	f.DurationVar(&c.Duration, "duration", 2*time.Second, "measured time of each row")
	f.StringVar(&c.Out, "out", "", "a directory for report.json")
	f.VarP(output, "output", "o", "form of the answers")
	cmd.AddCommand(benchLossCommand(s), benchBulkCommand(s), benchFloodCommand(s), benchCallsCommand(s))
	return cmd
}
