package wire

import (
	"net/netip"
	"testing"
)

// What a put and a get do on the wire, a stage each: `.ci/hot` fails when one of them allocates.

func hot(b *testing.B, once func()) {
	b.Helper()
	for range 100 {
		once()
	}
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

// hotOps stands for the commands of a request, hotEntry for what became of them.
var hotOps = make([]byte, 160)

func hotEntry(index uint64) Entry {
	return Entry{Index: index, Term: 3, Kind: 2, Count: 1, RawBytes: uint32(len(hotOps)), Time: 1, Sum: index, Body: hotOps}
}

func BenchmarkHotRequestOut(b *testing.B) {
	p := Packer{Limit: MaxDatagram, Header: Header{Src: ClientNode, Dst: 1, Incarnation: 7}}
	out := make([]Packet, 0, 4)
	hot(b, func() {
		p.Reset()
		r := Request{Count: 1, Ops: hotOps}
		r.Encode(p.Frame(KindRequest, r.Size()))
		out = p.Flush(netip.AddrPort{}, out[:0])
	})
}

// hotDatagram is one with a frame.
func hotDatagram(k Kind, f frame) []byte {
	p := Packer{Limit: MaxDatagram, Header: Header{Src: 1, Dst: 2, Incarnation: 7}}
	f.Encode(p.Frame(k, f.Size()))
	return p.Flush(netip.AddrPort{}, nil)[0].Bytes
}

// hotIn opens a datagram and gives the payload of its frame.
func hotIn(b *testing.B, d []byte) []byte {
	_, frames, err := Open(d)
	if err != nil {
		b.Fatal(err)
	}
	_, payload, _ := frames.Next()
	return payload
}

func BenchmarkHotRequestIn(b *testing.B) {
	d := hotDatagram(KindRequest, &Request{Count: 1, Ops: hotOps})
	hot(b, func() {
		var r Request
		if err := r.Decode(hotIn(b, d)); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkHotAppendOut(b *testing.B) {
	p := Packer{Limit: MaxDatagram, Header: Header{Src: 1, Dst: 2, Incarnation: 7}}
	out := make([]Packet, 0, 4)
	hot(b, func() {
		p.Reset()
		e := hotEntry(8)
		f := Append{Term: 3, PrevIndex: 7, PrevTerm: 3, Count: 1}
		at := p.Frame(KindAppend, AppendHeaderBytes+e.Size())
		f.EncodeHeader(at)
		e.Encode(at[AppendHeaderBytes:])
		out = p.Flush(netip.AddrPort{}, out[:0])
	})
}

func BenchmarkHotAppendIn(b *testing.B) {
	d := hotDatagram(KindAppend, &Append{Term: 3, PrevIndex: 7, PrevTerm: 3, Count: 2, Entries: encodeEntries(hotEntry(8), hotEntry(9))})
	hot(b, func() {
		var f Append
		if err := f.Decode(hotIn(b, d)); err != nil {
			b.Fatal(err)
		}
		for rest := f.Entries; len(rest) > 0; {
			var err error
			if _, rest, err = DecodeEntry(rest); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHotAck(b *testing.B) {
	p := Packer{Limit: MaxDatagram, Header: Header{Src: 2, Dst: 1, Incarnation: 7}}
	out := make([]Packet, 0, 4)
	hot(b, func() {
		p.Reset()
		a := Ack{Term: 3, EchoSeq: 4, Match: 9, Last: 9}
		a.Encode(p.Frame(KindAck, a.Size()))
		out = p.Flush(netip.AddrPort{}, out[:0])
		if err := a.Decode(hotIn(b, out[0].Bytes)); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkHotReply(b *testing.B) {
	p := Packer{Limit: MaxDatagram, Header: Header{Src: 1, Dst: ClientNode, Incarnation: 7}}
	out := make([]Packet, 0, 4)
	hot(b, func() {
		p.Reset()
		r := Reply{Count: 1, Results: hotOps}
		r.Encode(p.Frame(KindReply, r.Size()))
		out = p.Flush(netip.AddrPort{}, out[:0])
		if err := r.Decode(hotIn(b, out[0].Bytes)); err != nil {
			b.Fatal(err)
		}
	})
}
