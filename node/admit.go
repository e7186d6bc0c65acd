package node

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"

	"balsa/wire"
)

// admission decides who is heard (docs/threat-model.md). A datagram passes, in order:
//
//	layout, version    else a mismatch is answered, never longer than the question
//	the address token  of a client: without one it may say hello, and no more
//	the seal           with a secret; or the checksum, without
//	the kind           servers' frames come from servers, clients' from clients
//
// Before a client's address is proven nothing is kept of it, and it is answered with no
// more bytes than it sent. Servers are known by the configuration and answered at the
// address that stands there.
type admission struct {
	tokens *wire.Tokens
	keys   *wire.Keys   // nil: datagrams carry checksums
	opener *wire.Opener // nil without keys

	// Of the datagram being taken.
	from     netip.AddrPort
	verdict  wire.Verdict
	body     int   // bytes of its frames
	room     int   // bytes of frames that may still be answered to an address that is not proven
	owes     bool  // a token, at its end
	operator bool  // it was sealed with the servers' secret
	newest   uint8 // key that its sender holds, if it is a client whose address is not proven; else 0

	behind map[netip.AddrPort]uint8 // newest key of clients that hold another one than we: during a rotation only
	told   []complaint              // log lines that were written
}

type complaint struct {
	about  uint16
	reason uint8
}

// maxBehind bounds the clients that are known to hold another key.
const maxBehind = 1 << 14

func (n *Node) initAdmission() {
	var secret [16]byte
	binary.LittleEndian.PutUint64(secret[0:], n.o.Random())
	binary.LittleEndian.PutUint64(secret[8:], n.o.Random())
	n.admission.tokens = wire.NewTokens(secret)
	if n.o.Keys != nil {
		n.admission.keys = n.o.Keys
		n.admission.opener = wire.NewOpener(n.o.Keys)
		n.out.sealer = wire.NewSealer(n.o.Keys)
	}
}

// Rekey takes another set of keys, as the secret file was changed: all of them are
// accepted at once. A node that began open stays open, and a sealed one sealed.
func (n *Node) Rekey(k *wire.Keys) {
	a := &n.admission
	if a.keys == nil || a.keys.Equal(k) {
		return
	}
	a.opener.Rekey(k)
	n.out.sealer.Rekey(k)
	a.keys, a.told = k, nil
	clear(a.behind)
	n.logger.Info("took other secrets", "epochs", k.Epochs(), "newest", k.Newest())
}

// admit checks a datagram up to its frames.
func (n *Node) admit(now int64, from netip.AddrPort, datagram []byte) (wire.Header, wire.Frames, bool) {
	a := &n.admission
	h, err := wire.Peek(datagram)
	if err != nil {
		switch {
		case errors.Is(err, wire.ErrVersion):
			n.Counters.DroppedVersion++
			n.answerMismatch(from, datagram, wire.MismatchVersion)
		case errors.Is(err, wire.ErrMismatch):
			n.Counters.DroppedMalformed++
			n.refusedBy(from, datagram)
		default:
			n.Counters.DroppedMalformed++
		}
		return h, wire.Frames{}, false
	}
	a.from, a.owes, a.newest = from, false, 0
	a.body = len(datagram) - wire.HeaderBytes - wire.TrailerBytes
	a.room = a.body
	a.operator = h.Src == wire.ClientNode && h.Flags&wire.FlagOperator != 0
	a.verdict = wire.Proven
	if h.Src == wire.ClientNode {
		a.verdict = a.tokens.Check(now, from, h.Token)
	}
	frames, err := n.unwrap(now, &h, datagram)
	if err != nil {
		n.unreadable(&h, from, datagram, err)
		return h, frames, false
	}
	if h.Dst != n.identity.ID && h.Dst != 0 {
		n.Counters.DroppedDestination++
		return h, frames, false
	}
	if a.keys != nil {
		n.noteNewest(&h, from)
	}
	return h, frames, true
}

// unwrap checks the seal, or the checksum.
func (n *Node) unwrap(now int64, h *wire.Header, datagram []byte) (wire.Frames, error) {
	a := &n.admission
	if a.keys == nil {
		_, frames, err := wire.Open(datagram)
		return frames, err
	}
	if h.Flags&wire.FlagSealed == 0 {
		return wire.Frames{}, wire.ErrSealed
	}
	return a.opener.Open(now, h, datagram, a.verdict != wire.Unproven)
}

