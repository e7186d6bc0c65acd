package node

import (
	"net/netip"

	"balsa/wire"
)

// What the path to a client carries is found out by the client, both ways at once, and
// told with each of its questions (wire.PathAsk): a server keeps no search for clients,
// only what those told that are not as their address suggests. It answers such a question
// with as many bytes as it had, and only to a proven address.

// maxTold bounds the clients whose path is known. Beyond it all are forgotten: each tells
// again within seconds.
const maxTold = 1 << 14

// clientPath is a client's word of its path, until the end of the turn.
type clientPath struct {
	to     netip.AddrPort
	passes int
}

// pathAsk sends a datagram of the same size back. The question is alone in its datagram: else
// one datagram could ask for hundreds, each in memory of its own.
func (n *Node) pathAsk(h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.PathAsk
	if f.Decode(p) != nil || !n.admission.fills(p) {
		n.Counters.DroppedMalformed++
		return
	}
	n.out.tellPath(from, f.Passes)
	e := f.Echo()
	size := wire.HeaderBytes + wire.FrameHeaderBytes + (e.Size()+7)&^7 + wire.TrailerBytes
	e.Encode(n.out.alone(from, h.Src, max(size, wire.MinDatagram)).Frame(wire.KindPathEcho, e.Size()))
}

// tellPath notes what a client told, if it is news.
func (o *outbound) tellPath(to netip.AddrPort, passes int) {
	if most := o.n.o.Datagram &^ 7; most != 0 {
		passes = min(passes, most)
	}
	if passes != o.datagramLimit(to) {
		o.heard = append(o.heard, clientPath{to, passes})
	}
}

// settleClients takes over what clients told, at a moment when no datagram is open.
func (o *outbound) settleClients() {
	for _, c := range o.heard {
		if c.passes < o.datagramLimit(c.to) {
			o.dropLarge(c.to)
		}
		delete(o.told, c.to)
		if c.passes == o.datagramLimit(c.to) {
			continue
		}
		if len(o.told) >= maxTold {
			clear(o.told)
		}
		if o.told == nil {
			o.told = make(map[netip.AddrPort]int)
		}
		o.told[c.to] = c.passes
	}
	o.heard = o.heard[:0]
}
