package node

import (
	"fmt"
	"math"
	"net/netip"

	"balsa/wire"
)

// What the path to each server carries is found out by its leader, who is the one that
// has much to send: probes leave while it leads, and what was found stays known after.
// The size of entries follows the smallest path of the voters (SAFETY 16); an entry that
// was packed for a larger one goes in fragments.

// newPath begins anew with what is known of an address: nothing, or that it is this machine.
func (o *outbound) newPath(p *peer) {
	begin := wire.PathOptions{Boot: o.n.boot, Start: wire.SafeDatagram, Most: wire.MaxDatagram}
	switch most := o.n.o.Datagram &^ 7; {
	case most != 0:
		begin.Start, begin.Most = most, most
	case p.to.Addr().IsLoopback():
		begin.Start = wire.MaxDatagram
	}
	p.path = wire.NewPath(begin)
	p.limit = p.path.Size()
}

// settlePaths takes over what was found out, at a moment when no datagram is open: all
// of one turn keep to one size.
func (o *outbound) settlePaths() {
	o.settleClients()
	for i := range o.peers {
		p := &o.peers[i]
		now := p.path.Size()
		if now == p.limit {
			continue
		}
		o.n.logger.Info("the path to a server carries other datagrams than before", "server", p.id, "addr", p.to, "from_bytes", p.limit, "to_bytes", now)
		if now < p.limit {
			o.dropLarge(p.to) // pieces cut for the old size: whoever misses the message asks again
		}
		p.limit = now
		o.fitEntries()
	}
}

func (o *outbound) dropLarge(to netip.AddrPort) {
	for i := len(o.large) - 1; i >= 0; i-- {
		if l := &o.large[i]; l.to == to {
			o.endLarge(l)
		}
	}
}

// probePaths sends the probes that are due.
func (o *outbound) probePaths(now int64) {
	for i := range o.peers {
		p := &o.peers[i]
		for o.probes(p) {
			f, size, ok := p.path.Next(now)
			if !ok {
				break
			}
			f.Encode(o.alone(p.to, p.id, size).Frame(wire.KindPathProbe, f.Size()))
		}
	}
}

// probes says whether a path matters now.
func (o *outbound) probes(p *peer) bool {
	return o.n.Leading() && p.member && p.to.IsValid() && p.id != o.n.identity.ID
}

func (o *outbound) pathDeadline() int64 {
	at := int64(math.MaxInt64)
	for i := range o.peers {
		if p := &o.peers[i]; o.probes(p) {
			at = min(at, p.path.Deadline())
		}
	}
	return at
}

// alone is a packer of a datagram that nothing else shares.
func (o *outbound) alone(to netip.AddrPort, dst uint16, limit int) *wire.Packer {
	if o.flushed {
		o.recycle()
	}
	d := o.destination(to, dst)
	d.alone, d.packer.Limit = true, limit
	o.open = append(o.open, d)
	o.where.add(o.open)
	return &d.packer
}

// must is frame for frames that fit an ordinary datagram by their size. On a path that
// carries less they are sent all the same, by themselves: lost on it they harm nobody.
func (o *outbound) must(to netip.AddrPort, dst uint16, kind wire.Kind, size int) []byte {
	if p := o.frame(to, dst, kind, size); p != nil {
		return p
	}
	p := o.alone(to, dst, wire.SafeDatagram).Frame(kind, size)
	if p == nil {
		panic(fmt.Sprintf("outbound: a frame of kind %d and %d bytes fits no datagram of %d", kind, size, wire.SafeDatagram))
	}
	return p
}

// pathProbe answers a server that a datagram of this size has arrived.
func (n *Node) pathProbe(now int64, h *wire.Header, p []byte) {
	var f wire.PathProbe
	if f.Decode(p) != nil || !n.admission.fills(p) {
		n.Counters.DroppedMalformed++
		return
	}
	to := n.out.peerAt(now, h.Src)
	if n.core == nil || h.Cluster != n.tag || !to.IsValid() {
		n.Counters.DroppedCluster++
		return
	}
	a := wire.PathAnswer{EchoBoot: f.AskBoot, Nonce: f.Nonce}
	a.Encode(n.out.must(to, h.Src, wire.KindPathAnswer, a.Size()))
}

func (n *Node) pathAnswer(now int64, h *wire.Header, p []byte) {
	var f wire.PathAnswer
	if f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	for i := range n.out.peers {
		if q := &n.out.peers[i]; q.id == h.Src && h.Cluster == n.tag {
			q.path.Answer(now, &f)
		}
	}
}
