package node

import (
	"net/netip"
	"slices"
	"time"

	"balsa/wire"
)

// chaos is the harm that a server does itself when it is asked to, for
// benchmarks and drills. Only a server that was told to allow it does, and only for
// who holds the servers' secret or, where there is none, is on this machine.
//
// While it is cut off, the node hears and says nothing, to peers and clients
// alike: its socket stays open, so that nobody is told by ICMP. Its clock and
// its disk go on. The one thing it still hears is another chaos request, which
// is how a cut ends early.
type chaos struct {
	cut      bool
	cutUntil int64  // while cut
	pause    int64  // ns that the shell is to stand still; 0: it is not to
	crash    bool   // the shell is to end the process
	last     uint64 // nonce of the last request that was done
	packer   wire.Packer
}

// pauseTaken gives the pause that was asked for, once.
func (c *chaos) pauseTaken() time.Duration {
	d := c.pause
	c.pause = 0
	return time.Duration(d)
}

// chaosFrame does what a chaos request asks, after its answer is on the way.
func (n *Node) chaosFrame(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Chaos
	if h.Src != wire.ClientNode || f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	outcome := uint8(wire.ChaosBegun)
	switch {
	case !n.o.Chaos:
		outcome = wire.ChaosOff
	case !n.mayHarm():
		outcome = wire.ChaosRefused
	}
	r := wire.ChaosReply{Nonce: f.Nonce, Outcome: outcome}
	n.answerAlone(from, wire.KindChaosReply, r.Size(), r.Encode)
	if outcome != wire.ChaosBegun || f.Nonce == n.chaos.last {
		return
	}
	n.chaos.last = f.Nonce
	n.harm(now, &f)
}

func (n *Node) harm(now int64, f *wire.Chaos) {
	switch f.Verb {
	case wire.ChaosCrash:
		n.logger.Warn("crashing, as asked")
		n.chaos.crash = true
	case wire.ChaosPause:
		n.logger.Warn("standing still, as asked", "for", time.Duration(f.Duration).String())
		n.chaos.pause = f.Duration
	case wire.ChaosCut:
		if f.Duration == 0 {
			n.chaos.cutUntil = now
			n.endCut(now)
			return
		}
		n.logger.Warn("cut off, as asked", "for", time.Duration(f.Duration).String())
		n.chaos.cut, n.chaos.cutUntil = true, now+min(f.Duration, longestHarm)
	}
}

// longestHarm keeps a duration addable to any time.
const longestHarm = int64(365 * 24 * time.Hour)

// endCut ends a cut whose time is over, and says whether it is.
func (n *Node) endCut(now int64) bool {
	if n.chaos.cut && now >= n.chaos.cutUntil {
		n.chaos.cut = false
		n.logger.Warn("no longer cut off")
	}
	return !n.chaos.cut
}

// deliverCut takes a datagram while cut off: nothing in it counts but chaos.
func (n *Node) deliverCut(now int64, from netip.AddrPort, datagram []byte) {
	h, frames, ok := n.admit(now, from, datagram)
	if !ok {
		return
	}
	for {
		kind, payload, ok := frames.Next()
		if !ok {
			return
		}
		if kind != wire.KindChaos {
			continue
		}
		if n.may(&h, kind) {
			n.chaosFrame(now, &h, from, payload)
		} else if t := (wire.Token{Token: n.admission.tokens.Give(now, from)}); n.spend(t.Size()) {
			n.answerAlone(from, wire.KindToken, t.Size(), t.Encode)
		}
	}
}

// answerAlone answers a client in a datagram of its own, which a cut lets pass.
func (n *Node) answerAlone(to netip.AddrPort, kind wire.Kind, size int, encode func([]byte)) {
	if len(n.out.raw) >= maxMismatches {
		return
	}
	p := &n.chaos.packer
	p.Header, p.Limit, p.Sealer = n.out.header, wire.SafeDatagram, n.out.sealer
	p.Header.Dst, p.Header.KeyEpoch = wire.ClientNode, n.out.epoch(to, wire.ClientNode)
	encode(p.Frame(kind, size))
	at := len(n.out.raw)
	n.out.raw = p.Flush(to, n.out.raw)
	n.out.raw[at].Bytes = slices.Clone(n.out.raw[at].Bytes) // the packer is used again before this leaves
	n.out.header.Packet = p.Header.Packet
	p.Reset()
}
