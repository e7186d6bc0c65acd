package raft

import (
	"errors"
	"testing"
)

// Rules of the paper, the thesis and our own pages, one core at a time: what goes in is written out, and what may not
// come out is looked for.

func newCore(id uint16, start Start) *Core {
	cfg := Config{ID: id, Incarnation: uint64(id) * 1000, Boot: uint64(id) * 10, Seed: 1, Timeout: 100 * msec, LargestTimeout: 1000 * msec,
		Heartbeat: 10 * msec, Resend: 20 * msec, WindowBytes: 1000, UncommittedBytes: 1000}
	if start.Configs == nil {
		start.Configs = []IndexedConfiguration{{0, voters(1, 2, 3)}}
	}
	return New(cfg, start, 1000*msec)
}

func from(id uint16, m Message) *Message {
	m.From, m.FromIncarnation, m.FromBoot = id, uint64(id)*1000, uint64(id)*10
	return &m
}

// flush takes, and says that it is all durable.
func flush(c *Core) *Effects {
	e := c.Take()
	c.Synced(c.now, e.Serial, c.log.last, c.log.lastTerm())
	return e
}

// elect makes core 1 leader with the help of 2.
func elect(t testing.TB, c *Core) {
	t.Helper()
	c.Tick(c.Deadline())
	c.Take()
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	flush(c)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Granted: true, Term: c.Term(), EchoBoot: 10}))
	if c.Role() != Leader {
		t.Fatalf("not elected: %+v", c.Status())
	}
}

func ack(c *Core, match uint64) Message {
	return Message{Kind: Ack, Term: c.Term(), EchoBoot: 10, EchoSeq: c.seq, EchoRound: c.round, Match: match, LastIndex: match, EchoTimeout: 100 * msec}
}

func entries(first, term uint64, n int) []Entry {
	var es []Entry
	for i := range n {
		es = append(es, Entry{Index: first + uint64(i), Term: term, Kind: Commands, Size: 100})
	}
	return es
}

func check(t *testing.T, c *Core, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestFigure8OnlyOwnTermIsCommittedByCounting(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 3}, Last: 2, Terms: []TermRun{{1, 1}, {2, 2}}})
	elect(t, c)
	flush(c)
	c.Step(c.now, from(2, ack(c, 2)))
	c.Step(c.now, from(3, ack(c, 2)))
	check(t, c, "commit with the entry of term 2 everywhere", c.Commit(), uint64(0))
	c.Step(c.now, from(2, ack(c, 3)))
	check(t, c, "commit with the entry of this term at a majority", c.Commit(), uint64(3))
}

func TestLeaderCountsItselfOnlyBySynced(t *testing.T) {
	c := newCore(1, Start{Configs: []IndexedConfiguration{{0, voters(1, 2)}}})
	elect(t, c)
	e := c.Take()
	c.Step(c.now, from(2, ack(c, 1)))
	check(t, c, "commit before the leader's own sync", c.Commit(), uint64(0))
	c.Synced(c.now, e.Serial, 1, c.Term())
	check(t, c, "commit after it", c.Commit(), uint64(1))
}

func TestSingleVoterLeadsAndCommitsByItsOwnSync(t *testing.T) {
	c := newCore(1, Start{Configs: []IndexedConfiguration{{0, voters(1)}}})
	c.Tick(c.Deadline())
	check(t, c, "role before the vote is durable", c.Role(), Candidate)
	flush(c)
	check(t, c, "role", c.Role(), Leader)
	check(t, c, "commit before the sync", c.Commit(), uint64(0))
	flush(c)
	check(t, c, "commit", c.Commit(), uint64(1))
	if _, err := c.Read(c.now); err != nil {
		t.Fatal(err)
	}
	check(t, c, "reads ready", len(c.Take().Reads), 1)
	c.Tick(c.now + 1e12)
	check(t, c, "role after a long silence", c.Role(), Leader)
}

