package node

import (
	"net/netip"
	"testing"

	"balsa/wire"
)

func TestAServerThatComesToLeadTellsThoseThatAskedBefore(t *testing.T) {
	l := newLab(t, 3, 3)
	old := l.elect()
	l.kill(old.ID())
	l.each(func(id uint16, _ *Node) {
		l.tell(id, 0, wire.KindHello, 480, (&wire.Hello{Nonce: uint64(id), Pad: 472}).Encode)
	})
	l.until(1e9, "the survivors' answers", func() bool { return len(l.answers) == 2 })
	l.answers = nil
	leader := l.elect()
	l.until(1e9, "word of the new leader", func() bool { return len(l.answers) > 0 })
	for _, a := range l.answers {
		h := a.hello
		if a.from != leader.ID() || h.Leader != leader.ID() || h.Term != leader.core.Term() || h.Nonce != uint64(leader.ID()) || h.LogTime == 0 {
			t.Errorf("server %d said %+v, want only the new leader %d to speak, of itself", a.from, h, leader.ID())
		}
	}
	if len(l.answers) != 1 {
		t.Errorf("it was said %d times, want once", len(l.answers))
	}
}

func TestAskersAreKeptOnceEachForAWhileAndNotWithoutBound(t *testing.T) {
	var a askers
	to := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(i))
	}
	for i := range maxAskers + 10 {
		a.add(asker{at: 1, to: to(i), nonce: 1})
		a.add(asker{at: 2, to: to(i), nonce: 2})
	}
	if len(a.list) != maxAskers || a.list[0].to != to(10) || a.list[0].nonce != 2 {
		t.Errorf("%d askers from %v, want %d, the oldest forgotten, the last question of each", len(a.list), a.list[0], maxAskers)
	}
	a.add(asker{at: 2 + askedWithin + 1, to: to(1)})
	if len(a.list) != 1 {
		t.Errorf("%d askers after a long while, want 1", len(a.list))
	}
}
