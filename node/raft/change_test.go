package raft

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// Rules of membership, transfer, hints and follower reads, one by one. Names end in what they prove: a rule of the
// safety pages (Safety10) or a trap of the survey (Trap1).

// leading makes core 1 the leader of its configuration, with its first entry committed by the servers named.
func leading(t *testing.T, start Start, by ...uint16) *Core {
	t.Helper()
	c := newCore(1, start)
	c.cfg.UncommittedBytes, c.cfg.WindowBytes = 1<<20, 1<<20
	c.Tick(c.Deadline())
	c.Take()
	for _, id := range by {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	}
	flush(c)
	for _, id := range by {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Granted: true, Term: c.Term(), EchoBoot: 10}))
	}
	flush(c)
	acked(c, by...)
	flush(c)
	if c.Role() != Leader || !c.mayChange() {
		t.Fatalf("not leading: %+v", c.Status())
	}
	return c
}

// acked lets servers acknowledge all there is, then takes what that brings.
func acked(c *Core, by ...uint16) *Effects {
	for _, id := range by {
		c.Step(c.now, from(id, ack(c, c.log.last)))
	}
	return flush(c)
}

func members(ids ...uint16) []Member {
	return voters(ids...).Members
}

func begin(t *testing.T, c *Core, operation uint64, target ...Member) {
	t.Helper()
	if err := c.Change(c.now, Change{Operation: operation, Target: target}); err != nil {
		t.Fatal(err)
	}
	flush(c)
}

func TestAnOperationGoesFromAnySetToAnyByLearnerAndJoint(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	begin(t, c, 7, members(1, 4, 5)...)
	check(t, c, "phase", c.inForce().Phase(), PhaseLearner)
	check(t, c, "learners", len(c.Progress().Learners), 2)
	check(t, c, "voters before they caught up", slices.Equal(c.inForce().voters(), []uint16{1, 2, 3}), true)
	acked(c, 2, 3, 4, 5)
	check(t, c, "phase with all caught up", c.inForce().Phase(), PhaseJoint)
	acked(c, 2, 3)
	check(t, c, "phase with the old majority only", c.inForce().Phase(), PhaseJoint)
	check(t, c, "commit", c.inForce().Index > c.commit, true)
	acked(c, 4)
	check(t, c, "phase with both", c.inForce().Phase(), PhaseStable)
	check(t, c, "voters", slices.Equal(c.inForce().voters(), []uint16{1, 4, 5}), true)
	check(t, c, "target", c.inForce().Target == nil, true)
	acked(c, 4)
	check(t, c, "committed", c.inForce().Index <= c.commit, true)
	check(t, c, "the same again", c.Change(c.now, Change{Operation: 7, Target: members(1, 4, 5)}), nil)
	check(t, c, "makes no entry", len(c.Take().Ops), 0)
}

func TestAReplacedServerLeavesBeforeItsNewIncarnationEnters(t *testing.T) {
	c := leading(t, Start{}, 2)
	again := Member{3, 3001, true}
	begin(t, c, 1, append(members(1, 2), again)...)
	check(t, c, "phase", c.inForce().Phase(), PhaseJoint)
	check(t, c, "new set", slices.Equal(c.inForce().voters(), []uint16{1, 2}), true)
	acked(c, 2)
	check(t, c, "learner", *c.inForce().member(3), Member{3, 3001, false})
	m := from(3, ack(c, c.log.last)) // the old incarnation counts nowhere
	c.Step(c.now, m)
	acked(c, 2)
	check(t, c, "after an ack of the old incarnation", c.inForce().Phase(), PhaseLearner)
	m = from(3, ack(c, c.log.last))
	m.FromIncarnation, m.FromBoot = 3001, 31
	c.Step(c.now, m)
	flush(c)
	check(t, c, "after one of the new", c.inForce().Phase(), PhaseJoint)
	acked(c, 2)
	acked(c, 2)
	check(t, c, "phase", c.inForce().Phase(), PhaseStable)
	check(t, c, "voter", *c.inForce().member(3), again)
	check(t, c, "the sole voter cannot be replaced by itself", errors.Is(leading(t, Start{Configs: []IndexedConfiguration{{0, voters(1)}}}).Change(c.now, Change{Operation: 1, Target: []Member{{1, 9, true}}}), ErrInvalid), true)
}