func TestVoteIsDurableBeforeItIsTold(t *testing.T) {
	c := newCore(1, Start{})
	ask := Message{Kind: Vote, Term: 5}
	c.Step(c.now, from(2, ask))
	e := c.Take()
	check(t, c, "told at once", len(e.Send), 0)
	check(t, c, "told after the sync", len(e.AfterSync), 1)
	check(t, c, "hard state with it", *e.Hard, HardState{5, 2})
	c.Step(c.now, from(2, ask)) // again, while the sync runs
	check(t, c, "a repeat while it is written", len(c.Take().Send), 0)
	c.Synced(c.now, e.Serial, 0, 0)
	c.Step(c.now, from(2, ask))
	check(t, c, "a repeat after it", len(c.Take().Send), 1)
	c.Step(c.now, from(3, ask))
	check(t, c, "a second vote of the term", c.Take().Send[0].Granted, false)
}

func TestVoteOfATermThatIsReplacedBeforeItIsWrittenIsNotTold(t *testing.T) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Vote, Term: 5}))
	c.Step(c.now, from(3, Message{Kind: Vote, Term: 6}))
	e := c.Take()
	check(t, c, "answers", len(e.AfterSync), 1)
	check(t, c, "term", e.AfterSync[0].Term, uint64(6))
}

func TestVoteIsForAnIncarnation(t *testing.T) {
	c := newCore(1, Start{})
	m := Message{Kind: Vote, Term: 5, From: 9, FromIncarnation: 1, FromBoot: 1}
	c.Step(c.now, &m)
	flush(c)
	check(t, c, "vote for a stranger", c.hard.Vote, uint16(9))
	m.FromIncarnation = 2
	c.Step(c.now, &m)
	check(t, c, "vote for another with its id", c.Take().Send[0].Granted, false)
}

func TestOtherIncarnationIsNotHeard(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 2}})
	for _, kind := range []MessageKind{Ack, Vote, VoteReply, ReadAsk} {
		m := from(2, Message{Kind: kind, Term: 9, EchoBoot: 10})
		m.FromIncarnation = 1
		c.Step(c.now, m)
	}
	check(t, c, "term", c.Term(), uint64(2))
	check(t, c, "dropped", c.dropped, uint64(4))
}

// Trap 7: a server that was away while a voter was replaced must still take
// the new one for a candidate and a leader, or it never learns of it. It names
// nobody that is behind this log, as the one that was replaced is.
func TestAReplacedVoterIsHeardAheadOfItsConfiguration(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 2}, Last: 3, Terms: []TermRun{{1, 2}}})
	renewed := func(m Message) *Message {
		p := from(2, m)
		p.FromIncarnation = 2001
		return p
	}
	vote := Message{Kind: Vote, Term: 5, LastIndex: 3, LastTerm: 2}
	c.Step(c.now, renewed(vote))
	check(t, c, "term after a vote for a log that is not ahead", c.Term(), uint64(2))
	vote.LastIndex = 4
	c.Step(c.now, renewed(vote))
	flush(c)
	check(t, c, "vote", c.hard, HardState{Term: 5, Vote: 2})
	c.Step(c.now, renewed(Message{Kind: Append, Term: 5, PrevIndex: 3, PrevTerm: 2, Entries: entries(4, 2, 1), Seq: 1}))
	flush(c)
	check(t, c, "leader", c.Leader(), uint16(2))
	check(t, c, "last", c.Last(), uint64(4))

	again := newCore(1, Start{Hard: HardState{Term: 5, Vote: 2}, Last: 3, Terms: []TermRun{{1, 2}}})
	again.Step(again.now, renewed(vote))
	if send := again.Take().Send; len(send) != 1 || send[0].Granted {
		t.Errorf("a vote that was given before a restart, maybe to the one replaced, is given to another incarnation: %+v", send)
	}
}

func TestEchoOfAnotherBootCountsNowhere(t *testing.T) {
	c := newCore(1, Start{})
	c.Tick(c.Deadline())
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 11}))
	check(t, c, "pre-vote", c.Role(), PreCandidate)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	flush(c)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Granted: true, Term: 1, EchoBoot: 11}))
	check(t, c, "vote", c.Role(), Candidate)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Granted: true, Term: 1, EchoBoot: 10}))
	flush(c)
	m := ack(c, 1)
	m.EchoBoot = 11
	c.Step(c.now, from(2, m))
	check(t, c, "ack", c.Commit(), uint64(0))
}

