package node

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// A datagram of the next version is answered with the versions that are spoken here, in no more bytes than it had, whoever
// seems to have sent it; and the server goes on with what it was doing.
func TestTheNextVersionIsToldWhatIsSpoken(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 4, 3), "sealed": newSealedLab(t, 4, 3)} {
		for state, n := range nodesFor(l) {
			term := n.term()
			for _, src := range []uint16{wire.ClientNode, 2, 88} {
				p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: n.tag, Src: src, Dst: n.ID(), Incarnation: 66, Boot: 5}} // no seal of it could be read
				vote := wire.Vote{Term: 1 << 40}
				vote.Encode(p.Frame(wire.KindVote, vote.Size()))
				b := p.Flush(netip.AddrPort{}, nil)[0].Bytes
				b[2] = wire.Version + 1
				before := n.Counters
				n.Deliver(l.now, strangersAddr, b)
				n.Turn(l.now, false)
				var got []wire.Mismatch
				for _, d := range n.Out() {
					var m wire.Mismatch
					if d.To == strangersAddr && len(d.Bytes) <= len(b) && m.Decode(d.Bytes) == nil {
						got = append(got, m)
					}
				}
				if len(got) != 1 || got[0] != (wire.Mismatch{Speaks: wire.Spoken(), Asked: wire.Version + 1}) {
					t.Errorf("%s, %s, source %d: answered %+v", name, state, src, got)
				}
				if n.Counters.DroppedVersion != before.DroppedVersion+1 || n.Counters.DroppedMalformed != before.DroppedMalformed {
					t.Errorf("%s, %s, source %d: not counted as of another version", name, state, src)
				}
			}
			if n.term() != term {
				t.Errorf("%s, %s: what could not be read moved the term", name, state)
			}
		}
	}
}

func (n *Node) term() uint64 {
	if n.core == nil {
		return 0
	}
	return n.core.Term()
}

// Servers and clients of newer software put frames into a datagram that we have no name for, whole or in fragments: they are
// skipped and counted, and the others of the same datagram are taken.
func TestFramesOfUnknownKindsAreSkippedAndTheOthersTaken(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 3, 3), "sealed": newSealedLab(t, 3, 3)} {
		n := l.elect()
		seq := uint64(0)
		for kind := range 256 {
			k := wire.Kind(kind)
			if kind == 0 || k.Known() {
				continue
			}
			seq++
			op := kv.Command{Op: kv.Put, Client: 77, Seq: seq, AckedBelow: seq, Flags: kv.FlagRegister, Registered: 1, Key: []byte("k"), Value: []byte{byte(kind)}}
			r := wire.Request{Count: 1, Ops: kv.AppendCommand(nil, &op)}
			piece := wire.Fragment{Message: seq, Kind: k, Total: 40, Stride: 256, Body: make([]byte, 40)}
			p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Src: wire.ClientNode, Dst: n.ID(), Incarnation: 77, Cluster: n.tag,
				Packet: l.packets, Token: n.token(l.now, labAddr(labClient))}}
			clear(p.Frame(k, 0))
			clear(p.Frame(k, 333))
			piece.Encode(p.Frame(wire.KindFragment, piece.Size()))
			r.Encode(p.Frame(wire.KindRequest, r.Size()))
			clear(p.Frame(k, 8))
			before := n.Counters
			l.queue = append(l.queue, flight{from: labAddr(labClient), to: l.addr(n.ID()), bytes: p.Flush(l.addr(n.ID()), nil)[0].Bytes})
			l.packets = p.Header.Packet
			if got := l.result(seq); got.Status != kv.OK {
				t.Fatalf("%s: a put beside frames of kind %d: %v", name, kind, got.Status)
			}
			if skipped := n.Counters.SkippedKinds - before.SkippedKinds; skipped != 4 {
				t.Errorf("%s: %d frames of kind %d were skipped, want 4", name, skipped, kind)
			}
			if n.Counters.DroppedMalformed != before.DroppedMalformed {
				t.Errorf("%s: a frame of kind %d counts as malformed", name, kind)
			}
		}
	}
}

