package node

import (
	"bytes"
	"fmt"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// limits are what the leader sends to the others.
func (l *lab) limits() (all []int) {
	n := l.leader()
	for i := range n.out.peers {
		if p := &n.out.peers[i]; p.id != n.identity.ID {
			all = append(all, p.limit)
		}
	}
	return all
}

func (l *lab) putLarge(seq uint64, size int) {
	l.t.Helper()
	l.request(l.leader().ID(), kv.Command{Op: kv.Put, Seq: seq, Key: fmt.Appendf(nil, "key-%d", seq), Value: bytes.Repeat([]byte{byte(seq)}, size)})
	if r := l.result(seq); r.Status != kv.OK {
		l.t.Fatalf("put %d: %v", seq, r.Status)
	}
}

func TestDatagramsAndEntriesFollowThePath(t *testing.T) {
	l := newLab(t, 3, 3)
	l.elect()
	l.putLarge(1, 30_000)
	for seq, step := range []struct{ mtu, want int }{{0, wire.MaxDatagram}, {1300, 1232}, {600, wire.MinDatagram}, {9000, 8952}, {0, wire.MaxDatagram}} {
		l.mtu = step.mtu
		l.until(700e9, fmt.Sprintf("datagrams of %d bytes on a path of %d", step.want, step.mtu), func() bool {
			all := l.limits()
			return all[0] == step.want && all[1] == step.want
		})
		n := l.leader()
		if most := wire.MaxFrame(step.want) - wire.AppendHeaderBytes - wire.EntryHeaderBytes; n.out.entryLimit > most || n.out.entryLimit < min(most, wire.MaxEntryBody)-8 {
			t.Errorf("path of %d: entries of %d, want %d", step.mtu, n.out.entryLimit, min(most, wire.MaxEntryBody))
		}
		l.putLarge(uint64(10+seq), 100)
		l.putLarge(uint64(20+seq), 20_000)
	}
}

// An entry packed for a large path reaches a server behind a small one (SAFETY 16), which
// came to be there while it was down.
func TestALargeEntryReachesAServerBehindASmallPath(t *testing.T) {
	l := newLab(t, 3, 3)
	lead := l.elect().ID()
	behind := lead%3 + 1
	l.kill(behind)
	for seq := range uint64(5) {
		l.putLarge(1+seq, 30_000)
	}
	l.mtu = 600
	l.start(behind)
	n := l.nodes[behind]
	l.until(60e9, "all entries there", func() bool { return n.applied > 0 && l.leader() != nil && n.applied == l.leader().applied })
	for seq := range uint64(5) {
		if v, _, _, ok := n.store.Get(fmt.Appendf(nil, "key-%d", 1+seq)); !ok || len(v) != 30_000 {
			t.Errorf("key-%d: %v", 1+seq, ok)
		}
	}
}

// A cluster that is founded on a path of 600 bytes is founded, elects and works.
func TestAClusterBeginsOnASmallPath(t *testing.T) {
	l := newLab(t, 3, 3)
	l.mtu = 600
	l.elect()
	l.putLarge(1, 100)
	l.putLarge(2, 50_000)
}

// Only a server that leads probes, and only members.
func TestOnlyALeaderProbesAndOnlyMembers(t *testing.T) {
	l := newLab(t, 4, 3)
	lead := l.elect().ID()
	asked := map[[2]uint16]bool{}
	l.drop = func(from, to uint16, kind wire.Kind) bool {
		if kind == wire.KindPathProbe {
			asked[[2]uint16{from, to}] = true
		}
		return false
	}
	for end := l.now + 5e9; l.now < end; {
		l.turn(5e6)
	}
	if len(asked) != 2 {
		t.Errorf("asked %v", asked)
	}
	for who := range asked {
		if who[0] != lead || who[1] == 4 {
			t.Errorf("server %d probed %d", who[0], who[1])
		}
	}
}
