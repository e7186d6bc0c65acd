package raft

// Noticing a dead leader before its time is up (SAFETY 2 and 3). A process that is gone answers with ICMP, or as
// another boot; that is only a hint, for anyone can forge it:
//
//	follower, silence     probes its leader ---- refused, another boot, not leading ----> its promise ends, it asks
//	                                                                                      for pre-votes and says why
//	voter, so asked       probes the leader itself, keeps the asker waiting ---- same --> its promise ends, it answers
//
// A promise that may back a lease is never shortened. Without leases a promise only keeps the peace, so that the worst
// a forged hint does is an election.
type hint struct {
	leader     uint16 // who was last promised to, as which boot, in which term
	boot, term uint64
	heardAt    int64
	dead       bool   // it was seen to be dead, and not heard since
	probeAt    int64  // when silence is probed next
	probedAt   int64  // when the last probe left, for whatever reason
	nonce      uint64 // of the last probe
	before     uint64 // of the last one before the leader was heard: only later ones ask about now
	askers     [8]asker
	waiting    int // of askers
	grant      asker
	grantUntil int64
}

// asker is a server whose pre-vote waits for a probe, or was granted because of one.
type asker struct {
	id                        uint16
	incarnation, boot         uint64
	term, lastIndex, lastTerm uint64
}

// probeRefused in a vote request: the asker saw that the leader's process is gone.
const probeRefused uint8 = 1

// heardLeader notes a sign of life. A leader that has just sent entries has more to say soon, their commit at least: its
// silence is probed earlier.
func (c *Core) heardLeader(m *Message) {
	h := &c.hint
	h.leader, h.boot, h.term, h.heardAt, h.dead = m.From, m.FromBoot, m.Term, c.now, false
	h.before = h.nonce
	h.probeAt = c.now + c.cfg.ProbeAfter
	if len(m.Entries) > 0 {
		h.probeAt = c.now + min(c.cfg.ProbeAfter, c.cfg.Heartbeat/2)
	}
}

// watches tells whether this server probes its leader when it is silent.
func (c *Core) watches() bool {
	return c.role == Follower && c.leader != 0 && c.leader == c.hint.leader && (c.self || c.old) && c.hintCounts()
}

// hintCounts tells whether a hint may matter at all: never while a lease may rest on the promise.
func (c *Core) hintCounts() bool {
	return c.cfg.ProbeAfter > 0 && c.hint.leader != 0 && !c.hint.dead && c.now >= c.promise.leased
}

func (c *Core) tickWatch() {
	if c.watches() && c.now >= c.hint.probeAt {
		c.probe()
	}
}

// probe asks the leader whether it is one still. The question alone is worth it: a dead process refuses it.
func (c *Core) probe() {
	h := &c.hint
	h.probedAt, h.probeAt = c.now, c.now+c.cfg.Heartbeat
	h.nonce++
	c.answer(Message{Kind: Probe, To: h.leader, Term: h.term, Seq: h.nonce})
}

// stepProbe answers for this process and the asker's term; it raises no term.
func (c *Core) stepProbe(m *Message) {
	c.answer(Message{Kind: ProbeReply, To: m.From, Term: c.hard.Term, EchoBoot: m.FromBoot, EchoSeq: m.Seq,
		Leads: c.role == Leader && m.Term == c.hard.Term})
}

// stepProbeReply: alive and leading keeps the promise, anything else ends it. An answer may take longer than the pause
// between two probes, so it need not be to the last.
func (c *Core) stepProbeReply(m *Message) {
	h := &c.hint
	if m.From != h.leader || m.EchoSeq <= h.before || m.EchoSeq > h.nonce || m.EchoBoot != c.cfg.Boot {
		return
	}
	if m.FromBoot != h.boot || !m.Leads {
		c.leaderGone()
		return
	}
	for _, a := range h.askers[:h.waiting] {
		c.answerAsker(a, ReasonPromised)
	}
	h.waiting = 0
}