func TestNoChangeBeforeAnEntryOfTheOwnTermCommitsTrap1(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	check(t, c, "before", c.Change(c.now, Change{Operation: 1, Target: members(1, 2)}), ErrPending)
	acked(c, 2)
	check(t, c, "after", c.Change(c.now, Change{Operation: 1, Target: members(1, 2)}), nil)
}

func TestALaterLeaderCommitsJointUnderBothMajoritiesAndGoesOnTrap2(t *testing.T) {
	joint := configuration("1,2,3/1,4,5")
	joint.Target, joint.Operation = members(1, 4, 5), 9
	c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 1, Terms: []TermRun{{1, 1}}, Configs: []IndexedConfiguration{{0, voters(1, 2, 3)}, {1, joint}}})
	c.cfg.UncommittedBytes = 1 << 20
	c.Tick(c.Deadline())
	for _, id := range []uint16{2, 4} {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	}
	flush(c)
	for _, id := range []uint16{2, 4} {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Granted: true, Term: 2, EchoBoot: 10}))
	}
	flush(c)
	acked(c, 4, 5)
	check(t, c, "left by the new majority alone", c.inForce().Index, uint64(1))
	if err := c.Cancel(c.now); !errors.Is(err, ErrCannotCancel) || !strings.Contains(err.Error(), "earlier leader") {
		t.Errorf("cancel by a later leader (Safety10): %v", err)
	}
	acked(c, 2)
	check(t, c, "left under both", c.inForce().Phase(), PhaseStable)
	check(t, c, "operation", c.inForce().Operation, uint64(9))
}

func TestRolledBackWithItsEntryTrap4(t *testing.T) {
	c := newCore(2, Start{})
	k := configuration("1,2,3/2,3,4")
	k.Target = members(2, 3, 4)
	e := entries(1, 1, 1)
	e[0].Kind, e[0].Config = Configuring, &k
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Entries: e}))
	flush(c)
	check(t, c, "in force at append", c.inForce().Phase(), PhaseJoint)
	c.Step(c.now, from(3, Message{Kind: Append, Term: 2, Entries: entries(1, 2, 1)}))
	flush(c)
	check(t, c, "after the cut", c.inForce().Phase(), PhaseStable)
	check(t, c, "index", c.inForce().Index, uint64(0))
}

func TestOnlyTheAppendingLeaderCancelsJointBeforeItCommitsSafety10(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	begin(t, c, 1, members(1, 2)...)
	check(t, c, "phase", c.inForce().Phase(), PhaseJoint)
	check(t, c, "cancel", c.Cancel(c.now), nil)
	flush(c)
	check(t, c, "voters", slices.Equal(c.inForce().voters(), []uint16{1, 2, 3}), true)
	check(t, c, "another change before it commits", c.Change(c.now, Change{Operation: 2, Target: members(1, 2)}), ErrPending)
	acked(c, 3)
	begin(t, c, 2, members(1, 2)...)
	c.Hold(PhaseJoint, c.now+1000*msec)
	acked(c, 2, 3)
	check(t, c, "held", c.inForce().Phase(), PhaseJoint)
	if err := c.Cancel(c.now); !errors.Is(err, ErrCannotCancel) || !strings.Contains(err.Error(), "committed") {
		t.Errorf("cancel of a committed joint configuration: %v", err)
	}
}

func TestCancelWhileLearning(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	begin(t, c, 1, members(1, 2, 3, 4)...)
	check(t, c, "before it commits", c.Cancel(c.now), ErrPending)
	acked(c, 2, 3)
	check(t, c, "cancel", c.Cancel(c.now), nil)
	flush(c)
	check(t, c, "learner gone", c.inForce().member(4) == nil, true)
	check(t, c, "phase", c.inForce().Phase(), PhaseStable)
	acked(c, 2)
	check(t, c, "nothing to cancel", errors.Is(c.Cancel(c.now), ErrCannotCancel), true)
}

