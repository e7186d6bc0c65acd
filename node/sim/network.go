package sim

import (
	"math/rand/v2"
	"net/netip"

	"github.com/cespare/xxhash/v2"

	"balsa/wire"
	"balsa/wire/fault"
)

// endpoint is whatever has an address: servers first, clients behind them.
type endpoint interface {
	// receive takes a datagram that arrived; it owns b, and may give it back to the network.
	receive(from netip.AddrPort, b []byte)
	// refused tells that a datagram of ours met a closed port.
	refused(to netip.AddrPort)
	// listens says whether a process holds the port, and whether the machine
	// is there to answer that none does.
	listens() (process, machine bool)
}

// link is one direction between two endpoints, and the faults that cut it now.
type link struct {
	fault.Link
	cuts     int
	cutClass Class
}

// usual makes l what it is without faults.
func (l *link) usual(k *knobs) {
	*l = link{Link: fault.Link{DelayMin: k.DelayMin, DelayMax: k.DelayMax, ReorderDelay: 20 * k.DelayMax}}
}

// network carries datagrams between endpoints. Every link has a random stream
// of its own.
type network struct {
	*simulation
	endpoints []endpoint
	links     [][]link
	random    [][]*rand.Rand

	memory       memory
	memoryRandom *rand.Rand

	idle    []*parcel
	buffers [][]byte
}

// parcel is a datagram on its way. It is used again, as its event is.
type parcel struct {
	*network
	i, j     int
	from, to netip.AddrPort
	b        []byte
	run      func()
}

func (n *network) init(count int) {
	n.endpoints = make([]endpoint, count)
	n.links = make([][]link, count)
	n.memoryRandom = stream(n.seed, "memory", 0)
	n.random = make([][]*rand.Rand, count)
	for i := range count {
		n.links[i] = make([]link, count)
		n.random[i] = make([]*rand.Rand, count)
		for j := range count {
			n.links[i][j].usual(&n.knobs)
			n.random[i][j] = stream(n.seed, "link", i*count+j)
		}
	}
}

// address is where endpoint i is reached; a client that comes back does so at
// another port, as a new process.
func address(i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i + 1)}), 7000+port)
}

func endpointAt(a netip.AddrPort) int {
	b := a.Addr().As4()
	return int(b[2])<<8 | int(b[3]) - 1
}

// send gives packets of endpoint i to its links.
func (n *network) send(i int, from netip.AddrPort, packets []wire.Packet) {
	for k := range packets {
		p := &packets[k]
		if len(p.Bytes) > wire.MaxDatagram {
			n.violate("S15", "endpoint %d sends a datagram of %d bytes, limit %d", i, len(p.Bytes), wire.MaxDatagram)
		}
		j := endpointAt(p.To)
		if j < 0 || j >= len(n.endpoints) {
			n.violate("S15", "endpoint %d sends to %v, where nobody is", i, p.To)
			return
		}
		n.trace.add(1, uint64(n.now), uint64(i)<<32|uint64(j), xxhash.Sum64(p.Bytes))
		if n.knobs.Faults[OldDatagrams] && i != n.operator.who {
			n.remember(i, j, p)
		}
		n.carry(i, j, from, p)
	}
}

// carry lets a link do to one datagram what it does, and counts what it did.
func (n *network) carry(i, j int, from netip.AddrPort, p *wire.Packet) {
	l := &n.links[i][j]
	arrivals := l.Decide(n.random[i][j])
	switch {
	case l.cuts > 0:
		n.hits[l.cutClass]++
		return
	case l.MTU > 0 && len(p.Bytes) > l.MTU:
		n.hits[SmallLink]++
		return
	case len(arrivals) == 0:
		n.hits[Loss]++
		return
	case len(arrivals) > 1:
		n.hits[Duplicate]++
	}
	for k := range arrivals {
		d := &arrivals[k]
		b := n.copied(p.Bytes)
		if d.Corrupt {
			n.hits[Corrupt]++
			d.Apply(b)
		}
		if d.Delay > n.knobs.DelayMax {
			if l.Reorder > 0 {
				n.hits[Reorder]++
			} else {
				n.hits[Delay]++
			}
		}
		n.deliver(d.Delay, i, j, from, p.To, b)
	}
}

// deliver hands b over after its way. A closed port is told to the sender if
// the machine is up and the way back is open.
func (n *network) deliver(delay int64, i, j int, from, to netip.AddrPort, b []byte) {
	var p *parcel
	if last := len(n.idle) - 1; last >= 0 {
		p, n.idle = n.idle[last], n.idle[:last]
	} else {
		p = &parcel{network: n}
		p.run = p.arrive
	}
	p.i, p.j, p.from, p.to, p.b = i, j, from, to, b
	n.after(delay, p.run)
}

func (p *parcel) arrive() {
	n, i, to := p.network, p.i, p.to
	process, machine := n.endpoints[p.j].listens()
	switch {
	case process:
		n.endpoints[p.j].receive(p.from, p.b)
	case machine && n.links[p.j][i].cuts == 0:
		n.hits[Closed]++
		n.after(n.knobs.DelayMin, func() { n.endpoints[i].refused(to) })
	}
	p.b = nil
	n.idle = append(n.idle, p)
}

const (
	bufferBytes = 2048 // most datagrams are shorter; longer ones are left to the collector
	mostBuffers = 1024
)

// copied gives a copy of a datagram, in memory that an earlier one had if it fits.
func (n *network) copied(b []byte) []byte {
	last := len(n.buffers) - 1
	switch {
	case len(b) > bufferBytes:
		return append([]byte(nil), b...)
	case last < 0:
		return append(make([]byte, 0, bufferBytes), b...)
	}
	c := n.buffers[last]
	n.buffers = n.buffers[:last]
	return append(c[:0], b...)
}

// over takes back a datagram that nobody looks at any more.
func (n *network) over(b []byte) {
	if cap(b) == bufferBytes && len(n.buffers) < mostBuffers {
		n.buffers = append(n.buffers, b)
	}
}
