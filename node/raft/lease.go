package raft

// Leases, where the configuration allows them: a leader that knows that no quorum can have voted for another answers
// reads at once, without a round.
//
//	leader      sends ----------------------- until: sent + T - T/5
//	               \                ack /
//	follower        received -- promised until: received + T ----- votes
//
// The lease begins with the sending of a message whose receipt was told, as the promise cannot have begun earlier, and
// lasts as long as the T that this follower says it promised, less the bound on drift. A leader holds a lease while a
// quorum has promised so much, both majorities while joint; so the shortest promise of the quorum counts.
//
// What is relied on: clocks never stand still while others run, nor jump, and each is within a tenth of true time.
// Nothing is relied on about delays, or about when this process gets to run: a read is released at a time that was
// taken after the read had arrived, and at that time nobody else led. What happens between then and the answer only
// makes the answer late.

const (
	// leaseDrift is the part of T that is left for drift, one in so many. With a leader's clock slow by d and a
	// follower's fast by d the lease may be (1-d)/(1+d) of T, which is 0.82 for a tenth. A kernel steers a clock by
	// no more than a tenth, and the daemons that tell it to keep below that.
	leaseDrift = 5

	// longestLease bounds what one promise is worth. A restarted server holds its vote for LargestTimeout, at least
	// this, whatever it is told as T then; it may have been told more before.
	longestLease = 1e9
)

// lease is what one server's promise is worth to the leader.
type lease struct {
	seq    uint64 // of a message whose receipt will be told, or that of a later one; 0: none is out
	sentAt int64  // when it left
	until  int64  // until then that server votes for nobody
}

// offer notes that the message numbered seq asks for a promise. One that does not allow leases ends them: the promises
// from then on are of the kind that a hint may end.
func (l *lease) offer(now int64, seq uint64, leases bool) {
	if !leases {
		*l = lease{}
	} else if l.seq == 0 {
		l.seq, l.sentAt = seq, now
	}
}

// promised takes the answer to seq, or to a later message. What was promised before stays promised.
func (l *lease) promised(seq uint64, timeout int64) {
	if l.seq == 0 || seq < l.seq {
		return
	}
	timeout = min(timeout, longestLease)
	l.until = max(l.until, l.sentAt+timeout-timeout/leaseDrift)
	l.seq = 0
}

// Leased tells whether this leader holds a lease at now. The configuration in force must allow it, and be committed
// together with an entry of this term: else another may lead by a configuration that is not known here. Once a server
// was told to campaign, promises bind nobody any more.
func (c *Core) Leased(now int64) bool {
	if c.role != Leader || !c.inForce().Leases || !c.mayChange() || c.transfer.told || c.leaving {
		return false
	}
	return now < int64(c.quorum(leases))
}

// allowsLeases tells whether a configuration may follow the one in force as far as leases go. They are allowed by the
// founding list or never, though a later configuration may end them: a server that lacks the entry which allowed them,
// or whose copy of it is damaged, would not know when it restarts that its promises bind it.
func (c *Core) allowsLeases(k *Configuration) bool { return !k.Leases || c.inForce().Leases }

// LeaseReads counts the reads, one for each ticket or question, that a lease released.
func (c *Core) LeaseReads() uint64 { return c.leaseReads }

// mayHavePromised tells whether this server, before it was started, may have made a promise that a lease rests on. Any
// configuration it has may have been the one in force at a leader, whatever follows it here.
func (c *Core) mayHavePromised(start *Start) bool {
	if start.Fresh {
		return false
	}
	for i := range c.configs {
		if c.configs[i].Leases {
			return true
		}
	}
	return false
}
