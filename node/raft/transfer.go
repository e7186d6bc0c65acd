package raft

import (
	"errors"
	"fmt"
)

// Handing leadership over (thesis 3.10). The leader takes no more proposals, waits until the chosen voter has its whole
// log, and tells it to campaign at once. Such a campaign overrides promises, also those of the voters: the leader they
// were made to has asked for it. It goes on leading until it hears of the new term, or gives up after T.

// Errors of Transfer, and of Propose while one is under way.
var (
	ErrTransferring = errors.New("raft: leadership is being handed over")
	ErrNoSuccessor  = errors.New("raft: no such voter was heard lately")
)

type transfer struct {
	to     uint16 // 0: none is under way
	until  int64  // then it is given up
	tellAt int64  // when TimeoutNow is (again) due
	told   bool   // in this term, some server may still be told to campaign. No lease may be used then
}

// Transfer hands leadership to a voter; 0 lets the leader choose. It is over when a higher term is seen, or after T,
// when this server leads on. Until then Propose says ErrTransferring. ErrNotLeader, ErrTransferring, ErrNoSuccessor, or
// ErrPending: a leader this young may not have heard that voter yet.
func (c *Core) Transfer(now int64, to uint16) error {
	c.advance(now)
	if to != 0 && to == c.transfer.to {
		return nil
	}
	if err := c.mayLead(); err != nil {
		return err
	}
	if to == c.cfg.ID {
		return nil
	}
	if to == 0 {
		to = c.successor()
	}
	if c.unsure(to) {
		return ErrPending
	}
	p := c.peer(to)
	if p == nil || !p.voter && !p.oldVoter || !c.alive(to) {
		return fmt.Errorf("%w: server %d", ErrNoSuccessor, to)
	}
	if p.disk == DiskStalled {
		return fmt.Errorf("%w with a disk that does its work: that of server %d stalls", ErrNoSuccessor, to)
	}
	c.beginTransfer(to)
	return nil
}

// Transferring names the server that leadership is being handed to; 0: none.
func (c *Core) Transferring() uint16 { return c.transfer.to }

func (c *Core) beginTransfer(to uint16) {
	c.transfer.to, c.transfer.until, c.transfer.tellAt = to, c.now+c.cfg.Timeout, c.now
}

// successor is the voter of the new set with the best log that was heard within T, of those whose disks do best; 0 when
// there is none, or all their disks stall: none would stand.
func (c *Core) successor() uint16 {
	var best *peer
	for i := range c.peers {
		if p := &c.peers[i]; p.voter && p.disk != DiskStalled && c.alive(p.id) && (best == nil || p.leadsBetter(best)) {
			best = p
		}
	}
	if best == nil {
		return 0
	}
	return best.id
}

func (p *peer) leadsBetter(than *peer) bool {
	switch {
	case p.disk != than.disk:
		return p.disk < than.disk
	case p.held != than.held:
		return p.held > than.held
	}
	return p.match > than.match
}

// stepTransfer tells the successor to campaign once it has everything, and everything is committed: what clients wait
// for is answered first. A disk that stalls the commit is no reason to keep leading; then the log alone must do.
func (c *Core) stepTransfer() {
	t := &c.transfer
	if t.to == 0 {
		return
	}
	p := c.peer(t.to)
	if c.now >= t.until || p == nil || p.disk == DiskStalled {
		t.to = 0 // also when its disk stalls: it could not stand, and writes would wait for nothing
		return
	}
	ready := p.held == c.log.last && (c.commit == c.log.last || c.now >= c.patience())
	if !ready || c.now < t.tellAt {
		return
	}
	t.told, t.tellAt = true, c.now+c.cfg.Resend
	c.send(Message{Kind: TimeoutNow, To: t.to, Term: c.hard.Term, LastIndex: c.log.last, LastTerm: c.log.lastTerm()})
}

// patience is how long a transfer waits for the commit.
func (c *Core) patience() int64 { return c.transfer.until - c.cfg.Timeout/2 }

func (c *Core) transferDeadline() int64 {
	t := &c.transfer
	switch {
	case t.to == 0:
		return Never
	case t.tellAt > c.now:
		return min(t.tellAt, t.until)
	case c.now < c.patience():
		return c.patience()
	}
	return t.until
}

// stepTimeoutNow campaigns at the word of this term's leader.
func (c *Core) stepTimeoutNow(m *Message) {
	if m.Term != c.hard.Term || c.role != Follower || c.leader != m.From || !c.mayCampaign() {
		return
	}
	c.preTerm = 0 // one above the leader's term, no more: that is what overrides promises
	c.campaign(true)
}

// overrides tells whether a vote is asked for at the word of the leader that the promise was made to. It must be for
// the term after the one known here; a leader must have said that word itself.
func (c *Core) overrides(m *Message) bool {
	return m.Transfer && !m.Pre && m.Term <= c.hard.Term+1 && (c.role != Leader || c.transfer.told)
}

// checkLeaving notes that a committed configuration has no vote for this leader.
func (c *Core) checkLeaving() {
	if k := c.inForce(); k.Index <= c.commit && c.commit >= c.firstOfTerm && !c.self && !c.old && !c.leaving {
		c.leaving, c.announce = true, true
	}
}

// leave tells everyone what is committed, once; then it hands over to the best voter. If there is none, or it does not
// take over, this server just stops leading.
func (c *Core) leave() {
	if c.announce {
		c.announce = false
		for i := 0; c.other(i) != nil; i++ {
			c.heartbeat(c.other(i))
		}
		if to := c.successor(); to != 0 {
			c.beginTransfer(to)
		}
	}
	c.stepTransfer()
	if c.transfer.to == 0 {
		c.becomeFollower(c.hard.Term, 0)
	}
}
