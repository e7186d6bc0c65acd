package node

import (
	"bytes"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// gap has the leader put n values of size bytes, of which a follower gets all
// but the first, however often that is sent.
func gap(t *testing.T, l *lab, follower uint16, n uint64, size int) {
	leader := l.leader()
	l.until(1e9, "the follower to be known", func() bool { return l.nodes[follower].applied == leader.applied })
	before := leader.tail.last
	l.lose = func(to uint16, kind wire.Kind, payload []byte) bool {
		var f wire.Append
		return to == follower && kind == wire.KindAppend && f.Decode(payload) == nil && f.PrevIndex == before && f.Count > 0
	}
	for seq := uint64(1); seq <= n; seq++ {
		value := bytes.Repeat([]byte{byte(seq)}, size)
		l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte{byte(seq)}, Value: value})
		if r := l.result(seq); r.Status != kv.OK {
			t.Fatalf("put %d: %+v", seq, r)
		}
		l.each(func(id uint16, n *Node) {
			if id == follower {
				return // its log does not grow
			}
			if err := n.Log().Prepare(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What comes before the entry it follows is kept, though its datagram is gone,
// and goes into the log when that comes.
func TestEntriesThatOvertakeAreHeldWithTheirBodies(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	other := leader.ID()%3 + 1
	n := l.nodes[other]
	gap(t, l, other, 20, 100)
	before := leader.tail.last - 20
	if got := n.core.HeldBytes(); got < 19*100 || n.tail.last != before {
		t.Fatalf("%d bytes held, the log ends at %d, ended at %d", got, n.tail.last, before)
	}
	if n.core.Status().Durable > before || n.applied > before {
		t.Fatalf("durable %d, applied %d, without the entry that is missing after %d", n.core.Status().Durable, n.applied, before)
	}
	l.lose = nil
	l.until(1e9, "the gap to be filled", func() bool { return n.applied == leader.applied })
	for i := before + 1; i <= leader.tail.last; i++ {
		if a, b := leader.tail.get(i), n.tail.get(i); a.Term != b.Term || a.Sum != b.Sum || !bytes.Equal(a.Body, b.Body) {
			t.Errorf("entry %d: got %+v, want %+v", i, b, a)
		}
	}
	if n.core.HeldBytes() != 0 || n.stamp != leader.stamp {
		t.Errorf("%d bytes held still; the log's time is %d, want %d", n.core.HeldBytes(), n.stamp, leader.stamp)
	}
}

// What is held is not in the log: when its disk fills up before the gap is
// filled, there may be no room for it, and it comes again when there is.
func TestWhatIsHeldNeedsRoomOnTheDisk(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	other := leader.ID()%3 + 1
	n := l.nodes[other]
	gap(t, l, other, 100, 8000)
	room := n.Log().Room()
	if held := int64(n.core.HeldBytes()); held < 99*8000 || held < room {
		t.Fatalf("%d bytes held, room for %d: not what was meant to be tested", held, room)
	}
	free := l.fill(other)
	l.lose = nil
	l.until(1e9, "what there is no room for to be forgotten", func() bool { return n.core.HeldBytes() == 0 })
	for range 200 {
		l.turn(1e6)
	}
	if n.applied == leader.applied || l.leader() != leader {
		t.Fatalf("applied %d of %d on a full disk", n.applied, leader.applied)
	}
	free()
	l.until(10e9, "the follower to catch up", func() bool { return n.applied == leader.applied })
}

// Slots reuse their bodies.
func TestHeldBodiesAllocateNothing(t *testing.T) {
	var h held
	body := make([]byte, 1000)
	e, i := wire.Entry{Term: 1, Body: body}, uint64(0)
	put := func() {
		i++
		e.Index = i
		h.put(&e)
	}
	for range 300 {
		put()
	}
	if got := testing.AllocsPerRun(1000, put); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
