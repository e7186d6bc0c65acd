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
		if s.packer.Limit != s.path.Size() {
			c.settlePath(s)
		}
	}
	c.alone.Reset()
	if c.opener != nil {
		c.opener.Turn()
	}
	if l := c.leader; l != nil && c.waiting() && c.proven(l) {
		c.refresh(l)
		c.sendQueue(l, &c.repeats)
		c.sendQueue(l, &c.reads)
		c.sendQueue(l, &c.writes)
		c.sendLarge(l)
	}
	c.sendTransfers()
	c.sendProbes()
	c.sendChanges()
	c.hellos()
	for _, s := range c.pending {
		out = c.seal(&s.packer, s, out)
	}
	c.pending = c.pending[:0]
	return c.sendPaths(out)
}

// refresh asks the leader again where the servers are, in a datagram that leaves anyway: they come, go and move, and
// whoever knows none of those that are left finds nobody when this one goes.
func (c *Core) refresh(l *server) {
	if c.now-l.askedAt >= helloAgain && (c.repeats.front != none || c.reads.front != none || c.writes.front != none) {
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

// seal finishes what a packer holds for s.
func (c *Core) seal(p *wire.Packer, s *server, out []wire.Packet) []wire.Packet {
	h := &p.Header
	h.Cluster = wire.ClusterTag(c.cluster)
	h.Src, h.Dst = wire.ClientNode, s.id
	// Named by one id from first to last, whatever session its commands belong to: servers know by it what they took.
	h.Incarnation, h.Boot, h.Token = c.cfg.ID, c.cfg.Boot, s.token
	h.Packet, h.KeyEpoch, p.Sealer = c.packet, c.epoch(s), c.sealer
	out = p.Flush(s.addr, out)
	c.packet = h.Packet
	return out
}

// waiting says that an operation waits to be sent.
func (c *Core) waiting() bool {
	return c.repeats.front != none || c.reads.front != none || c.writes.front != none || c.large.front != none
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
	if o.sends++; o.sends == 1 {
		o.firstAt = c.now
	}
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

// retryAfter is the pause before another copy: some round trips at first, doubling every other time. Where much is
// lost several copies in a row are, and nothing is gained by patience.
func (c *Core) retryAfter(n int) int64 {
	return min(max(retryMin, c.srtt+c.srtt/2+4*c.rttvar)<<(n/2), retryMax)
}

// answered takes how long an operation took. One that was sent again may have been answered for any of its copies: it
// counts, from the first, only where no other is to be had, as a round trip is longer than our patience.
func (c *Core) answered(o *op) {
	switch {
	case o.sends == 1:
		c.measuredAt = c.now
		c.measure(c.now - o.sentAt)
		c.overtaken(o.sentAt-max(overtakeMin, c.srtt/4), o.cmd.Op.IsRead())
	case c.now-c.measuredAt > unsure:
		c.measure(c.now - o.firstAt)
	}
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

// overtaken sends again what an answer has overtaken: servers answer writes in order, and reads as well, so what was sent
// clearly before something that is answered now is lost, or its answer is. It costs the time of an answer, where the
// pause of retryAfter is several.
func (c *Core) overtaken(before int64, reads bool) {
	for i := range c.flying {
		passed := 0 // of the other sort: a few, or it is left to the next answer
		next := none
		for h := c.flying[i].front; h != none && c.ops[h].sentAt < before && passed < 64; h = next {
			next = c.ops[h].nxt
			if c.ops[h].cmd.Op.IsRead() == reads {
				c.enqueue(h)
				c.Counters.Resent++
			} else {
				passed++
			}
		}
	}
}
