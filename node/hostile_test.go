package node

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cespare/xxhash/v2"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wire"
)

// mostBody is how many bytes of frames the largest datagram of UDP has room for.
const mostBody = (65507 - wire.HeaderBytes - wire.TrailerBytes) &^ 7

// forge is a datagram with this body, of any length, under a right checksum.
func forge(h wire.Header, body []byte) []byte {
	p := wire.Packer{Limit: wire.MaxDatagram, Header: h}
	p.Header.Packet--
	p.Frame(wire.KindPad, 0)
	b := append(p.Flush(netip.AddrPort{}, nil)[0].Bytes[:wire.HeaderBytes:wire.HeaderBytes], body...)
	binary.LittleEndian.PutUint16(b[14:], uint16(len(body)))
	sum := xxhash.NewWithSeed(0x62616c7361777201)
	sum.Write(b)
	return append(binary.LittleEndian.AppendUint64(b, sum.Sum64()), 0, 0, 0, 0, 0, 0, 0, 0)
}

// appendFrame appends a frame to a body.
func appendFrame(body []byte, kind wire.Kind, payload []byte) []byte {
	body = append(body, byte(kind), 0, byte(len(payload)), byte(len(payload)>>8), 0, 0, 0, 0)
	body = append(body, payload...)
	return append(body, make([]byte, -len(payload)&7)...)
}

func encoded(f interface {
	Size() int
	Encode([]byte)
}) []byte {
	p := make([]byte, f.Size())
	f.Encode(p)
	return p
}

// proven is the header of a client that has its token.
func (l *lab) proven(n *Node, client uint64, from netip.AddrPort) wire.Header {
	l.packets++
	return wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: n.ID(), Incarnation: client, Boot: 5, Packet: l.packets, Token: n.token(l.now, from)}
}

// sent is what a node has for an address, in bytes and datagrams, after a datagram was delivered.
func (l *lab) sent(n *Node, from netip.AddrPort, datagram []byte) (bytes, datagrams int) {
	n.Deliver(l.now, from, datagram)
	l.now += 1e6
	n.Turn(l.now, false)
	for _, p := range n.Out() {
		if p.To == from {
			bytes, datagrams = bytes+len(p.Bytes), datagrams+1
		}
	}
	return bytes, datagrams
}

// A datagram longer than any that we send is refused, whatever it says: an answer as long
// as a path-ask in it could not be made.
func TestADatagramLongerThanOursIsRefused(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	for _, c := range []struct {
		body int
		want int
	}{{mostBody, 0}, {wire.MaxDatagram + 8 - 64, 0}, {wire.MaxDatagram - 64, wire.MaxDatagram}} {
		ask := wire.PathAsk{AskBoot: 5, Nonce: 1, Passes: wire.MaxDatagram, Pad: c.body - wire.FrameHeaderBytes - 24}
		before := n.Counters.DroppedMalformed
		got, _ := l.sent(n, strangersAddr, forge(l.proven(n, 66, strangersAddr), appendFrame(nil, wire.KindPathAsk, encoded(&ask))))
		if got != c.want || (n.Counters.DroppedMalformed > before) != (c.want == 0) {
			t.Errorf("a datagram of %d bytes was answered with %d, %d counted", c.body+64, got, n.Counters.DroppedMalformed-before)
		}
	}
}

// Only what may need more than a datagram comes in fragments. A question that is answered
// in as many bytes as it had, or by a datagram of its own, never does.
func TestFragmentsBringOnlyWhatMayNeedThem(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	message := uint64(0)
	for kind := wire.Kind(1); kind < 64; kind++ {
		ask := wire.PathAsk{AskBoot: 5, Nonce: 1, Passes: 1200, Pad: 100_000}
		payload := encoded(&ask)
		const stride = 50_000
		message++
		refused, skipped := n.Counters.DroppedMalformed, n.Counters.SkippedKinds
		for at := 0; at < len(payload); at += stride {
			f := wire.Fragment{Message: message, Kind: kind, Total: uint32(len(payload)), Offset: uint32(at), Stride: stride, Body: payload[at:min(at+stride, len(payload))]}
			l.sent(n, strangersAddr, forge(l.proven(n, 66, strangersAddr), appendFrame(nil, wire.KindFragment, encoded(&f))))
		}
		if kind.InFragments() {
			continue
		}
		if got := n.Counters.DroppedMalformed - refused; kind.Known() && got != 3 {
			t.Errorf("%v: %d of 3 fragments refused", kind, got)
		}
		if got := n.Counters.SkippedKinds - skipped; !kind.Known() && got != 3 {
			t.Errorf("%v: %d of 3 fragments skipped", kind, got)
		}
		if n.clientParts.Bytes() != 0 {
			t.Fatalf("%v: %d bytes of it are kept", kind, n.clientParts.Bytes())
		}
	}
	if n.Err() != nil {
		t.Fatal(n.Err())
	}
}

