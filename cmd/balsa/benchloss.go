package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/cmd/balsa/local"
)

func benchLossCommand(s *streams) *cobra.Command {
	c := bench.LossConfig{}
	var nodes int
	var dir string
	var sealed bool
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "loss", Short: "a cluster over bad networks: how fast, and whether it does what it promises", Args: noWords,
		Long: `loss starts servers of its own, each behind a chaos-proxy for the other servers and the clients, a new cluster for each
case, and runs clients that write keys of their own and read them back. It ends with an error if an answer was wrong, or if
something still stood still after the network was perfect again.

  none, loss-1, loss-5, loss-30, dup-10, reorder-20    chances in percent
  mtu-600       datagrams of more than 600 bytes vanish
  leader-deaf   for half of the time the leader hears nothing
  rtt-100       50 ms each way`,
		Example: "balsa bench wire loss\nbalsa bench wire loss --case loss-30,mtu-600 --clients 512 --duration 10s --sealed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Check(); err != nil {
				return usagef("bench wire loss: %w", err)
			}
			if nodes < 3 || nodes > 9 {
				return usagef("--local is %d, want 3 to 9 servers", nodes)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			c.Version, c.Log = thisVersion().Commit, s.err
			return runLoss(ctx, s, c, nodes, dir, sealed, output.value == "json")
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.Cases, "case", bench.LossCases(), "networks, a row each")
	f.IntVar(&nodes, "local", 3, "so many servers, started here")
	f.StringVar(&dir, "dir", "", "where their data and logs live, a directory each case (default: temporary ones)")
	f.IntVar(&c.Clients, "clients", 512, "number of clients")
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "measured time of each row")
	f.DurationVar(&c.WarmUp, "warm-up", 2*time.Second, "time before it that does not count")
	f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "of an operation")
	f.IntVar(&c.ValueSize, "value-size", 100, "bytes of a value")
	f.Uint64Var(&c.Seed, "seed", 1, "of the choice of keys")
	f.BoolVar(&sealed, "sealed", false, "a cluster with a secret")
	f.StringVar(&c.Out, "out", "", "a directory for report.json")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

func runLoss(ctx context.Context, s *streams, c bench.LossConfig, nodes int, dir string, sealed, asJSON bool) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	o := local.Options{Binary: binary, Nodes: nodes}
	if sealed {
		files, err := passingSecret()
		if err != nil {
			return err
		}
		defer files.remove()
		o.Serve, c.SecretFile = files.serve(), files.client()
	}
	c.Start = func(ctx context.Context, name, flags string) (bench.Network, error) {
		if dir != "" {
			o.Dir = filepath.Join(dir, name)
		}
		return local.RunBehind(ctx, o, strings.Fields(flags)...)
	}
	report, err := bench.RunLoss(ctx, c)
	if report == nil {
		return fmt.Errorf("bench wire loss: %w", err)
	}
	if asJSON {
		return errors.Join(err, writeJSON(s.out, report))
	}
	return errors.Join(err, report.WriteText(s.out))
}
