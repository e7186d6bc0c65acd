package raft

// Replication: the leader's sending and counting, the follower's checking and acknowledging.

// Propose appends e to the leader's log; Index and Term are set. It leaves for the followers with the next Take.
func (c *Core) Propose(now int64, e *Entry) error {
	c.advance(now)
	if err := c.mayLead(); err != nil {
		return err
	}
	if e.Kind == 0 || e.Kind > lastEntryKind || (e.Kind == Configuring) != (e.Config != nil) || e.Config != nil && (!e.Config.valid() || !c.allowsLeases(e.Config)) {
		return ErrInvalid
	}
	if e.Kind == Configuring && !c.mayChange() {
		return ErrPending
	}
	if waits := c.Uncommitted(); waits > 0 && waits+e.Size > c.cfg.UncommittedBytes {
		return ErrBusy
	}
	e.Index, e.Term = c.log.last+1, c.hard.Term
	c.appendEntry(*e)
	return nil
}

// Uncommitted is how many bytes this leader has proposed in its term that are not committed yet.
func (c *Core) Uncommitted() int {
	return int(c.log.bytes(max(c.commit, c.firstOfTerm), c.log.last))
}

// replicate sends p what is useful now: entries as far as the window goes, or a heartbeat when one is due.
func (c *Core) replicate(p *peer) {
	quiet := c.quiet(p)
	if quiet && !p.probing {
		p.reprobe(c.seq + 1)
	}
	if !p.probing {
		room := int64(c.cfg.WindowBytes) - c.log.bytes(p.match, p.next-1)
		if p.next <= c.log.last && room > 0 {
			if !p.outstanding() {
				p.resendWait = c.cfg.Resend
				p.resendAt = c.now + p.resendWait
			}
			last := c.log.fit(p.next, room)
			c.sendAppend(p, p.next, last)
			p.next = last + 1
		}
	} else if !p.waiting && !quiet && p.next <= c.log.last {
		c.sendAppend(p, p.next, c.log.fit(p.next, int64(c.cfg.ProbeBytes)))
		p.waiting = true
		p.resendWait = max(p.resendWait, c.cfg.Resend)
		p.resendAt = c.now + p.resendWait
	}
	if c.round > p.roundSent && !quiet || c.now >= p.heartbeatAt {
		c.heartbeat(p)
	}
}

// quiet tells whether p has not answered for a whole timeout.
func (c *Core) quiet(p *peer) bool { return c.now-p.contact >= c.cfg.Timeout }

// heartbeat says that the leader lives. It looks where the logs are known to agree, so that entries still on the way
// are not missed; while probing it looks where the next entry would go.
func (c *Core) heartbeat(p *peer) {
	prev := p.held
	if p.probing {
		prev = p.next - 1
	}
	c.sendAppend(p, prev+1, prev)
}

func (c *Core) sendAppend(p *peer, first, last uint64) {
	c.seq++
	p.lease.offer(c.now, c.seq, c.inForce().Leases)
	term, _ := c.log.term(first - 1)
	c.send(Message{Kind: Append, To: p.id, Term: c.hard.Term, PrevIndex: first - 1, PrevTerm: term, First: first, Last: last,
		Commit: c.commit, Round: c.round, Seq: c.seq, Timeout: c.cfg.Timeout, Leases: c.inForce().Leases})
	p.roundSent = c.round
	p.heartbeatAt = c.now + c.cfg.Heartbeat
	if c.quiet(p) {
		p.heartbeatAt = c.now + max(c.cfg.Heartbeat, c.cfg.Timeout/4)
	}
}

// tickLeader gives up without a quorum, and sends again what seems lost.
func (c *Core) tickLeader() {
	if c.now >= c.quorumUntil() {
		c.becomeFollower(c.hard.Term, 0)
		return
	}
	c.tickDeparting()
	for i := 0; c.other(i) != nil; i++ {
		p := c.other(i)
		switch {
		case p.outstanding() && c.now >= p.resendAt:
			p.reprobe(c.seq + 1)
			p.resendWait = c.cfg.Resend
		case p.probing && p.waiting && c.now >= p.resendAt:
			p.waiting, p.resetSeq = false, c.seq+1
			p.resendWait = min(2*p.resendWait, max(c.cfg.Timeout, c.cfg.Resend))
		}
	}
}

// quorumUntil is when this leader has to step down: the smallest timeout that was promised after a quorum was heard.
func (c *Core) quorumUntil() int64 {
	if c.soleVoter() {
		return Never
	}
	timeout := c.cfg.Timeout
	for i := range c.peers {
		if p := &c.peers[i]; (p.voter || p.oldVoter) && p.promised > 0 {
			timeout = min(timeout, p.promised)
		}
	}
	return int64(c.quorum(contacts)) + timeout
}