// A path-ask fills its datagram: many small ones in one would each be answered by a
// datagram, and memory, of its own.
func TestAPathAskFillsItsDatagram(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	ask := encoded(&wire.PathAsk{AskBoot: 5, Nonce: 1, Passes: wire.MaxDatagram})
	var body []byte
	for len(body)+32 <= wire.MaxDatagram-64 {
		body = appendFrame(body, wire.KindPathAsk, ask)
	}
	if _, datagrams := l.sent(n, strangersAddr, forge(l.proven(n, 66, strangersAddr), body)); datagrams != 0 {
		t.Errorf("answered with %d datagrams", datagrams)
	}
	follower := l.nodes[n.ID()%3+1]
	probe := encoded(&wire.PathProbe{AskBoot: n.boot, Nonce: 1})
	h := wire.Header{Cluster: n.tag, Src: n.ID(), Dst: follower.ID(), Incarnation: n.Incarnation(), Boot: n.boot}
	for count := 1; count <= 2; count++ {
		h.Packet, body = h.Packet+1, nil
		for range count {
			body = appendFrame(body, wire.KindPathProbe, probe)
		}
		follower.Deliver(l.now, l.addr(n.ID()), forge(h, body))
		answers := 0
		for _, p := range follower.Out() {
			_, frames, _ := wire.Open(p.Bytes)
			for kind, _, ok := frames.Next(); ok; kind, _, ok = frames.Next() {
				if kind == wire.KindPathAnswer {
					answers++
				}
			}
		}
		if answers != count%2 {
			t.Errorf("%d probes in one datagram have %d answers", count, answers)
		}
	}
}

// What a turn with many destinations needed is not kept for ever.
func TestRoomForManyDestinationsIsGivenBack(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	const large = 50_000
	n.o.Datagram = wire.MaxDatagram
	for i := range 3 * maxKept / large {
		n.out.must(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(1024+i)), wire.ClientNode, wire.KindToken, large)
	}
	n.Out()
	n.out.recycle()
	held := 0
	for _, d := range n.out.free {
		held += d.packer.Held()
	}
	if held > maxKept {
		t.Errorf("%d bytes are kept, want %d at most", held, maxKept)
	}
}

// A server's name under which nothing was heard lately costs a question, as many bytes as
// were sent at most, and nothing for a frame that says nothing; our own name too.
func TestServersNamesDrawNoMoreThanWasSent(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	other := n.ID()%3 + 1
	probe := encoded(&wire.Probe{AskBoot: 9, Nonce: twinNonce | 1})
	boot := uint64(100)
	for _, c := range []struct {
		name        string
		id          uint16
		incarnation uint64
		kind        wire.Kind
		payload     []byte
		pad         int // bytes of a pad behind it; below 0: none
		answered    bool
	}{
		{"our own name", n.ID(), n.Incarnation(), wire.KindProbe, probe, -1, false},
		{"our own name", n.ID(), n.Incarnation(), wire.KindProbe, probe, 0, true},
		{"our own name", n.ID(), n.Incarnation(), wire.KindProbe, probe, 40, true},
		{"our own name, empty", n.ID(), n.Incarnation(), wire.KindProbe, nil, -1, false},
		{"a server's, empty", other, 0, wire.KindProbe, nil, -1, false},
		{"a server's, empty", other, 0, wire.KindAppend, nil, -1, false},
		{"a server's", other, 0, wire.KindProbe, probe, -1, true},
	} {
		h := wire.Header{Cluster: n.tag, Src: c.id, Dst: n.ID(), Incarnation: c.incarnation}
		if c.incarnation == 0 {
			h.Incarnation = l.nodes[other].Incarnation()
		}
		body := appendFrame(nil, c.kind, c.payload)
		if c.pad >= 0 {
			body = appendFrame(body, wire.KindPad, make([]byte, c.pad))
		}
		l.now += 100e6 // past the pause between questions
		boot, h.Boot, h.Packet = boot+1, boot+1, 1
		d := forge(h, body)
		got, _ := l.sent(n, strangersAddr, d)
		if got > len(d) || (got > 0) != c.answered {
			t.Errorf("%s: %v of %d bytes, pad %d: answered with %d", c.name, c.kind, len(d), c.pad, got)
		}
	}
}

// A status counts from where its message goes to, and from nowhere else: ids of messages
// are no secret.
func TestOnlyTheReceiverTellsWhatArrived(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	elsewhere := netip.AddrPortFrom(strangersAddr.Addr(), 1)
	n.out.sendLarge(l.now, strangersAddr, wire.ClientNode, wire.KindReply, make([]byte, 100_000))
	n.out.sendLarge(l.now, l.addr(n.ID()%3+1), n.ID()%3+1, wire.KindAppend, make([]byte, 100_000))
	status := func(message uint64, from netip.AddrPort, client uint64, src uint16) {
		h := l.proven(n, client, from)
		if src != wire.ClientNode {
			h.Src, h.Token, h.Incarnation = src, 0, l.nodes[src].Incarnation()
		}
		f := wire.FragmentStatus{Message: message, EchoBoot: n.boot, Done: true}
		n.Deliver(l.now, from, forge(h, appendFrame(nil, wire.KindFragmentStatus, encoded(&f))))
	}
	busy := func() (busy int) {
		for i := range n.out.large {
			busy += n.out.large[i].f.Busy()
		}
		return busy
	}
	peer, third := n.ID()%3+1, (n.ID()+1)%3+1
	client, server := n.out.message-1, n.out.message
	status(client, elsewhere, 67, wire.ClientNode)
	status(server, elsewhere, 67, wire.ClientNode)
	status(server, l.addr(third), 0, third)
	status(client, l.addr(peer), 0, peer)
	if busy() != 2 {
		t.Errorf("%d messages are still on their way, want 2", busy())
	}
	status(client, strangersAddr, 66, wire.ClientNode)
	status(server, l.addr(peer), 0, peer)
	if busy() != 0 {
		t.Errorf("%d messages are still on their way, want none", busy())
	}
}

