package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/bench"
	"balsa/cmd/balsa/local"
)

func benchFloodCommand(s *streams) *cobra.Command {
	c := bench.FloodConfig{}
	var sealed bool
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "flood", Short: "strangers send all they can while clients work", Args: noWords,
		Long: `flood starts three servers of its own, records what they and their clients say, and then sends them as fast as it can
random bytes, garbage behind right headers, what was recorded (whole, cut short, with flipped bits, from other addresses and
from the same), hellos, requests without a token and, if sealed, forged votes. It ends with an error if an answer to a client
was wrong, if a server's memory grew by more than 256 MiB, or if a stranger was answered with more bytes than it sent.`,
		Example: "balsa bench wire flood --duration 60s\nbalsa bench wire flood --duration 60s --sealed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Check(); err != nil {
				return usagef("bench wire flood: %w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			c.Version, c.Log = thisVersion().Commit, s.err
			return runFlood(ctx, s, c, sealed, output.value == "json")
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Clients, "clients", 64, "number of clients")
	f.DurationVar(&c.Duration, "duration", 20*time.Second, "of the flood, and of the time before it")
	f.Uint64Var(&c.Seed, "seed", 1, "of what is sent")
	f.BoolVar(&sealed, "sealed", false, "a cluster with a secret")
	f.StringVar(&c.Out, "out", "", "a directory for report.json")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

func runFlood(ctx context.Context, s *streams, c bench.FloodConfig, sealed, asJSON bool) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	o := local.Options{Binary: binary, Nodes: 3, Proxied: true}
	if sealed {
		files, err := passingSecret()
		if err != nil {
			return err
		}
		defer files.remove()
		o.Serve, c.SecretFile = files.serve(), files.client()
	}
	c.Start = func(ctx context.Context) (bench.Diverted, error) {
		cluster, err := local.Open(ctx, o)
		return diverted{cluster}, err
	}
	report, err := bench.RunFlood(ctx, c)
	if report == nil || err != nil && !errors.Is(err, bench.ErrWrong) {
		return fmt.Errorf("bench wire flood: %w", err)
	}
	if asJSON {
		return errors.Join(err, writeJSON(s.out, report))
	}
	return errors.Join(err, report.WriteText(s.out))
}

// diverted is a cluster at whose addresses somebody else stands.
type diverted struct{ *local.Cluster }

func (d diverted) Listens() (all []string) {
	for _, s := range d.Servers() {
		all = append(all, s.Listen)
	}
	return all
}

func (d diverted) Memory(context.Context) (all []int64, err error) {
	for _, pid := range d.Pids() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return nil, err
		}
		var size, resident int64
		if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
			return nil, err
		}
		all = append(all, resident*int64(os.Getpagesize()))
	}
	return all, nil
}
