package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"balsa/node"
	"balsa/wal"
	"balsa/wal/vfs"
)

// serveFlags are the settings of one server; each is a flag, a variable and a line of the file.
type serveFlags struct {
	data, listen, config string
	secretFile           string
	insecure, chaos      bool
	timeout, heartbeat   time.Duration
	segment              byteSize
	profile, format      *choice
	offload              *choice
	sync                 *choice
	breakRule            string
	level                slog.LevelVar
}

// laterServeFlags are those that the interface promises and this version does not have.
var laterServeFlags = []string{"http", "redis"}

func serveCommand(s *streams) *cobra.Command {
	o := &serveFlags{profile: newChoice("shared", "dedicated"), format: newChoice("text", "json"), offload: newChoice("on", "off"), sync: newSync()}
	var level string
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "run one server",
		Long: `serve runs the server that init made in DIR, until SIGTERM or SIGINT.

Every flag is also an environment variable (BALSA_SEGMENT_SIZE for --segment-size) and a line of the TOML file that
--config names (segment-size = "64MiB"); the flag wins, then the variable, then the file. BALSA_OFFLOAD=off serves the
clients of the command line, too.

How soon a silent leader is replaced follows from what disks and network are measured to take. --profile says between
which bounds, and what the server may do with processors:

  shared      100 ms to 1 s: other work may stop this server for a while, and that is no reason to replace it. It never
              spins
  dedicated   12 ms to 200 ms, with heartbeats every 2 to 10 ms: for a machine, or a tuned virtual one, that does
              nothing else. Give it to all servers of the cluster; on a busy machine it makes needless elections. The
              loop is bound to one processor and spins for 0.2 ms before it waits; it gives both up for a time, and says
              so, when it has to share that processor

--sync says how the log is written; balsa wal bench DIR measures which is best on a disk:

  auto         direct where the file system can, else buffered
  buffered     pwrite, then fdatasync
  dsync        one pwritev2 with RWF_DSYNC, where the batch is one write
  direct       past the page cache (O_DIRECT), then fdatasync
  direct+dsync both`,
		Example: "balsa serve --data /var/lib/balsa\nbalsa serve --config /etc/balsa.toml",
		Args:    noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := cmd.Flags()
			if err := settle(f); err != nil {
				return err
			}
			for _, name := range laterServeFlags {
				if f.Changed(name) {
					return notYet("serve --" + name)
				}
			}
			if o.secretFile != "" && o.insecure {
				return usagef("serve takes either --secret-file or --insecure: a sealed server may be reached from anywhere")
			}
			if o.data == "" {
				return usagef("serve needs --data DIR, a directory that init made")
			}
			if err := o.checkTimes(); err != nil {
				return err
			}
			if err := o.level.UnmarshalText([]byte(level)); err != nil {
				return usagef("--log-level %q: want debug, info, warn or error", level)
			}
			return serve(cmd, s, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "the data directory that init made")
	f.StringVar(&o.listen, "listen", "", "HOST:PORT to listen on (default: its own address of the pool)")
	f.StringVar(&o.config, "config", "", "a TOML file with these flags as keys")
	f.StringVar(&o.secretFile, "secret-file", "", "server.secret: every datagram is sealed; read again on SIGHUP")
	f.BoolVar(&o.insecure, "insecure", false, "serve other machines than this one without a secret")
	f.BoolVar(&o.chaos, "chaos", false, "crash, stand still, be cut off, or hold a membership change in a phase, when a holder of server.secret (not sealed: a client on loopback) asks for it: for drills")
	f.DurationVar(&o.timeout, "election-timeout", 0, "silence after which a follower stands for leader, 10ms to 10s (default: the server's own choice)")
	f.DurationVar(&o.heartbeat, "heartbeat", 0, "what a leader is never silent for longer than (default: a fifth of the election timeout, 2ms to 10ms)")
	f.Var(&o.segment, "segment-size", "size of a log segment (default 64MiB)")
	f.Var(o.sync, "sync", "how the log is written; see above")
	f.Var(o.profile, "profile", "what the machine is for; see above")
	f.Var(o.offload, "offload", "have the system part and join runs of datagrams; off is the switch for a kernel or a card that gets it wrong")
	f.Var(o.format, "log-format", "form of the log on standard error")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	for _, name := range laterServeFlags {
		f.String(name, "", "not there yet")
		f.MarkHidden(name)
	}
	f.StringVar(&o.breakRule, "break", "", "with --chaos, a rule to break: for the tests of the demonstrations")
	f.MarkHidden("break")
	return cmd
}

