package raft

import "slices"

// Counting. A joint configuration needs a majority of the old and of the new voters; learners count nowhere. This
// server counts itself only where it is a voter.

// quantity is what a quorum is asked about.
type quantity uint8

const (
	matches  quantity = iota // durable and equal up to this index
	rounds                   // heard of this read round
	contacts                 // heard from at this time
	leases                   // votes for nobody until this time
)

func (c *Core) peerValue(p *peer, q quantity) uint64 {
	switch q {
	case matches:
		return p.match
	case rounds:
		return p.round
	case leases:
		return uint64(max(p.lease.until, 0))
	}
	return uint64(max(p.contact, 0))
}

func (c *Core) ownValue(q quantity) uint64 {
	switch q {
	case matches:
		return c.durable
	case rounds:
		return c.round
	case leases:
		return uint64(Never) // it leads
	}
	return uint64(max(c.now, 0))
}

// quorum gives the largest value that a quorum has reached.
func (c *Core) quorum(q quantity) uint64 {
	v := c.majority(q, false)
	if c.joint {
		v = min(v, c.majority(q, true))
	}
	return v
}

// majority gives the largest value that a majority of one set of voters has reached; 0 for an empty set.
func (c *Core) majority(q quantity, old bool) uint64 {
	v := c.scratch[:0]
	for i := range c.peers {
		if p := &c.peers[i]; p.votes(old) {
			v = append(v, c.peerValue(p, q))
		}
	}
	if c.votesIn(old) {
		v = append(v, c.ownValue(q))
	}
	c.scratch = v
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[(len(v)-1)/2]
}

func (c *Core) votesIn(old bool) bool {
	if old {
		return c.old
	}
	return c.self
}

// ballots tells whether an election is won, or can no longer be.
func (c *Core) ballots() (won, lost bool) {
	won, lost = c.ballotsOf(false)
	if c.joint {
		w, l := c.ballotsOf(true)
		won, lost = won && w, lost || l
	}
	return won, lost
}

func (c *Core) ballotsOf(old bool) (won, lost bool) {
	voters, granted, refused := 0, 0, 0
	for i := range c.peers {
		p := &c.peers[i]
		if !p.votes(old) {
			continue
		}
		voters++
		switch p.ballot {
		case ballotGranted:
			granted++
		case ballotRefused:
			refused++
		}
	}
	if c.votesIn(old) {
		voters++
		if c.ownVote {
			granted++
		}
	}
	need := voters/2 + 1
	return voters > 0 && granted >= need, voters == 0 || refused > voters-need
}

// soleVoter tells whether this server alone is a quorum.
func (c *Core) soleVoter() bool {
	if !c.self || c.joint {
		return false
	}
	for i := range c.peers {
		if c.peers[i].voter {
			return false
		}
	}
	return true
}