func TestPromiseOnlyMovesForward(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}})
	beat := Message{Kind: Append, Term: 1, Timeout: 1000 * msec}
	start := c.now
	c.Step(start, from(2, beat))
	flush(c)
	beat.Timeout = 100 * msec
	c.Step(start+msec, from(2, beat))
	flush(c)
	for _, pre := range []bool{true, false} {
		c.Step(start+999*msec, from(3, Message{Kind: Vote, Pre: pre, Term: 2}))
		e := flush(c)
		check(t, c, "granted inside the promise", e.Send[len(e.Send)-1].Granted, false)
		check(t, c, "term", c.Term(), uint64(1))
	}
	check(t, c, "its own campaign waits", c.Deadline() >= start+1000*msec, true)
	c.Tick(start + 500*msec)
	check(t, c, "role", c.Role(), Follower)
	c.Step(start+1000*msec, from(3, Message{Kind: Vote, Term: 2}))
	check(t, c, "granted after it", c.Take().AfterSync[0].Granted, true)
}

func TestTransferOverridesThePromise(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	flush(c)
	c.Step(c.now, from(3, Message{Kind: Vote, Term: 2, Transfer: true}))
	check(t, c, "vote", c.hard, HardState{2, 3})
}

func TestRestartHoldsItsVoteOnlyWhereLeasesAreAllowed(t *testing.T) {
	for _, leases := range []bool{false, true} {
		k := voters(1, 2, 3)
		k.Leases = leases
		c := newCore(1, Start{Configs: []IndexedConfiguration{{0, k}}})
		c.Step(c.now, from(2, Message{Kind: Vote, Term: 1}))
		check(t, c, "voted at once", c.hard.Vote == 2, !leases)
		check(t, c, "campaigns after", c.Deadline() >= 2000*msec, leases)
	}
}

func TestElectionTimeoutIsDrawnFromTToTwoT(t *testing.T) {
	seen := map[int64]bool{}
	for seed := range uint64(200) {
		c := New(Config{ID: 1, Incarnation: 1000, Seed: seed, Timeout: 100 * msec}, Start{Configs: []IndexedConfiguration{{0, voters(1, 2)}}}, 0)
		d := c.Deadline()
		if d < 100*msec || d >= 200*msec {
			t.Fatalf("seed %d: timeout %d", seed, d)
		}
		seen[d/(20*msec)] = true
	}
	if len(seen) != 5 {
		t.Errorf("timeouts fill %d fifths of the range", len(seen))
	}
}

func TestPreVoteRaisesNoTerm(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 2}})
	c.Step(c.now, from(2, Message{Kind: Vote, Pre: true, Term: 9}))
	check(t, c, "term of the asked", c.Term(), uint64(2))
	check(t, c, "hard state", c.Take().Hard, (*HardState)(nil))
	c.Tick(c.Deadline())
	check(t, c, "term of the asker", c.Term(), uint64(2))
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Term: 7, EchoBoot: 10}))
	check(t, c, "term after a refusal", c.Term(), uint64(2))
	c.Step(c.now, from(3, Message{Kind: VoteReply, Pre: true, Granted: true, Term: 2, EchoBoot: 10}))
	check(t, c, "the campaign is above every term heard of", c.Term(), uint64(8))
}

func TestVoteOnlyForALogAsGood(t *testing.T) {
	for _, v := range []struct {
		index, term uint64
		granted     bool
	}{{3, 2, true}, {2, 2, false}, {9, 1, false}, {1, 3, true}, {4, 2, true}} {
		for _, damaged := range [][]Range{nil, {{2, 3}}} {
			c := newCore(1, Start{Hard: HardState{Term: 2}, Last: 3, Terms: []TermRun{{1, 1}, {3, 2}}, Damaged: damaged})
			c.Step(c.now, from(2, Message{Kind: Vote, Term: 4, LastIndex: v.index, LastTerm: v.term}))
			check(t, c, "granted", c.Take().AfterSync[0].Granted, v.granted)
		}
	}
}

func TestHigherTermEndsLeadership(t *testing.T) {
	for _, kind := range []MessageKind{Append, Ack, VoteReply} {
		c := newCore(1, Start{})
		elect(t, c)
		flush(c)
		c.Step(c.now, from(2, Message{Kind: kind, Term: 9, EchoBoot: 10, Timeout: 100 * msec}))
		check(t, c, kind.String(), c.Role(), Follower)
		check(t, c, kind.String(), c.Term(), uint64(9))
	}
}

