package node

import (
	"slices"
	"testing"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wire"
)

// pass lets virtual time pass.
func (l *lab) pass(nanos int64) {
	l.t.Helper()
	end := l.now + nanos
	l.until(nanos+1e9, "time passes", func() bool { return l.now > end })
}

func TestALeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	l.put(1)
	l.pass(3e9) // idle: its T comes down
	old, began := n.ID(), l.now
	l.stuck[old] = true
	l.request(old, kv.Command{Op: kv.Put, Seq: 2, Key: []byte("a"), Value: []byte("1")})
	if r := l.result(2); r.Status != kv.OK { // by the two others' disks
		t.Fatalf("got %+v", r)
	}
	l.until(2e9, "another leader", func() bool { return l.leader() != nil && l.leader().ID() != old })
	if took := l.now - began; took > n.disk.bound+50e6 {
		t.Errorf("it took %d ms, want little more than the bound of %d", took/1e6, n.disk.bound/1e6)
	}
	if n.Counters.DiskStalls != 1 || n.Counters.StallsHandedOver != 1 {
		t.Errorf("%d stalls counted, %d handed over, want 1 and 1", n.Counters.DiskStalls, n.Counters.StallsHandedOver)
	}
	next := l.elect()
	term := next.core.Term()
	l.pass(3e9)
	if l.leader() != next || next.core.Term() != term {
		t.Error("leadership did not stay where the disk is well")
	}
	l.request(next.ID(), kv.Command{Op: kv.Put, Seq: 3, Key: []byte("a"), Value: []byte("2")})
	l.result(3)
	l.tell(old, n.tag, wire.KindStatus, (&wire.Status{}).Size(), (&wire.Status{Nonce: 1}).Encode)
	l.until(1e9, "the server whose sync hangs answers", func() bool {
		return slices.ContainsFunc(l.answers, func(a answer) bool { return a.kind == wire.KindStatusReply && a.from == old })
	})
	l.stuck[old] = false
	l.until(3e9, "it has caught up and its disk is well", func() bool { return n.applied == next.applied && n.disk.state == raft.DiskWell })
	if l.leader() != next {
		t.Error("its return disturbed the leader")
	}
}

func TestNoLeaderIsReplacedWhenAMajoritysDisksHang(t *testing.T) {
	for _, stuck := range [][]uint16{{1, 2, 3}, {1, 2}, {1, 3}} {
		l := newLab(t, 3, 3)
		n := l.elect()
		l.put(1)
		if n.ID() != 1 {
			n.core.Transfer(l.now, 1)
			l.until(2e9, "server 1 leads", func() bool { return l.nodes[1].Leading() })
			n = l.elect()
		}
		l.pass(3e9)
		term := n.core.Term()
		for _, id := range stuck {
			l.stuck[id] = true
		}
		l.request(1, kv.Command{Op: kv.Put, Seq: 2, Key: []byte("a"), Value: []byte("1")})
		l.pass(5e9)
		if !n.Leading() || n.core.Term() != term || n.Counters.DiskStalls != 1 {
			t.Errorf("stuck are %v: server 1 leads: %v, term %d to %d, %d stalls", stuck, n.Leading(), term, n.core.Term(), n.Counters.DiskStalls)
		}
		for _, a := range l.answers {
			if a.kind == wire.KindReply && a.result.Seq == 2 {
				t.Errorf("stuck are %v: a put was acknowledged that is on one disk: %+v", stuck, a.result)
			}
		}
		for _, id := range stuck {
			l.stuck[id] = false
		}
		l.result(2)
	}
}

func TestAFollowerWhoseDiskHangsSaysSo(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	l.put(1)
	l.pass(3e9)
	hung := n.ID()%3 + 1
	l.stuck[hung] = true
	l.put(2)
	l.until(2e9, "the leader knows", func() bool {
		return slices.ContainsFunc(n.core.Status().Peers, func(p raft.PeerStatus) bool { return p.ID == hung && p.Disk == raft.DiskStalled })
	})
	l.stuck[hung] = false
	l.pass(stallMemory / 2)
	if got := l.nodes[hung].disk.state; got != raft.DiskSlow {
		t.Errorf("a second after its stall the disk is in state %d, want slow", got)
	}
	l.pass(stallMemory)
	if got := l.nodes[hung].disk.state; got != raft.DiskWell {
		t.Errorf("long after its stall the disk is in state %d, want well", got)
	}
	l.stuck[hung] = true
	l.put(3)
	l.pass(l.nodes[hung].disk.bound)
	n.HandOver(l.now)
	l.until(2e9, "another leader", func() bool { return l.leader() != nil && l.leader() != n })
	if l.leader().ID() == hung {
		t.Error("leadership was handed to a server whose disk hangs")
	}
}

// Whoever was stopped measures nothing of what went on meanwhile, and does not
// hold its disk for stalled because its batch is old.
func TestAStoppedServerBlamesNeitherItsDiskNorItsPeers(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	for seq := uint64(1); seq <= 5; seq++ {
		l.put(seq)
	}
	l.stuck[n.ID()] = true
	l.request(n.ID(), kv.Command{Op: kv.Put, Seq: 6, Key: []byte("a")})
	l.result(6)
	n.Deadline()
	late := n.due + 5e9
	l.stuck[n.ID()] = false
	for _, f := range l.queue {
		if labID(f.to) == n.ID() {
			n.Deliver(late, f.from, f.bytes)
		}
	}
	n.Turn(late, false)
	if n.Counters.DiskStalls != 0 {
		t.Error("its disk is said to stall")
	}
	for _, p := range n.pace.peers {
		for _, d := range []*delays{&p.beats[0], &p.entries[0]} {
			for b := range d.counts {
				if d.counts[b] > 0 && ceiling(b) > 4e9 {
					t.Errorf("server %d is said to have answered after %d ms", p.id, ceiling(b)/1e6)
				}
			}
		}
	}
}
