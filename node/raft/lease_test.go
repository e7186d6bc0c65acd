package raft

import (
	"errors"
	"testing"
)

// Leases, rule by rule. A core is told what others said; the runs of SAFETY 1 and 2 have three servers.

func leasing(k Configuration) Configuration {
	k.Leases = true
	return k
}

// leads makes core 1 leader of term 1 under k, with its no-op durable and, if committed, acknowledged by 2 at once.
func leads(t *testing.T, k Configuration, committed bool) *Core {
	t.Helper()
	c := newCore(1, Start{Fresh: true, Configs: []IndexedConfiguration{{0, k}}})
	c.Tick(c.Deadline())
	c.Take()
	for _, pre := range []bool{true, false} {
		for id := uint16(2); c.peer(id) != nil; id++ {
			c.Step(c.now, from(id, Message{Kind: VoteReply, Pre: pre, Granted: true, Term: c.Term(), EchoBoot: 10}))
		}
		flush(c)
	}
	check(t, c, "role", c.Role(), Leader)
	if committed {
		answer(c, 2, 1, 100*msec)
	}
	return c
}

// answer lets server id answer all that it was sent, with so much of T.
func answer(c *Core, id uint16, match uint64, timeout int64) {
	m := ack(c, match)
	m.EchoTimeout = timeout
	c.Step(c.now, from(id, m))
	c.Take()
}

// beat lets the leader send heartbeats, and gives the time at which they left.
func beat(c *Core) int64 {
	c.Tick(c.Deadline())
	c.Take()
	return c.now
}

// leasedUntil looks for the end of the lease, which is not told by any name.
func leasedUntil(c *Core) int64 {
	at := c.now
	for c.Leased(at) {
		at += msec / 10
	}
	return at
}

// readsAtOnce tells whether a read asked at now needs no answer from anybody, and where it is served.
func readsAtOnce(t *testing.T, c *Core, now int64) (bool, uint64) {
	t.Helper()
	if _, err := c.Read(now); err != nil {
		t.Fatal(err)
	}
	e := c.Take()
	if len(e.Reads) == 0 {
		return false, 0
	}
	return true, e.Reads[0].Index
}

func TestALeaseReadNeedsNoRoundAndIsServedAtTheCommitIndexOfThatMoment(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		k := voters(1, 2, 3)
		k.Leases = allowed
		c := leads(t, k, true)
		round := c.round
		served, index := readsAtOnce(t, c, c.now+msec)
		check(t, c, "served at once", served, allowed)
		check(t, c, "rounds begun", c.round > round, !allowed)
		if !allowed {
			continue
		}
		check(t, c, "at", index, uint64(1))
		e := Entry{Kind: Commands, Size: 100}
		if err := c.Propose(c.now, &e); err != nil {
			t.Fatal(err)
		}
		flush(c)
		_, index = readsAtOnce(t, c, c.now)
		check(t, c, "what is not committed is not awaited", index, uint64(1))
		answer(c, 2, 2, 100*msec)
		_, index = readsAtOnce(t, c, c.now)
		check(t, c, "what is committed is", index, uint64(2))
		check(t, c, "counted", c.LeaseReads(), uint64(3))
	}
}

func TestALeaseBeginsWithTheSendingNotTheReceiptTrap17(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	sent := beat(c)
	c.advance(sent + 50*msec)
	answer(c, 2, 1, 100*msec)
	check(t, c, "lease after the sending", leasedUntil(c)-sent, 80*msec)
}

func TestAnAnswerToAnEarlierMessageGivesNoLaterLease(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	first := beat(c)
	early := ack(c, 1)
	for c.now < first+30*msec {
		beat(c)
	}
	c.Step(c.now, from(2, early))
	check(t, c, "lease after the first of them", leasedUntil(c)-first, 80*msec)
	beat(c)
	c.Step(c.now, from(2, early)) // repeated by the network
	check(t, c, "lease after the same again", leasedUntil(c)-first, 80*msec)
}

func TestALeaseLastsAsTheShortestPromiseOfTheQuorumLessTheDrift(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3, 4, 5)), false)
	answer(c, 2, 1, 100*msec)
	check(t, c, "one of five", c.Leased(c.now), false)
	answer(c, 3, 1, 50*msec)
	check(t, c, "lease of 2 and 3", leasedUntil(c)-c.now, 40*msec)
	answer(c, 4, 1, 70*msec)
	check(t, c, "lease of 2 and 4", leasedUntil(c)-c.now, 56*msec)
}

// A follower's clock may run a tenth fast while the leader's runs a tenth slow.
func TestALeaseEndsBeforeThePromiseWithClocksATenthOff(t *testing.T) {
	for timeout := paceOfAll[0]; timeout <= paceOfAll[1]; timeout += 37 * msec {
		c := leads(t, leasing(voters(1, 2, 3)), false)
		answer(c, 2, 1, timeout)
		leader := float64(leasedUntil(c)-c.now) / 0.9
		promise := float64(timeout) / 1.1
		if leader >= promise {
			t.Errorf("T %d ms: in true time the lease takes %.1f ms, the promise %.1f", timeout/msec, leader/1e6, promise/1e6)
		}
	}
}

