package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// fullDir names a directory on a small file system of its own, as bench/full.sh mounts one: the test fills it to the brim.
const fullDir = "BALSA_FULL_DIR"

// ballastBytes are given back while the servers run.
const ballastBytes = 2 << 20

// Three servers whose disk fills up under load refuse writes clearly, lose nothing, serve what they have, start again on
// the full disk, and go on by themselves when there is room.
func TestAFullDiskRefusesWritesAndRecovers(t *testing.T) {
	dir := os.Getenv(fullDir)
	if dir == "" {
		t.Skip(fullDir + " names no file system to fill; make bench-full mounts one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, ballastBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Open(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Serve: []string{"--segment-size", "1MiB"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers.Servers() { // only the data moves there: what the servers say stays where there is room
		data := filepath.Join(dir, fmt.Sprint(s.ID))
		if err := errors.Join(os.CopyFS(data, os.DirFS(s.Dir)), os.RemoveAll(s.Dir), os.Symlink(data, s.Dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		servers.Close()
		if t.Failed() {
			tellLogs(t, servers)
		}
	}()
	f := &filling{t: t, servers: servers, outcome: map[string]client.Outcome{}}
	f.fill(ctx)
	f.check(ctx)
	_, errs, code := balsa("put", "one", "more", "--cluster", strings.Join(servers.Addrs(), ","), "--timeout", "2s")
	if code != exitNotApplied || !strings.Contains(errs, "not applied") {
		t.Fatalf("a put on the full disk: code %d, %s", code, errs)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	before := f.acked
	f.fill(ctx)
	if f.acked == before {
		t.Fatal("no put succeeded after there was room again")
	}
	f.check(ctx)
	for _, s := range servers.Servers() {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers.StartAll(ctx); err != nil {
		t.Fatalf("starting on the full disk: %v", err)
	}
	f.check(ctx)
	for _, s := range servers.Servers() {
		if out, errs, code := balsa("wal", "verify", s.Dir); code != exitDone {
			t.Errorf("verify of server %d: code %d: %s%s", s.ID, code, out, errs)
		}
	}
}

// filling is what became of every put.
type filling struct {
	t       *testing.T
	servers *local.Cluster

	mu      sync.Mutex
	outcome map[string]client.Outcome
	acked   int
	next    int
}

// fill puts until no put succeeded for a while.
func (f *filling) fill(ctx context.Context) {
	f.t.Helper()
	c, err := client.Open(client.Config{Addrs: f.servers.Addrs(), Timeout: 2 * time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	const writers, enough = 8, 3 // failures in a row, of each writer
	value := make([]byte, 1000)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for refused := 0; refused < enough && ctx.Err() == nil; {
				f.mu.Lock()
				key := fmt.Sprintf("key-%06d", f.next)
				f.next++
				f.mu.Unlock()
				err := c.Put(ctx, []byte(key), value)
				f.mu.Lock()
				switch {
				case err == nil:
					f.outcome[key], refused = client.Applied, 0
					f.acked++
				case errors.Is(err, client.ErrUnknown):
					f.outcome[key] = client.Unknown
					refused++
				case errors.Is(err, client.ErrNotApplied):
					f.outcome[key] = client.NotApplied
					refused++
				default:
					f.t.Errorf("put: %v", err)
				}
				f.mu.Unlock()
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		f.t.Fatal("the disk never filled")
	}
	f.t.Logf("%d puts acknowledged of %d", f.acked, f.next)
}

// check reads everything back: what was acknowledged is there, what was not applied is not.
func (f *filling) check(ctx context.Context) {
	f.t.Helper()
	c, err := client.Open(client.Config{Addrs: f.servers.Addrs(), Timeout: 20 * time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	there := map[string]bool{}
	if err := c.Scan(ctx, []byte("key-"), nil, nil, 0, func(k, _ []byte) bool { there[string(k)] = true; return true }); err != nil {
		f.t.Fatalf("reading from the full disk: %v", err)
	}
	for key, o := range f.outcome {
		if o == client.Applied && !there[key] {
			f.t.Errorf("%s was acknowledged and is gone", key)
		}
		if o == client.NotApplied && there[key] {
			f.t.Errorf("%s was told not to be applied and is there", key)
		}
	}
}
