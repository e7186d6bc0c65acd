package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/cmd/balsa/local"
)

func benchCallsCommand(s *streams) *cobra.Command {
	c := bench.CallsConfig{}
	var sealed bool
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "calls", Short: "system calls, datagrams, syncs and processor time of a put", Args: noWords,
		Example: "balsa bench wire calls\nbalsa bench wire calls --clients 1,64,512 --duration 10s --sealed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Check(); err != nil {
				return usagef("bench wire calls: %w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			c.Version, c.Log = thisVersion().Commit, s.err
			return runCalls(ctx, s, c, sealed, output.value == "json")
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&c.Clients, "clients", []int{1, 64, 512}, "numbers of clients, a row each")
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "of each row")
	f.IntVar(&c.ValueSize, "value-size", 100, "bytes of a value")
	f.Uint64Var(&c.Seed, "seed", 1, "of the choice of keys")
	f.BoolVar(&sealed, "sealed", false, "a cluster with a secret")
	f.StringVar(&c.Out, "out", "", "a directory for report.json")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

func runCalls(ctx context.Context, s *streams, c bench.CallsConfig, sealed, asJSON bool) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	o := local.Options{Binary: binary, Nodes: 3, Serve: []string{"--log-format", "json"}}
	if sealed {
		files, err := passingSecret()
		if err != nil {
			return err
		}
		defer files.remove()
		o.Serve, c.SecretFile = append(o.Serve, files.serve()...), files.client()
	}
	c.Start = func(ctx context.Context) (bench.Counted, error) {
		cluster, err := local.Run(ctx, o)
		return counted{cluster}, err
	}
	report, err := bench.RunCalls(ctx, c)
	if err != nil {
		return fmt.Errorf("bench wire calls: %w", err)
	}
	if asJSON {
		return writeJSON(s.out, report)
	}
	return report.WriteText(s.out)
}

// counted is a cluster whose logs are read at its end.
type counted struct{ *local.Cluster }

func (c counted) LogFiles() (all []string) {
	for _, s := range c.Servers() {
		all = append(all, s.Log)
	}
	return all
}

func (c counted) Stop() error {
	for _, s := range c.Servers() {
		if err := s.Stop(); err != nil {
			return err
		}
	}
	return nil
}
