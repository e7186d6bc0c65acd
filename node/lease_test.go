package node

import (
	"testing"

	"balsa/kv"
	"balsa/wire"
)

func write(seq uint64, value string) kv.Command {
	return kv.Command{Op: kv.Put, Seq: seq, Key: []byte("k"), Value: []byte(value)}
}

func readOf(seq uint64) kv.Command {
	return kv.Command{Op: kv.Get, Seq: seq | kv.ReadSeq, Key: []byte("k")}
}

// answered looks for the result of an operation among what the client got.
func (l *lab) answered(seq uint64) *kv.Result {
	for i := range l.answers {
		if a := &l.answers[i]; a.kind == wire.KindReply && a.result.Seq == seq {
			return &a.result
		}
	}
	return nil
}

// mute lets nothing that a server says to servers arrive.
func (l *lab) mute(id uint16) {
	l.drop = func(from, to uint16, _ wire.Kind) bool { return from == id && to != labClient }
}

func TestALeaderWithALeaseAnswersReadsThatNoServerHearsOf(t *testing.T) {
	for _, leases := range []bool{false, true} {
		l := newLabWith(t, 3, 3, leases)
		leader := l.elect()
		l.request(leader.ID(), write(1, "v"))
		l.result(1)
		l.mute(leader.ID())
		l.request(leader.ID(), readOf(2))
		for end := l.now + 50e6; l.now < end; {
			l.turn(1e6)
		}
		if r := l.answered(2 | kv.ReadSeq); (r != nil) != leases {
			t.Errorf("leases %v: answered %v", leases, r)
		} else if leases && string(r.Value) != "v" {
			t.Errorf("got %q", r.Value)
		}
	}
}

// The leader is stopped, as by SIGSTOP; meanwhile another leads and a value
// changes. What reaches the old one first when it goes on is a read.
func TestAStoppedLeaderServesNothingOldFromItsLeaseWhenItGoesOn(t *testing.T) {
	l := newLabWith(t, 3, 3, true)
	old := l.elect()
	l.request(old.ID(), write(1, "old"))
	l.result(1)
	l.silent = true
	l.nodes[old.ID()] = nil
	next := l.elect()
	l.request(next.ID(), write(2, "new"))
	l.result(2)
	l.queue = nil
	l.nodes[old.ID()] = old
	if !old.Leading() {
		t.Fatal("the old leader knows already")
	}
	l.mute(next.ID()) // what would tell it so is not there yet
	l.request(old.ID(), readOf(3))
	for _, f := range l.queue {
		old.Deliver(l.now, f.from, f.bytes)
	}
	l.queue = nil
	old.Turn(l.now, false)
	l.collect(old.ID(), old)
	l.drop = nil
	l.until(5e9, "an answer, a refusal or neither", func() bool { return !old.Leading() })
	if r := l.answered(3 | kv.ReadSeq); r != nil && string(r.Value) != "new" {
		t.Errorf("the old leader answers %q", r.Value)
	}
}

func TestAReadAtAFollowerRestsOnItsLeadersLease(t *testing.T) {
	l := newLabWith(t, 3, 3, true)
	leader := l.elect()
	l.request(leader.ID(), write(1, "v"))
	l.result(1)
	follower := leader.ID()%3 + 1
	before := leader.core.LeaseReads()
	l.drop = func(from, to uint16, kind wire.Kind) bool { return kind == wire.KindAck } // no round could be confirmed
	l.request(follower, readOf(2))
	if r := l.result(2 | kv.ReadSeq); string(r.Value) != "v" || leader.core.LeaseReads() == before {
		t.Errorf("got %q, %d reads by lease", r.Value, leader.core.LeaseReads()-before)
	}
}

func TestTheFounderDecidesAboutLeasesForEveryServerAndForGood(t *testing.T) {
	l := newLabWith(t, 3, 2, false)
	l.each(func(id uint16, _ *Node) { l.kill(id) })
	for id := uint16(1); id <= 3; id++ {
		l.leases = id == 1
		l.wipe(id, []uint16{1, 2})
		l.start(id)
	}
	leader := l.elect()
	if r := l.change(11, wire.VerbAdd, 3); r.Outcome != wire.OutcomeDone {
		t.Fatalf("add: %+v", r)
	}
	allowed := func(n *Node) bool {
		c := n.inForce()
		return c.Leases && n.core.Status().Configuration.Leases
	}
	l.until(10e9, "three voters", func() bool { return !l.nodes[3].Blank() && len(l.nodes[3].inForce().Members) == 3 })
	if !allowed(leader) || !allowed(l.nodes[3]) {
		t.Errorf("the leader has leases %v, who joined %v", allowed(leader), allowed(l.nodes[3]))
	}
	l.kill(3)
	n := l.start(3)
	if !allowed(n) || n.core.Status().PromisedUntil <= l.now {
		t.Errorf("restarted: leases %v, holds its vote until %d, now is %d", allowed(n), n.core.Status().PromisedUntil, l.now)
	}
}

// The followers restart while the leader cannot be heard: whoever it was that
// answered it, they elect nobody before its lease has run out.
func TestRestartedFollowersElectNobodyInsideALease(t *testing.T) {
	l := newLabWith(t, 3, 3, true)
	old := l.elect()
	l.silent = true
	l.mute(old.ID())
	for id := uint16(1); id <= 3; id++ {
		if id != old.ID() {
			l.kill(id)
			l.start(id)
		}
	}
	l.until(10e9, "a leader of a later term", func() bool {
		later := l.leader()
		if later == nil {
			return false
		}
		if later.core.Term() > old.core.Term() && old.core.Leased(l.now) {
			t.Fatalf("server %d leads term %d while %d holds a lease", later.ID(), later.core.Term(), old.ID())
		}
		return later != old
	})
}
