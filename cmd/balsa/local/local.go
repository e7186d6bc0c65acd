// Package local runs a balsa cluster on this machine: each server is a `balsa serve` process of its own, on loopback,
// with real sockets and real files. `up`, the demonstrations, `bench --local` and the process tests all stand on it.
//
// What it promises: every process it started is gone after Close, and also when the process that started them dies
// without Close (Linux tells the children); a server is killed and signalled by its process id only. A cluster made
// in a directory that was given keeps it, and is resumed there by the next Open; otherwise the directory is temporary
// and Close removes it.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// poolFile holds the pool and the first voters of a cluster in its directory, so that the next Open finds the same
// addresses.
const poolFile = "cluster.txt"

// stopGrace is what a server gets to stop by itself before it is killed.
const stopGrace = 3 * time.Second

// Options says what cluster is wanted.
type Options struct {
	Binary  string   // the balsa program; it is run as `Binary init ...` and `Binary serve ...`
	Dir     string   // where the data lives; empty: a temporary directory that Close removes
	Nodes   int      // first voters
	Spares  int      // further servers of the pool that wait until they are added
	Proxied bool     // each server listens at an address of its own (Server.Listen): what stands at Addr is the caller's
	Init    []string // more flags for every `init`
	Serve   []string // more flags for every `serve`
	Environ []string // environment of the servers; nil: this process's own, without BALSA_ variables
}

// Cluster is a set of servers on this machine. Its methods may be called from one goroutine at a time, but Kill, Start
// and WaitReady of different servers may run beside each other.
type Cluster struct {
	options   Options
	dir       string
	temporary bool
	resumed   bool
	voters    int
	servers   []*Server // by id, ascending; server i has id i+1
	pool      string    // as the servers were made with
}

// Open makes the directories of a new cluster, or finds those of an old one in Options.Dir. No server runs yet.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	if o.Nodes < 1 || o.Spares < 0 {
		return nil, fmt.Errorf("a local cluster needs at least one node, got %d and %d spares", o.Nodes, o.Spares)
	}
	if o.Environ == nil {
		o.Environ = quietEnviron(os.Environ())
	}
	c := &Cluster{options: o, dir: o.Dir}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	err := c.loadOrInit(ctx)
	if err == nil && o.Proxied {
		err = c.listenElsewhere()
	}
	if err != nil {
		c.removeTemporary()
		return nil, err
	}
	return c, nil
}

// Run is Open and then Start of every server, waiting until each has said that it is ready.
func Run(ctx context.Context, o Options) (*Cluster, error) {
	c, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := c.StartAll(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) makeDir() error {
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "balsa-")
		if err != nil {
			return fmt.Errorf("a directory for the local cluster: %w", err)
		}
		c.dir, c.temporary = dir, true
		return nil
	}
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return err
	}
	c.dir = dir
	return os.MkdirAll(dir, 0o700)
}

