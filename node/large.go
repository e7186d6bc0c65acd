package node

import (
	"math"
	"net/netip"

	"balsa/wire"
)

// A frame that no datagram to its destination can hold goes as fragments: a
// client's large value on its way in, a large answer on its way out, an entry
// larger than a peer's datagram (SAFETY 16). Everything is bounded; what finds
// no room is dropped, and asked for again by whoever misses it.

// large is the fragments on their way to one destination.
type large struct {
	to  netip.AddrPort
	dst uint16
	f   *wire.Fragmenter
}

const (
	maxLarge        = 64 // destinations at once
	maxLargeWaiting = 8  // messages to one destination
	maxSmallWaiting = 64 // as many while they have together no more than
	smallBytes      = 256 << 10
)

// sendLarge takes a frame's payload, which belongs to it from now on.
func (o *outbound) sendLarge(now int64, to netip.AddrPort, dst uint16, kind wire.Kind, payload []byte) {
	var f *wire.Fragmenter
	for i := range o.large {
		if o.large[i].to == to && o.large[i].dst == dst {
			f = o.large[i].f
		}
	}
	if f == nil {
		if len(o.large) == maxLarge {
			return
		}
		f = wire.NewFragmenter(wire.FragmenterOptions{Boot: o.n.boot, Limit: o.datagramLimit(to)})
		o.large = append(o.large, large{to: to, dst: dst, f: f})
	}
	if f.Busy() < maxLargeWaiting || f.Busy() < maxSmallWaiting && f.Waiting()+len(payload) <= smallBytes {
		o.message++
		f.Add(now, o.message, kind, payload)
	}
}

// resendLarge packs the fragments that are due.
func (o *outbound) resendLarge(now int64) {
	if o.flushed {
		o.recycle() // before any packer: a path that shrank takes its pieces away
	}
	kept := o.large[:0]
	for _, l := range o.large {
		if l.f.Busy() == 0 {
			continue
		}
		l.f.Pack(now, o.packer(l.to, l.dst))
		kept = append(kept, l)
	}
	clear(o.large[len(kept):])
	o.large = kept
}

func (o *outbound) largeDeadline() int64 {
	at := int64(math.MaxInt64)
	for i := range o.large {
		at = min(at, o.large[i].f.Deadline())
	}
	return at
}

// fragmentStatus takes in what a destination has of a message.
func (o *outbound) fragmentStatus(now int64, _ *wire.Header, p []byte) {
	var s wire.FragmentStatus
	if s.Decode(p) != nil {
		o.n.Counters.DroppedMalformed++
		return
	}
	for i := range o.large {
		if o.large[i].f.Has(s.Message) {
			o.large[i].f.Status(now, &s)
			return
		}
	}
}

// fragment takes one piece; the frame is stepped when it is whole.
func (n *Node) fragment(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Fragment
	if f.Decode(p) != nil || f.Kind == wire.KindFragment {
		n.Counters.DroppedMalformed++
		return
	}
	if n.core == nil || h.Cluster != n.tag {
		n.Counters.DroppedCluster++
		return
	}
	if h.Src == wire.ClientNode {
		n.clients.touch(now, h.Incarnation, from)
	}
	var whole wire.Whole
	var ok bool
	var err error
	if h.Src == wire.ClientNode {
		whole, ok, err = n.clientParts.AddFrom(now, h, &f, from.Addr())
	} else {
		whole, ok, err = n.parts.Add(now, h, &f)
	}
	if err != nil {
		n.Counters.DroppedFragments++
		return
	}
	if ok && n.may(h, whole.Kind) {
		n.frame(now, h, from, whole.Kind, whole.Payload)
	}
}

// Socket tells the node how many bytes its sockets' receive buffers were granted (0: nobody knows), each,
// and how many datagrams they had no room for: the one bounds what is granted to senders of
// fragments, the other is told to them.
func (n *Node) Socket(buffer int, overflows uint64) {
	for _, parts := range []*wire.Reassembler{n.parts, n.clientParts} {
		parts.Buffer, parts.Overflows = buffer, uint32(overflows)
	}
}

// tellFragments tells every sender of fragments what of them is here.
func (n *Node) tellFragments(now int64) {
	for _, parts := range []*wire.Reassembler{n.parts, n.clientParts} {
		n.tellPieces(now, parts)
	}
}

func (n *Node) tellPieces(now int64, parts *wire.Reassembler) {
	for {
		owed, ok := parts.NextStatus()
		if !ok {
			return
		}
		to := n.out.peerAt(now, owed.To.Src)
		if owed.To.Src == wire.ClientNode {
			c := n.clients.find(owed.To.Incarnation)
			if c == nil {
				continue
			}
			to = c.addr
		}
		if to.IsValid() {
			owed.Status.Encode(n.out.must(to, owed.To.Src, wire.KindFragmentStatus, owed.Status.Size()))
		}
	}
}
