package raft

import "testing"

// heard makes a follower of leader 1 with a promise of 100 ms.
func heard(id uint16, leases bool) *Core {
	c := newCore(id, Start{Hard: HardState{Term: 1}})
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec, Leases: leases}))
	flush(c)
	return c
}

func sentKind(e *Effects, k MessageKind) *Message {
	for i := range e.Send {
		if e.Send[i].Kind == k {
			return &e.Send[i]
		}
	}
	return nil
}

// gone tells c that the leader's process is gone, and lets it act: it stands with a tick, not with the word itself.
func gone(c *Core, now int64) {
	c.Refused(now, 1)
	c.Tick(now)
}

func TestAHintStandsWithTheNextTickSafety4(t *testing.T) {
	c := heard(2, false)
	c.Refused(c.now+msec, 1)
	check(t, c, "role", c.Role(), Follower)
	check(t, c, "is due", c.Deadline() <= c.now, true)
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec})) // it lay in the socket
	c.Tick(c.now)
	check(t, c, "role after a sign of life", c.Role(), Follower)
	c = heard(2, false)
	gone(c, c.now+msec)
	check(t, c, "role without one", c.Role(), PreCandidate)
}

func TestAPromiseThatMayBackALeaseIsKeptThoughTheLeaderLooksDeadSafety2(t *testing.T) {
	for _, leases := range []bool{false, true} {
		c := heard(2, leases)
		gone(c, c.now+msec)
		check(t, c, "asks at once", c.Role() == PreCandidate, !leases)
		c = heard(2, leases)
		c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 50 * msec})) // leases are over, the earlier promise is not
		flush(c)
		gone(c, c.now+60*msec)
		check(t, c, "asks after 60 ms", c.Role() == PreCandidate, !leases)
		if !leases {
			continue
		}
		c.Step(c.now, from(3, Message{Kind: Vote, Pre: true, Term: 1, Probe: probeRefused}))
		check(t, c, "probes", sentKind(flush(c), Probe) != nil, false)
		gone(c, c.now+50*msec)
		check(t, c, "asks once no lease can rest on it", c.Role(), PreCandidate)
	}
}

func TestSilenceIsProbedOncePerHeartbeat(t *testing.T) {
	c := heard(2, false)
	start, probes := c.now, 0
	for c.now < start+75*msec {
		c.Tick(c.Deadline())
		if m := sentKind(flush(c), Probe); m != nil {
			check(t, c, "who and what", m.To == 1 && m.Term == 1, true)
			check(t, c, "not before 2.5 heartbeats", c.now >= start+25*msec, true)
			probes++
		}
	}
	check(t, c, "probes in 75 ms", probes, 6)
	check(t, c, "role", c.Role(), Follower)
}

// A path may take longer than the pause between two probes: each answer is to a question that is not the last.
func TestAnAnswerThatTakesLongerThanAHeartbeatCounts(t *testing.T) {
	c := heard(2, false)
	silence := func() (first uint64) {
		for until := c.now + 60*msec; c.now < until; {
			c.Tick(c.Deadline())
			if m := sentKind(flush(c), Probe); m != nil && first == 0 {
				first = m.Seq
			}
		}
		check(t, c, "probes after the first", c.hint.nonce > first, true)
		return first
	}
	reply := from(1, Message{Kind: ProbeReply, Term: 1, EchoBoot: 20, EchoSeq: silence(), Leads: true})
	c.Step(c.now, reply)
	check(t, c, "it leads", c.promise.holds(c.now), true)
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	reply.EchoSeq, reply.Leads = c.hint.nonce, false
	c.Step(c.now, reply)
	check(t, c, "an answer to what was asked before it was heard", c.promise.holds(c.now), true)
	reply.EchoSeq, reply.Leads = silence(), true
	reply.FromBoot++
	c.Step(c.now, reply)
	check(t, c, "another process is there", c.promise.holds(c.now), false)
}

func TestAVoterProbesItselfAndTheGrantCoversTheVoteSafety3(t *testing.T) {
	for _, v := range []struct {
		name  string
		reply func(c *Core, nonce uint64)
		gone  bool
	}{
		{"refused", func(c *Core, _ uint64) { c.Refused(c.now, 1) }, true},
		{"another is refused", func(c *Core, _ uint64) { c.Refused(c.now, 3) }, false},
		{"leads", func(c *Core, n uint64) {
			c.Step(c.now, from(1, Message{Kind: ProbeReply, Term: 1, EchoBoot: 20, EchoSeq: n, Leads: true}))
		}, false},
		{"leads no more", func(c *Core, n uint64) {
			c.Step(c.now, from(1, Message{Kind: ProbeReply, Term: 2, EchoBoot: 20, EchoSeq: n}))
		}, true},
		{"another boot", func(c *Core, n uint64) {
			m := from(1, Message{Kind: ProbeReply, Term: 1, EchoBoot: 20, EchoSeq: n, Leads: true})
			m.FromBoot++
			c.Step(c.now, m)
		}, true},
		{"of an earlier probe", func(c *Core, n uint64) {
			c.Step(c.now, from(1, Message{Kind: ProbeReply, Term: 1, EchoBoot: 20, EchoSeq: n - 1}))
		}, false},
		{"to another boot (Safety5)", func(c *Core, n uint64) {
			c.Step(c.now, from(1, Message{Kind: ProbeReply, Term: 1, EchoBoot: 19, EchoSeq: n}))
		}, false},
	} {
		c := heard(2, false)
		c.Step(c.now+msec, from(3, Message{Kind: Vote, Pre: true, Term: 1, Probe: probeRefused}))
		e := flush(c)
		check(t, c, v.name+": answered before it has looked", sentKind(e, VoteReply) == nil, true)
		probe := sentKind(e, Probe)
		if probe == nil {
			t.Fatalf("%s: no probe", v.name)
		}
		v.reply(c, probe.Seq)
		r := sentKind(flush(c), VoteReply)
		check(t, c, v.name+": granted", r != nil && r.Granted, v.gone)
		// What the dead leader left on the wires arrives late, and renews the promise.
		c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
		flush(c)
		c.Step(c.now+msec, from(3, Message{Kind: Vote, Term: 2}))
		check(t, c, v.name+": the real vote", c.hard.Vote == 3, v.gone)
	}
}