var paceOfAll = [2]int64{100 * msec, 1000 * msec}

func TestNoPromiseIsWorthMoreThanARestartHolds(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), false)
	answer(c, 2, 1, 5000*msec) // of a server that was told a T of 5 s, and may be started with another next time
	check(t, c, "lease", leasedUntil(c)-c.now, 800*msec)
}

func TestAShorterTimeoutTakesNoLeaseBack(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), false)
	start := c.now
	answer(c, 2, 1, 1000*msec)
	c.SetTimes(100*msec, c.cfg.Heartbeat, c.cfg.Resend)
	beat(c)
	answer(c, 2, 1, 100*msec)
	check(t, c, "lease", leasedUntil(c)-start, 800*msec)
}

func TestNoLeaseBeforeAnEntryOfTheOwnTermIsCommitted(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), false)
	answer(c, 2, 0, 100*msec)
	answer(c, 3, 0, 100*msec)
	check(t, c, "leased", c.Leased(c.now), false)
	served, _ := readsAtOnce(t, c, c.now)
	check(t, c, "served", served, false)
	answer(c, 2, 1, 100*msec)
	check(t, c, "leased after it", c.Leased(c.now), true)
}

func TestNoLeaseWhileTheConfigurationInForceIsNotCommitted(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	k := leasing(voters(1, 2, 3))
	k.Members = append(k.Members, Member{4, 4000, false})
	if err := c.Propose(c.now, &Entry{Kind: Configuring, Size: 100, Config: &k}); err != nil {
		t.Fatal(err)
	}
	flush(c)
	check(t, c, "leased", c.Leased(c.now), false)
	answer(c, 2, 2, 100*msec)
	check(t, c, "leased after its commit", c.Leased(c.now), true)
}

func TestAConfigurationWithoutLeasesEndsThemForGood(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	off, on := voters(1, 2, 3), leasing(voters(1, 2, 3))
	if err := c.Propose(c.now, &Entry{Kind: Configuring, Size: 100, Config: &off}); err != nil {
		t.Fatal(err)
	}
	flush(c)
	check(t, c, "leased at its append", c.Leased(c.now), false)
	answer(c, 2, 2, 100*msec)
	check(t, c, "leased after its commit", c.Leased(c.now), false)
	err := c.Propose(c.now, &Entry{Kind: Configuring, Size: 100, Config: &on})
	check(t, c, "allowed later", errors.Is(err, ErrInvalid), true)
	if _, err := c.Read(c.now + msec); err != nil {
		t.Fatal(err)
	}
	e := c.Take()
	check(t, c, "messages with leases", e.Send[0].Leases, false)
	check(t, c, "served", len(e.Reads), 0)
}

func TestALeaseOfAJointConfigurationNeedsBothMajorities(t *testing.T) {
	k := leasing(voters(1, 2, 3, 4, 5))
	for i := range k.Members {
		k.Members[i].Voter = k.Members[i].ID == 1 || k.Members[i].ID > 3
	}
	k.Old = []uint16{1, 2, 3} // new: 1, 4, 5
	for _, test := range []struct {
		name   string
		who    []uint16
		leased bool
	}{{"old alone", []uint16{2, 3}, false}, {"new alone", []uint16{4, 5}, false}, {"one of each", []uint16{2, 5}, true}} {
		c := leads(t, k, false)
		for id := uint16(2); id <= 5; id++ { // everyone has the entry; who promises is the question
			answer(c, id, 1, 0)
		}
		c.Tick(c.now + 90*msec)
		c.Take()
		for _, id := range test.who {
			answer(c, id, 1, 100*msec)
		}
		check(t, c, test.name, c.Leased(c.now), test.leased)
	}
}

func TestNoLeaseForTheRestOfTheTermOnceATransferWasTold(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	if err := c.Transfer(c.now, 3); !errors.Is(err, ErrPending) { // not heard yet: nobody knows whether it is there
		t.Fatal(err)
	}
	answer(c, 3, 0, 100*msec) // it lacks an entry: nobody is told yet
	if err := c.Transfer(c.now, 3); err != nil {
		t.Fatal(err)
	}
	c.Take()
	served, _ := readsAtOnce(t, c, c.now)
	check(t, c, "served before anybody is told", served, true)
	m := ack(c, 1)
	c.Step(c.now, from(3, m))
	check(t, c, "told", sentKind(c.Take(), TimeoutNow) != nil, true)
	served, _ = readsAtOnce(t, c, c.now)
	check(t, c, "served", served, false)
	until := c.now + 500*msec
	for c.now < until { // it is given up, and this server leads on
		beat(c)
		answer(c, 2, 1, 100*msec)
	}
	check(t, c, "transfer", c.Transferring(), uint16(0))
	check(t, c, "role", c.Role(), Leader)
	check(t, c, "leased", c.Leased(c.now), false)
}