// A stranger that is answered nothing, or no more, costs no memory.
func TestWhoIsRefusedCostsNoMemory(t *testing.T) {
	for name, body := range map[string][]byte{
		"a short hello":     appendFrame(nil, wire.KindHello, encoded(&wire.Hello{Nonce: 1})),
		"an empty datagram": nil,
	} {
		l := newLab(t, 3, 3)
		n := l.elect()
		d := forge(wire.Header{Cluster: n.tag, Src: wire.ClientNode, Incarnation: 66, Boot: 5, Packet: 1}, body)
		old := forge(wire.Header{Src: wire.ClientNode}, make([]byte, 64))
		old[2] = wire.Version + 1
		turn := func() {
			n.Deliver(l.now, strangersAddr, d)
			for range maxMismatches {
				n.out.raw = append(n.out.raw, wire.Packet{})
			}
			n.Deliver(l.now, strangersAddr, old)
			n.Out()
		}
		turn()
		turn()
		if got := testing.AllocsPerRun(100, turn); got != 0 {
			t.Errorf("%s, and another version's datagram beyond the bound: %v allocations", name, got)
		}
	}
}

// Which key a client holds is not kept before its address is proven, and the answer to its
// hello is sealed with one that it holds all the same.
func TestNoKeyIsKeptOfAStranger(t *testing.T) {
	l := newSealedLab(t, 3, 3)
	n := l.elect()
	both, _ := labKeys(1, 2)
	n.Rekey(both)
	hello := wire.Hello{Nonce: 1, Pad: 480}
	ask := func(token uint64) uint8 {
		l.packets++
		p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Src: wire.ClientNode, Dst: n.ID(), Incarnation: 66, Boot: 5, Packet: l.packets, Token: token, KeyEpoch: 1}}
		hello.Encode(p.Frame(wire.KindHello, hello.Size()))
		n.Deliver(l.now, strangersAddr, p.Flush(netip.AddrPort{}, nil)[0].Bytes)
		epoch := uint8(0)
		for _, d := range n.Out() {
			if d.To == strangersAddr {
				h, _ := wire.Peek(d.Bytes)
				epoch = h.KeyEpoch
			}
		}
		return epoch
	}
	if epoch := ask(0); epoch != 1 || len(n.admission.behind) != 0 {
		t.Errorf("a stranger's hello: answered with key %d, want 1; %d keys kept", epoch, len(n.admission.behind))
	}
	if n.out.epoch(strangersAddr, wire.ClientNode) != 2 {
		t.Error("the stranger's key is remembered after its datagram")
	}
	if epoch := ask(n.token(l.now, strangersAddr)); epoch != 1 || len(n.admission.behind) != 1 {
		t.Errorf("a client's hello: answered with key %d, want 1; %d keys kept, want 1", epoch, len(n.admission.behind))
	}
}

// An append that is refused, by its sender or in the midst of its entries, leaves nothing behind that the server's own next
// entry could be taken for (simulator seed 30990).
func TestARefusedAppendLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		incarnation uint64
		spoil       uint64
	}{"of another incarnation": {incarnation: 999}, "with a wrong sum": {spoil: 1}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 3, 3)
			n := l.elect()
			from := n.ID()%3 + 1
			a := wire.Append{Term: n.core.Term(), PrevIndex: 500, PrevTerm: 1, Count: 2, Timeout: 1e8}
			for i := range uint64(2) {
				e := wire.Entry{Index: 501 + i, Term: 1, Kind: uint8(raft.NoOp)}
				e.Sum = toWAL(&e, nil) + i*c.spoil
				b := make([]byte, e.Size())
				e.Encode(b)
				a.Entries = append(a.Entries, b...)
			}
			h := wire.Header{Cluster: n.tag, Src: from, Dst: n.ID(), Incarnation: l.nodes[from].identity.Incarnation + c.incarnation, Boot: l.nodes[from].boot, Packet: 1 << 40}
			n.Deliver(l.now, l.addr(from), forge(h, appendFrame(nil, wire.KindAppend, encoded(&a))))
			l.request(n.ID(), kv.Command{Op: kv.Put, Seq: 1, Key: []byte("a"), Value: []byte("1")})
			if got := l.result(1); got.Status != kv.OK {
				t.Errorf("a put after it: %v", got.Status)
			}
		})
	}
}
