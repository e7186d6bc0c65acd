package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// upPatience is what a local cluster gets to start and to elect its first leader.
const upPatience = 30 * time.Second

// leaderPoll is the pause between two questions for a leader.
const leaderPoll = 20 * time.Millisecond

func upCommand(s *streams) *cobra.Command {
	var nodes, spares int
	var dir string
	var timeout time.Duration
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "up", Short: "a local cluster of separate processes, then the prompt", Args: noWords,
		Long: `up starts a cluster on this machine, each server a process of its own, and gives a prompt. With standard input piped it runs
the commands and stops everything. The data is in --dir and resumed next time, or in a temporary directory that is removed.`,
		Example: "balsa up\nbalsa up --dir ./data\nprintf 'put a 1\\nget a\\n' | balsa up",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nodes < 1 || spares < 0 || nodes+spares > 99 {
				return usagef("up: --nodes %d --spares %d: want at least one node and at most 99 servers", nodes, spares)
			}
			if timeout <= 0 {
				return usagef("--timeout is %v, want more than 0", timeout)
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			o := local.Options{Binary: binary, Dir: dir, Nodes: nodes, Spares: spares, Serve: []string{"--chaos"}}
			return up(cmd.Context(), s, o, timeout, output.value == "json")
		},
	}
	f := cmd.Flags()
	f.IntVar(&nodes, "nodes", 3, "servers that found the cluster")
	f.IntVar(&spares, "spares", 2, "further servers of the pool, idle until they are added")
	f.StringVar(&dir, "dir", "", "keep the data here, and resume it (default: a temporary directory)")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "for the whole of one command")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

// up runs until the prompt ends or a signal comes; whichever it is, no process is left.
func up(parent context.Context, s *streams, o local.Options, timeout time.Duration, asJSON bool) (err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	descriptor, tty := terminal(s.in)
	var before *term.State
	if tty {
		before, _ = term.GetState(descriptor)
	}

	var prompting atomic.Bool
	done := make(chan error, 1)
	go func() { done <- runUp(ctx, s, o, timeout, asJSON, func() { prompting.Store(true) }) }()
	for {
		select {
		case err := <-done:
			return err
		case sig := <-signals:
			if tty && sig == syscall.SIGINT && prompting.Load() {
				continue // at the prompt Ctrl-C is about the line
			}
			signal.Ignore(sig) // a second one must not cut the stopping short
			cancel()
			if tty && before != nil {
				term.Restore(descriptor, before)
			}
			<-done
			return &fault{code: 128 + int(sig.(syscall.Signal))}
		}
	}
}

// runUp starts the cluster, runs the prompt and stops the cluster. When ctx ends it stops the cluster without waiting
// for a prompt that is blocked in reading. ready is called before the prompt.
func runUp(ctx context.Context, s *streams, o local.Options, timeout time.Duration, asJSON bool, ready func()) (err error) {
	starting, cancel := context.WithTimeout(ctx, upPatience)
	defer cancel()
	servers, err := local.Run(starting, o)
	if err != nil {
		return fmt.Errorf("up: %w", err)
	}
	defer func() {
		if stopped := servers.Close(); stopped != nil && err == nil && ctx.Err() == nil {
			err = fmt.Errorf("up: stopping: %w", stopped)
		}
	}()
	c, err := client.Open(client.Config{Addrs: servers.Addrs()[:servers.Voters()], Timeout: timeout})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := waitLeader(starting, c); err != nil {
		return fmt.Errorf("up: the servers run but elected no leader in %v; their logs are in %s", upPatience, servers.Dir())
	}
	introduce(s, servers)
	ready()
	ended := make(chan error, 1)
	go func() {
		ended <- newPrompt(c, s, asJSON, timeout).run(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitLeader returns when the cluster has a leader, asking again and again until ctx ends.
func waitLeader(ctx context.Context, c *client.Client) error {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, promptPatience)
		leader, _ := leaderOf(asking, c)
		cancel()
		if leader != 0 {
			return nil
		}
		select {
		case <-time.After(leaderPoll):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// introduce says on standard error where everything is and what to try.
func introduce(s *streams, c *local.Cluster) {
	var text strings.Builder
	for _, server := range c.Servers() {
		role := "voter"
		if int(server.ID) > c.Voters() {
			role = "spare"
		}
		fmt.Fprintf(&text, "  server %d  %-21s  %s  process %-7d log %s\n", server.ID, server.Addr, role, server.Pid(), server.Log)
	}
	kept := "removed at the end"
	if !c.Temporary() {
		kept = "kept; the same --dir resumes it"
	}
	fmt.Fprintf(s.err, "a local cluster, data in %s (%s)\n%s", c.Dir(), kept, text.String())
	fmt.Fprintf(s.err, `try:  put a 1
      get a
      status
      member add 4 --hold learner=10s &   and member list, put and get meanwhile
      kill -9 %d   in another shell, and get a again
      balsa wal dump %s
elsewhere: export BALSA_CLUSTER=%s
`, c.Server(1).Pid(), filepath.Join(c.Dir(), "1"), strings.Join(c.Addrs()[:c.Voters()], ","))
}