// Bounds of the times of an election. Below the least, a pause of the scheduler is taken for a dead leader.
const (
	leastElectionTimeout   = 10 * time.Millisecond
	largestElectionTimeout = 10 * time.Second
	heartbeatsPerTimeout   = 3 // at least: one lost datagram is no reason to stand
)

// checkTimes looks at those that were given; 0 is the server's own choice, and then the one follows the other.
func (o *serveFlags) checkTimes() error {
	timeout := node.FirstTimeout(o.profile.value == "dedicated")
	if o.timeout != 0 {
		timeout = o.timeout
	}
	if timeout < leastElectionTimeout || timeout > largestElectionTimeout {
		return usagef("--election-timeout is %v, want %v to %v", timeout, leastElectionTimeout, largestElectionTimeout)
	}
	if most := timeout / heartbeatsPerTimeout; o.heartbeat != 0 && (o.heartbeat < time.Millisecond || o.heartbeat > most) {
		return usagef("--heartbeat is %v, want 1ms to %v, a third of the election timeout", o.heartbeat, most)
	}
	return nil
}

func serve(cmd *cobra.Command, s *streams, o *serveFlags) error {
	if o.listen != "" {
		if err := checkAddr(o.listen); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	logger := slog.New(o.handler(s.err))
	if os.Getenv("GOMAXPROCS") == "" {
		// The loop keeps one of Go's processors also while it waits, the writer and the filler may be inside the system with one each.
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 2) + 1)
	}
	err := node.Serve(ctx, node.Config{
		Data: o.data, Listen: o.listen, Insecure: o.insecure, SecretFile: o.secretFile, Reload: reloads(ctx), SegmentBytes: int64(o.segment), Sync: syncMode(o.sync.value), Logger: logger, Chaos: o.chaos, Break: o.breakRule,
		Dedicated: o.profile.value == "dedicated", Sole: runtime.GOMAXPROCS(0) > 1, Timeout: o.timeout, Heartbeat: o.heartbeat, Plain: o.offload.value == "off",
		Ready: func(_ *node.Node, listen netip.AddrPort) { logger.Info("ready", "listen", listen, "data", o.data) },
	})
	return explainServe(o, err)
}

func newSync() *choice {
	c := &choice{value: vfs.Auto.String()}
	for _, m := range vfs.Modes {
		c.from = append(c.from, m.String())
	}
	return c
}

// syncMode is the mode that has this name.
func syncMode(name string) vfs.Mode {
	return vfs.Modes[slices.IndexFunc(vfs.Modes, func(m vfs.Mode) bool { return m.String() == name })]
}

// reloads tells of every SIGHUP until ctx ends. Without a secret file there is nothing to read again, and the signal ends
// nothing either.
func reloads(ctx context.Context) <-chan struct{} {
	signals, told := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
			select {
			case told <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return told
}

func (o *serveFlags) handler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: &o.level}
	if o.format.value == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// explainServe adds to an error of starting what its reader can do about it.
func explainServe(o *serveFlags, err error) error {
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrNotMade):
		return fmt.Errorf("serve: %w; make the directory with: balsa init --data %s --id N --cluster POOL", err, o.data)
	case errors.Is(err, vfs.ErrLocked):
		return fmt.Errorf("serve: %w; another balsa serves %s", err, o.data)
	case errors.Is(err, vfs.ErrUnsupported):
		return fmt.Errorf("serve: %w: --sync %s cannot be had there; balsa wal bench says what can", err, o.sync.value)
	case errors.Is(err, syscall.EADDRINUSE):
		where := o.listen
		if errors.As(err, &op) && op.Addr != nil {
			where = op.Addr.String()
		}
		return fmt.Errorf("serve: address in use: %w; stop what listens on %s, or give another with --listen", err, where)
	}
	return fmt.Errorf("serve: %w", err)
}
