package client

import (
	"fmt"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// many submits so many puts of 100 bytes, and one of 5,000.
func (f *fakeCluster) many(n int, from uint64) {
	for i := range n {
		f.core.Submit(f.now, put(fmt.Sprint("k", i), fmt.Sprint(strings.Repeat("v", 100), from, i)), 0, from+uint64(i))
	}
	f.core.Submit(f.now, put("large", strings.Repeat("x", 5000)), 0, from+uint64(n))
}

func (f *fakeCluster) allApplied(want int) {
	f.t.Helper()
	for _, d := range f.done {
		if d.Outcome != Applied {
			f.t.Fatalf("operation %d: %v, %v", d.Token, d.Outcome, d.Err)
		}
	}
	if len(f.done) != want {
		f.t.Fatalf("%d operations ended, want %d", len(f.done), want)
	}
}

// A path that takes 600 bytes from the beginning, and one that does so all of a sudden: what is under way arrives, in
// either direction that is narrow.
func TestAClientFindsOutASmallPath(t *testing.T) {
	for name, way := range map[string][2]int{"both ways": {600, 600}, "to the server": {600, 0}, "from the server": {0, 600}} {
		t.Run(name, func(t *testing.T) {
			f := newCluster(t, 1, CoreConfig{})
			f.there, f.back = way[0], way[1]
			f.servers[0].slow = 2000 * ms // so that it matters for long enough
			f.many(300, 1)
			f.run(4500 * ms)
			f.allApplied(301)
			if got := f.core.leader.packer.Limit; got != wire.MinDatagram || f.passes != got {
				t.Errorf("datagrams of %d, and the server was told %d", got, f.passes)
			}
			f.there, f.back = 0, 0 // it widens: found out while something is under way
			for i := 0; f.core.leader.packer.Limit < wire.MaxDatagram; i++ {
				if i == 60 {
					t.Fatalf("datagrams of %d after a minute", f.core.leader.packer.Limit)
				}
				f.many(1, uint64(1000+2*i))
				f.servers[0].slow = 1000 * ms
				f.run(f.now + 1100*ms)
			}
			f.servers[0].slow, f.done = 0, f.done[:0]
			f.there, f.back = way[0], way[1]
			f.many(300, 2000)
			f.run(f.now + 5000*ms)
			f.allApplied(301)
		})
	}
}

// A path that turns out to carry more carries larger pieces of the next large command.
func TestLargeCommandsAreCutForAPathThatGrew(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.there, f.back = 600, 600
	f.servers[0].slow = 2000 * ms
	f.many(1, 1)
	f.run(4500 * ms)
	f.allApplied(2)
	if f.stride == 0 || f.stride > 600 {
		t.Fatalf("pieces of %d on a path of 600", f.stride)
	}
	f.there, f.back = 0, 0
	for i := 0; f.core.leader.packer.Limit < wire.MaxDatagram; i++ {
		if i == 60 {
			t.Fatalf("datagrams of %d after a minute", f.core.leader.packer.Limit)
		}
		f.core.Submit(f.now, put("small", "x"), 0, uint64(1000+i))
		f.servers[0].slow = 1000 * ms
		f.run(f.now + 1100*ms)
	}
	f.core.Submit(f.now, put("large", strings.Repeat("x", 200_000)), 0, 5000)
	f.run(f.now + 3000*ms)
	if f.stride < wire.MaxDatagram/2 {
		t.Errorf("pieces of %d on a path of %d", f.stride, wire.MaxDatagram)
	}
}

// A client that does one thing, or whose leader does not answer, sends no probe.
func TestAShortLifeSendsNoProbe(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	for i := range 4 {
		f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, uint64(i))
		f.run(f.now + 10*ms)
	}
	if f.asked > 0 {
		t.Errorf("asked %d times within 40 ms", f.asked)
	}
	f.servers[0].slow = 200 * ms
	f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, 9)
	f.run(f.now + 100*ms)
	if f.asked != 1 {
		t.Errorf("asked %d times by one that goes on, want once", f.asked)
	}
	f.run(f.now + 60_000*ms)
	if f.asked != 1 {
		t.Errorf("asked %d times by one that is idle", f.asked)
	}
}