func TestOneThatLostPatienceIsRefusedAtOnce(t *testing.T) {
	c := heard(2, false)
	c.Step(c.now+msec, from(3, Message{Kind: Vote, Pre: true, Term: 1}))
	e := flush(c)
	check(t, c, "reason", sentKind(e, VoteReply).Reason, ReasonPromised)
	check(t, c, "and probes", sentKind(e, Probe) != nil, true)
}

func TestOfTwoThatNoticeTogetherTheLesserYieldsSafety3(t *testing.T) {
	for _, v := range []struct {
		me, other  uint16
		last, term uint64
		yields     bool
	}{{2, 3, 1, 1, true}, {3, 2, 1, 1, false}, {3, 2, 2, 1, true}} {
		c := newCore(v.me, Start{Hard: HardState{Term: 1}, Last: 1, Terms: []TermRun{{1, 1}}})
		c.Step(c.now, from(1, Message{Kind: Append, Term: 1, PrevIndex: 1, PrevTerm: 1, Timeout: 100 * msec}))
		flush(c)
		gone(c, c.now+msec)
		check(t, c, "role", c.Role(), PreCandidate)
		check(t, c, "says why", sentKind(flush(c), Vote).Probe, probeRefused)
		c.Step(c.now, from(v.other, Message{Kind: Vote, Pre: true, Term: 1, LastIndex: v.last, LastTerm: v.term, Probe: probeRefused}))
		r := sentKind(flush(c), VoteReply)
		check(t, c, "granted", r.Granted, v.yields)
		check(t, c, "stands on", c.Role() == PreCandidate, !v.yields)
	}
}

func TestAForgedHintEndsWithTheNextHeartbeat(t *testing.T) {
	c := heard(2, false)
	c.Refused(c.now+msec, 1)
	flush(c)
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	check(t, c, "role", c.Role(), Follower)
	check(t, c, "leader", c.Leader(), uint16(1))
	check(t, c, "promise", c.promise.holds(c.now+99*msec), true)
	check(t, c, "term", c.Term(), uint64(1))
}

func TestAProbeIsAnsweredForThisTermAndBoot(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	for term, leads := range map[uint64]bool{0: false, 1: true, 2: false} {
		c.Step(c.now, from(2, Message{Kind: Probe, Term: term, Seq: 5}))
		m := sentKind(c.Take(), ProbeReply)
		check(t, c, "leads", m.Leads, leads)
		check(t, c, "echo", m.EchoBoot == 20 && m.EchoSeq == 5, true)
		check(t, c, "term", c.Term(), uint64(1))
	}
}

func TestAFollowerReadsByARoundOfItsLeader(t *testing.T) {
	l, f := leading(t, Start{}, 2, 3), heard(2, false)
	one, _ := f.Read(f.now)
	two, err := f.Read(f.now)
	if err != nil {
		t.Fatal(err)
	}
	ask := sentKind(f.Take(), ReadAsk)
	ask.FromBoot = 20
	l.Step(l.now, ask)
	check(t, l, "answered without a round", sentKind(l.Take(), ReadAnswer) == nil, true)
	l.Step(l.now, from(3, ack(l, 1)))
	answer := sentKind(l.Take(), ReadAnswer)
	if answer == nil {
		t.Fatal("no answer")
	}
	check(t, l, "index", answer.Index, l.commit)
	late := *answer
	f.Step(f.now, answer)
	e := f.Take()
	check(t, f, "both are served", len(e.Reads), 2)
	check(t, f, "first", e.Reads[0], ReadReady{one, 1})
	check(t, f, "second", e.Reads[1], ReadReady{two, 1})
	// The follower restarts, counts from 1 again, and the old answer arrives once more (Safety5).
	g := heard(2, false)
	g.cfg.Boot = 21
	_, _ = g.Read(g.now)
	g.Take()
	late.EchoSeq = 1
	g.Step(g.now, &late)
	check(t, g, "served by an answer to an earlier boot", len(g.Take().Reads), 0)
}

func TestReadsOfAFollowerAreRepeatedAndEndWithTheLeaderOrAfterT(t *testing.T) {
	c := heard(2, false)
	_, _ = c.Read(c.now)
	check(t, c, "asked", sentKind(flush(c), ReadAsk) != nil, true)
	c.Tick(c.now + c.cfg.Resend)
	check(t, c, "asked again", sentKind(flush(c), ReadAsk) != nil, true)
	for until := c.now + c.cfg.Timeout - c.cfg.Resend; c.now < until; {
		c.Step(c.now+msec, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
		c.Tick(c.now)
	}
	check(t, c, "lost after T", c.Take().ReadsLost, true)
	_, _ = c.Read(c.now)
	c.Step(c.now, from(3, Message{Kind: Append, Term: 2, Timeout: 100 * msec}))
	check(t, c, "lost with the leader", c.Take().ReadsLost, true)
	_, err := newCore(2, Start{}).Read(0)
	check(t, c, "without a leader", err, ErrNotLeader)
}