func TestLeaderWithoutQuorumStepsDown(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	if _, err := c.Read(c.now); err != nil {
		t.Fatal(err)
	}
	start := c.now
	c.Step(start+50*msec, from(2, ack(c, 1)))
	c.Tick(start + 149*msec)
	check(t, c, "role", c.Role(), Leader)
	c.Take()
	c.Tick(start + 150*msec)
	check(t, c, "role", c.Role(), Follower)
}

func TestTruncateOnlyOnARealConflict(t *testing.T) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Entries: entries(1, 1, 5)}))
	flush(c)
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Entries: entries(1, 1, 2)})) // late, or twice
	check(t, c, "operations for what is there", len(flush(c).Ops), 0)
	check(t, c, "last", c.Last(), uint64(5))
	c.Step(c.now, from(3, Message{Kind: Append, Term: 2, PrevIndex: 2, PrevTerm: 1, Entries: entries(3, 2, 1)}))
	e := flush(c)
	check(t, c, "cut at", e.Ops[0], LogOp{Kind: OpTruncate, From: 3})
	check(t, c, "last", c.Last(), uint64(3))
}

func TestCommittedIsNeverCut(t *testing.T) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Commit: 2, Entries: entries(1, 1, 2)}))
	flush(c)
	c.Step(c.now, from(3, Message{Kind: Append, Term: 2, Entries: entries(1, 2, 1)}))
	check(t, c, "last", c.Last(), uint64(2))
	check(t, c, "violations", c.violations, uint64(1))
}

func TestAckAndCommitOnlyWhatTheMessageProved(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 5, Terms: []TermRun{{1, 1}}})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 2, PrevIndex: 2, PrevTerm: 1, Commit: 5}))
	e := flush(c)
	check(t, c, "commit", e.Commit, uint64(2))
	m := c.Take().Send[0]
	check(t, c, "match", m.Match, uint64(2))
	check(t, c, "held", m.LastIndex, uint64(2))
}

func TestNothingIsAcknowledgedBeforeItsSync(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Entries: entries(1, 1, 2)}))
	e := c.Take()
	for _, m := range append(e.Send, e.AfterSync...) {
		check(t, c, "match before the sync", m.Match, uint64(0))
	}
	c.Synced(c.now, e.Serial, 2, 1)
	check(t, c, "match after it", c.Take().Send[0].Match, uint64(2))
}

// An entry is written, cut, and written again by way of another; the first write's sync ends late (trap 14).
func TestSyncOfAnOldTermMarksNothing(t *testing.T) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Entries: entries(1, 1, 3)}))
	one := *c.Take()
	c.Step(c.now, from(3, Message{Kind: Append, Term: 2, Entries: entries(1, 2, 3)}))
	two := *c.Take()
	c.Synced(c.now, one.Serial, 3, 1)
	check(t, c, "durable after the old sync", c.durable, uint64(0))
	c.Step(c.now, from(2, Message{Kind: Append, Term: 3, Entries: entries(1, 1, 3)}))
	three := *c.Take()
	c.Synced(c.now, two.Serial, 3, 2)
	c.Synced(c.now, one.Serial, 3, 1)
	check(t, c, "durable after the same places were written thrice", c.durable, uint64(0))
	c.Synced(c.now, three.Serial, 3, 1)
	check(t, c, "durable", c.durable, uint64(3))
}

func TestDamagedEntryCountsOnceRewrittenAndSynced(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 4, Terms: []TermRun{{1, 1}}, Damaged: []Range{{2, 3}}})
	check(t, c, "may campaign", c.Deadline(), Never)
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, PrevIndex: 4, PrevTerm: 1, Commit: 4}))
	e := flush(c)
	check(t, c, "match", e.Send[0].Match, uint64(1))
	check(t, c, "held", e.Send[0].LastIndex, uint64(1))
	check(t, c, "commit", e.Commit, uint64(1))
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, PrevIndex: 1, PrevTerm: 1, Commit: 4, Entries: entries(2, 1, 3)}))
	e = c.Take()
	check(t, c, "rewrites", len(e.Ops), 2)
	check(t, c, "rewrite", e.Ops[0].Rewrite && e.Ops[0].Entry.Index == 2, true)
	check(t, c, "commit before the sync", e.Commit, uint64(1))
	c.Synced(c.now, e.Serial-1, 4, 1) // an earlier batch, of the same last entry
	check(t, c, "commit after another sync", c.Take().Commit, uint64(1))
	c.Synced(c.now, e.Serial, 4, 1)
	e = c.Take()
	check(t, c, "commit after it", e.Commit, uint64(4))
	check(t, c, "match after it", e.Send[0].Match, uint64(4))
	check(t, c, "may campaign", c.Deadline() < Never, true)
}

