package node

import (
	"testing"

	"balsa/node/raft"
	"balsa/wire"
)

// says asks one server who it is: by a hello and by a status.
func (l *lab) says(id uint16) (hello wire.HelloReply, status wire.StatusReply) {
	l.t.Helper()
	l.answers = nil
	h, s := wire.Hello{Nonce: 5, Pad: 400}, wire.Status{Nonce: 6}
	l.tell(id, 0, wire.KindHello, h.Size(), h.Encode)
	l.tell(id, 0, wire.KindStatus, s.Size(), s.Encode)
	found := 0
	l.until(1e9, "two answers", func() bool {
		found = 0
		for _, a := range l.answers {
			switch {
			case a.from == id && a.kind == wire.KindHelloReply:
				hello = a.hello
				found++
			case a.from == id && a.kind == wire.KindStatusReply:
				status = a.status
				found++
			}
		}
		return found >= 2
	})
	return hello, status
}

// wantRemoved wants the server to say that it was removed, and not to stand for a while though it hears nobody.
func (l *lab) wantRemoved(id uint16) {
	l.t.Helper()
	l.until(5e9, "the server knows that it was removed", func() bool { return l.nodes[id].left != 0 })
	hello, status := l.says(id)
	if !hello.Removed || hello.Blank || status.Role != wire.RoleRemoved {
		l.t.Errorf("it says %+v and role %d, want it removed", hello, status.Role)
	}
	for end := l.now + 2e9; l.now < end; l.turn(5e6) {
		if role := l.nodes[id].core.Role(); role != raft.Follower {
			l.t.Fatalf("a removed server is %v", role)
		}
	}
}

// SAFETY 8: a removed server keeps a marker, says so when it is asked, and does
// not stand; with the others gone, only the marker can tell it after a restart.
func TestARemovedServerKeepsItsMarker(t *testing.T) {
	l := newLab(t, 3, 3)
	id := l.elect().ID()%3 + 1
	l.put(1)
	if r := l.change(71, wire.VerbRemove, id); r.Outcome != wire.OutcomeDone {
		t.Fatalf("remove %d: %s", id, r.Text)
	}
	l.wantRemoved(id)
	l.kill(1)
	l.kill(2)
	l.kill(3)
	l.start(id)
	if hello, _ := l.says(id); !hello.Removed {
		t.Fatal("after its restart it does not say so")
	}
	l.wantRemoved(id)

	// It comes back by `member add`, in its old directory, and counts.
	for other := uint16(1); other <= 3; other++ {
		if other != id {
			l.start(other)
		}
	}
	l.elect()
	if r := l.change(72, wire.VerbAdd, id); r.Outcome != wire.OutcomeDone {
		t.Fatalf("add %d: %s", id, r.Text)
	}
	l.until(5e9, "it knows", func() bool { return l.nodes[id].left == 0 })
	if hello, status := l.says(id); hello.Removed || status.Role == wire.RoleRemoved {
		t.Errorf("it says %+v and role %d, want it a member", hello, status.Role)
	}
	l.kill(id%3 + 1)
	l.put(2)
	l.kill(id) // and once more, its marker being void
	n := l.start(id)
	l.put(3)
	if n.left != 0 || n.core.Removed() != 0 {
		t.Errorf("after another restart it holds itself for removed by %d", n.left)
	}
}

// A server that was down when it was removed learns it when it stands, and remembers.
func TestAServerRemovedWhileItWasDownIsTold(t *testing.T) {
	l := newLab(t, 3, 3)
	id := l.elect().ID()%3 + 1
	l.put(1)
	l.kill(id)
	if r := l.change(73, wire.VerbRemove, id); r.Outcome != wire.OutcomeDone {
		t.Fatalf("remove %d: %s", id, r.Text)
	}
	for end := l.now + 7e9; l.now < end; { // until nobody sends it entries any more
		l.turn(5e6)
	}
	l.start(id)
	l.wantRemoved(id)
	for other := uint16(1); other <= 3; other++ {
		l.kill(other)
	}
	l.start(id)
	l.wantRemoved(id)
}
