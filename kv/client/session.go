package client

import "balsa/kv"

// session is one identity of the client. It exists at the servers from its first applied command on; until an answer
// proves that, every command carries the registration, because any of them may be the first to arrive.
//
// The registration's log time never changes: the servers keep a session at least until no copy with its registration
// can be accepted any more. A later registration under the same id would break that, so when a registration has aged,
// commands that were never sent begin a session under a new id, and those that were stay with the old one.
type session struct {
	client     uint64
	registered int64 // log time told by discovery
	bornAt     int64 // our clock
	first, low uint64
	proven     bool
}

// current returns the session for a write that was never sent, nil while no fresh log time is known. (Then discovery
// is under way.)
func (c *Core) current() *session {
	s := c.session
	if s != nil && (!s.usable(c.now) || c.now-c.lastWrite > sessionIdle && c.seqs.low == c.seqs.next) {
		s = nil
	}
	if s != nil && c.cfg.OneShot && c.now-s.bornAt > oneShotUse {
		s = nil
	}
	if s != nil {
		return s
	}
	if c.logTimeAt == 0 || c.now-c.logTimeAt > registerUse {
		c.discover()
		return nil
	}
	s = &session{client: c.firstID, registered: c.logTime, bornAt: c.logTimeAt, first: c.seqs.next, low: c.seqs.next}
	for c.firstID = 0; s.client == 0; {
		s.client = c.rng.Uint64()
	}
	c.session = s
	return s
}

// usable says whether a command that was never sent may begin in this session.
func (s *session) usable(now int64) bool { return s.proven || now-s.bornAt <= registerUse }

// abandon makes writes that were never sent use a new session.
func (c *Core) abandon(s *session) {
	if c.session == s {
		c.session = nil
		c.logTimeAt = 0
	}
}

// stamp gives a write its identity, at its first copy, and what may differ from copy to copy.
func (c *Core) stamp(h int32, term uint64) bool {
	o := &c.ops[h]
	if o.session == nil {
		if c.seqs.full() {
			return false
		}
		s := c.current()
		if s == nil {
			return false
		}
		o.session, o.cmd.Client = s, s.client
		o.cmd.Seq = c.seqs.add(h)
	}
	s := o.session
	o.cmd.Term = term
	o.cmd.AckedBelow = c.ackedBelow(s, o.cmd.Seq)
	o.cmd.Flags &^= kv.FlagRegister | kv.FlagOneShot
	if !s.proven {
		o.cmd.Flags |= kv.FlagRegister
		o.cmd.Registered = s.registered
		if c.cfg.OneShot {
			o.cmd.Flags |= kv.FlagOneShot
		}
	}
	return true
}

// ackedBelow is the lowest number of the session that is still outstanding; seq is one that is.
func (c *Core) ackedBelow(s *session, seq uint64) uint64 {
	s.low = max(s.low, c.seqs.low)
	for s.low < seq && c.seqs.find(s.low) == none {
		s.low++
	}
	return min(s.low, seq)
}
