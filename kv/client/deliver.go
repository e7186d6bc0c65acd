package client

import (
	"net/netip"

	"balsa/kv"
	"balsa/wire"
)

// Deliver takes one datagram. Wrong bytes are counted and dropped. Values of what it ends lie in the datagram, or where its
// pieces were put together: they are valid until the next Deliver.
func (c *Core) Deliver(now int64, from netip.AddrPort, datagram []byte) {
	c.now = max(c.now, now)
	c.assembly.Reuse()
	h, frames, ok := c.unwrap(from, datagram)
	if !ok {
		c.Counters.Dropped++
		return
	}
	s := c.sender(from, h.Src)
	if s != nil {
		if !c.accept(s, &h) {
			return
		}
		c.noteNewest(s, &h)
	}
	for {
		k, p, ok := frames.Next()
		if !ok {
			break
		}
		if k == wire.KindHelloReply {
			c.helloReply(s, &h, p)
		} else if s != nil && !s.foreign {
			c.dispatch(s, &h, k, p)
		} else {
			c.Counters.Dropped++
		}
	}
	if frames.Err() != nil {
		c.Counters.Dropped++
	}
}

// sender finds the server by its address, else (it may answer from another one) by its id.
func (c *Core) sender(from netip.AddrPort, id uint16) *server {
	for _, s := range c.servers {
		if same(s.addr, from) {
			return s
		}
	}
	for _, s := range c.servers {
		if s.id == id && id != 0 {
			return s
		}
	}
	return nil
}

// accept notes the server's boot and the datagram's number. A duplicate is dropped whole: a refusal counts once.
func (c *Core) accept(s *server, h *wire.Header) bool {
	if s.boot != h.Boot {
		was := s.before
		s.before = boot{s.boot, s.seen}
		if s.boot, s.seen = h.Boot, (wire.Window{}); h.Boot == was.id {
			s.seen = was.seen
		}
		s.greeted = false
		if s.claim != 0 {
			c.revoke(s)
		}
	}
	if !s.seen.Take(h.Packet) {
		c.Counters.Duplicates++
		return false
	}
	s.saidAt = c.now
	return true
}

// helloReply finds whom we asked by the nonce. The first answer pins the cluster; others are refused.
func (c *Core) helloReply(s *server, h *wire.Header, p []byte) {
	var r wire.HelloReply
	if err := r.Decode(p); err != nil {
		c.Counters.Dropped++
		return
	}
	if s == nil || s.nonce != r.Nonce {
		asked := s
		s = nil
		for _, known := range c.servers {
			if known.nonce == r.Nonce {
				s = known
			}
		}
		if s == nil || s != asked && !c.accept(s, h) {
			c.Counters.Dropped++
			return
		}
	}
	if !r.Blank && c.cluster != ([16]byte{}) && r.Cluster != c.cluster {
		if s.foreign = true; s.claim != 0 {
			c.revoke(s)
		}
		return
	}
	s.foreign = false
	c.onHelloReply(s, h, &r)
}

// dispatch takes every frame but a HelloReply, from a server of our cluster.
func (c *Core) dispatch(s *server, h *wire.Header, k wire.Kind, p []byte) {
	if h.Cluster != 0 && h.Cluster != wire.ClusterTag(c.cluster) && c.cluster != ([16]byte{}) {
		c.Counters.Dropped++
		return
	}
	ok := false
	switch k {
	case wire.KindReply:
		ok = c.onReply(s, p)
	case wire.KindNotLeader:
		ok = c.onNotLeader(s, p)
	case wire.KindStatusReply:
		ok = c.onStatusReply(s, p)
	case wire.KindMemberReply:
		ok = c.onMemberReply(s, p)
	case wire.KindToken:
		ok = c.onToken(s, p)
	case wire.KindPathEcho:
		ok = c.onPathEcho(s, p)
	case wire.KindFragment:
		ok = c.onFragment(s, h, p)
	case wire.KindFragmentStatus:
		ok = c.onFragmentStatus(s, p)
	}
	if !ok {
		c.Counters.Dropped++
	}
}

func (c *Core) onReply(s *server, p []byte) bool {
	var reply wire.Reply
	if reply.Decode(p) != nil {
		return false
	}
	b := reply.Results
	for range reply.Count {
		r, size, err := kv.DecodeResult(b)
		if err != nil {
			return false
		}
		b = b[size:]
		c.onResult(s, &r)
	}
	return true
}

