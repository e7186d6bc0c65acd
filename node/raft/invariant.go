package raft

import (
	"fmt"
	"slices"
)

// Check sweeps the whole core for what must always hold, and says what does not. Tests and the simulator run it after
// each step; it is linear in what the core keeps.
func (c *Core) Check() error {
	for _, check := range []func() error{c.checkLog, c.checkDamage, c.checkConfigurations, c.checkRole, c.checkPeers, c.checkRing} {
		if err := check(); err != nil {
			return fmt.Errorf("raft: server %d, %s of term %d: %w", c.cfg.ID, c.role, c.hard.Term, err)
		}
	}
	return nil
}

func (c *Core) checkLog() error {
	h := &c.log
	for i, r := range h.runs {
		if r.First == 0 || r.First > h.last || r.Term == 0 || i > 0 && (r.First <= h.runs[i-1].First || r.Term <= h.runs[i-1].Term) {
			return fmt.Errorf("term run %d of %v does not ascend within 1..%d", i, h.runs, h.last)
		}
	}
	switch {
	case h.last > 0 && (len(h.runs) == 0 || h.runs[0].First != 1):
		return fmt.Errorf("entries before the first term run %v", h.runs)
	case h.lastTerm() > c.hard.Term:
		return fmt.Errorf("last entry of term %d is of the future", h.lastTerm())
	case h.base+uint64(len(h.totals))-1 != h.last:
		return fmt.Errorf("sizes end at %d, the log at %d", h.base+uint64(len(h.totals))-1, h.last)
	case c.commit > h.last || c.durable > h.last || c.proven > h.last:
		return fmt.Errorf("commit %d, durable %d, proven %d: beyond last %d", c.commit, c.durable, c.proven, h.last)
	}
	return nil
}

func (c *Core) checkDamage() error {
	last := uint64(0)
	for i, r := range c.damage.ranges {
		if r.First == 0 || r.First > r.Last || i > 0 && r.First <= last || r.Last > c.log.last {
			return fmt.Errorf("damage %v is not ascending within the log (last %d)", c.damage.ranges, c.log.last)
		}
		last = r.Last
	}
	if c.damage.any() && c.role != Follower {
		return fmt.Errorf("seeks to lead with damage %v", c.damage.ranges)
	}
	return nil
}

func (c *Core) checkConfigurations() error {
	for i, k := range c.configs {
		if k.Index > c.log.last || i > 0 && k.Index <= c.configs[i-1].Index {
			return fmt.Errorf("configuration %d at index %d is out of place", i, k.Index)
		}
	}
	n := len(c.configs)
	if n > 1 && c.role == Leader && c.configs[n-1].Index > c.firstOfTerm && c.configs[n-2].Index > c.commit && !c.cancelled() {
		return fmt.Errorf("two uncommitted configurations, at %d and %d", c.configs[n-2].Index, c.configs[n-1].Index)
	}
	k := c.inForce()
	others := 0
	for _, m := range k.Members {
		if m.ID == c.cfg.ID {
			continue
		}
		others++
		if p := c.peer(m.ID); p == nil || p.incarnation != m.Incarnation || p.voter != m.Voter {
			return fmt.Errorf("member %d of the configuration at %d is not the peer that is counted", m.ID, k.Index)
		}
	}
	if others != len(c.peers) {
		return fmt.Errorf("%d peers for %d other members", len(c.peers), others)
	}
	return nil
}

// cancelled tells whether the last configuration takes back the joint one before it, as its own leader may.
func (c *Core) cancelled() bool {
	n := len(c.configs)
	k, joint := &c.configs[n-1], &c.configs[n-2]
	return joint.Index > c.firstOfTerm && len(k.Old) == 0 && slices.Equal(k.voters(), joint.Old)
}

func (c *Core) checkRole() error {
	switch {
	case c.role == Leader && (c.leader != c.cfg.ID || c.firstOfTerm == 0 || !c.hardDurable() || c.hard.Vote != c.cfg.ID):
		return fmt.Errorf("leads without being elected: leader %d, first entry %d, vote %d", c.leader, c.firstOfTerm, c.hard.Vote)
	case c.role != Leader && c.leader == c.cfg.ID:
		return fmt.Errorf("believes itself leader")
	case c.role != Leader && len(c.reads.waiting) > 0:
		return fmt.Errorf("%d reads wait without leadership", len(c.reads.waiting))
	case c.voteless && c.role != Follower:
		return fmt.Errorf("seeks votes without memory of its own")
	}
	return nil
}

func (c *Core) checkPeers() error {
	if c.role != Leader {
		return nil
	}
	for i := range c.peers {
		if p := &c.peers[i]; p.match > p.held || p.held >= p.next || p.next > c.log.last+1 {
			return fmt.Errorf("peer %d: match %d, held %d, next %d, last %d", p.id, p.match, p.held, p.next, c.log.last)
		}
	}
	return nil
}

func (c *Core) checkRing() error {
	r := &c.ring
	count, bytes := 0, 0
	for i := range r.slots {
		h := &r.slots[i]
		if h.Index == 0 {
			continue
		}
		if count++; h.Index%uint64(len(r.slots)) != uint64(i) || h.Index < c.log.last+2 || h.Index > c.log.last+1+uint64(len(r.slots)) || h.Term > c.hard.Term {
			return fmt.Errorf("entry %d of term %d is held in place %d, last is %d", h.Index, h.Term, i, c.log.last)
		}
		bytes += h.Size
	}
	switch {
	case count != r.count || bytes != r.bytes || bytes > c.cfg.HeldBytes:
		return fmt.Errorf("%d entries of %d bytes are held, counted are %d of %d", count, bytes, r.count, r.bytes)
	case count > 0 && (c.role == Leader || c.role == Candidate || c.proven != c.log.last):
		return fmt.Errorf("%d entries are held while proven is %d, last %d", count, c.proven, c.log.last)
	}
	return nil
}