func TestAHoldEndsWithItsLeaderAndWithTimeSafety11(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	c.Hold(PhaseJoint, c.now+50*msec)
	begin(t, c, 1, members(1, 2)...)
	acked(c, 2, 3)
	check(t, c, "held", c.inForce().Phase(), PhaseJoint)
	c.now += 50 * msec
	check(t, c, "deadline", c.Deadline() <= c.now, true)
	c.Tick(c.now)
	c.Take()
	check(t, c, "after it", c.inForce().Phase(), PhaseStable)
	c.Hold(PhaseStable, Never)
	c.Step(c.now, from(2, Message{Kind: Append, Term: 9}))
	check(t, c, "hold of a leader that is none", c.change.holdUntil, int64(0))
}

func TestAChangeThatCannotCommitIsRefusedUnlessForced(t *testing.T) {
	c := leading(t, Start{Configs: []IndexedConfiguration{{0, voters(1, 2, 3, 4, 5)}}}, 2, 3)
	c.advance(c.now + c.cfg.Timeout)
	acked(c, 2, 3)
	err := c.Change(c.now, Change{Operation: 1, Target: members(1, 4, 5)})
	if !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "[1 4 5]") {
		t.Fatalf("got %v", err)
	}
	check(t, c, "forced", c.Change(c.now, Change{Operation: 1, Target: members(1, 4, 5), Force: true}), nil)
	flush(c)
	acked(c, 2, 3)
	check(t, c, "waits, and decides on", c.inForce().Phase(), PhaseLearner)
	acked(c, 2, 3, 4)
	check(t, c, "joint once a quorum of it lives", c.inForce().Phase(), PhaseJoint)
}

func TestCatchUpIsBoundedAndGivenUpTrap28(t *testing.T) {
	for _, silent := range []bool{false, true} {
		c := leading(t, Start{}, 2, 3)
		c.cfg.Timeout = 100 * msec
		begin(t, c, 5, members(1, 2, 3, 4)...)
		for range 3000 {
			c.Tick(c.now + 10*msec)
			e := Entry{Kind: Commands, Size: 10}
			_ = c.Propose(c.now, &e)
			flush(c)
			acked(c, 2, 3)
			if !silent && c.peer(4) != nil && c.now >= c.peer(4).catch.since+c.cfg.Timeout {
				c.Step(c.now, from(4, ack(c, c.peer(4).catch.upTo))) // a round, but a slow one
			}
			if c.inForce().Phase() == PhaseStable {
				break
			}
		}
		acked(c, 2, 3)
		check(t, c, "phase", c.inForce().Phase(), PhaseStable)
		check(t, c, "learner", c.inForce().member(4) == nil, true)
		g := c.Progress().GaveUp
		check(t, c, "operation", g.Operation, uint64(5))
		check(t, c, "why", strings.Contains(g.Reason, "10 rounds"), !silent)
		check(t, c, "why", strings.Contains(g.Reason, "30 s"), silent)
	}
}

func TestARemovedLeaderServesUntilTheEndThenHandsOverTrap8(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	begin(t, c, 1, members(2, 3)...)
	check(t, c, "proposes while joint", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), nil)
	flush(c)
	acked(c, 2, 3) // final
	check(t, c, "not a voter", c.self, false)
	check(t, c, "proposes", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), nil)
	flush(c)
	c.Step(c.now, from(2, ack(c, c.log.last)))
	check(t, c, "commit with itself and one of two", c.commit < c.log.last, true)
	c.Step(c.now, from(3, ack(c, c.log.last)))
	e := flush(c)
	announced, told := 0, uint16(0)
	for _, m := range e.Send {
		if m.Kind == Append && m.Commit == c.log.last {
			announced++
		} else if m.Kind == TimeoutNow {
			told = m.To
		}
	}
	check(t, c, "commit is announced first", announced >= 2, true)
	check(t, c, "handed over", told != 0, true)
	check(t, c, "proposals now", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), ErrTransferring)
	c.Tick(c.now + c.cfg.Timeout)
	c.Take()
	check(t, c, "gone, though nobody took over", c.Role(), Follower)
}

