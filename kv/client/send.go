package client

import (
	"balsa/kv"
	"balsa/wire"
)

// Out returns the datagrams to send now, appended to out. Their bytes are the core's and valid until the next Out.
// Whatever callers have submitted since the last Out shares as few datagrams as its bytes allow.
func (c *Core) Out(out []wire.Packet) []wire.Packet {
	for _, s := range c.servers {
		if s.busy {
			s.packer.Reset()
			s.busy = false
		}
	}
	if c.opener != nil {
		c.opener.Turn()
	}
	if l := c.leader; l != nil && c.waiting() && c.proven(l) {
		c.refresh(l)
		c.sendQueue(l, &c.reads)
		c.sendQueue(l, &c.writes)
		c.sendLarge(l)
	}
	c.sendTransfers()
	c.sendProbes()
	c.sendChanges()
	c.hellos()
	for _, s := range c.pending {
		out = c.flush(s, out)
	}
	c.pending = c.pending[:0]
	return out
}

// refresh asks the leader again where the servers are, in a datagram that leaves anyway: they come, go and move, and
// whoever knows none of those that are left finds nobody when this one goes.
func (c *Core) refresh(l *server) {
	if c.now-l.askedAt >= helloAgain && (c.reads.front != none || c.writes.front != none) {
		c.greet(l)
	}
}

// frame opens a frame to s in this turn's datagrams.
func (c *Core) frame(s *server, k wire.Kind, size int) []byte {
	p := s.packer.Frame(k, size)
	if p != nil && !s.busy {
		s.busy = true
		c.pending = append(c.pending, s)
	}
	return p
}

func (c *Core) flush(s *server, out []wire.Packet) []wire.Packet {
	h := &s.packer.Header
	h.Cluster = wire.ClusterTag(c.cluster)
	h.Src, h.Dst = wire.ClientNode, s.id
	// Named by one id from first to last, whatever session its commands belong to: servers know by it what they took.
	h.Incarnation, h.Boot, h.Token = c.cfg.ID, c.cfg.Boot, s.token
	h.Packet, h.KeyEpoch, s.packer.Sealer = c.packet, c.epoch(s), c.sealer
	out = s.packer.Flush(s.addr, out)
	c.packet = h.Packet
	return out
}

// waiting says that an operation waits to be sent.
func (c *Core) waiting() bool {
	return c.reads.front != none || c.writes.front != none || c.large.front != none
}

// sendQueue moves what is queued into Request frames for l, as many commands a frame as fit.
func (c *Core) sendQueue(l *server, q *list) {
	whole := wire.MaxFrame(l.packer.Limit) - wire.RequestHeaderBytes
	for q.front != none {
		batch, bytes := c.batch[:0], 0
		room := l.packer.Room() - wire.RequestHeaderBytes
		for h := q.front; h != none; h = q.front {
			if !c.prepare(h, l) {
				break
			}
			size := kv.CommandSize(&c.ops[h].cmd)
			if size > whole {
				c.unlink(h)
				c.pushBack(&c.large, h)
				continue
			}
			if bytes+size > room {
				if bytes > 0 {
					break
				}
				room = whole
			}
			bytes += size
			c.unlink(h)
			batch = append(batch, h)
		}
		c.batch = batch
		if len(batch) == 0 {
			return
		}
		c.encode(l, batch, bytes)
	}
}

// encode writes one Request frame and notes a copy of each command in it.
func (c *Core) encode(l *server, batch []int32, bytes int) {
	p := c.frame(l, wire.KindRequest, wire.RequestHeaderBytes+bytes)
	r := wire.Request{Count: len(batch)}
	r.EncodeHeader(p)
	ops := p[wire.RequestHeaderBytes:wire.RequestHeaderBytes:len(p)]
	for _, h := range batch {
		ops = kv.AppendCommand(ops, &c.ops[h].cmd)
		c.note(h, l)
		c.fly(h)
	}
}

// prepare gives the operation its number; false: it has to wait.
func (c *Core) prepare(h int32, l *server) bool {
	o := &c.ops[h]
	if !o.cmd.Op.IsRead() {
		return c.stamp(h, l.claim)
	}
	if o.cmd.Seq == 0 {
		if c.readSeqs.full() {
			return false
		}
		o.cmd.Seq = c.readSeqs.add(h) | kv.ReadSeq
		o.cmd.Client = c.cfg.ID
	}
	return true
}

// note counts a copy: from now on the operation may be applied.
func (c *Core) note(h int32, l *server) {
	o := &c.ops[h]
	if !o.cmd.Op.IsRead() {
		o.copies.add(l)
	}
	o.sends++
	o.sentAt = c.now
	c.Counters.Sent++
}

// fly makes the operation due for another copy.
func (c *Core) fly(h int32) {
	o := &c.ops[h]
	n := min(int(o.sends)-1, attempts-1)
	o.state, o.due = stateFlying, c.now+c.jitter(c.retryAfter(n))
	c.pushBack(&c.flying[n], h)
}

// retryAfter is the pause before another copy: some round trips at first, doubling.
func (c *Core) retryAfter(n int) int64 {
	return min(max(retryMin, 2*c.srtt+4*c.rttvar)<<n, retryMax)
}

// measure takes a round trip of a command that was sent once.
func (c *Core) measure(d int64) {
	if c.srtt == 0 {
		c.srtt, c.rttvar = d, d/2
		return
	}
	c.rttvar += (max(d-c.srtt, c.srtt-d) - c.rttvar) / 4
	c.srtt += (d - c.srtt) / 8
}
