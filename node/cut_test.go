package node

import (
	"net/netip"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// chaosLab is three servers that allow chaos, with a leader.
func chaosLab(t *testing.T) (*lab, *Node) {
	l := newLab(t, 3, 3)
	l.each(func(_ uint16, n *Node) { n.o.Chaos = true })
	return l, l.elect()
}

func (l *lab) chaos(to uint16, c wire.Chaos) {
	l.tell(to, 0, wire.KindChaos, c.Size(), c.Encode)
}

// chaosAnswers are the outcomes of the request with this nonce, in order.
func (l *lab) chaosAnswers(nonce uint64) (outcomes []uint8) {
	for _, a := range l.answers {
		if a.kind == wire.KindChaosReply && a.chaos.Nonce == nonce {
			outcomes = append(outcomes, a.chaos.Outcome)
		}
	}
	return outcomes
}

func TestALeaderCutOffIsReplacedAndSaysNothingUntilTheCutEnds(t *testing.T) {
	l, old := chaosLab(t)
	l.chaos(old.ID(), wire.Chaos{Nonce: 1, Duration: 30e9, Verb: wire.ChaosCut})
	l.until(1e9, "an answer", func() bool { return len(l.chaosAnswers(1)) == 1 })
	if got := l.chaosAnswers(1)[0]; got != wire.ChaosBegun {
		t.Fatalf("got outcome %d, want begun", got)
	}
	said := false
	l.drop = func(from, _ uint16, kind wire.Kind) bool {
		said = said || from == old.ID()
		return false
	}
	l.tell(old.ID(), 0, wire.KindHello, 480, (&wire.Hello{Nonce: 5, Pad: 472}).Encode)
	l.until(5e9, "another leader", func() bool { n := l.leader(); return n != nil && n != old })
	l.until(5e9, "the old one to notice", func() bool { return !old.Leading() })
	if said {
		t.Error("a server that is cut off said something")
	}
	l.drop = nil
	l.chaos(old.ID(), wire.Chaos{Nonce: 2, Verb: wire.ChaosCut})
	leader := l.elect()
	l.until(5e9, "the old one to follow", func() bool { return old.core.Leader() == leader.ID() && old.core.Term() == leader.core.Term() })
	if got := l.chaosAnswers(2); len(got) != 1 || got[0] != wire.ChaosBegun {
		t.Errorf("the end of the cut was answered with %v, want begun", got)
	}
	l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: 1, Key: []byte("a"), Value: []byte("7")})
	l.result(1)
}

func TestACutEndsByItself(t *testing.T) {
	l, old := chaosLab(t)
	l.chaos(old.ID(), wire.Chaos{Nonce: 1, Duration: 2e9, Verb: wire.ChaosCut})
	l.until(1e9, "the cut", func() bool { return old.chaos.cut })
	end := old.chaos.cutUntil
	l.until(3e9, "the end of the cut", func() bool { return !old.chaos.cut })
	if l.now < end {
		t.Errorf("it ended at %d, want not before %d", l.now, end)
	}
}

func TestChaosIsRefusedWhereItIsNotAllowed(t *testing.T) {
	l, n := chaosLab(t)
	ask := func(from netip.AddrPort, c wire.Chaos) {
		p := make([]byte, c.Size())
		c.Encode(p)
		n.admission.from = from
		n.chaosFrame(l.now, &wire.Header{Src: wire.ClientNode, Incarnation: 77}, from, p)
	}
	outcome := func() uint8 {
		var r wire.ChaosReply
		_, frames, err := wire.Open(n.Out()[0].Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, p, _ := frames.Next()
		if err := r.Decode(p); err != nil {
			t.Fatal(err)
		}
		return r.Outcome
	}
	n.Out()
	ask(netip.MustParseAddrPort("192.0.2.1:99"), wire.Chaos{Nonce: 1, Verb: wire.ChaosCrash})
	if got := outcome(); got != wire.ChaosRefused || n.chaos.crash {
		t.Errorf("from another machine: outcome %d, crash %v; want refused", got, n.chaos.crash)
	}
	n.o.Chaos = false
	ask(labAddr(labClient), wire.Chaos{Nonce: 2, Duration: 1e9, Verb: wire.ChaosCut})
	if got := outcome(); got != wire.ChaosOff || n.chaos.cut {
		t.Errorf("without --chaos: outcome %d, cut %v; want off", got, n.chaos.cut)
	}
}

func TestACopyOfAChaosRequestIsAnsweredAndNotDoneAgain(t *testing.T) {
	l, n := chaosLab(t)
	c := wire.Chaos{Nonce: 3, Duration: 1e9, Verb: wire.ChaosPause}
	l.chaos(n.ID(), c)
	l.until(1e9, "an answer", func() bool { return len(l.chaosAnswers(3)) == 1 })
	if d := n.chaos.pauseTaken(); d != 1e9 {
		t.Fatalf("the shell is to stand still for %v, want 1s", d)
	}
	l.chaos(n.ID(), c)
	l.until(1e9, "another answer", func() bool { return len(l.chaosAnswers(3)) == 2 })
	if d := n.chaos.pauseTaken(); d != 0 {
		t.Errorf("the copy was done again: %v", d)
	}
}