func TestVotelessNeitherVotesNorLeadsNorAcknowledges(t *testing.T) {
	c := newCore(1, Start{Voteless: true})
	check(t, c, "deadline", c.Deadline(), Never)
	c.Step(c.now, from(2, Message{Kind: Vote, Term: 1}))
	check(t, c, "granted", flush(c).AfterSync[0].Granted, false)
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Entries: entries(1, 1, 1)}))
	flush(c)
	check(t, c, "acks", len(c.Take().Send), 0)
}

func TestTermBelowTheLogMeansASpentVote(t *testing.T) {
	c := newCore(1, Start{Hard: HardState{Term: 5}, Last: 1, Terms: []TermRun{{1, 6}}})
	c.Step(c.now, from(2, Message{Kind: Vote, Term: 6, LastIndex: 9, LastTerm: 6}))
	check(t, c, "granted in the term of the lost vote", c.Take().Send[0].Granted, false)
	c.Step(c.now, from(2, Message{Kind: Vote, Term: 7, LastIndex: 9, LastTerm: 6}))
	check(t, c, "granted in the next", c.Take().AfterSync[0].Granted, true)
}

func TestReadWaitsForAFreshRoundAndAnOwnCommit(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	old := ack(c, 1)
	ticket, _ := c.Read(c.now)
	check(t, c, "ready at once", len(c.Take().Reads), 0)
	c.Step(c.now, from(2, old))
	check(t, c, "commit", c.Commit(), uint64(1))
	check(t, c, "ready by an earlier round", len(c.Take().Reads), 0)
	c.Step(c.now, from(2, ack(c, 1)))
	e := c.Take()
	check(t, c, "ready", len(e.Reads), 1)
	check(t, c, "read", e.Reads[0], ReadReady{ticket, 1})
	second, _ := c.Read(c.now)
	check(t, c, "second ready by the first's round", len(c.Take().Reads), 0)
	check(t, c, "tickets differ", second != ticket, true)
}

func TestReadsAreLostWithLeadership(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	if _, err := c.Read(c.now); err != nil {
		t.Fatal(err)
	}
	c.Step(c.now, from(2, Message{Kind: Ack, Term: 9, EchoBoot: 10}))
	check(t, c, "lost", c.Take().ReadsLost, true)
	_, err := c.Read(c.now)
	check(t, c, "read", err, ErrNotLeader)
}

func TestUncommittedBytesAreBoundedAndCreditedBack(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	e := Entry{Kind: Commands, Size: 400}
	for range 2 {
		if err := c.Propose(c.now, &e); err != nil {
			t.Fatal(err)
		}
	}
	check(t, c, "third", c.Propose(c.now, &e), ErrBusy)
	flush(c)
	c.Step(c.now, from(2, ack(c, 3)))
	check(t, c, "commit", c.Commit(), uint64(3))
	check(t, c, "third, after the commit", c.Propose(c.now, &e), nil)
}

func TestWindowBoundsWhatAPeerIsSent(t *testing.T) {
	c := newCore(1, Start{})
	c.cfg.UncommittedBytes = 1 << 20
	elect(t, c)
	flush(c)
	c.Step(c.now, from(2, ack(c, 1)))
	for range 50 {
		e := Entry{Kind: Commands, Size: 100}
		if err := c.Propose(c.now, &e); err != nil {
			t.Fatal(err)
		}
	}
	sent := uint64(0)
	for _, m := range c.Take().Send {
		if m.To == 2 && m.Last >= m.First {
			sent = m.Last - m.First + 1
		}
	}
	check(t, c, "entries of 100 bytes in a window of 1000", sent, uint64(10))
	c.Step(c.now, from(2, ack(c, 5)))
	check(t, c, "next after four were acknowledged", c.Take().Send[0].Last, uint64(15))
}