// find returns the operation of a sequence number, none if it is over.
func (c *Core) find(seq uint64) int32 {
	if seq&kv.ReadSeq != 0 {
		return c.readSeqs.find(seq &^ kv.ReadSeq)
	}
	return c.seqs.find(seq)
}

// onResult judges one answer. What says nothing of other copies ends nothing as "not applied".
func (c *Core) onResult(s *server, r *kv.Result) {
	h := c.find(r.Seq)
	if h == none {
		return
	}
	o := &c.ops[h]
	r.Client = o.cmd.Client
	switch {
	case r.Status.Applied():
		c.answered(o)
		if o.session != nil {
			o.session.proven = true
		}
		c.finish(h, Applied, *r, nil)
	case r.Status == kv.TooLarge || r.Status == kv.Malformed:
		// Judged by the bytes alone, which all copies share.
		c.finish(h, NotApplied, *r, &outcomeError{o.cmd.Op.String() + ": not applied: the server refuses it as " + r.Status.String(), ErrNotApplied, nil})
	case o.cmd.Op.IsRead() || o.session == nil:
	default:
		c.onRefusal(s, h, r)
	}
}

// onRefusal takes an answer to a write that was not executed.
func (c *Core) onRefusal(s *server, h int32, r *kv.Result) {
	o := &c.ops[h]
	c.Counters.Refusals++
	switch r.Status {
	case kv.WrongTerm:
		if r.Index == 0 {
			o.copies.refuse(s, anyTerm)
		} else {
			o.copies.clearBefore(r.Term)
		}
		if s.claim < r.Term || r.Index == 0 {
			c.revoke(s)
		}
		c.again(h)
	case kv.EarlyRegistration:
		// Said by an applied entry: no copy of an earlier term was applied, nor this one; but log time goes on, and
		// another of this term may find the registration in time.
		o.copies.clearBefore(r.Term)
		o.copies.refuseIn(r.Term, r.Index)
		c.abandon(o.session)
		if o.copies.none() {
			c.renew(h)
		}
	case kv.StaleRegistration, kv.UnknownSession:
		// No copy is taken any more. One may have been, in a session that is forgotten by now: our clock need not have
		// seen so much time pass, as the machine may have slept.
		c.abandon(o.session)
		if o.sends == 1 && r.Index != 0 {
			c.renew(h) // the only copy there was
			return
		}
		c.giveUp(h, errSession)
	case kv.TooOld:
		c.giveUp(h, errTooOld)
	case kv.Busy:
		o.busy = true
		if r.Index == 0 && !o.pieces {
			o.copies.refuse(s, s.claim)
		}
	}
	// Busy, BeyondWindow: it stays due for another copy.
}

// again queues an operation for another copy, unless it is queued or in fragments.
func (c *Core) again(h int32) {
	if c.ops[h].state == stateFlying {
		c.dropTransfers(h)
		c.enqueue(h)
		c.Counters.Resent++
	}
}

// renew lets a write of which no copy can take effect any more begin again, in a new session.
func (c *Core) renew(h int32) {
	o := &c.ops[h]
	c.seqs.remove(o.cmd.Seq)
	o.copies = copies{}
	o.session, o.cmd.Seq, o.cmd.Flags = nil, 0, o.cmd.Flags&(kv.FlagOldAbsent|kv.FlagPacked)
	c.dropTransfers(h)
	c.enqueue(h)
	c.discover()
}

// onNotLeader counts the refusals and follows the hint.
func (c *Core) onNotLeader(s *server, p []byte) bool {
	var n wire.NotLeader
	if n.Decode(p) != nil {
		return false
	}
	for i := range n.Count {
		h := c.find(n.Seq(i))
		if h == none {
			continue
		}
		c.Counters.Refusals++
		o := &c.ops[h]
		if n.Reason != 0 { // no version sends it yet
			continue // it leads but has no room: due for another copy
		}
		o.copies.refuse(s, n.Term)
		if n.Term >= s.claim {
			c.again(h)
		}
	}
	if n.Reason != 0 {
		return true
	}
	if n.Leader != wire.NoNode && n.Leader == s.id {
		if n.Term > s.claim {
			s.claim = n.Term // it leads, but another term than we said
			c.elect()
		}
		return true
	}
	if n.Term >= s.claim && s.claim != 0 {
		c.revoke(s)
	}
	c.pursue(n.Leader, n.Term, n.Addr)
	return true
}
