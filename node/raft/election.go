package raft

import "slices"

// Elections. A server whose timer ran out asks first whether it would get votes (pre-vote): that changes nothing
// anywhere. Only then does it begin a term. Promises hold back every answer but a refusal, and nothing but a
// transfer overrides them. A vote and the term it is for are durable before they are told, to others or to itself.

// voteSpent stands for a vote that is known to have been given, but not to whom.
const voteSpent = 0xFFFF

// noOpBytes is about what an entry without a body takes on the wire.
const noOpBytes = 64

type ballot uint8

const (
	ballotNone ballot = iota
	ballotGranted
	ballotRefused
)

// resetElection draws a new election timeout from [T, 2T).
func (c *Core) resetElection() { c.resetElectionWith(c.cfg.Timeout) }

func (c *Core) resetElectionWith(timeout int64) {
	c.electionAt = c.now + timeout + int64(c.random.below(uint64(timeout)))
}

// campaignAt is when the next election begins: never inside a promise.
func (c *Core) campaignAt() int64 { return max(c.electionAt, c.promise.until) }

// mayCampaign tells whether this server may try to lead: not with a damaged log, nor without memory of its votes, nor
// while its disk stalls. It must be a voter of a configuration that may still be the committed one: a server that the newest, uncommitted
// configuration leaves out may be the only one that can finish it, and does not count itself then.
func (c *Core) mayCampaign() bool {
	if c.voteless || c.disk == DiskStalled || c.damage.any() {
		return false
	}
	for i := len(c.configs) - 1; i >= 0; i-- {
		if c.configs[i].Index < c.left {
			return false
		}
		if c.configs[i].isVoter(c.cfg.ID, c.cfg.Incarnation) {
			return true
		}
		if c.configs[i].Index <= c.commit {
			return false
		}
	}
	return false
}

func (c *Core) preCampaign() {
	c.resetElection()
	c.preTerm, c.ownVote, c.handed = 0, true, false
	c.become(PreCandidate, 0)
	c.beginVotes()
	if won, _ := c.ballots(); won {
		c.campaign(false)
	}
}

// campaign begins a term. One handed over by its leader overrides the promises made to that leader.
func (c *Core) campaign(handed bool) {
	term := max(c.hard.Term, c.preTerm) + 1
	c.setHard(HardState{Term: term, Vote: c.cfg.ID})
	c.votedFor = c.cfg.Incarnation
	c.proven, c.ack, c.ownVote, c.handed = 0, pendingAck{}, false, handed
	c.resetElection()
	c.become(Candidate, 0)
	c.beginVotes()
}

func (c *Core) beginVotes() {
	for i := range c.peers {
		c.peers[i].ballot = ballotNone
	}
	c.askVotes(false)
}

// askVotes asks every voter that has not answered yet.
func (c *Core) askVotes(again bool) {
	c.votesAt = c.now + c.cfg.Resend
	if again && !c.hardDurable() {
		return
	}
	m := Message{Kind: Vote, Pre: c.role == PreCandidate, Transfer: c.handed, Term: c.hard.Term, LastIndex: c.log.last, LastTerm: c.log.lastTerm()}
	if m.Pre && c.hint.dead {
		m.Probe = probeRefused
	}
	for i := range c.peers {
		if p := &c.peers[i]; (p.voter || p.oldVoter) && p.ballot == ballotNone {
			m.To = p.id
			c.answer(m)
		}
	}
}

// stepVote answers a vote or pre-vote request. The asker need not be in our configuration: it may know a newer one.
func (c *Core) stepVote(m *Message) {
	r := Message{Kind: VoteReply, To: m.From, Pre: m.Pre, EchoBoot: m.FromBoot}
	r.LastIndex, r.LastTerm = c.log.last, c.log.lastTerm()
	if left := c.removed(m); left != 0 {
		r.Reason, r.LastIndex = ReasonRemoved, left
	} else if (c.role == Leader || c.promise.holds(c.now)) && !c.overrides(m) && !c.covered(m) {
		if c.inquire(m) {
			return
		}
		r.Reason = ReasonPromised
	} else if m.Pre {
		r.Reason = c.judgePre(m)
	} else {
		if m.Term > c.hard.Term {
			c.becomeFollower(m.Term, 0)
		}
		r.Reason = c.judge(m)
		if r.Reason == ReasonNone {
			c.grant(m)
		}
	}
	r.Granted, r.Term = r.Reason == ReasonNone, c.hard.Term
	c.answer(r)
}

// removed gives the committed configuration that does not name the asker, if that does not have it yet; else 0. The
// asker cannot win, and may not raise a term.
func (c *Core) removed(m *Message) uint64 {
	for i := len(c.configs) - 1; i >= 0; i-- {
		k := &c.configs[i]
		if k.has(Member{ID: m.From, Incarnation: m.FromIncarnation}) {
			return 0
		}
		if k.Index <= c.commit {
			if m.LastIndex < k.Index {
				return k.Index
			}
			return 0
		}
	}
	return 0
}

