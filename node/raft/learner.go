package raft

import "slices"

// Servers on their way in and on their way out; neither counts in any quorum.

// catchUp follows a learner in rounds (thesis 4.2.1): a round is over when the learner has all that the leader had as
// it began. One that took less than T means that the rest will not hold up the cluster.
type catchUp struct {
	upTo       uint64 // what ends this round
	since      int64  // when it began
	rounds     int    // that are over
	done       bool
	progressAt int64 // when the learner last got further
}

func (p *peer) beginCatchUp(now int64, upTo uint64) {
	p.catch = catchUp{upTo: upTo, since: now, progressAt: now}
}

// heardOfLearner counts the rounds by what the last ack proved.
func (c *Core) heardOfLearner(p *peer, further bool) {
	g := &p.catch
	if further {
		g.progressAt = c.now
	}
	if g.done || p.match < g.upTo {
		return
	}
	g.rounds++
	g.done = c.now-g.since < c.cfg.Timeout
	g.upTo, g.since = c.log.last, c.now
}

// departing is a server that the configuration at index left out. It is sent entries and told what is committed until
// it has acknowledged its own removal: else it would never learn of it, and campaign (traps 8 and 9).
type departing struct {
	peer
	index     uint64
	announced uint64 // the number of the first message that told it so; 0: not yet
	until     int64  // 0: the configuration is not committed yet
}

// depart takes leave of a server. An id that is given to another is not departing any more: who answers there is new.
func (c *Core) depart(p peer, index uint64) {
	p.voter, p.oldVoter = false, false
	c.change.departing = append(c.change.departing, departing{peer: p, index: index})
}

// other gives the i-th of all that are sent to: the peers, then the departing; nil behind the last.
func (c *Core) other(i int) *peer {
	if i < len(c.peers) {
		return &c.peers[i]
	}
	if i -= len(c.peers); i < len(c.change.departing) {
		return &c.change.departing[i].peer
	}
	return nil
}

// otherByID finds whom this server sends to.
func (c *Core) otherByID(id uint16) *peer {
	for i := 0; ; i++ {
		if p := c.other(i); p == nil || p.id == id {
			return p
		}
	}
}

// tickDeparting forgets those whose time is over.
func (c *Core) tickDeparting() {
	if len(c.change.departing) == 0 {
		return
	}
	c.change.departing = slices.DeleteFunc(c.change.departing, func(d departing) bool { return d.until != 0 && c.now >= d.until })
}

// announceDepartures notes which message tells a departing server that its removal is committed.
func (c *Core) announceDepartures() {
	for i := range c.change.departing {
		if d := &c.change.departing[i]; d.announced == 0 && d.index <= c.commit {
			d.announced, d.until = c.seq+1, c.now+departingFor
			d.heartbeatAt = c.now
		}
	}
}

// heardOfDeparture lets p go once it has acknowledged that it was told.
func (c *Core) heardOfDeparture(m *Message) {
	c.change.departing = slices.DeleteFunc(c.change.departing, func(d departing) bool {
		return d.id == m.From && d.announced != 0 && m.EchoSeq >= d.announced && d.match >= d.index
	})
}