func (c *Cluster) removeTemporary() error {
	if !c.temporary {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// loadOrInit takes the pool of an existing cluster, or makes one: addresses first, then one `init` a server. The pool
// file is written last, so a directory without it was never finished and is refused rather than guessed at.
func (c *Cluster) loadOrInit(ctx context.Context) error {
	path := filepath.Join(c.dir, poolFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		c.resumed = true
		return c.parsePool(path, string(text))
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if left, err := os.ReadDir(c.dir); err != nil {
		return err
	} else if len(left) > 0 {
		return fmt.Errorf("%s is not empty and holds no local cluster (no %s): choose another directory", c.dir, poolFile)
	}
	addrs, err := freeAddrs(c.options.Nodes + c.options.Spares)
	if err != nil {
		return err
	}
	c.voters = c.options.Nodes
	for i, addr := range addrs {
		c.servers = append(c.servers, newServer(c, uint16(i+1), addr))
	}
	c.pool = c.Pool()
	for _, s := range c.servers {
		if err := c.init(ctx, s); err != nil {
			return err
		}
	}
	body := fmt.Sprintf("pool %s\nvoters %d\n", c.Pool(), c.voters)
	return os.WriteFile(path, []byte(body), 0o600)
}

func (c *Cluster) listenElsewhere() error {
	addrs, err := freeAddrs(len(c.servers))
	for i := range addrs {
		c.servers[i].Listen = addrs[i]
	}
	return err
}

func (c *Cluster) parsePool(path, text string) error {
	var pool string
	if _, err := fmt.Sscanf(text, "pool %s\nvoters %d\n", &pool, &c.voters); err != nil {
		return fmt.Errorf("%s does not read as a local cluster: %w", path, err)
	}
	for i, part := range strings.Split(pool, ",") {
		id, addr, ok := strings.Cut(part, "=")
		if !ok || id != strconv.Itoa(i+1) {
			return fmt.Errorf("%s: got %q, want server %d", path, part, i+1)
		}
		c.servers = append(c.servers, newServer(c, uint16(i+1), addr))
	}
	c.pool = pool
	if c.voters < 1 || c.voters > len(c.servers) {
		return fmt.Errorf("%s: %d voters of %d servers", path, c.voters, len(c.servers))
	}
	return nil
}

func (c *Cluster) init(ctx context.Context, s *Server) error {
	voters := make([]string, c.voters)
	for i := range voters {
		voters[i] = strconv.Itoa(i + 1)
	}
	args := append([]string{"init", "--data", s.Dir, "--id", strconv.Itoa(int(s.ID)), "--cluster", c.pool, "--voters", strings.Join(voters, ",")}, c.options.Init...)
	cmd := exec.CommandContext(ctx, c.options.Binary, args...)
	cmd.Env = c.options.Environ
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("init of server %d: %w: %s", s.ID, err, bytes.TrimSpace(out))
	}
	return nil
}

// Remake removes a server's directory, as if its disk was lost, and makes it again with the command line it was made
// with. The server must not run.
func (c *Cluster) Remake(ctx context.Context, s *Server) error {
	if s.Running() {
		return fmt.Errorf("server %d runs: its directory stays", s.ID)
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return err
	}
	return c.init(ctx, s)
}

// StartAll starts every server that does not run and waits until each has said that it is ready.
func (c *Cluster) StartAll(ctx context.Context) error {
	for _, s := range c.servers {
		if s.Running() {
			continue
		}
		if err := s.Start(); err != nil {
			return err
		}
	}
	for _, s := range c.servers {
		if err := s.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close stops every server, by SIGTERM first, and removes the directory if it is a temporary one.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.servers {
		s.Terminate()
	}
	deadline := time.Now().Add(stopGrace)
	for _, s := range c.servers {
		errs = append(errs, s.stopBy(deadline))
	}
	errs = append(errs, c.removeTemporary())
	return errors.Join(errs...)
}

// Dir is where the cluster's data lives; server N has Dir/N and Dir/N.log.
func (c *Cluster) Dir() string { return c.dir }

// Temporary says whether Close removes Dir.
func (c *Cluster) Temporary() bool { return c.temporary }

// Resumed says whether Open found a cluster in the directory.
func (c *Cluster) Resumed() bool { return c.resumed }

// Voters is the number of first voters; they have the lowest ids.
func (c *Cluster) Voters() int { return c.voters }

// Servers are all servers of the pool, by id. The slice is the caller's.
func (c *Cluster) Servers() []*Server { return slices.Clone(c.servers) }

// Server is the one with this id, or nil.
func (c *Cluster) Server(id int) *Server {
	if id < 1 || id > len(c.servers) {
		return nil
	}
	return c.servers[id-1]
}

// Addrs are the addresses of all servers of the pool, by id.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.servers))
	for i, s := range c.servers {
		addrs[i] = s.Addr
	}
	return addrs
}

// Pids are the process ids of the servers that run, by id.
func (c *Cluster) Pids() []int {
	var pids []int
	for _, s := range c.servers {
		if pid := s.Pid(); pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Pool is the pool as `init --cluster` takes it.
func (c *Cluster) Pool() string {
	parts := make([]string, len(c.servers))
	for i, s := range c.servers {
		parts[i] = fmt.Sprintf("%d=%s", s.ID, s.Addr)
	}
	return strings.Join(parts, ",")
}

// quietEnviron leaves out what would change how a server behaves: each server is told everything by flags.
func quietEnviron(environ []string) []string {
	var kept []string
	for _, e := range environ {
		if !strings.HasPrefix(e, "BALSA_") {
			kept = append(kept, e)
		}
	}
	return kept
}
