package raft

// Linearizable reads without the log (ReadIndex). A read asks a fresh round: messages sent after it was asked, which a
// quorum answers in this term. Then no later leader can have committed anything before the read was asked, and the
// commit index of that moment, once this term has committed an entry, covers all that anyone was told.
type reads struct {
	waiting []waitingRead // ascending by round
	ticket  uint64
}

type waitingRead struct{ ticket, round, index uint64 }

// Read opens a ticket for all reads of this turn. The ticket comes back in Reads, or is void with ReadsLost.
func (c *Core) Read(now int64) (ticket uint64, err error) {
	c.advance(now)
	if c.role != Leader || c.leaving && c.transfer.to == 0 {
		return 0, ErrNotLeader
	}
	if len(c.reads.waiting) >= c.cfg.ReadsWaiting {
		return 0, ErrBusy
	}
	c.round++
	c.reads.ticket++
	c.reads.waiting = append(c.reads.waiting, waitingRead{c.reads.ticket, c.round, c.commit})
	c.confirmReads()
	return c.reads.ticket, nil
}

// confirmReads releases the reads whose round a quorum has answered.
func (c *Core) confirmReads() {
	w := c.reads.waiting
	if len(w) == 0 || c.commit < c.firstOfTerm {
		return
	}
	round, n := c.quorum(rounds), 0
	for n < len(w) && w[n].round <= round {
		c.eff.Reads = append(c.eff.Reads, ReadReady{w[n].ticket, max(w[n].index, c.firstOfTerm)})
		n++
	}
	c.reads.waiting = w[:copy(w, w[n:])]
}

// clear voids what waits; true if anything did.
func (r *reads) clear() bool {
	any := len(r.waiting) > 0
	r.waiting = r.waiting[:0]
	return any
}
