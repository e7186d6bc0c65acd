package raft

import "slices"

// Linearizable reads without the log (ReadIndex; lease.go has those without a round). A read asks a fresh round: messages
// sent after it was asked, which a quorum answers in this term. Then no later leader can have committed anything before
// the read was asked, and the commit index of that moment, once this term has committed an entry, covers all that anyone
// was told.
//
// A follower asks its leader, which opens a round for it. A question's number carries the asker's boot (SAFETY 5), and
// an answer settles all questions up to its number: they were asked before the round began.
type reads struct {
	ticket  uint64
	waiting []waitingRead // leader: ascending by round

	asked  []askedRead // follower: ascending
	number uint64      // of the last question
	askNow bool
	askAt  int64 // when the last question is repeated
}

type waitingRead struct {
	ticket, round, index uint64
	to                   uint16 // the follower that asked, 0: this server
	boot, number         uint64 // of its question
}

type askedRead struct {
	ticket, number uint64
	until          int64 // then there will be no answer
}

// Read opens a ticket for all reads of this turn. The ticket comes back in Reads, or is void with ReadsLost. A server
// that knows no leader says ErrNotLeader.
func (c *Core) Read(now int64) (ticket uint64, err error) {
	c.advance(now)
	r := &c.reads
	switch {
	case c.role == Leader && c.leaving && c.transfer.to == 0, c.role != Leader && c.leader == 0:
		return 0, ErrNotLeader
	case len(r.waiting)+len(r.asked) >= c.cfg.ReadsWaiting:
		return 0, ErrBusy
	}
	r.ticket++
	if c.role != Leader {
		r.number++
		r.asked = append(r.asked, askedRead{r.ticket, r.number, c.now + c.cfg.Timeout})
		r.askNow = true
		return r.ticket, nil
	}
	c.openRound(waitingRead{ticket: r.ticket})
	return r.ticket, nil
}

func (c *Core) openRound(w waitingRead) {
	if !c.Leased(c.now) {
		c.round++
	}
	w.round, w.index = c.round, c.commit
	c.reads.waiting = append(c.reads.waiting, w)
	c.confirmReads()
}

// confirmReads releases the reads whose round a quorum has answered or, under a lease, all that were asked before now.
func (c *Core) confirmReads() {
	w := c.reads.waiting
	if len(w) == 0 || c.commit < c.firstOfTerm {
		return
	}
	round, n, leased := c.quorum(rounds), 0, c.Leased(c.now)
	if leased {
		round = c.round
	}
	for ; n < len(w) && w[n].round <= round; n++ {
		index := max(w[n].index, c.firstOfTerm)
		if w[n].to == 0 {
			c.eff.Reads = append(c.eff.Reads, ReadReady{w[n].ticket, index})
		} else {
			c.send(Message{Kind: ReadAnswer, To: w[n].to, Term: c.hard.Term, EchoBoot: w[n].boot, EchoSeq: w[n].number, Index: index})
		}
	}
	if leased {
		c.leaseReads += uint64(n)
	}
	c.reads.waiting = w[:copy(w, w[n:])]
}

// stepReadAsk opens a round for a follower, or answers at once under a lease. A server that leads no more does not answer: the asker's ticket runs out.
func (c *Core) stepReadAsk(m *Message) {
	if c.role != Leader || m.Term != c.hard.Term || c.peer(m.From) == nil || len(c.reads.waiting) >= c.cfg.ReadsWaiting {
		return
	}
	c.openRound(waitingRead{to: m.From, boot: m.FromBoot, number: m.Seq})
}

func (c *Core) stepReadAnswer(m *Message) {
	a, n := c.reads.asked, 0
	for ; n < len(a) && a[n].number <= m.EchoSeq; n++ {
		c.eff.Reads = append(c.eff.Reads, ReadReady{a[n].ticket, m.Index})
	}
	c.reads.asked = a[:copy(a, a[n:])]
}

// tickReads repeats the question, and ends what has waited for too long.
func (c *Core) tickReads() {
	r := &c.reads
	if len(r.asked) == 0 {
		return
	}
	if c.now >= r.asked[0].until {
		r.asked = slices.Delete(r.asked, 0, len(r.asked))
		c.eff.ReadsLost = true
	} else if c.now >= r.askAt {
		r.askNow = true
	}
}

func (r *reads) deadline() int64 {
	if len(r.asked) == 0 {
		return Never
	}
	return min(r.askAt, r.asked[0].until)
}

// flushAsk sends one question for all reads since the last.
func (c *Core) flushAsk() {
	r := &c.reads
	if r.askNow && len(r.asked) > 0 {
		c.answer(Message{Kind: ReadAsk, To: c.leader, Term: c.hard.Term, Seq: r.number})
		r.askAt = c.now + c.cfg.Resend
	}
	r.askNow = false
}

// clear voids what waits; true if anything did.
func (r *reads) clear() bool {
	any := len(r.waiting)+len(r.asked) > 0
	r.waiting, r.asked = r.waiting[:0], r.asked[:0]
	return any
}