// Refused says that no process listens at that server's address: ICMP said so. Only a hint, and only about the leader.
func (c *Core) Refused(now int64, id uint16) {
	c.advance(now)
	if id == c.hint.leader {
		c.leaderGone()
	}
}

// leaderGone ends the promise to a leader that was seen to be gone. Whoever asked for a vote meanwhile is answered, the
// best of them with a grant if it deserves it; without such a one this server stands itself.
func (c *Core) leaderGone() {
	h := &c.hint
	if !c.hintCounts() || c.role != Follower {
		return
	}
	h.dead = true
	c.promise.end()
	c.become(Follower, 0)
	best := -1
	for i := range h.waiting {
		if best < 0 || h.askers[best].below(h.askers[i].lastTerm, h.askers[i].lastIndex, h.askers[i].id) {
			best = i
		}
	}
	granted := false
	for i, a := range h.askers[:h.waiting] {
		reason := ReasonYield
		if i == best {
			reason = c.judge(&Message{Pre: true, From: a.id, FromIncarnation: a.incarnation, Term: a.term, LastIndex: a.lastIndex, LastTerm: a.lastTerm})
			granted = reason == ReasonNone
		}
		c.answerAsker(a, reason)
	}
	h.waiting = 0
	if !granted {
		c.electionAt = c.now // with the next Tick: a sign of life that is on its way to us comes first (SAFETY 4)
	}
}

func (c *Core) answerAsker(a asker, reason uint8) {
	if reason == ReasonNone {
		c.cover(a)
	}
	c.answer(Message{Kind: VoteReply, To: a.id, Pre: true, EchoBoot: a.boot, Granted: reason == ReasonNone, Reason: reason,
		Term: c.hard.Term, LastIndex: c.log.last, LastTerm: c.log.lastTerm()})
}

// cover lets the real vote follow: what the dead leader left on the wires may renew the promise in between.
func (c *Core) cover(a asker) { c.hint.grant, c.hint.grantUntil = a, c.now+c.cfg.Timeout }

// covered tells whether m is the real vote that a pre-vote was granted for because the leader was gone.
func (c *Core) covered(m *Message) bool {
	h := &c.hint
	return !m.Pre && c.role != Leader && h.grant.id == m.From && h.grant.incarnation == m.FromIncarnation && h.grant.boot == m.FromBoot &&
		c.now < h.grantUntil && c.now >= c.promise.leased
}

// inquire is asked for a pre-vote inside a promise: it looks for itself whether the leader is gone. True if the asker
// has seen that too, and waits for the answer; one that merely lost patience is refused at once.
func (c *Core) inquire(m *Message) bool {
	h := &c.hint
	if !m.Pre || c.role != Follower || m.From == h.leader || !c.hintCounts() {
		return false
	}
	if c.now-h.probedAt >= c.cfg.Heartbeat/4 {
		c.probe()
	}
	if m.Probe != probeRefused {
		return false
	}
	a := asker{id: m.From, incarnation: m.FromIncarnation, boot: m.FromBoot, term: m.Term, lastIndex: m.LastIndex, lastTerm: m.LastTerm}
	for i := range h.waiting {
		if h.askers[i].id == a.id {
			h.askers[i] = a
			return true
		}
	}
	if h.waiting == len(h.askers) {
		return false
	}
	h.askers[h.waiting] = a
	h.waiting++
	return true
}

// yields settles which of two that noticed together stands: the lesser (last term, last index, id) gives way, the other
// refuses it.
func (c *Core) yields(m *Message) uint8 {
	me := asker{id: c.cfg.ID, lastIndex: c.log.last, lastTerm: c.log.lastTerm()}
	if !me.below(m.LastTerm, m.LastIndex, m.From) {
		return ReasonYield
	}
	c.resetElection()
	c.become(Follower, 0)
	return ReasonNone
}

// below compares logs, then ids.
func (a asker) below(lastTerm, lastIndex uint64, id uint16) bool {
	switch {
	case a.lastTerm != lastTerm:
		return a.lastTerm < lastTerm
	case a.lastIndex != lastIndex:
		return a.lastIndex < lastIndex
	}
	return a.id < id
}
