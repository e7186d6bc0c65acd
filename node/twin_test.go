package node

import (
	"strings"
	"testing"

	"balsa/wire"
)

// settle lets time pass.
func (l *lab) settle(nanos int64) {
	l.t.Helper()
	end := l.now + nanos
	l.until(nanos+1e9, "time passes", func() bool { return l.now > end })
}

// clone copies a follower's directory to a fourth machine and runs both.
func (l *lab) clone() (id uint16) {
	leader := l.elect()
	l.put(1)
	id = leader.ID()%3 + 1
	l.kill(id)
	l.kill(4)
	l.disks[4] = l.disks[id].Clone() // another machine, with the same identity
	l.start(id)
	l.start(4)
	return id
}

// SAFETY 9: a cloned directory is one incarnation from two boots that are both
// alive: the others notice and refuse it, whoever of the two is the clone.
func TestAClonedDirectoryIsNoticedAndRefused(t *testing.T) {
	l := newLab(t, 4, 3)
	id := l.clone()
	l.drop = func(from, to uint16, kind wire.Kind) bool { // neither twin learns of it
		return from == 4 && to == id || from == id && to == 4
	}
	l.until(20e9, "somebody notices", func() bool {
		seen := uint64(0)
		l.each(func(at uint16, n *Node) {
			if n.ID() != id {
				seen += n.Counters.Twins
			}
		})
		return seen > 0
	})
	l.put(2) // the others go on
}

// A process that is asked whether it is alive looks for its own twin, and ends
// with an error that names it.
func TestAClonedDirectoryEndsItsOwnProcess(t *testing.T) {
	l := newLab(t, 4, 3)
	l.ends = ErrTwin
	id := l.clone()
	l.until(20e9, "a twin ends", func() bool { return len(l.ended) > 0 })
	if text := l.ended[0].Error(); !strings.Contains(text, "incarnation") || !strings.Contains(text, "127.0.0.1:70") {
		t.Errorf("it ends with %q: what is alive where?", text)
	}
	l.kill(id)
	l.kill(4)
	l.put(2)
}

// A server that restarts, again and again, is no twin of itself, and what the
// network kept of its earlier processes proves nothing.
func TestARestartedServerIsNoTwin(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	id := leader.ID()%3 + 1
	var old []flight
	for seq := uint64(1); seq <= 6; seq++ {
		l.put(seq)
		for _, f := range l.queue {
			if labID(f.from) == id {
				old = append(old, f)
			}
		}
		l.kill(id)
		l.start(id)
		l.settle(300e6)
		l.queue = append(l.queue, old...)
		l.settle(300e6)
		l.queue = append(l.queue, old...)
	}
	l.each(func(at uint16, n *Node) {
		if n.Counters.Twins+n.Counters.Restored > 0 {
			t.Errorf("server %d takes a restarted server for a twin (%d) or a restored one (%d)", at, n.Counters.Twins, n.Counters.Restored)
		}
	})
}

// SAFETY 9: a directory restored from an older copy has forgotten what it
// acknowledged: its leader notices, says so and counts it no more.
func TestARestoredDirectoryIsNoticedAndRefused(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	l.put(1)
	id := leader.ID()%3 + 1
	l.kill(id)
	copied := l.disks[id].Clone()
	l.start(id)
	for seq := uint64(2); seq < 20; seq++ {
		l.put(seq)
	}
	l.until(5e9, "it has all", func() bool { return l.has(id, 19) })
	l.settle(200e6)
	if !leader.Leading() {
		t.Fatal("another leader: this test is about one that stays")
	}
	l.kill(id)
	l.disks[id] = copied
	l.start(id)
	l.until(10e9, "the leader notices", func() bool { return leader.Counters.Restored > 0 })
	l.settle(1e9)
	if !leader.Leading() || leader.Counters.Restored != 1 {
		t.Errorf("leading %v, told %d times, want to go on and one line", leader.Leading(), leader.Counters.Restored)
	}
	for _, p := range leader.core.Status().Peers {
		if p.ID == id && p.Match != 0 {
			t.Errorf("a server that forgot what it acknowledged counts up to %d", p.Match)
		}
	}
	l.put(20)
}
