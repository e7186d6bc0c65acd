package node

import (
	"net/netip"
	"slices"

	"balsa/wire"
)

// A directory that was cloned, or restored from an older copy, is the same
// incarnation with another memory: no rule makes that safe, so it is noticed,
// said loudly, and refused (SAFETY 9).
//
// Clones: one incarnation from two boots that are both alive. A boot that is
// not the one we know may be a restart, or a datagram that the network kept;
// so both places are asked, at the address we know and at the one that spoke.
// An answer proves that its boot was alive after the question. Alive one after
// the other were A, then B, then A again: that is no restart.
//
//	boot A proven --question, B answers--> B proven --question, A answers--> twins

// twin is what is known of the boots of one incarnation.
type twin struct {
	id          uint16
	incarnation uint64
	boot        uint64 // last proven alive or, before any question, first heard
	before      uint64 // proven alive before that; 0: none
	asked       uint64 // number of the last question
	proven      uint64 // the last question when boot was proven: only later ones prove more
	askAt       int64
	refused     bool
}

const (
	twinAsk   = 50e6            // ns between questions
	twinNonce = uint64(1) << 63 // in the numbers of our questions; the core's are below
	mostTwins = wire.MaxMembers * 2
)

// known says whether the sender's incarnation may be heard: not once it was
// seen alive twice.
func (n *Node) known(now int64, h *wire.Header, from netip.AddrPort) bool {
	i := slices.IndexFunc(n.twins, func(t twin) bool { return t.id == h.Src && t.incarnation == h.Incarnation })
	if i < 0 {
		if len(n.twins) == mostTwins {
			n.twins = slices.Delete(n.twins, 0, 1)
		}
		n.twins = append(n.twins, twin{id: h.Src, incarnation: h.Incarnation, boot: h.Boot})
		return true
	}
	t := &n.twins[i]
	if h.Boot != t.boot && !t.refused && now >= t.askAt {
		t.askAt = now + twinAsk
		t.asked++
		n.askAlive(from, t)
		if to := n.out.peerAt(now, t.id); to.IsValid() && to != from {
			n.askAlive(to, t)
		}
	}
	return !t.refused
}

func (n *Node) askAlive(to netip.AddrPort, t *twin) {
	f := wire.Probe{AskBoot: n.boot, Nonce: twinNonce | t.asked, Term: n.core.Term()}
	f.Encode(n.out.must(to, t.id, wire.KindProbe, f.Size()))
}

// alive takes the answer to such a question; false when it is the core's.
func (n *Node) alive(h *wire.Header, p []byte) bool {
	var f wire.ProbeReply
	if f.Decode(p) != nil || f.Nonce&twinNonce == 0 {
		return false
	}
	i := slices.IndexFunc(n.twins, func(t twin) bool { return t.id == h.Src && t.incarnation == h.Incarnation })
	if i < 0 || f.EchoBoot != n.boot {
		return true
	}
	t := &n.twins[i]
	if asked := f.Nonce &^ twinNonce; asked <= t.proven || asked > t.asked || h.Boot == t.boot {
		return true
	}
	if h.Boot == t.before && !t.refused {
		t.refused = true
		n.Counters.Twins++
		n.logger.Error("one incarnation is alive twice: the data directory of a server was cloned; both are refused until one is gone and the server is brought back with `balsa member replace`",
			"server", t.id, "incarnation", t.incarnation, "boot", h.Boot, "other_boot", t.boot)
	}
	if t.proven > 0 {
		t.before = t.boot
	}
	t.boot, t.proven = h.Boot, t.asked
	return true
}

// tellForgetful says loudly that a server has less than it acknowledged.
func (n *Node) tellForgetful() {
	id, acknowledged := n.core.Forgetful()
	if id == 0 {
		return
	}
	n.Counters.Restored++
	n.logger.Error("a server lacks entries that it acknowledged: its data directory was restored from an older copy; it is refused while this server leads, bring it back with `balsa member replace`",
		"server", id, "acknowledged", acknowledged)
}
