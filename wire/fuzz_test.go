package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

// FuzzFrames: no bytes make a decoder panic, and what one takes it gives back.
func FuzzFrames(f *testing.F) {
	for _, s := range samples() {
		f.Add(encode(s.frame))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, s := range samples() {
			d := s.fresh()
			if d.Decode(p) != nil {
				continue
			}
			if b := encode(d); !bytes.Equal(b, p) {
				t.Errorf("%s: %x decoded, and encoded to %x", s.name, p, b)
			}
			if a, ok := d.(*Append); ok {
				walkEntries(t, a)
			}
		}
	})
}

func walkEntries(t *testing.T, a *Append) {
	rest := a.Entries
	for range a.Count {
		e, r, err := DecodeEntry(rest)
		if err != nil {
			t.Fatalf("an entry that Decode let pass: %v", err)
		}
		if b := encodeEntries(e); !bytes.Equal(b, rest[:len(b)]) {
			t.Fatalf("an entry came back as other bytes")
		}
		rest = r
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes behind the last entry", len(rest))
	}
}

// FuzzOpen: any bytes, and any bytes under a right checksum.
func FuzzOpen(f *testing.F) {
	p := Packer{Limit: SafeDatagram, Header: Header{Src: 1, Dst: 2}}
	for _, s := range samples() {
		s.frame.Encode(p.Frame(s.kind, s.frame.Size()))
	}
	for _, d := range p.Flush(netip.AddrPort{}, nil) {
		f.Add(d.Bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		walk(t, b)
		var m Mismatch
		_ = m.Decode(b)
		if a := AppendMismatch(nil, b); len(a) > len(b) {
			t.Fatal("a mismatch longer than the question")
		}
		body := b[:min(len(b), MaxDatagram-HeaderBytes-TrailerBytes)&^7]
		d := make([]byte, HeaderBytes+len(body)+TrailerBytes)
		copy(d[HeaderBytes:], body)
		finish(d, &Header{Src: 1})
		if _, _, err := Open(d); err != nil {
			t.Fatalf("what was sealed doesn't open: %v", err)
		}
		walk(t, d)
	})
}

// FuzzOpener: no bytes make an Opener panic, and it opens nothing that was not sealed
// with its keys.
func FuzzOpener(f *testing.F) {
	servers, clients := testKeys(3)
	f.Add(sealed(sealing1(servers, fromServer)))
	f.Add(sealed(sealing1(clients, fromClient)))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := NewOpener(servers)
		h, err := Peek(b)
		if err != nil {
			return
		}
		before := bytes.Clone(b)
		frames, err := o.Open(1, &h, b, true)
		if (err == nil) != (o.Senders() == 1) {
			t.Fatalf("%v, and %d senders remembered", err, o.Senders())
		}
		if err != nil {
			return
		}
		for _, p := range []*Packer{sealing1(servers, fromServer), sealing1(clients, fromClient)} {
			if bytes.Equal(before, sealed(p)) {
				return
			}
		}
		t.Fatalf("forged: %+v with frames of %d bytes", h, len(frames.rest))
	})
}

func walk(t *testing.T, b []byte) {
	_, frames, err := Open(b)
	if err != nil {
		return
	}
	total := 0
	for {
		_, p, ok := frames.Next()
		if !ok {
			break
		}
		total += FrameHeaderBytes + pad8(len(p))
	}
	if frames.Err() == nil && total != len(b)-HeaderBytes-TrailerBytes {
		t.Fatalf("frames of %d bytes in a datagram of %d", total, len(b))
	}
}