// The same from another server: what stands between frames of unknown kinds is taken. A frame with more behind it than its layout
// has is refused alone.
func TestServersGetOnWithWhatTheyDoNotKnow(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	var peer uint16
	l.each(func(id uint16, other *Node) {
		if id != n.ID() {
			peer = id
		}
	})
	other := l.nodes[peer]
	p := wire.Packer{Limit: wire.MaxDatagram, Header: other.out.header}
	p.Header.Dst = n.ID()
	clear(p.Frame(200, 24))
	probe := wire.Probe{AskBoot: other.out.header.Boot, Nonce: 9, Term: n.term()}
	probe.Encode(p.Frame(wire.KindProbe, probe.Size()))           // taken
	probe.Encode(p.Frame(wire.KindProbe, probe.Size()+8)[:24:24]) // as a later version may have it: refused
	clear(p.Frame(13, 1))
	before := n.Counters
	l.now++
	n.Deliver(l.now, labAddr(peer), p.Flush(netip.AddrPort{}, nil)[0].Bytes)
	n.Turn(l.now, false)
	answers := 0
	for _, d := range n.Out() {
		_, frames, err := wire.Open(d.Bytes)
		for k, _, ok := frames.Next(); err == nil && ok; k, _, ok = frames.Next() {
			if k == wire.KindProbeReply {
				answers++
			}
		}
	}
	if answers != 1 || n.Counters.SkippedKinds-before.SkippedKinds != 2 || n.Counters.DroppedMalformed-before.DroppedMalformed != 1 {
		t.Errorf("%d probes answered, %d frames skipped, %d refused; want 1, 2 and 1", answers, n.Counters.SkippedKinds-before.SkippedKinds,
			n.Counters.DroppedMalformed-before.DroppedMalformed)
	}
}

// What a later version may put into the log is not taken: a flag of a configuration, a kind of entry, a codec, a group that have
// no meaning yet. So a cluster that went on to the next version is not followed by a server that does not speak it, which
// acknowledges nothing and applies nothing wrong.
func TestEntriesOfALaterVersionAreNotTaken(t *testing.T) {
	configuration := wire.AppendConfiguration(nil, &wire.Configuration{Cluster: [16]byte{1}, Members: []wire.Member{{ID: 1, Incarnation: 1, Role: wire.MemberVoter, Addr: "a:1"}}})
	configuration[24] |= 8
	for name, e := range map[string]wire.Entry{
		"configuration": {Kind: 3, Body: configuration},
		"kind":          {Kind: 6},
		"codec":         {Kind: 2, Codec: 1},
		"group":         {Kind: 2, Group: 1},
	} {
		l := newLab(t, 3, 3)
		n := l.elect()
		peer := n.ID()%3 + 1
		other := l.nodes[peer]
		last := other.core.Last()
		e.Index, e.Term = last+1, n.term()
		e.Sum = toWAL(&e, nil)
		entries := make([]byte, e.Size())
		e.Encode(entries)
		f := wire.Append{Term: n.term(), PrevIndex: last, PrevTerm: n.term(), Seq: 1 << 40, Count: 1, Entries: entries}
		p := wire.Packer{Limit: wire.MaxDatagram, Header: n.out.header}
		p.Header.Dst, p.Header.Packet = peer, 1<<40
		f.Encode(p.Frame(wire.KindAppend, f.Size()))
		other.Turn(l.now, false)
		l.now++
		other.Deliver(l.now, labAddr(n.ID()), p.Flush(netip.AddrPort{}, nil)[0].Bytes)
		other.Turn(l.now, false)
		if other.core.Last() != last {
			t.Errorf("%s: last index %d, want %d", name, other.core.Last(), last)
		}
		for _, d := range other.Out() {
			_, frames, err := wire.Open(d.Bytes)
			for k, payload, ok := frames.Next(); err == nil && ok; k, payload, ok = frames.Next() {
				var a wire.Ack
				if k == wire.KindAck && a.Decode(payload) == nil && a.EchoSeq == f.Seq {
					t.Errorf("%s: the append was answered: %+v", name, a)
				}
			}
		}
	}
}

// A server of the pool that cannot read us is told of once, with what it speaks and what we do.
func TestAPeerOfAnotherVersionIsNamed(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	var log bytes.Buffer
	n.logger = slog.New(slog.NewTextHandler(&log, nil))
	peer := n.ID()%3 + 1
	var b [wire.MismatchBytes]byte
	m := wire.Mismatch{Speaks: wire.Versions{Oldest: 2, Newest: 3}, Asked: 1}
	m.Encode(b[:])
	for range 3 {
		n.Deliver(l.now, l.addr(peer), b[:])
	}
	if got := log.String(); strings.Count(got, "versions 2 to 3") != 1 || !strings.Contains(got, wire.Spoken().String()) || strings.Count(got, "\n") != 1 {
		t.Errorf("the log says %q, want one line with both sides' versions", got)
	}
}
