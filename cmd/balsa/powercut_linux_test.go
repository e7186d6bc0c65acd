package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wal/vfs"
)

// powerCuts is how often the test cuts the power; every third cut tears all that was not synced sector by sector.
const powerCuts = 6

// The power of all three servers goes at one moment, under load, and of what was not synced each disk keeps whichever
// sectors it likes. Started again, and nobody lends a hand, they serve, and every acknowledged write is there.
func TestAPowerCutOfAllServersHealsByItself(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b := newBlackout(t, ctx)
	torn := map[uint16]int{}
	for n := range powerCuts {
		stop := b.load(ctx)
		time.Sleep(time.Duration(300+b.random.IntN(300)) * time.Millisecond)
		b.cut(n)
		stop()
		b.restart(ctx)
		for _, s := range b.servers.Servers() {
			if line := b.lastVerdict(s); line != "" {
				torn[s.ID]++
				if !strings.Contains(line, "verdict=torn") {
					t.Errorf("cut %d, server %d: %s", n, s.ID, line)
				}
			}
		}
		b.check(ctx)
	}
	t.Logf("%d cuts, tails torn by server: %v; %d writes acknowledged", powerCuts, torn, b.acked())
	for _, s := range b.servers.Servers() {
		if torn[s.ID] == 0 {
			t.Errorf("no cut tore the log of server %d: the test tries nothing", s.ID)
		}
	}
	if b.acked() == 0 {
		t.Error("no write was acknowledged")
	}
}

// blackout is a cluster on disks whose power can be cut, and what its clients were told.
type blackout struct {
	t       *testing.T
	servers *local.Cluster
	power   *power
	disks   []*powerDisk
	random  *rand.Rand
	read    map[uint16]int // bytes of each server's log that were looked at

	mu  sync.Mutex
	put map[string]told
}

// told is what is known of a key that one writer counts up: its value is one between the two.
type told struct{ acked, tried int }

func newBlackout(t *testing.T, ctx context.Context) *blackout {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	b := &blackout{t: t, power: &power{}, random: rand.New(rand.NewPCG(seed, 0)), read: map[uint16]int{}, put: map[string]told{}}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.servers, err = local.Open(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Serve: []string{"--segment-size", "1MiB"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.servers.Close()
		for _, d := range b.disks {
			if err := d.server.Unmount(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			tellLogs(t, b.servers)
		}
	})
	for _, s := range b.servers.Servers() {
		mem, err := memOf(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		b.disks = append(b.disks, mountPower(t, b.power, mem, s.Dir))
	}
	if err := b.servers.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// memOf is a disk with the files of a directory, all synced.
func memOf(dir string) (*vfs.Mem, error) {
	mem := vfs.NewMem()
	names, err := fs.Glob(os.DirFS(dir), "*")
	for _, name := range names {
		bytes, readErr := os.ReadFile(filepath.Join(dir, name))
		file, makeErr := mem.Create("/" + name)
		if err = errors.Join(err, readErr, makeErr); err != nil {
			return nil, err
		}
		_, err = file.WriteAt(bytes, 0)
	}
	return mem.Clone(), err
}

// load puts until the returned function is called: each writer counts up keys of its own, so that what a later read may
// show is known.
func (b *blackout) load(ctx context.Context) (stop func()) {
	const writers = 24
	ctx, cancel := context.WithCancel(ctx)
	c, err := client.Open(client.Config{Addrs: b.servers.Addrs(), Timeout: time.Second})
	if err != nil {
		b.t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("key-%02d-%d", w, n%5)
				b.mu.Lock()
				o := b.put[key]
				o.tried++
				b.put[key] = o
				b.mu.Unlock()
				if err := c.Put(ctx, []byte(key), fmt.Appendf(nil, "%d %*s", o.tried, 100*w, "")); err == nil {
					b.mu.Lock()
					b.put[key] = told{acked: o.tried, tried: o.tried}
					b.mu.Unlock()
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		c.Close()
	}
}

// cut ends the power, then the processes, and puts what is left of the disks in place.
func (b *blackout) cut(n int) {
	b.t.Helper()
	sector := n
	left := b.power.cut(b.disks, func(choices int) int {
		if sector++; n%3 == 0 {
			return sector % choices
		}
		return b.random.IntN(choices)
	})
	b.power = &power{}
	for i, s := range b.servers.Servers() {
		if err := errors.Join(s.Kill(), b.disks[i].server.Unmount()); err != nil {
			b.t.Fatal(err)
		}
		b.disks[i] = mountPower(b.t, b.power, left[i], s.Dir)
	}
}

func (b *blackout) restart(ctx context.Context) {
	b.t.Helper()
	if err := b.servers.StartAll(ctx); err != nil {
		b.t.Fatalf("after the cut: %v", err)
	}
}

// lastVerdict is the line in which a server, since it was looked at, said that its log was not clean.
func (b *blackout) lastVerdict(s *local.Server) string {
	b.t.Helper()
	text, err := os.ReadFile(s.Log)
	if err != nil {
		b.t.Fatal(err)
	}
	fresh := string(text[b.read[s.ID]:])
	b.read[s.ID] = len(text)
	last := ""
	for line := range strings.Lines(fresh) {
		if strings.Contains(line, "the log was not clean") {
			last = line
		}
	}
	return last
}

// check waits for service and reads every key: its value is the last acknowledged, or a later one that was tried.
func (b *blackout) check(ctx context.Context) {
	b.t.Helper()
	c, err := client.Open(client.Config{Addrs: b.servers.Addrs(), Timeout: 20 * time.Second})
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Put(ctx, []byte("service"), []byte("is back")); err != nil {
		b.t.Fatalf("no service after the cut: %v", err)
	}
	for key, o := range b.put {
		value, err := c.Get(ctx, []byte(key))
		count, _, _ := strings.Cut(string(value), " ")
		got, _ := strconv.Atoi(count)
		if err != nil && (o.acked != 0 || !errors.Is(err, client.ErrNotFound)) || got < o.acked || got > o.tried {
			b.t.Errorf("%s: got %d, %v; want from %d, acknowledged, to %d", key, got, err, o.acked, o.tried)
		}
		b.put[key] = told{acked: got, tried: o.tried}
	}
}

func (b *blackout) acked() (n int) {
	for _, o := range b.put {
		n += o.acked
	}
	return n
}