// FuzzConfiguration: one configuration, one encoding.
func FuzzConfiguration(f *testing.F) {
	for _, joint := range []bool{false, true} {
		c := sampleConfiguration(joint)
		f.Add(AppendConfiguration(nil, &c))
	}
	target := sampleTarget()
	f.Add(AppendConfiguration(nil, &target))
	f.Add(AppendServers(nil, []Server{{1, "a:1"}, {2, ""}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeConfiguration(b); err == nil {
			if err := c.Check(); err != nil {
				t.Fatalf("decoded, but %v", err)
			}
			if !bytes.Equal(AppendConfiguration(nil, &c), b) {
				t.Fatalf("another encoding of %+v: %x", c, b)
			}
		}
		if s, err := DecodeServers(b); err == nil && len(b) > 0 && !bytes.Equal(AppendServers(nil, s), b) {
			t.Fatalf("another encoding of %v: %x", s, b)
		}
	})
}

// FuzzReassembler: fragments of a hostile sender never make a whole out of pieces that
// are not all there, or outgrow the bounds. A script byte pair is (which, what to spoil).
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0, 3, 0})
	f.Add([]byte{0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 0, 5, 1, 0, 2, 0, 3, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		const stride, total = MinStride, 4*MinStride - 10
		r := NewReassembler(4*total, 4)
		r.Buffer = 2 * charged(stride)
		good := bytes.Repeat([]byte("0123456789abcdef"), total/16+1)[:total]
		h := Header{Src: 1, Incarnation: 2, Boot: 3}
		for now := int64(0); len(script) >= 2; now++ {
			n, spoil := uint32(script[0]%4), script[1]
			script = script[2:]
			g := Fragment{Message: 1, Kind: KindRequest, Total: total, Stride: stride, Offset: n * stride}
			switch spoil {
			case 1:
				g.Total += stride
			case 2:
				g.Stride *= 2
				g.Offset = n / 2 * g.Stride
			case 3:
				g.Kind = KindReply
			case 4:
				g.Offset += 8
			case 5:
				g.Message = 2 + uint64(n)
			}
			body := make([]byte, stride)
			if g.Offset < total {
				copy(body, good[g.Offset:])
			}
			if g.Offset < g.Total {
				g.Body = body[:min(uint32(len(body)), g.Stride, g.Total-g.Offset)]
			}
			var d Fragment
			if d.Decode(encode(&g)) != nil {
				continue
			}
			w, whole, err := r.Add(now, &h, &d)
			if err != nil && !errors.Is(err, ErrContradiction) && !errors.Is(err, ErrRoom) {
				t.Fatal(err)
			}
			if whole && d.Message == 1 && w.Kind == KindRequest && len(w.Payload) == total && spoil == 0 && !bytes.Equal(w.Payload, good) {
				t.Fatal("a whole of other bytes")
			}
			if len(script)%6 == 0 { // the end of a turn
				for owed, ok := r.NextStatus(); ok; owed, ok = r.NextStatus() {
					if owed.Status.Grant > total+stride || owed.Status.Have > max(owed.Status.Grant, total) {
						t.Fatalf("%+v", owed)
					}
				}
			}
			promised := 0
			for i := range r.slots {
				if s := &r.slots[i]; s.used {
					promised += s.due()
				}
			}
			if r.Bytes() > 4*total || promised != r.promised || promised > max(r.Buffer, 4*4*charged(stride*2)) || len(r.waiting) > 16 {
				t.Fatalf("%d bytes set aside, %d granted (counted %d), %d wait", r.Bytes(), promised, r.promised, len(r.waiting))
			}
		}
	})
}

// FuzzFragmenter: whatever statuses come, it neither panics nor has more on its way than its window, nor sends what was not
// granted, and a status that says done ends a message. A script is statuses: message, have, flags and grant, bitmap (4 bytes), time.
func FuzzFragmenter(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 255, 1, 0, 0, 9})
	f.Add([]byte{1, 4, 30, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 4, 30, 0, 0, 0, 0, 200, 1, 8, 191, 255, 0, 0, 0, 9}) // refused, then not
	f.Fuzz(func(t *testing.T, script []byte) {
		g := NewFragmenter(FragmenterOptions{Boot: 9, Limit: SafeDatagram, Window: 16 << 10})
		p := Packer{Limit: SafeDatagram}
		payload := make([]byte, 100_000)
		g.Add(0, 1, KindRequest, payload)
		g.Add(0, 2, KindReply, payload[:5000])
		granted := map[uint64]int{}
		for now := int64(0); len(script) >= 8; script = script[8:] {
			now += int64(script[7]) * 1e5
			p.Reset()
			g.Pack(now, &p)
			s := FragmentStatus{Message: uint64(script[0] % 4), EchoBoot: 9, Have: uint32(script[1]) * uint32(g.stride), Done: script[2] == 7,
				Grant: uint32(script[2]%64) * 1000, Overflows: uint32(script[2] / 128), Latest: uint32(script[3]) << script[4]}
			if script[2] == 9 {
				s.Have++
			}
			copy(s.Bitmap[:], script[3:7])
			had := g.Has(s.Message)
			if g.Status(now, &s) != (had && s.Done) {
				t.Fatalf("%+v", s)
			}
			if g.out < 0 || g.out*g.stride > 16<<10 || g.pace.Window > 16<<10 {
				t.Fatalf("%d pieces on their way, window %d", g.out, g.pace.Window)
			}
			granted[s.Message] = max(granted[s.Message], (int(s.Grant)+g.stride-1)/g.stride, int(s.Have)/g.stride)
			flying := 0
			for _, m := range g.messages {
				if m.base < 0 || m.base > m.next || m.next > m.count || m.high > max(unscheduled, granted[m.id]) {
					t.Fatalf("message %d of %d pieces: %d to %d are under way, %d were sent, granted %d", m.id, m.count, m.base, m.next, m.high, granted[m.id])
				}
				for i := m.base; i < m.next; i++ {
					if p := &m.ring[i%ringPieces]; !p.held && !p.lost {
						flying++
					}
				}
			}
			if flying != g.out || g.Busy() > 0 && g.Deadline() < 0 {
				t.Fatalf("%d pieces are on their way, counted %d; deadline %d", flying, g.out, g.Deadline())
			}
		}
	})
}
