package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/cmd/balsa/local"
)

func benchCommand(s *streams) *cobra.Command {
	cmd := group("bench", "measure a cluster, beside what the machine can do",
		benchSuiteCommand(s, "commit", "acknowledged puts, closed loop"),
		benchSuiteCommand(s, "read", "linearizable gets, closed loop"),
		benchElectionCommand(s),
		benchWALCommand(s),
		benchWireCommand(s),
		benchHelperCommand(s))
	for _, name := range []string{"mixed", "all", "ab", "compare"} {
		cmd.AddCommand(laterCommand(name))
	}
	return cmd
}

// laterBenchFlags are those that the interface promises and this version does not have.
var laterBenchFlags = []string{"rate", "trials", "processes"}

func benchSuiteCommand(s *streams, suite, about string) *cobra.Command {
	c := bench.Config{Suite: suite}
	var flags clientFlags
	var nodes int
	var dir string
	cmd := &cobra.Command{
		Use: suite, Short: about, Args: noWords,
		Example: fmt.Sprintf("balsa bench %s --local 3\nbalsa bench %s --local 3 --clients 1,64,512 --duration 10s --out results", suite, suite),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range laterBenchFlags {
				if cmd.Flags().Changed(name) {
					return notYet("bench --" + name)
				}
			}
			if err := c.Check(); err != nil {
				return usagef("bench %s: %w", suite, err)
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			c.Version = thisVersion().Commit
			c.Log = s.err
			c.Helper = func(args ...string) *exec.Cmd {
				return exec.Command(binary, append([]string{"bench", "helper"}, args...)...)
			}
			if c.Leases && !cmd.Flags().Changed("local") {
				return usagef("bench %s: --leases is for --local: a cluster has them from its founding, or never", suite)
			}
			if !cmd.Flags().Changed("local") {
				if c.Cluster, err = flags.addrs(); err != nil {
					return usagef("bench %s needs --local N, or --cluster HOST:PORT,...", suite)
				}
				return runBench(cmd.Context(), s, c, flags.json())
			}
			if nodes < 1 || nodes > 99 {
				return usagef("--local is %d, want 1 to 99 servers", nodes)
			}
			c.Start = func(ctx context.Context) (bench.Servers, error) {
				return local.Run(ctx, local.Options{Binary: binary, Dir: dir, Nodes: nodes, Init: initFlags(c.Leases)})
			}
			return runBench(cmd.Context(), s, c, flags.json())
		},
	}
	f := cmd.Flags()
	flags.register(f)
	f.IntVar(&nodes, "local", 0, "measure so many servers of its own, started here")
	f.StringVar(&dir, "dir", "", "where the data of --local lives (default: a temporary directory)")
	f.BoolVar(&c.Leases, "leases", false, "with --local: servers that were made with init --leases")
	f.IntSliceVar(&c.Clients, "clients", []int{1, 64, 512}, "numbers of clients, one row each")
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "measured time of each row")
	f.DurationVar(&c.WarmUp, "warm-up", 2*time.Second, "time before it that does not count")
	f.IntVar(&c.Keys, "keys", 100_000, "number of keys")
	f.IntVar(&c.ValueSize, "value-size", 100, "bytes of a value")
	f.Uint64Var(&c.Seed, "seed", 1, "of the choice of keys")
	f.StringVar(&c.Out, "out", "", "a directory for report.json and report.html")
	for _, name := range laterBenchFlags {
		f.String(name, "", "not there yet")
		f.MarkHidden(name)
	}
	return cmd
}

// initFlags are what --leases adds to each init.
func initFlags(leases bool) []string {
	if leases {
		return []string{"--leases"}
	}
	return nil
}

func runBench(ctx context.Context, s *streams, c bench.Config, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	report, err := bench.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("bench %s: %w", c.Suite, err)
	}
	if asJSON {
		return writeJSON(s.out, report)
	}
	return report.WriteText(s.out)
}

// benchHelperCommand is a process that the bench starts beside itself: a neighbour on the disk, or the other end of a
// ping-pong.
func benchHelperCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use: "helper", Hidden: true, Short: "a process of the floor's measurement", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return bench.Help(args, s.in, s.out) },
	}
}