func (c *Core) leaderDeadline() int64 {
	at := min(c.quorumUntil(), c.changeDeadline(), c.transferDeadline())
	for i := 0; c.other(i) != nil; i++ {
		p := c.other(i)
		at = min(at, p.heartbeatAt)
		if p.outstanding() || p.probing && p.waiting {
			at = min(at, p.resendAt)
		}
	}
	return at
}

// stepAck learns what a follower has. The caller has checked that it answers this boot, and that the follower is one.
func (c *Core) stepAck(m *Message) {
	if m.Term > c.hard.Term {
		c.becomeFollower(m.Term, 0)
		return
	}
	if m.Term < c.hard.Term || c.role != Leader {
		return
	}
	if m.Match > c.log.last || m.LastIndex > c.log.last || m.EchoRound > c.round || m.EchoSeq > c.seq {
		c.dropped++
		return
	}
	p := c.otherByID(m.From)
	if p.forgot {
		c.dropped++
		return
	}
	if p.contradicts(m) {
		p.forgot = true
		p.match, p.held, p.round, p.contact, p.catch.done = 0, 0, 0, 0, false
		p.lease = lease{}
		p.reprobe(c.seq + 1)
		return
	}
	if p.boot != m.FromBoot {
		// It restarted: what it held and had not synced is gone, and what it had synced may have come back damaged.
		if p.boot != 0 {
			p.reprobe(m.EchoSeq)
			p.match, p.held, p.catch.done = 0, 0, false
			p.lease.until = 0
		}
		p.boot = m.FromBoot
	}
	p.contact = c.now
	p.acknowledged(m.Match, c.seq)
	p.promised, p.disk, p.full = m.EchoTimeout, m.Disk, m.Full
	p.lease.promised(m.EchoSeq, m.EchoTimeout)
	p.round = max(p.round, m.EchoRound)
	further := p.heard(m.Match, m.LastIndex)
	if further {
		p.resendWait = c.cfg.Resend
		p.resendAt = c.now + p.resendWait
	}
	if !p.voter && !p.oldVoter {
		c.heardOfLearner(p, further)
	}
	if m.Reject {
		c.rejected(p, m)
	} else if p.probing && m.EchoSeq >= p.resetSeq {
		p.probing, p.waiting = false, false
		p.next = p.held + 1
	}
	c.repair(p, m)
	if len(c.change.departing) > 0 {
		c.heardOfDeparture(m)
	}
	c.advanceCommit()
}

// rejected moves next back to where the logs may agree. A reject of a message from before the last such move, or below
// what is known to agree, was overtaken.
func (c *Core) rejected(p *peer, m *Message) {
	if m.EchoSeq < p.resetSeq || m.RejectPrev < p.held || m.RejectPrev == 0 || m.RejectPrev > c.log.last {
		return
	}
	p.reprobe(c.seq + 1)
	hint, _ := c.log.atMost(min(m.Hint, m.RejectPrev-1), m.HintTerm)
	p.next = max(p.held, hint) + 1
}

// advanceCommit counts. Only an entry of this term is committed by counting; those before it come along.
func (c *Core) advanceCommit() {
	if n := min(c.quorum(matches), c.log.last); n > c.commit {
		if t, _ := c.log.term(n); t == c.hard.Term {
			c.commit = n
			c.checkLeaving()
		}
	}
	c.confirmReads()
}

// pendingAck is the one answer a follower owes its leader. Several messages of a turn are answered together.
type pendingAck struct {
	to             uint16
	boot           uint64
	seq, round     uint64
	timeout        int64
	now            bool // owed at once
	onSync         bool // owed when what was received is durable
	sentAt         int64
	roundSent      uint64
	reject         bool
	rejectSeq      uint64
	rejectPrev     uint64
	hint, hintTerm uint64
}

// stepAppend takes entries, or a heartbeat, from the leader of a term.
func (c *Core) stepAppend(m *Message) {
	if m.Term < c.hard.Term {
		c.answer(Message{Kind: Ack, To: m.From, Term: c.hard.Term, EchoBoot: m.FromBoot, EchoSeq: m.Seq, Reject: true, RejectPrev: m.PrevIndex})
		return
	}
	if !wellFormed(m) {
		c.dropped++
		return
	}
	if m.Term == c.hard.Term && (c.role == Leader || c.leader != 0 && c.leader != m.From) {
		c.violations++ // two leaders of one term
		return
	}
	if m.Term > c.hard.Term || c.role != Follower {
		c.becomeFollower(m.Term, m.From)
	}
	c.become(Follower, m.From)
	timeout := m.Timeout
	if timeout <= 0 {
		timeout = c.cfg.Timeout
	}
	timeout = min(timeout, c.cfg.LargestTimeout)
	c.promise.keep(c.now, timeout, m.Leases || c.inForce().Leases)
	c.heardLeader(m)
	c.resetElectionWith(timeout)
	a := &c.ack
	if a.to != m.From || a.boot != m.FromBoot {
		*a = pendingAck{to: m.From, boot: m.FromBoot}
		c.ring.clear()
	}
	if m.Seq >= a.seq { // what is echoed together was promised together
		a.seq, a.timeout = m.Seq, timeout
	}
	a.round = max(a.round, m.Round)
	c.accept(m)
}

