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

// large is the fragments on their way to one destination. Servers have places of their own, which clients can't take.
type large struct {
	to    netip.AddrPort
	dst   uint16
	limit int // datagrams that the fragments were cut for
	f     *wire.Fragmenter

	heard   int64  // when it acknowledged a piece more, or its place was given to it
	message uint64 // the newest that it acknowledged a piece of,
	have    uint32 // and how many bytes of it
}

const (
	maxLargeServers = 128 // destinations at once: every server that a list can hold
	maxLargeClients = 64
	maxLargeNear    = 48 // of them at one address
	maxLargeWaiting = 8  // messages to one destination
	maxSmallWaiting = 64 // as many while they have together no more than
	smallBytes      = 256 << 10

	maxLargeBytes     = 64 << 20 // of the messages of all clients together
	maxLargeNearBytes = 48 << 20 // of those at one address
	maxLargeOwnBytes  = 32 << 20 // of one

	// A client that acknowledges nothing for so long gives its place to one that asks, ns: above the longest pause
	// between two tries to send it a piece.
	largeSilence = 1e9
)

// largeRoom tells whether a message for a destination would be taken now. For a client it makes room, if that takes no
// more than the places of silent ones.
func (o *outbound) largeRoom(now int64, to netip.AddrPort, dst uint16, size int) bool {
	l := o.largeTo(to, dst)
	if l != nil && l.limit > o.datagramLimit(to) {
		o.endLarge(l)
		l = nil
	}
	if l != nil {
		waiting := l.f.Waiting()
		if l.f.Busy() >= maxLargeWaiting && (l.f.Busy() >= maxSmallWaiting || waiting+size > smallBytes) {
			return false
		}
		if dst == wire.ClientNode && waiting+size > maxLargeOwnBytes {
			return false
		}
	}
	if dst != wire.ClientNode {
		return l != nil || o.largeServers() < maxLargeServers
	}
	for {
		full, near := o.crowded(to, size)
		if !full && !near {
			return true
		}
		silent := o.silentLarge(now, to, near)
		if silent == nil {
			return false
		}
		o.endLarge(silent)
	}
}

func (o *outbound) largeTo(to netip.AddrPort, dst uint16) *large {
	for i := range o.large {
		if l := &o.large[i]; l.to == to && l.dst == dst {
			return l
		}
	}
	return nil
}

func (o *outbound) largeServers() (count int) {
	for i := range o.large {
		if o.large[i].dst != wire.ClientNode {
			count++
		}
	}
	return count
}

// crowded says whether a message more would be too much for all clients together, or for those at its address.
func (o *outbound) crowded(to netip.AddrPort, size int) (full, near bool) {
	all, allBytes, here, hereBytes := 0, size, 0, size
	known := false
	for i := range o.large {
		l := &o.large[i]
		if l.dst != wire.ClientNode {
			continue
		}
		known = known || l.to == to
		waiting := l.f.Waiting()
		all, allBytes = all+1, allBytes+waiting
		if l.to.Addr() == to.Addr() {
			here, hereBytes = here+1, hereBytes+waiting
		}
	}
	full = !known && all >= maxLargeClients || allBytes > maxLargeBytes
	near = !known && here >= maxLargeNear || hereBytes > maxLargeNearBytes
	return full, near
}

// silentLarge is the client that is silent for longest, of all or of those at this address, if that is long.
func (o *outbound) silentLarge(now int64, to netip.AddrPort, near bool) (silent *large) {
	for i := range o.large {
		l := &o.large[i]
		if l.dst != wire.ClientNode || l.to == to || near && l.to.Addr() != to.Addr() || now-l.heard < largeSilence {
			continue
		}
		if silent == nil || l.heard < silent.heard {
			silent = l
		}
	}
	return silent
}

// endLarge drops what is on its way to one destination.
func (o *outbound) endLarge(l *large) {
	o.n.Counters.DroppedLarge += uint64(l.f.Busy())
	last := len(o.large) - 1
	*l = o.large[last]
	o.large[last] = large{}
	o.large = o.large[:last]
}

// sendLarge takes a frame's payload, which belongs to it from now on.
func (o *outbound) sendLarge(now int64, to netip.AddrPort, dst uint16, kind wire.Kind, payload []byte) {
	if !o.largeRoom(now, to, dst, len(payload)) {
		o.n.Counters.DroppedLarge++
		return
	}
	l := o.largeTo(to, dst)
	if l == nil {
		limit := o.datagramLimit(to)
		o.large = append(o.large, large{to: to, dst: dst, limit: limit, heard: now,
			f: wire.NewFragmenter(wire.FragmenterOptions{Boot: o.n.boot, Limit: limit})})
		l = &o.large[len(o.large)-1]
	}
	o.message++
	l.f.Add(now, o.message, kind, payload)
}

// resendLarge packs the fragments that are due. Those cut for larger datagrams than pass now are dropped, whatever
// made the path shrink: whoever misses the message asks again.
func (o *outbound) resendLarge(now int64) {
	if o.flushed {
		o.recycle() // before any packer: a path that shrank takes its pieces away
	}
	kept := o.large[:0]
	for _, l := range o.large {
		if l.f.Busy() == 0 {
			continue
		}
		p := o.bulk(l.to, l.dst)
		if p.Limit < l.limit {
			o.n.Counters.DroppedLarge += uint64(l.f.Busy())
			continue
		}
		l.f.Pack(now, p)
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

// fragmentStatus takes in what a destination has of a message. Ids of messages can be guessed:
// only the server that it goes to, or the client at the address that it goes to, tells.
func (o *outbound) fragmentStatus(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var s wire.FragmentStatus
	if s.Decode(p) != nil {
		o.n.Counters.DroppedMalformed++
		return
	}
	for i := range o.large {
		l := &o.large[i]
		theirs := l.dst == h.Src && (h.Src != wire.ClientNode || l.to == from)
		if !theirs || !l.f.Has(s.Message) {
			continue
		}
		if s.EchoBoot == o.n.boot && (s.Message > l.message || s.Message == l.message && s.Have > l.have) {
			l.heard, l.message, l.have = now, s.Message, s.Have
		}
		l.f.Status(now, &s)
		return
	}
}

// fragment takes one piece; the frame is stepped when it is whole.
func (n *Node) fragment(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Fragment
	switch err := f.Decode(p); {
	case err == wire.ErrKind:
		n.Counters.SkippedKinds++
		return
	case err != nil:
		n.Counters.DroppedMalformed++
		return
	}
	if n.core == nil || h.Cluster != n.tag {
		n.Counters.DroppedCluster++
		return
	}
	if h.Src == wire.ClientNode && n.clients.touch(now, h.Incarnation, from) == nil {
		n.Counters.DroppedCrowd++
		return
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
	if ok { // what is kept of a frame is copied
		n.clientParts.Reuse()
		n.parts.Reuse()
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
