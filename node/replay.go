package node

import (
	"net/netip"

	"balsa/wire"
)

// A client counts the copies of a command that it sent against the refusals it
// got: all refused, and the command is "not applied" (SAFETY 18). A datagram
// that the network repeats would be taken once, and its repetition refused once
// this server has lost the lead; the count would fit and be wrong. So each
// datagram with requests is taken once, by its packet number.

// replay remembers which packet numbers of one client process were seen.
type replay struct {
	boot uint64
	top  uint64
	bits [replayWindow / 64]uint64 // by number modulo replayWindow
}

const replayWindow = 1024 // datagrams that may overtake one; older ones count as lost

// fresh notes packet n of the client process boot, and says whether it is new.
func (r *replay) fresh(boot, n uint64) bool {
	if boot != r.boot {
		*r = replay{boot: boot}
	}
	if n > r.top {
		for i := max(r.top, n-min(n, replayWindow)); i < n; { // n may be the last number there is: nothing goes beyond it
			i++
			r.bits[i/64%(replayWindow/64)] &^= 1 << (i % 64)
		}
		r.top = n
	} else if r.top-n >= replayWindow {
		return false
	}
	word, bit := &r.bits[n/64%(replayWindow/64)], uint64(1)<<(n%64)
	old := *word&bit != 0
	*word |= bit
	return !old
}

// asked says once for each datagram whether its requests are to be taken.
func (n *Node) asked(now int64, h *wire.Header, from netip.AddrPort) bool {
	if h.Src != wire.ClientNode || h.Incarnation == 0 {
		return true // judged where it is used
	}
	if !n.judged {
		n.judged, n.fresh = true, false
		c := n.clients.touch(now, h.Incarnation, from)
		if c == nil {
			n.Counters.DroppedCrowd++
			return false // not answered either: it asks again
		}
		if n.fresh = c.replay.fresh(h.Boot, h.Packet); !n.fresh {
			n.Counters.DroppedReplays++
		}
	}
	return n.fresh
}
