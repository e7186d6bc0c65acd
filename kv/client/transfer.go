package client

import (
	"slices"

	"balsa/kv"
	"balsa/wire"
)

const (
	maxTransfers  = 4         // large commands on their way at once; more wait
	maxSmall      = 16        // as many while they have together no more than
	smallBytes    = 256 << 10 // bytes: on a small path much is large
	assemblyBytes = 64 << 20  // large answers under way, together
	assemblySlots = 128       // of which one server has half: as many as it sends at once
)

// transfer is a command too large for a datagram, on its way in fragments. Its operation is in no list meanwhile.
type transfer struct {
	h       int32
	message uint64
	to      *server
	bytes   int
}

// mayTransfer says whether another large command may be on its way.
func (c *Core) mayTransfer() bool {
	if len(c.transfers) < maxTransfers {
		return true
	}
	bytes := 0
	for _, t := range c.transfers {
		bytes += t.bytes
	}
	return len(c.transfers) < maxSmall && bytes <= smallBytes
}

// sendLarge begins transfers, each a Request of one command.
func (c *Core) sendLarge(l *server) {
	for c.large.front != none && c.mayTransfer() {
		h := c.large.front
		if !c.prepare(h, l) {
			return
		}
		o := &c.ops[h]
		c.unlink(h)
		payload := make([]byte, wire.RequestHeaderBytes, wire.RequestHeaderBytes+kv.CommandSize(&o.cmd))
		r := wire.Request{Count: 1}
		r.EncodeHeader(payload)
		payload = kv.AppendCommand(payload, &o.cmd)
		if l.pieces == nil || l.pieces.Busy() == 0 && l.cut != l.packer.Limit {
			l.cut = l.packer.Limit
			l.pieces = wire.NewFragmenter(wire.FragmenterOptions{Boot: c.cfg.Boot, Limit: l.packer.Limit})
		}
		c.messages++
		l.pieces.Add(c.now, c.messages, wire.KindRequest, payload)
		c.transfers = append(c.transfers, &transfer{h: h, message: c.messages, to: l, bytes: len(payload)})
		c.note(h, l)
		o.state, o.pieces = stateFlying, true
	}
}

// sendTransfers packs the pieces that are due, and what we owe for pieces received.
func (c *Core) sendTransfers() {
	for {
		owed, ok := c.assembly.NextStatus()
		if !ok {
			break
		}
		for _, s := range c.servers {
			if s.id == owed.To.Src && s.boot == owed.To.Boot {
				if b := c.frame(s, wire.KindFragmentStatus, owed.Status.Size()); b != nil {
					owed.Status.Encode(b)
				}
				break
			}
		}
	}
	for _, s := range c.servers {
		if s.pieces == nil || s.pieces.Busy() == 0 {
			continue
		}
		s.pieces.Pack(c.now, &s.packer)
		if !s.packer.Empty() && !s.busy {
			s.busy = true
			c.pending = append(c.pending, s)
		}
	}
}

// tickTransfers looks for those that were given up: nobody took them, so the command is queued again.
func (c *Core) tickTransfers() {
	for i := 0; i < len(c.transfers); i++ {
		t := c.transfers[i]
		if t.to.pieces.Has(t.message) {
			continue
		}
		c.transfers = slices.Delete(c.transfers, i, i+1)
		i--
		c.enqueue(t.h)
		c.discover()
	}
}

// deadline of a transfer is when its pieces are due again.
func (t *transfer) deadline() int64 { return t.to.pieces.Deadline() }

// dropTransfers forgets the pieces of an operation.
func (c *Core) dropTransfers(h int32) {
	for i := 0; i < len(c.transfers); i++ {
		if t := c.transfers[i]; t.h == h {
			t.to.pieces.Cancel(t.message)
			c.transfers = slices.Delete(c.transfers, i, i+1)
			i--
		}
	}
}

// dropAllTransfers queues all large commands again, for another leader.
func (c *Core) dropAllTransfers() {
	for len(c.transfers) > 0 {
		h := c.transfers[0].h
		c.dropTransfers(h)
		c.enqueue(h)
	}
}

func (c *Core) onFragmentStatus(s *server, b []byte) bool {
	var f wire.FragmentStatus
	if f.Decode(b) != nil || s.pieces == nil {
		return false
	}
	if !s.pieces.Status(c.now, &f) {
		return true
	}
	for i, t := range c.transfers {
		if t.to == s && t.message == f.Message {
			c.transfers = slices.Delete(c.transfers, i, i+1)
			c.ops[t.h].sentAt = c.now // all of it is there only now
			c.fly(t.h)
			c.ops[t.h].due = c.now + c.jitter(retryMax)
			break
		}
	}
	return true
}

// Socket tells the core how many bytes its socket's receive buffer was granted (0: nobody knows), and
// how many datagrams it had no room for, for those who send large answers.
func (c *Core) Socket(buffer int, overflows uint64) {
	c.assembly.Buffer, c.assembly.Overflows = buffer, uint32(overflows)
}

func (c *Core) onFragment(s *server, h *wire.Header, b []byte) bool {
	var f wire.Fragment
	if f.Decode(b) != nil {
		return false
	}
	w, whole, err := c.assembly.Add(c.now, h, &f)
	if whole {
		c.dispatch(s, h, w.Kind, w.Payload)
	}
	return err == nil
}