func TestARemovedServerIsToldTrap9(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	begin(t, c, 1, members(1, 2)...)
	acked(c, 2, 3) // joint is committed, final appended
	sent := false
	for i := range 10 {
		e := acked(c, 2)
		for _, m := range e.Send {
			sent = sent || m.To == 3 && m.Commit >= c.inForce().Index
		}
		c.Tick(c.now + 10*msec*int64(i))
	}
	check(t, c, "the removed server is told what is committed", sent, true)
	check(t, c, "departing", len(c.Progress().Departing), 1)
	acked(c, 3)
	check(t, c, "departing, once it has acknowledged that", len(c.Progress().Departing), 0)

	c = leading(t, Start{}, 2, 3)
	begin(t, c, 1, members(1, 2)...)
	acked(c, 2, 3)
	acked(c, 2)
	c.Step(c.now, from(3, Message{Kind: Vote, Term: 50, LastIndex: 1, LastTerm: 1}))
	check(t, c, "term", c.Term(), uint64(1))
	r := c.Take().Send
	check(t, c, "answer to one that does not know", r[len(r)-1].Reason, ReasonRemoved)
}

// A leader that was elected a moment ago has not heard everybody yet: what depends on who is alive waits.
func TestAYoungLeaderDoesNotJudgeWhoIsAlive(t *testing.T) {
	c := leading(t, Start{}, 2)
	two := Change{Operation: 7, Target: members(1, 3)}
	check(t, c, "a transfer to one not heard yet", c.Transfer(c.now, 3), ErrPending)
	check(t, c, "a change that needs it", c.Change(c.now, two), ErrPending)
	c.advance(c.now + c.cfg.Timeout)
	acked(c, 2)
	check(t, c, "a transfer after T", errors.Is(c.Transfer(c.now, 3), ErrNoSuccessor), true)
	check(t, c, "a change after T", errors.Is(c.Change(c.now, two), ErrNoQuorum), true)
}

// Told by its leader, or by a voter when it stands: it stands no more, also after a restart, until a later
// configuration names it again.
func TestARemovedServerStandsNoMoreSafety8(t *testing.T) {
	with := func(index uint64, ids ...uint16) IndexedConfiguration {
		return IndexedConfiguration{index, Configuration{Members: members(ids...)}}
	}
	run := []TermRun{{First: 1, Term: 1}}
	start := Start{Hard: HardState{Term: 1}, Last: 5, Terms: run, Configs: []IndexedConfiguration{with(0, 1, 2, 3), with(5, 2, 3)}}
	c := newCore(1, start)
	check(t, c, "nothing is committed, as far as it knows: removed", c.Removed(), uint64(0))
	check(t, c, "and may stand (trap 6)", c.mayCampaign(), true)
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, PrevIndex: 5, PrevTerm: 1, Commit: 5}))
	check(t, c, "its leader told it: removed by", c.Removed(), uint64(5))
	check(t, c, "may stand", c.mayCampaign(), false)

	start.Left = c.Removed()
	c = newCore(1, start)
	check(t, c, "after a restart: removed by", c.Removed(), uint64(5))
	check(t, c, "may stand", c.mayCampaign(), false)
	start.Last, start.Configs = 9, append(start.Configs, with(9, 1, 2, 3))
	c = newCore(1, start)
	check(t, c, "named again: removed", c.Removed(), uint64(0))
	check(t, c, "may stand", c.mayCampaign(), true)

	start = Start{Hard: HardState{Term: 1}, Last: 4, Terms: run, Configs: []IndexedConfiguration{with(0, 1, 2, 3)}}
	c = newCore(1, start)
	c.Tick(c.Deadline())
	flush(c)
	check(t, c, "role", c.Role(), PreCandidate)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Term: 1, EchoBoot: 10, Reason: ReasonRemoved, LastIndex: 5, LastTerm: 1}))
	check(t, c, "a voter told it: removed by", c.Removed(), uint64(5))
	check(t, c, "role", c.Role(), Follower)
	check(t, c, "would stand at", c.Deadline(), Never)
	start.Left = c.Removed()
	check(t, newCore(1, start), "after a restart: removed by", newCore(1, start).Removed(), uint64(5))
}

// A server on its way in reads old configurations that do not name it yet: those did not remove it.
func TestAServerOnItsWayInIsNotRemoved(t *testing.T) {
	c := newCore(4, Start{Hard: HardState{Term: 1}, Last: 5, Terms: []TermRun{{First: 1, Term: 1}},
		Configs: []IndexedConfiguration{{0, Configuration{Members: members(1, 2, 3)}}, {5, Configuration{Members: members(2, 3)}}}})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, PrevIndex: 5, PrevTerm: 1, Commit: 5}))
	check(t, c, "removed", c.Removed(), uint64(0))
}

