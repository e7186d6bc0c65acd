package node

import (
	"errors"
	"fmt"
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
//
// A server that is asked so doubts itself, and asks its own id at the address
// that the configuration has: an answer from another boot is its twin, alive.

// ErrTwin stops a server whose directory is in use by another process too.
var ErrTwin = errors.New("another process runs with a copy of this data directory")

// twin is what is known of the boots of one incarnation.
type twin struct {
	id          uint16
	incarnation uint64
	boot        uint64 // last proven alive or, before any question, first heard
	before      uint64 // proven alive before that; 0: none
	asked       uint64 // number of the last question; they rise over all
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
			i = max(0, slices.IndexFunc(n.twins, func(t twin) bool { return !t.refused }))
			n.twins = slices.Delete(n.twins, i, i+1)
		}
		n.twins = append(n.twins, twin{id: h.Src, incarnation: h.Incarnation, boot: h.Boot})
		return true
	}
	t := &n.twins[i]
	if h.Boot != t.boot && !t.refused && now >= t.askAt {
		t.askAt = now + twinAsk
		n.twinsAsked++
		t.asked = n.twinsAsked
		if ask := (wire.Probe{}); n.within(ask.Size()) { // nobody is asked at an address that is not proven by more than it sent
			n.askAlive(from, t.id, noPad)
		}
		if to := n.out.peerAt(now, t.id); to.IsValid() && to != from {
			n.askAlive(to, t.id, noPad)
		}
	}
	return !t.refused
}

// Who is asked under our own id answers, and asks back, with no more bytes than it was asked
// with, as it does not know the asker's address: so the question comes with as many.
//
//	question 32 + pad 48  >=  answer 40 + question back 32 + pad 8
//	question back 32 + pad 8  >=  answer 40
const (
	noPad    = -1
	padFirst = 40
	padBack  = 0
)

func (n *Node) askAlive(to netip.AddrPort, id uint16, pad int) {
	f := wire.Probe{AskBoot: n.boot, Nonce: twinNonce | n.twinsAsked, Term: n.core.Term()}
	f.Encode(n.out.must(to, id, wire.KindProbe, f.Size()))
	if pad != noPad {
		clear(n.out.must(to, id, wire.KindPad, pad))
	}
}

// within says whether a frame with a payload of size bytes may go to the sender of the
// datagram, a server whose address need not be ours, and counts it.
func (n *Node) within(size int) bool {
	need := wire.FrameHeaderBytes + (size+7)&^7
	if need > n.admission.room {
		return false
	}
	n.admission.room -= need
	return true
}

// doubted: somebody asks whether this process is alive, as another may be in its
// place. So it asks there itself.
func (n *Node) doubted(now int64, from netip.AddrPort) {
	if now < n.doubtAt {
		return
	}
	n.doubtAt = now + twinAsk
	n.twinsAsked++
	if to := n.out.peerAt(now, n.identity.ID); to.IsValid() && to != from {
		n.askAlive(to, n.identity.ID, padFirst)
	}
}

// ownName takes a datagram under this server's own id. One of this incarnation
// comes from a process with a copy of our directory, or from an earlier process
// of ours; an answer to a question of this process proves which.
func (n *Node) ownName(now int64, h *wire.Header, from netip.AddrPort, kind wire.Kind, p []byte) {
	if h.Incarnation != n.identity.Incarnation || h.Boot == n.boot {
		n.Counters.DroppedCluster++
		return
	}
	switch kind {
	case wire.KindProbe:
		var f wire.Probe
		if f.Decode(p) != nil || f.Nonce&twinNonce == 0 {
			break
		}
		r := wire.ProbeReply{EchoBoot: f.AskBoot, Nonce: f.Nonce, Term: n.core.Term(), Leads: n.Leading()}
		if !n.within(r.Size()) {
			n.Counters.DroppedUnproven++
			break
		}
		r.Encode(n.out.must(from, n.identity.ID, wire.KindProbeReply, r.Size()))
		if n.within(f.Size() + wire.FrameHeaderBytes + padBack) {
			n.twinsAsked++
			n.askAlive(from, n.identity.ID, padBack)
		}
	case wire.KindProbeReply:
		var f wire.ProbeReply
		if f.Decode(p) != nil || f.Nonce&twinNonce == 0 || f.EchoBoot != n.boot {
			break
		}
		n.Counters.Twins++
		n.fail(fmt.Errorf("%w: it is at %v, boot %x, incarnation %x as here, boot %x: stop the copy, and bring this server back with `balsa member replace`",
			ErrTwin, from, h.Boot, h.Incarnation, n.boot))
	}
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