// unreadable counts a datagram that is not taken, and says why to who may be helped by
// it: a client with the wrong secret, or none.
func (n *Node) unreadable(h *wire.Header, from netip.AddrPort, datagram []byte, err error) {
	switch {
	case errors.Is(err, wire.ErrReplay):
		n.Counters.DroppedReplays++
	case errors.Is(err, wire.ErrCrowd):
		n.Counters.DroppedCrowd++
	case errors.Is(err, wire.ErrSealed) && n.admission.keys == nil:
		n.Counters.DroppedSeal++
		n.answerMismatch(from, datagram, wire.MismatchOpen)
	case errors.Is(err, wire.ErrSealed):
		n.Counters.DroppedSeal++
		n.complain(h.Src, wire.MismatchSealed, from, "a server of our pool does not seal what it sends: it was started without --secret-file")
		n.answerMismatch(from, datagram, wire.MismatchSealed)
	case errors.Is(err, wire.ErrEpoch), errors.Is(err, wire.ErrSeal):
		n.Counters.DroppedSeal++
		n.complain(h.Src, wire.MismatchKey, from, "a datagram in the name of a server of our pool was sealed with another secret, or forged")
		n.answerMismatch(from, datagram, wire.MismatchKey)
	default:
		n.Counters.DroppedMalformed++
	}
}

// refusedBy: a server can't read what we send. Anybody can say so: it is logged, once.
func (n *Node) refusedBy(from netip.AddrPort, datagram []byte) {
	var m wire.Mismatch
	if m.Decode(datagram) != nil {
		return
	}
	for i := range n.out.peers {
		if p := &n.out.peers[i]; p.to == from && p.id != n.identity.ID {
			n.complain(p.id, m.Reason|1<<7, from, "a server says that it can't read our datagrams: "+refusals[m.Reason], "speaks", m.Speaks, "want", wire.Spoken())
		}
	}
}

var refusals = [...]string{
	wire.MismatchVersion: "it does not speak our version of the protocol",
	wire.MismatchSealed:  "it takes sealed ones only, and this server has no --secret-file",
	wire.MismatchOpen:    "it has no --secret-file",
	wire.MismatchKey:     "it does not hold our secret",
}

// complain logs something about a server that we expect, once.
func (n *Node) complain(id uint16, reason uint8, from netip.AddrPort, what string, more ...any) {
	a := &n.admission
	for _, c := range a.told {
		if c == (complaint{id, reason}) {
			return
		}
	}
	if id == wire.ClientNode || n.out.addressOf(id) == nil {
		return
	}
	a.told = append(a.told, complaint{id, reason})
	n.logger.Error(what, append([]any{"server", id, "addr", from}, more...)...)
}

// noteNewest remembers which key an answer can be sealed with: of who is not proven until
// the datagram is settled.
func (n *Node) noteNewest(h *wire.Header, from netip.AddrPort) {
	a := &n.admission
	if h.Src != wire.ClientNode {
		n.out.noteNewest(h.Src, h.Newest)
		return
	}
	if a.verdict == wire.Unproven {
		a.newest = h.Newest
		return
	}
	if h.Newest == a.keys.Newest() {
		if len(a.behind) > 0 {
			delete(a.behind, from)
		}
		return
	}
	if len(a.behind) >= maxBehind {
		clear(a.behind) // who is forgotten is answered with our newest until it speaks again
	}
	if a.behind == nil {
		a.behind = make(map[netip.AddrPort]uint8)
	}
	a.behind[from] = h.Newest
}

// may says whether a frame of this kind is taken from the sender of the datagram.
func (n *Node) may(h *wire.Header, kind wire.Kind) bool {
	if !kind.Known() {
		n.Counters.SkippedKinds++
		return false
	}
	client := h.Src == wire.ClientNode
	if kind.OfServers() && client || kind.OfClients() && !client {
		n.Counters.DroppedMalformed++
		return false
	}
	if n.admission.verdict == wire.Unproven && kind != wire.KindHello {
		n.Counters.DroppedUnproven++
		n.admission.owes = true
		return false
	}
	return true
}

// mayHarm says whether the sender of the datagram may ask for drills: sealed, a holder of
// the servers' secret; open, whoever is on this machine.
func (n *Node) mayHarm() bool {
	a := &n.admission
	if a.keys != nil {
		return a.operator
	}
	return a.from.Addr().Unmap().IsLoopback()
}

// spend says whether an answer with a payload of size bytes may go to the sender of the
// datagram, and counts it.
func (n *Node) spend(size int) bool {
	a := &n.admission
	if a.verdict != wire.Unproven {
		return true
	}
	need := wire.FrameHeaderBytes + (size+7)&^7
	if need > a.room {
		return false
	}
	a.room -= need
	return true
}

// fills says whether a frame with this payload is all that there is in the datagram.
func (a *admission) fills(payload []byte) bool {
	return wire.FrameHeaderBytes+(len(payload)+7)&^7 == a.body
}

// settle ends a datagram: a client that was not heard for want of a token gets one, and
// so does one whose token ends soon.
func (n *Node) settle(now int64) {
	a := &n.admission
	t := wire.Token{Token: a.tokens.Give(now, a.from)}
	if (a.owes || a.verdict == wire.Stale) && n.spend(t.Size()) {
		t.Encode(n.out.must(a.from, wire.ClientNode, wire.KindToken, t.Size()))
	}
	a.newest = 0
}

// noLimit is the room of an answer to a proven address.
const noLimit = math.MaxInt
