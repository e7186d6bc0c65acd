package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/cmd/balsa/local"
	"balsa/wire"
)

func benchBulkCommand(s *streams) *cobra.Command {
	c := bench.BulkConfig{}
	size, loss := byteSize(1<<30), chance(0.05)
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "bulk", Short: "a file from process to process through a chaos-proxy, with and without loss, and over its sender's death", Args: noWords,
		Example: "balsa bench wire bulk\nbalsa bench wire bulk --size 64MiB --loss 30%",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c.Size, c.Loss = int64(size), float64(loss)
			if err := c.Check(); err != nil {
				return usagef("bench wire bulk: %w", err)
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			if c.Dir, err = os.MkdirTemp(c.Dir, "balsa-bulk-"); err != nil {
				return err
			}
			defer os.RemoveAll(c.Dir)
			c.Version, c.Log = thisVersion().Commit, s.err
			c.Helper = func(args ...string) *exec.Cmd {
				return exec.Command(binary, append([]string{"bench", "helper", "--"}, args...)...)
			}
			c.Proxy = func(to string) (bench.Passage, error) { return local.StartProxy(binary, "127.0.0.1:0", to) }
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			report, err := bench.RunBulk(ctx, c)
			if err != nil {
				return fmt.Errorf("bench wire bulk: %w", err)
			}
			if output.value == "json" {
				return writeJSON(s.out, report)
			}
			return report.WriteText(s.out)
		},
	}
	f := cmd.Flags()
	f.Var(&size, "size", "of the file")
	f.Var(&loss, "loss", "chance that a datagram is lost, each way")
	f.IntVar(&c.Datagram, "datagram", wire.SafeDatagram, "bytes of a datagram")
	f.StringVar(&c.Dir, "dir", "", "where the file and its copy lie for a while (default: the directory for temporary files)")
	f.StringVar(&c.Out, "out", "", "a directory for report.json")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}
