package client

import (
	"net/netip"
	"slices"
	"testing"

	"balsa/wire"
)

// Servers move while a client works. All it knows at the beginning is where they were.

// TestAnActiveClientAsksAgainWhereTheServersAre: in datagrams that leave anyway, and not often.
func TestAnActiveClientAsksAgainWhereTheServersAre(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(100 * ms)
	before := f.core.Counters.Hellos
	for i := range uint64(40) {
		f.core.Submit(f.now, put("a", "1"), 0, i)
		f.run(f.now + 100*ms)
	}
	if len(f.done) != 41 {
		t.Fatalf("%d of 41 done", len(f.done))
	}
	if n := f.core.Counters.Hellos - before; n < 3 || n > 5 {
		t.Errorf("it asked %d times in 4 s, want about 4", n)
	}
}

// TestALeaderThatLeavesSaysWhoLeadsAndWhere: no operation need be refused for that.
func TestALeaderThatLeavesSaysWhoLeadsAndWhere(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(100 * ms)
	moved := netip.MustParseAddrPort("127.0.0.1:7999")
	n := wire.NotLeader{Term: f.term + 1, Leader: 2, Addr: []byte(moved.String())}
	f.frame(f.servers[0], wire.KindNotLeader, n.Size(), n.Encode)
	f.run(f.now + ms)
	if !slices.Contains(f.core.Servers(), moved) {
		t.Fatalf("it knows %v", f.core.Servers())
	}
	f.core.Submit(f.now, put("a", "1"), 0, 1)
	asked := false
	for _, p := range f.core.Out(nil) {
		asked = asked || p.To == moved
	}
	if l, ok := f.core.Leader(); ok || !asked {
		t.Errorf("it holds %v for the leader (%v), and asked the new one: %v", l, ok, asked)
	}
}

// TestANamedLeaderIsAskedAgainForItsTerm: asked a moment before it led, it is asked again when it is named for a newer term,
// once, and not at the next round of questions.
func TestANamedLeaderIsAskedAgainForItsTerm(t *testing.T) {
	f := newCluster(t, 3, CoreConfig{})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(100 * ms)
	old, next := f.leader, f.servers[0]
	if next == old {
		next = f.servers[1]
	}
	name := func() (asked int) {
		n := wire.NotLeader{Term: f.term + 1, Leader: next.id, Addr: []byte(next.addr.String())}
		n.Encode(old.packer.Frame(wire.KindNotLeader, n.Size()))
		f.core.Deliver(f.now, old.addr, slices.Clone(old.packer.Flush(old.addr, nil)[0].Bytes))
		for _, p := range f.core.Out(nil) {
			if p.To == next.addr {
				asked++
			}
		}
		return asked
	}
	n := wire.NotLeader{Term: f.term, Count: 0}
	n.Encode(old.packer.Frame(wire.KindNotLeader, n.Size()))
	f.core.Deliver(f.now, old.addr, slices.Clone(old.packer.Flush(old.addr, nil)[0].Bytes))
	f.core.Submit(f.now, put("a", "1"), 0, 1)
	if asked := len(f.core.Out(nil)); asked != 3 {
		t.Fatalf("%d questions when the leader went, want 3", asked)
	}
	if asked := name(); asked != 1 {
		t.Errorf("named for a newer term, %d questions, want 1", asked)
	}
	if asked := name(); asked != 0 {
		t.Errorf("named again, %d questions, want none", asked)
	}
}
