package node

import (
	"strings"
	"testing"

	"balsa/node/raft"
	"balsa/wal/vfs"
	"balsa/wire"
)

// begin asks for a change until its phase is as wanted.
func (l *lab) begin(c wire.MemberChange, phase string) {
	l.t.Helper()
	l.until(10e9, "phase "+phase, func() bool {
		n := l.leader()
		if n == nil {
			return false
		}
		if n.core.Progress().Phase == phase {
			return true
		}
		l.tell(n.ID(), n.tag, wire.KindMember, c.Size(), c.Encode)
		return false
	})
}

func TestAHeldChangeIsTakenBackAndItsHoldWithIt(t *testing.T) {
	l := newLab(t, 5, 3)
	l.each(func(_ uint16, n *Node) { n.o.Chaos = true })
	l.elect()
	held := wire.MemberChange{Operation: 11, Verb: wire.VerbAdd, HoldPhase: wire.PhaseLearner, Hold: 3600e9, Servers: wire.AppendServers(nil, servers([]uint16{4}))}
	l.begin(held, raft.PhaseLearner)
	for range 200 {
		l.turn(5e6)
	}
	if got := l.leader().core.Progress().Phase; got != raft.PhaseLearner {
		t.Fatalf("after a second the held change is %s, want it in phase learner", got)
	}
	if r := l.change(12, wire.VerbCancel); r.Outcome != wire.OutcomeDone || r.Phase != wire.PhaseStable || r.Index > l.leader().core.Commit() {
		t.Errorf("cancel: got outcome %d, phase %d, index %d, %q", r.Outcome, r.Phase, r.Index, r.Text)
	}
	if r := l.change(13, wire.VerbCancel); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), "none is under way") {
		t.Errorf("nothing to cancel: got outcome %d, %q", r.Outcome, r.Text)
	}
	if r := l.change(11, wire.VerbAdd, 4); r.Outcome != wire.OutcomeRefused {
		t.Errorf("the cancelled operation, asked for again: got outcome %d, %q", r.Outcome, r.Text)
	}
	if r := l.change(14, wire.VerbAdd, 4, 5); r.Outcome != wire.OutcomeDone {
		t.Errorf("a change after the held one: got outcome %d, %q", r.Outcome, r.Text)
	}
}

func TestAHoldNeedsChaos(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	c := wire.MemberChange{Operation: 11, Verb: wire.VerbAdd, HoldPhase: wire.PhaseJoint, Hold: 1e9, Servers: wire.AppendServers(nil, servers([]uint16{4}))}
	if r := l.ask(c); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), "--chaos") {
		t.Errorf("got outcome %d, %q", r.Outcome, r.Text)
	}
}

func TestADryRunIsInNobodysWay(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	dry := wire.MemberChange{Operation: 11, Verb: wire.VerbAdd, DryRun: true, Servers: wire.AppendServers(nil, servers([]uint16{4}))}
	if r := l.ask(dry); r.Outcome != wire.OutcomePlan {
		t.Fatalf("dry run: got outcome %d, %q", r.Outcome, r.Text)
	}
	if r := l.change(12, wire.VerbAdd, 4); r.Outcome != wire.OutcomeDone {
		t.Errorf("the change at once after it: got outcome %d, %q", r.Outcome, r.Text)
	}
}

func TestOnlyADrillBreaksARule(t *testing.T) {
	for _, c := range []struct {
		o    Options
		fine bool
	}{
		{Options{}, true}, {Options{Chaos: true, Break: BreakJoint}, true}, {Options{Break: BreakJoint}, false}, {Options{Chaos: true, Break: "all"}, false},
	} {
		if err := c.o.checkBreak(); (err == nil) != c.fine {
			t.Errorf("chaos %v, break %q: got %v", c.o.Chaos, c.o.Break, err)
		}
	}
	if _, err := Open(Options{FS: vfs.NewMem(), Dir: "d", Break: BreakVotes}, 1); err == nil || !strings.Contains(err.Error(), "break rule") {
		t.Errorf("open: got %v", err)
	}
}