// Removed gives the index of a committed configuration that leaves this server out, as long as it has none from there
// on that names it; 0: it knows of none. It has that configuration, or was told of it by a voter that has: such a
// server stands no more, for its log is behind what is committed. It must be remembered (Start.Left): after a restart
// nobody may be there to tell it again.
func (c *Core) Removed() uint64 {
	self := Member{ID: c.cfg.ID, Incarnation: c.cfg.Incarnation}
	for i := len(c.configs) - 1; i >= 0; i-- {
		k := &c.configs[i]
		switch {
		case k.Index < c.left:
			return c.left
		case k.has(self):
			return 0
		case k.Index <= c.commit:
			named := func(o IndexedConfiguration) bool { return o.has(self) }
			if slices.ContainsFunc(c.configs[:i], named) {
				return k.Index
			}
			return 0 // not a member yet: it is on its way to the configuration that names it
		}
	}
	return 0
}

// judgePre is judge for a pre-vote; where the leader was seen to be gone, one of those that noticed gives way.
func (c *Core) judgePre(m *Message) uint8 {
	reason := c.judge(m)
	if reason == ReasonNone && c.hint.dead {
		if c.role == PreCandidate && m.Probe == probeRefused {
			reason = c.yields(m)
		}
		if reason == ReasonNone {
			c.cover(asker{id: m.From, incarnation: m.FromIncarnation, boot: m.FromBoot})
		}
	}
	return reason
}

// judge says why m does not deserve the vote, or ReasonNone. A pre-vote is judged by its log only: its winner begins a
// term above all that it heard of.
func (c *Core) judge(m *Message) uint8 {
	if c.voteless {
		return ReasonVoteless
	}
	if last := c.log.lastTerm(); m.LastTerm < last || m.LastTerm == last && m.LastIndex < c.log.last {
		return ReasonLog
	}
	if m.Pre {
		return ReasonNone
	}
	if m.Term < c.hard.Term {
		return ReasonTerm
	}
	if c.hard.Vote != 0 && (c.hard.Vote != m.From || !c.votedForIt(m)) {
		return ReasonVoted
	}
	return ReasonNone
}

// votedForIt tells whether the vote given to this id was given to this incarnation. After a restart only the
// configuration can say so.
func (c *Core) votedForIt(m *Message) bool {
	if c.votedFor == 0 {
		return c.inForce().has(Member{ID: m.From, Incarnation: m.FromIncarnation})
	}
	return c.votedFor == m.FromIncarnation
}

// grant gives the vote of this term; a repeated request finds it given.
func (c *Core) grant(m *Message) {
	if c.hard.Vote == m.From {
		return
	}
	c.setHard(HardState{Term: c.hard.Term, Vote: m.From})
	c.votedFor = m.FromIncarnation
	c.resetElection()
	c.become(Follower, 0)
}

func (c *Core) stepVoteReply(m *Message) {
	p := c.peer(m.From)
	if m.Pre {
		if c.role != PreCandidate {
			return
		}
		c.preTerm = max(c.preTerm, m.Term)
	} else {
		if m.Term > c.hard.Term {
			c.becomeFollower(m.Term, 0)
			return
		}
		if c.role != Candidate || m.Term < c.hard.Term {
			return
		}
	}
	if m.Reason == ReasonRemoved {
		if c.left = max(c.left, m.LastIndex); !c.mayCampaign() {
			c.become(Follower, 0)
			return
		}
	}
	if m.Granted {
		p.ballot = ballotGranted
	} else {
		p.ballot = ballotRefused
	}
	c.decide()
}

// countOwnVote counts the candidate's own vote once it is durable.
func (c *Core) countOwnVote() {
	if !c.ownVote && c.hardDurable() {
		c.ownVote = true
		c.decide()
	}
}

func (c *Core) decide() {
	won, lost := c.ballots()
	switch {
	case won && c.role == PreCandidate:
		c.campaign(false)
	case won && c.hardDurable():
		c.lead()
	case lost:
		c.become(Follower, 0)
	}
}

// lead begins the leadership of a term with an entry of that term: without it, nothing of earlier terms could be
// committed, and no read could be served.
func (c *Core) lead() {
	c.become(Leader, c.cfg.ID)
	c.reads.clear()
	c.endLeadership()
	for i := range c.peers {
		c.peers[i].restart(c.now, c.log.last+1)
	}
	c.appendEntry(Entry{Term: c.hard.Term, Kind: NoOp, Size: noOpBytes, Ref: -1})
	c.firstOfTerm = c.log.last
}

// random is a small generator of our own (splitmix64), so that a seed means the same for ever.
type random struct{ state uint64 }

func newRandom(seed uint64) random { return random{seed} }

func (r *random) next() uint64 {
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// below gives a number in [0, n); n > 0. Its bias is beneath notice for timeouts.
func (r *random) below(n uint64) uint64 { return r.next() % n }