func TestStickinessAndPreVoteKeepARemovedServerFromDisturbingTrap10(t *testing.T) {
	c := newCore(2, Start{Hard: HardState{Term: 1}})
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	flush(c)
	for _, pre := range []bool{true, false} {
		c.Step(c.now+10*msec, from(9, Message{Kind: Vote, Pre: pre, Term: 9, LastIndex: 9, LastTerm: 1}))
		flush(c)
		check(t, c, "term", c.Term(), uint64(1))
	}
}

func TestALearnerBecomesAVoterOnlyWithItsEntryAndVotesBeforeItKnowsTrap22(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	c.Hold(PhaseLearner, Never)
	begin(t, c, 1, members(1, 2, 3, 4, 5)...)
	acked(c, 4, 5)
	check(t, c, "commit by learners", c.inForce().Index > c.commit, true)
	acked(c, 2)
	check(t, c, "commit by voters", c.inForce().Index <= c.commit, true)
	l := newCore(4, Start{})
	l.configs = []IndexedConfiguration{{}}
	l.enforce()
	l.Step(l.now, from(2, Message{Kind: Vote, Term: 3}))
	check(t, l, "a server that knows of no configuration votes (Trap7)", l.Take().AfterSync[0].Granted, true)
}

func TestTransfer(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	check(t, c, "to a stranger", errors.Is(c.Transfer(c.now, 9), ErrNoSuccessor), true)
	_ = c.Propose(c.now, &Entry{Kind: Commands, Size: 1})
	flush(c)
	check(t, c, "begins", c.Transfer(c.now, 3), nil)
	check(t, c, "proposals", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), ErrTransferring)
	told := func(e *Effects) bool {
		return slices.ContainsFunc(e.Send, func(m Message) bool { return m.Kind == TimeoutNow })
	}
	check(t, c, "told before it has everything", told(flush(c)), false)
	check(t, c, "told", told(acked(c, 3)), true)
	c.Tick(c.now + c.cfg.Resend)
	check(t, c, "told again", told(acked(c, 2, 3)), true)
	c.Step(c.now, from(3, Message{Kind: Vote, Transfer: true, Term: 2, LastIndex: c.log.last, LastTerm: 1}))
	check(t, c, "votes for it", c.hard, HardState{2, 3})

	c = leading(t, Start{}, 2, 3)
	_ = c.Propose(c.now, &Entry{Kind: Commands, Size: 1})
	check(t, c, "begins", c.Transfer(c.now, 0), nil)
	for until := c.now + c.cfg.Timeout; c.now < until; {
		c.Tick(max(c.now+1, min(c.Deadline(), until)))
		c.Take()
		c.Step(c.now, from(2, ack(c, 1)))
	}
	c.Take()
	check(t, c, "given up after T", c.Transferring(), uint16(0))
	check(t, c, "and leads on", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), nil)
}

func TestTimeoutNowCampaignsOnlyForTheCurrentTermAtTheWordOfItsLeader(t *testing.T) {
	for _, v := range []struct {
		from uint16
		term uint64
		role Role
	}{{1, 1, Candidate}, {1, 0, Follower}, {1, 2, Follower}, {3, 1, Follower}} {
		c := newCore(2, Start{Hard: HardState{Term: 1}})
		c.preTerm = 40 // of an earlier pre-vote: the campaign must be for the next term
		c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
		flush(c)
		c.Step(c.now, from(v.from, Message{Kind: TimeoutNow, Term: v.term}))
		check(t, c, "role", c.Role(), v.role)
		if v.role == Candidate {
			m := c.Take().AfterSync[0]
			check(t, c, "override", m.Transfer && m.Term == 2, true)
		}
	}
}

func TestTransferOverridesOnlyForTheNextTerm(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	flush(c)
	c.Step(c.now, from(3, Message{Kind: Vote, Term: 3, Transfer: true}))
	check(t, c, "term after a transfer that names no current term", c.Term(), uint64(1))
	l := leading(t, Start{}, 2, 3)
	l.Step(l.now, from(3, Message{Kind: Vote, Term: 2, Transfer: true, LastIndex: 9, LastTerm: 1}))
	check(t, l, "a leader that has said no such word", l.Role(), Leader)
}