func TestNoLeaseWhileLeaving(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	answer(c, 3, 1, 100*msec)
	if err := c.Change(c.now, Change{Operation: 7, Target: []Member{{2, 2000, true}, {3, 3000, true}}}); err != nil {
		t.Fatal(err)
	}
	for !c.leaving {
		flush(c)
		for id := uint16(2); id <= 3; id++ {
			m := ack(c, c.log.last)
			c.Step(c.now, from(id, m))
		}
	}
	check(t, c, "told anybody", c.transfer.told, false)
	check(t, c, "leased", c.Leased(c.now), false)
}

func TestALeaderThatWasPausedServesNothingFromALeaseThatRanOut(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	served, _ := readsAtOnce(t, c, c.now+79*msec)
	check(t, c, "served within it", served, true)
	served, _ = readsAtOnce(t, c, c.now+msec) // no tick yet: what lay in the socket is heard first
	check(t, c, "served after it", served, false)
	check(t, c, "role", c.Role(), Leader)
	check(t, c, "the messages are a round", c.round, uint64(1))
}

func TestALeaseReleasesReadsThatWaitForARound(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	c.advance(c.now + 85*msec)
	c.Tick(c.now)
	c.Take()
	m := ack(c, 1)
	ticket, err := c.Read(c.now)
	if err != nil {
		t.Fatal(err)
	}
	check(t, c, "waits", len(c.Take().Reads), 0)
	c.Step(c.now+msec, from(2, m)) // of before the round, and after the lease ran out
	check(t, c, "released", c.Take().Reads[0], ReadReady{ticket, 1})
}

func TestAFollowersQuestionIsAnsweredAtOnceUnderALease(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	c.Step(c.now+msec, from(3, Message{Kind: ReadAsk, Term: 1, Seq: 4}))
	m := sentKind(c.Take(), ReadAnswer)
	check(t, c, "answered", m != nil && m.To == 3 && m.EchoSeq == 4 && m.EchoBoot == 30 && m.Index == 1, true)
}

func TestAPromiseOfAnotherBootBacksNoLeaseUntilItIsRenewed(t *testing.T) {
	c := leads(t, leasing(voters(1, 2, 3)), true)
	old := ack(c, 1)
	beat(c)
	old.EchoSeq = 1
	m := from(2, old)
	m.FromBoot = 21
	c.Step(c.now, m)
	check(t, c, "leased", c.Leased(c.now), false)
}

func TestAMessageWithoutLeasesEndsWhatWasPromisedToEarlierOnes(t *testing.T) {
	l := lease{}
	l.offer(1000, 5, true)
	l.promised(5, 100)
	l.offer(1010, 6, true)
	l.offer(1020, 7, false)
	l.promised(7, 100)
	if l.until != 0 {
		t.Errorf("leased until %d, the last promise backs none", l.until)
	}
}

func TestWhatAFollowerEchoesItPromisedTogether(t *testing.T) {
	c := newCore(2, Start{Fresh: true, Hard: HardState{Term: 1}})
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Seq: 9, Timeout: 50 * msec, Leases: true}))
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Seq: 8, Timeout: 100 * msec})) // overtaken, from before leases
	m := sentKind(c.Take(), Ack)
	check(t, c, "echo", m.EchoSeq, uint64(9))
	check(t, c, "of T", m.EchoTimeout, 50*msec)
	check(t, c, "leased promise", c.promise.leased-c.now, 50*msec)
}

func TestARestartHoldsItsVoteForEveryConfigurationItHasSafety2(t *testing.T) {
	on, off := leasing(voters(1, 2, 3)), voters(1, 2, 3)
	for _, test := range []struct {
		name    string
		configs []IndexedConfiguration
		fresh   bool
		holds   bool
	}{
		{"never allowed", []IndexedConfiguration{{0, off}}, false, false},
		{"allowed", []IndexedConfiguration{{0, on}}, false, true},
		{"ended by an entry of the tail, which may yet be cut", []IndexedConfiguration{{0, on}, {2, off}}, false, true},
		{"an entry of the tail", []IndexedConfiguration{{0, off}, {2, on}}, false, true},
		{"it never took part", []IndexedConfiguration{{0, on}}, true, false},
	} {
		c := newCore(3, Start{Hard: HardState{Term: 1}, Last: 2, Terms: []TermRun{{1, 1}}, Configs: test.configs, Fresh: test.fresh})
		c.Step(c.now+999*msec, from(2, Message{Kind: Vote, Term: 2, LastIndex: 2, LastTerm: 1}))
		check(t, c, test.name+": holds its vote", c.hard.Vote == 0, test.holds)
		c.Refused(c.now, 1)
		check(t, c, test.name+": stands before", test.holds && c.Deadline() < c.promise.until, false)
		c.Step(1000*msec+1000*msec, from(2, Message{Kind: Vote, Term: 2, LastIndex: 2, LastTerm: 1}))
		check(t, c, test.name+": votes after", c.hard.Vote, uint16(2))
	}
}