// wellFormed tells whether the entries of m can follow each other.
func wellFormed(m *Message) bool {
	index, term := m.PrevIndex, m.PrevTerm
	if term > m.Term || (index == 0) != (term == 0) {
		return false
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if index++; e.Index != index || e.Term < term || e.Term > m.Term || e.Term == 0 || e.Size < 0 {
			return false
		}
		if e.Kind == 0 || e.Kind > lastEntryKind || (e.Kind == Configuring) != (e.Config != nil) || e.Config != nil && !e.Config.valid() {
			return false
		}
		term = e.Term
	}
	return true
}

// accept puts what is new into the log. What this message proves is PrevIndex and the entries it has, no more.
func (c *Core) accept(m *Message) {
	a := &c.ack
	if t, ok := c.log.term(m.PrevIndex); !ok && c.hold(m) {
		a.now = true
		return
	} else if !ok || t != m.PrevTerm {
		a.now, a.reject, a.rejectSeq, a.rejectPrev = true, true, m.Seq, m.PrevIndex
		a.hint, a.hintTerm = c.log.atMost(m.PrevIndex, m.PrevTerm)
		return
	}
	fresh, before := false, c.log.last
	for i := range m.Entries {
		e := &m.Entries[i]
		if t, ok := c.log.term(e.Index); ok && t == e.Term {
			if c.damage.needs(e.Index) {
				c.rewrite(e)
				fresh = true
			}
			continue
		} else if ok {
			if e.Index <= c.commit || e.Index <= c.proven {
				c.violations++ // a leader that lacks what is committed, or contradicts itself
				return
			}
			c.truncate(e.Index)
		}
		c.appendEntry(*e)
		fresh = true
	}
	c.proven = max(c.proven, m.PrevIndex+uint64(len(m.Entries)))
	fresh = c.release(before) || fresh
	c.commit = max(c.commit, min(m.Commit, c.proven))
	if fresh || len(m.Entries) > 0 && m.Entries[len(m.Entries)-1].Index > c.durable {
		a.onSync = true
	}
	// The disk never makes a leader wait for an answer that needs no disk: a read round, a sign of life.
	if !a.onSync || len(m.Entries) == 0 || m.Round > a.roundSent || c.now-a.sentAt >= c.cfg.Heartbeat {
		a.now = true
	}
}

// rewrite takes again an entry whose body was damaged; it counts when it is durable.
func (c *Core) rewrite(e *Entry) {
	c.damage.rewrites = append(c.damage.rewrites, rewrite{e.Index, c.serial()})
	again := *e
	again.Config = nil
	if e.Kind == Configuring {
		k := e.Config.clone()
		again.Config = &k
		c.restoreConfiguration(e.Index, &k)
	}
	c.eff.Ops = append(c.eff.Ops, LogOp{Kind: OpAppend, Entry: again, Rewrite: true})
}

// flushAck sends the ack that is owed, unless the term it speaks for is not durable yet. A server that may have
// forgotten its votes acknowledges nothing: it may have elected a later leader than the one that asks.
func (c *Core) flushAck() {
	a := &c.ack
	if !a.now || c.voteless || !c.hardDurable() {
		return
	}
	m := Message{Kind: Ack, To: a.to, Term: c.hard.Term, EchoBoot: a.boot, EchoRound: a.round, EchoSeq: a.seq, EchoTimeout: a.timeout, Disk: c.disk, Full: c.full}
	m.Match = min(c.proven, c.durable, c.damage.first()-1)
	m.LastIndex = min(c.proven, c.damage.wanted()-1)
	if t, ok := c.log.term(m.LastIndex); ok {
		m.LastTerm = t
	}
	if m.LastIndex == c.log.last {
		m.Held = c.ring.bitmap(m.LastIndex)
	}
	if a.reject && a.rejectPrev >= c.proven {
		m.Reject, m.RejectPrev, m.Hint, m.HintTerm, m.EchoSeq = true, a.rejectPrev, a.hint, a.hintTerm, a.rejectSeq
	}
	c.send(m)
	a.now, a.reject, a.sentAt, a.roundSent = false, false, c.now, a.round
	a.onSync = a.onSync && m.Match < m.LastIndex
}