func TestOneConfigurationAtATime(t *testing.T) {
	joint := configuration("1,2,3/2,3,4")
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	e := Entry{Kind: Configuring, Config: &joint}
	check(t, c, "before this term commits", c.Propose(c.now, &e), ErrPending)
	c.Step(c.now, from(2, ack(c, 1)))
	check(t, c, "after", c.Propose(c.now, &e), nil)
	check(t, c, "in force at append", c.joint, true)
	check(t, c, "another", c.Propose(c.now, &e), ErrPending)
	if err := c.Propose(c.now, &Entry{Kind: Configuring}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a configuration: %v", err)
	}
	flush(c)
	c.Step(c.now, from(2, ack(c, 2)))
	check(t, c, "commit by 1, 2 of the old and 2 of the new", c.Commit(), uint64(1))
	c.Step(c.now, from(4, ack(c, 2)))
	check(t, c, "commit by 1, 2 of the old and 2, 4 of the new", c.Commit(), uint64(2))
}

func TestJointNeedsBothMajorities(t *testing.T) {
	joint := configuration("1,2,3/4,5,6")
	c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 1, Terms: []TermRun{{1, 1}}, Configs: []IndexedConfiguration{{0, voters(1, 2, 3)}, {1, joint}}})
	grant := func(id uint16, pre bool) {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Pre: pre, Granted: true, Term: c.Term(), EchoBoot: 10}))
	}
	c.Tick(c.Deadline())
	grant(2, true)
	check(t, c, "old majority", c.Role(), PreCandidate)
	grant(4, true)
	grant(5, true)
	check(t, c, "both", c.Role(), Candidate)
	flush(c)
	grant(4, false)
	grant(5, false)
	grant(6, false)
	check(t, c, "new majority", c.Role(), Candidate)
	grant(2, false)
	check(t, c, "both", c.Role(), Leader)
	flush(c)
	for id := uint16(4); id <= 6; id++ {
		c.Step(c.now, from(id, ack(c, 2)))
	}
	check(t, c, "commit by the new majority", c.Commit(), uint64(0))
	c.Step(c.now, from(2, ack(c, 2)))
	check(t, c, "commit by both", c.Commit(), uint64(2))
}

func TestLearnersCountNowhere(t *testing.T) {
	k := configuration("1,2,3,+4,+5")
	c := newCore(1, Start{Configs: []IndexedConfiguration{{0, k}}})
	c.Tick(c.Deadline())
	for _, m := range c.Take().Send {
		if m.To > 3 {
			t.Errorf("asks the learner %d for a vote", m.To)
		}
	}
	for id := uint16(4); id <= 5; id++ {
		c.Step(c.now, from(id, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	}
	check(t, c, "role by learners", c.Role(), PreCandidate)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Pre: true, Granted: true, EchoBoot: 10}))
	flush(c)
	c.Step(c.now, from(2, Message{Kind: VoteReply, Granted: true, Term: 1, EchoBoot: 10}))
	flush(c)
	if _, err := c.Read(c.now); err != nil {
		t.Fatal(err)
	}
	c.Take()
	for id := uint16(4); id <= 5; id++ {
		c.Step(c.now, from(id, ack(c, 1)))
	}
	check(t, c, "commit by learners", c.Commit(), uint64(0))
	c.Tick(c.now + 100*msec)
	check(t, c, "role when only learners answer", c.Role(), Follower)
	l := newCore(4, Start{Configs: []IndexedConfiguration{{0, k}}})
	check(t, l, "a learner waits for", l.Deadline(), Never)
	l.Step(l.now, from(2, Message{Kind: Vote, Term: 1}))
	check(t, l, "a learner that may be a voter votes", l.Take().AfterSync[0].Granted, true)
}

func TestReplicationToASilentPeerIsHeartbeatsOnly(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	heartbeats, withEntries := 0, 0
	for start := c.now; c.now < start+1000*msec; {
		c.Tick(max(c.Deadline(), c.now+1))
		if c.Role() != Leader {
			t.Fatal("stepped down")
		}
		c.Step(c.now, from(2, ack(c, c.log.last)))
		e := Entry{Kind: Commands, Size: 100}
		_ = c.Propose(c.now, &e)
		for _, m := range flush(c).Send {
			if m.To == 3 && m.Last >= m.First {
				withEntries++
			} else if m.To == 3 {
				heartbeats++
			}
		}
	}
	if withEntries > 5 || heartbeats > 60 || heartbeats < 20 {
		t.Errorf("in a second a dead peer got %d messages with entries and %d heartbeats", withEntries, heartbeats)
	}
}

