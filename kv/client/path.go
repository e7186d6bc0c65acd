package client

import (
	"slices"
	"time"

	"balsa/wire"
)

// How large a datagram may be, to the leader and back, is found out by probes while
// operations are under way (wire.Path, wire.PathAsk): a path that takes less than was
// believed, or does so from now on, is noticed within a second or two, and what was lost
// on it is sent again in smaller pieces.

// pathGrace is how long a leader is used before its path is asked about: a process that
// does one thing and ends asks nothing.
const pathGrace = int64(50 * time.Millisecond)

func (c *Core) newPath(s *server) {
	o := wire.PathOptions{Boot: c.cfg.Boot, Start: wire.SafeDatagram, Most: wire.MaxDatagram}
	switch most := c.cfg.Limit &^ 7; {
	case most != 0:
		o.Start, o.Most = most, most
	case s.addr.Addr().IsLoopback():
		o.Start = wire.MaxDatagram
	}
	s.path = wire.NewPath(o)
	s.packer.Limit = s.path.Size()
}

// searches says whether the path to a server matters now, and whether it would answer.
func (c *Core) searches(s *server) bool {
	return s == c.leader && c.live > 0 && s.toldAt >= 0 && c.now-s.toldAt <= tokenUse
}

func (c *Core) pathDeadline() int64 {
	if s := c.leader; s != nil && c.searches(s) {
		return max(s.path.Deadline(), s.leadsAt+pathGrace)
	}
	return never
}

// sendPaths sends the questions that are due, each in a datagram of its own.
func (c *Core) sendPaths(out []wire.Packet) []wire.Packet {
	s := c.leader
	if c.pathDeadline() > c.now {
		return out
	}
	for {
		f, size, ok := s.path.Next(c.now)
		if !ok {
			return out
		}
		ask := f.Ask(s.path.Size())
		c.alone.Limit = size
		ask.Encode(c.alone.Frame(wire.KindPathAsk, ask.Size()))
		out = c.seal(&c.alone, s, out)
	}
}

func (c *Core) onPathEcho(s *server, p []byte) bool {
	var e wire.PathEcho
	if e.Decode(p) != nil {
		return false
	}
	a := e.Answer()
	s.path.Answer(c.now, &a)
	return true
}

// settlePath takes over what was found out, while no datagram is open. On a path that
// carries less, what is under way is taken to be lost.
func (c *Core) settlePath(s *server) {
	size := s.path.Size()
	shrunk := size < s.packer.Limit
	s.packer.Limit = size
	if !shrunk {
		return
	}
	for i := 0; i < len(c.transfers); i++ {
		if t := c.transfers[i]; t.to == s {
			t.to.pieces.Cancel(t.message)
			c.transfers = slices.Delete(c.transfers, i, i+1)
			i--
			c.enqueue(t.h)
		}
	}
	s.pieces = nil // the next are cut for the new size
	if s == c.leader {
		c.resendAll()
	}
}

// resendAll queues whatever is under way again.
func (c *Core) resendAll() {
	for i := range c.flying {
		for h := c.flying[i].front; h != none; h = c.flying[i].front {
			c.enqueue(h)
			c.Counters.Resent++
		}
	}
}
