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
	"balsa/kv/client"
	"balsa/wire"
)

func benchElectionCommand(s *streams) *cobra.Command {
	c := bench.ElectionConfig{}
	var nodes int
	var dir string
	output, profile := newChoice("text", "json"), newChoice("shared", "dedicated")
	cmd := &cobra.Command{
		Use: "election", Short: "the leader taken away, again and again, while a client writes", Args: noWords,
		Long: `election starts servers of its own, takes the leader away and measures from that moment: until another server
stands for leader, until one leads, until the client's next write, and for how long the client got nothing acknowledged.
At the end it reads back every acknowledged write.

  kill        SIGKILL; it is started again afterwards
  pause       SIGSTOP, then SIGCONT
  partition   the leader hears and says nothing, silently, then does again
  transfer    SIGTERM: leadership is handed over; it is started again afterwards`,
		Example: "balsa bench election --case kill --trials 20\nbalsa bench election --trials 100 --out results\nbalsa bench election --case partition --profile dedicated",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("cluster") {
				return usagef("bench election harms servers of its own: --local N, no --cluster")
			}
			if err := c.Check(); err != nil {
				return usagef("bench election: %w", err)
			}
			if nodes < 3 || nodes > 9 {
				return usagef("--local is %d, want 3 to 9 servers: fewer have no majority without their leader", nodes)
			}
			c.Profile = profile.value
			times := &serveFlags{timeout: c.ElectionTimeout, heartbeat: c.Heartbeat, profile: profile}
			if err := times.checkTimes(); err != nil {
				return err
			}
			return runElection(cmd.Context(), s, c, nodes, dir, output.value == "json")
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.Cases, "case", bench.ElectionCases(), "faults, a row each")
	f.IntVar(&c.Trials, "trials", 20, "of each case")
	f.IntVar(&nodes, "local", 3, "so many servers, started here")
	f.StringVar(&dir, "dir", "", "where their data lives (default: a temporary directory)")
	f.Var(profile, "profile", "of the servers: see balsa serve --help")
	f.DurationVar(&c.ElectionTimeout, "election-timeout", 0, "of the servers (default: their own choice)")
	f.DurationVar(&c.Heartbeat, "heartbeat", 0, "of the servers (default: their own choice)")
	f.Uint64Var(&c.Seed, "seed", 1, "of the moments of the faults")
	f.StringVar(&c.Out, "out", "", "a directory for report.json and report.html")
	f.VarP(output, "output", "o", "form of the answers")
	f.String("cluster", "", "")
	f.MarkHidden("cluster")
	return cmd
}

func runElection(ctx context.Context, s *streams, c bench.ElectionConfig, nodes int, dir string, asJSON bool) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	c.Version, c.Log = thisVersion().Commit, s.err
	c.Helper = func(args ...string) *exec.Cmd {
		return exec.Command(binary, append([]string{"bench", "helper"}, args...)...)
	}
	c.Start = func(ctx context.Context) (bench.Victims, error) {
		serve := []string{"--chaos", "--log-format", "json", "--profile", c.Profile}
		if c.ElectionTimeout != 0 {
			serve = append(serve, "--election-timeout", c.ElectionTimeout.String())
		}
		if c.Heartbeat != 0 {
			serve = append(serve, "--heartbeat", c.Heartbeat.String())
		}
		cluster, err := local.Run(ctx, local.Options{Binary: binary, Dir: dir, Nodes: nodes, Serve: serve})
		return victims{cluster}, err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	report, err := bench.RunElection(ctx, c)
	if err != nil {
		return fmt.Errorf("bench election: %w", err)
	}
	if asJSON {
		return writeJSON(s.out, report)
	}
	return report.WriteText(s.out)
}

// victims are the servers of a local cluster, by id.
type victims struct{ *local.Cluster }

func (v victims) server(id uint16) *local.Server { return v.Server(int(id)) }

func (v victims) LogFile(id uint16) string  { return v.server(id).Log }
func (v victims) Kill(id uint16) error      { return v.server(id).Kill() }
func (v victims) Terminate(id uint16) error { return v.server(id).Stop() }
func (v victims) Pause(id uint16)           { v.server(id).Pause() }
func (v victims) Resume(id uint16)          { v.server(id).Resume() }

func (v victims) Restart(ctx context.Context, id uint16) error {
	if err := v.server(id).Start(); err != nil {
		return err
	}
	return v.server(id).WaitReady(ctx)
}

// longestCut bounds a cut that nobody mends.
const longestCut = 10 * time.Minute

func (v victims) Cut(ctx context.Context, id uint16) error {
	return client.Chaos(ctx, v.server(id).Addr, wire.ChaosCut, longestCut)
}

func (v victims) Mend(ctx context.Context, id uint16) error {
	return client.Chaos(ctx, v.server(id).Addr, wire.ChaosCut, 0)
}