func TestRestartOfAPeerForgetsWhatItHeld(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	m := ack(c, 0)
	m.LastIndex = 1
	c.Step(c.now, from(2, m))
	check(t, c, "held", c.peer(2).held, uint64(1))
	again := from(2, ack(c, 0))
	again.FromBoot++
	c.Step(c.now, again)
	check(t, c, "held after its restart", c.peer(2).held, uint64(0))
	sent := false
	for _, m := range c.Take().Send {
		sent = sent || m.To == 2 && m.First == 1 && m.Last == 1
	}
	check(t, c, "sent again", sent, true)
}

// majority is checked against a twin that tries every value.
func TestQuorumAgainstATwin(t *testing.T) {
	r := newRandom(7)
	for range 2000 {
		var k Configuration
		c := newCore(1, Start{Last: 100, Terms: []TermRun{{1, 1}}, Hard: HardState{Term: 1}})
		for id := uint16(1); id <= uint16(1+r.below(7)); id++ {
			k.Members = append(k.Members, Member{id, uint64(id) * 1000, r.below(3) > 0})
			if r.below(3) > 0 {
				k.Old = append(k.Old, id)
			}
		}
		if !k.valid() {
			continue
		}
		c.configs[0].Configuration = k
		c.enforce()
		has := map[uint16]uint64{1: r.below(10)}
		c.durable = has[1]
		for i := range c.peers {
			c.peers[i].match = r.below(10)
			has[c.peers[i].id] = c.peers[i].match
		}
		reached := func(v uint64) bool {
			voters, yes, old := 0, 0, 0
			for _, m := range k.Members {
				if m.Voter {
					voters++
					if has[m.ID] >= v {
						yes++
					}
				}
			}
			for _, id := range k.Old {
				if has[id] >= v {
					old++
				}
			}
			return yes*2 > voters && (len(k.Old) == 0 || old*2 > len(k.Old))
		}
		want := uint64(0)
		for v := uint64(1); v <= 10; v++ {
			if reached(v) {
				want = v
			}
		}
		if got := c.quorum(matches); got != want {
			t.Fatalf("%+v with %v: got %d, want %d", k, has, got, want)
		}
	}
}

// The log's terms are checked against a list.
func TestHistoryAgainstATwin(t *testing.T) {
	r := newRandom(9)
	var h history
	h.init(nil, 0, 100)
	var twin []uint64
	var sizes []int64
	term := uint64(1)
	for range 30000 {
		switch k := r.below(100); {
		case k < 97:
			term += r.below(60) / 59
			size := int64(r.below(500))
			h.append(term, int(size))
			twin, sizes = append(twin, term), append(sizes, size)
		case k < 98 && len(twin) > 0:
			from := uint64(len(twin)) - r.below(min(uint64(len(twin)), 5))
			h.truncate(from)
			twin, sizes = twin[:from-1], sizes[:from-1]
		case len(twin) > 0:
			i := 1 + r.below(uint64(len(twin)))
			if got, ok := h.term(i); !ok || got != twin[i-1] {
				t.Fatalf("term of %d: got %d, want %d", i, got, twin[i-1])
			}
			at := i
			limit := twin[r.below(uint64(len(twin)))]
			for at > 0 && twin[at-1] > limit {
				at--
			}
			if got, _ := h.atMost(i, limit); got != at {
				t.Fatalf("atMost(%d, %d): got %d, want %d", i, limit, got, at)
			}
			first := uint64(len(twin)) - r.below(min(uint64(len(twin)), 50))
			sum, last := sizes[first-1], first
			for last < uint64(len(twin)) && sum+sizes[last] <= 3000 {
				sum += sizes[last]
				last++
			}
			if got := h.fit(first, 3000); got != last {
				t.Fatalf("fit from %d: got %d, want %d", first, got, last)
			}
		}
	}
}
