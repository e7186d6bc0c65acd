package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// These tests run servers as processes, with real sockets and real files, and kill them. Every wait is for an event, with
// a deadline that only a broken cluster reaches.

const patience = 60 * time.Second

// started is a cluster of three server processes and a client of it.
func started(t *testing.T) (context.Context, *local.Cluster, *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			tellLogs(t, servers)
		}
	})
	c, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ctx, servers, c
}

func tellLogs(t *testing.T, servers *local.Cluster) {
	for _, s := range servers.Servers() {
		text, _ := os.ReadFile(s.Log)
		t.Logf("server %d said:\n%s", s.ID, text)
	}
}

// load is a set of clients that write without pause, each its own keys, and remember what was acknowledged.
type load struct {
	c    *client.Client
	stop context.CancelFunc
	all  sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	acked   map[string]string
	newest  [loadClients]int // of each client's key that is written again and again: the last acknowledged
	tried   [loadClients]int // and the last that was sent
}

const loadClients = 16

func startLoad(ctx context.Context, c *client.Client) *load {
	l := &load{c: c, acked: map[string]string{}}
	l.changed.L = &l.mu
	ctx, l.stop = context.WithCancel(ctx)
	for i := range loadClients {
		l.all.Go(func() { l.write(ctx, i) })
	}
	return l
}

func (l *load) write(ctx context.Context, writer int) {
	for n := 1; ctx.Err() == nil; n++ {
		key, value := fmt.Sprintf("writer-%d-%d", writer, n), fmt.Sprintf("value-%d", n)
		if l.c.Put(ctx, []byte(key), []byte(value)) == nil {
			l.note(key, value)
		}
		l.mu.Lock()
		l.tried[writer] = n
		l.mu.Unlock()
		if l.c.Put(ctx, []byte(again(writer)), []byte(fmt.Sprint(n))) == nil {
			l.mu.Lock()
			l.newest[writer] = n
			l.mu.Unlock()
		}
	}
}

func again(writer int) string { return fmt.Sprintf("again-%d", writer) }

func (l *load) note(key, value string) {
	l.mu.Lock()
	l.acked[key] = value
	l.mu.Unlock()
	l.changed.Broadcast()
}

// waitMore returns when n more writes were acknowledged than at the call.
func (l *load) waitMore(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	stop := context.AfterFunc(ctx, l.changed.Broadcast)
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := len(l.acked) + n; len(l.acked) < want; l.changed.Wait() {
		if ctx.Err() != nil {
			t.Fatalf("service did not resume: %d of %d writes acknowledged", len(l.acked), want)
		}
	}
}

// end stops the writers.
func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// check reads every acknowledged write back.
func (l *load) check(t *testing.T, ctx context.Context) {
	t.Helper()
	for key, want := range l.acked {
		got, err := l.c.Get(ctx, []byte(key))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want the acknowledged %q", key, got, err, want)
		}
	}
	for writer := range loadClients {
		got, err := l.c.Get(ctx, []byte(again(writer)))
		if errors.Is(err, client.ErrNotFound) && l.newest[writer] == 0 {
			continue
		}
		var n int
		if fmt.Sscan(string(got), &n); err != nil || n < l.newest[writer] || n > l.tried[writer] {
			t.Errorf("%s: got %q, %v, want %d to %d", again(writer), got, err, l.newest[writer], l.tried[writer])
		}
	}
	t.Logf("%d acknowledged writes are there", len(l.acked))
}

// leader waits for one.
func leader(t *testing.T, ctx context.Context, servers *local.Cluster, c *client.Client) *local.Server {
	t.Helper()
	for {
		if err := waitLeader(ctx, c); err != nil {
			t.Fatalf("no leader: %v", err)
		}
		if view, err := local.Ask(ctx, c); err == nil && view.Leader != 0 { // else it has gone since
			return servers.Server(int(view.Leader))
		}
	}
}

func TestKillingTheLeaderUnderLoadCostsNoAcknowledgedWrite(t *testing.T) {
	ctx, servers, c := started(t)
	l := startLoad(ctx, c)
	for range 3 {
		l.waitMore(t, ctx, 200)
		victim := leader(t, ctx, servers, c)
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		l.waitMore(t, ctx, 200) // service resumed without it
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		if err := victim.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	l.check(t, ctx)
}

func TestWithoutAMajorityAPutEndsWithinItsTimeoutAndServiceResumes(t *testing.T) {
	ctx, servers, c := started(t)
	l := startLoad(ctx, c)
	l.waitMore(t, ctx, 200)
	first, second := servers.Server(1), servers.Server(2)
	for _, s := range []*local.Server{first, second} {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	const timeout = 700 * time.Millisecond
	for i := range 3 {
		blocked, cancel := context.WithTimeout(ctx, timeout)
		began := time.Now()
		err := c.Put(blocked, []byte(fmt.Sprintf("blocked-%d", i)), []byte("x"))
		cancel()
		if code := codeOf(err); code != exitNotApplied && code != exitUnknown {
			t.Fatalf("put without a majority: got %v, code %d, want 5 or 6", err, code)
		}
		if took := time.Since(began); took > timeout+10*time.Second {
			t.Fatalf("the put took %v of its %v", took, timeout)
		}
	}
	reading, cancel := context.WithTimeout(ctx, timeout)
	_, err := c.Get(reading, []byte("blocked-0"))
	cancel()
	if codeOf(err) != exitNotApplied {
		t.Fatalf("get without a majority: got %v, want not applied", err)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(ctx, []byte("resumed"), []byte("by itself")); err != nil {
		t.Fatalf("put after one of two returned: %v", err)
	}
	l.check(t, ctx)
}

func TestKillingAllUnderLoadKeepsEveryAcknowledgedWrite(t *testing.T) {
	ctx, servers, c := started(t)
	l := startLoad(ctx, c)
	l.waitMore(t, ctx, 500)
	var all sync.WaitGroup
	for _, s := range servers.Servers() {
		all.Go(func() { s.Kill() })
	}
	all.Wait()
	l.end()
	if err := servers.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	l.check(t, ctx)
}

func TestSIGTERMStopsAServerCleanlyAlsoAllAtOnce(t *testing.T) {
	ctx, servers, c := started(t)
	if err := c.Put(ctx, []byte("a"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers.Servers() {
		s.Terminate()
	}
	for _, s := range servers.Servers() {
		if err := s.Stop(); err != nil { // an error unless it ended with 0
			t.Error(err)
		}
	}
	if err := servers.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, []byte("a")); err != nil || string(got) != "1" {
		t.Fatalf("after the restart: got %q, %v", got, err)
	}
}
