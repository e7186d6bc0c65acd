package wire

import (
	"errors"
	"net/netip"
	"testing"
)

// A server takes every version of its range, and no other; 0 is no version in any.
func TestEveryVersionOfTheRangeIsTaken(t *testing.T) {
	for _, c := range []struct {
		spoken Versions
		taken  []uint8
		text   string
	}{
		{Versions{1, 1}, []uint8{1}, "version 1"},
		{Versions{1, 2}, []uint8{1, 2}, "versions 1 to 2"},
		{Versions{2, 3}, []uint8{2, 3}, "versions 2 to 3"},
		{Versions{254, 255}, []uint8{254, 255}, "versions 254 to 255"},
	} {
		taken := map[uint8]bool{}
		for _, v := range c.taken {
			taken[v] = true
		}
		for v := range 256 {
			if got := c.spoken.Take(uint8(v)); got != taken[uint8(v)] {
				t.Errorf("%v takes %d: %v", c.spoken, v, got)
			}
		}
		if c.spoken.String() != c.text {
			t.Errorf("%q, want %q", c.spoken, c.text)
		}
	}
	if s := Spoken(); s.Newest != Version || s.Newest-s.Oldest > 1 || s.Oldest == 0 {
		t.Errorf("we speak %v: want the newest version, and at most the one before", s)
	}
}

// Whatever its version, a datagram is opened, or known as another version's and answered with both ends of what is
// spoken here, before anything else of it is looked at.
func TestEveryOtherVersionIsToldWhatIsSpokenHere(t *testing.T) {
	p := Packer{Limit: SafeDatagram, Header: Header{Src: ClientNode, Dst: 2, Incarnation: 3, Boot: 4}}
	h := Hello{Nonce: 1}
	h.Encode(p.Frame(KindHello, h.Size()))
	question := p.Flush(netip.AddrPort{}, nil)[0].Bytes
	for v := range 256 {
		question[2] = uint8(v)
		_, err := Peek(question)
		switch {
		case Spoken().Take(uint8(v)):
			if err != nil {
				t.Errorf("version %d: %v", v, err)
			}
			continue
		case v == mismatchVersion:
			if !errors.Is(err, ErrMismatch) {
				t.Errorf("version 0: %v, want ErrMismatch", err)
			}
			continue
		}
		if !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: %v, want ErrVersion", v, err)
		}
		var m Mismatch
		if err := m.Decode(AppendMismatch(nil, question)); err != nil || m != (Mismatch{Speaks: Spoken(), Asked: uint8(v)}) {
			t.Errorf("version %d is answered %+v, %v", v, m, err)
		}
	}
}

// A range that no release can have is nobody's word.
func TestAMismatchTellsARange(t *testing.T) {
	for _, v := range []Versions{{0, 1}, {2, 1}, {0, 0}} {
		m := Mismatch{Speaks: v, Asked: 9}
		var got Mismatch
		if err := got.Decode(encode(&m)); !errors.Is(err, ErrValue) {
			t.Errorf("%+v: %v, want ErrValue", v, err)
		}
	}
}

// What a later version adds to a frame is not for us: a byte behind it, or in what is zero, refuses that frame. A frame
// of a kind that we have no name for is walked over. Neither does any harm to the frames beside it.
func TestWhatIsNotOfThisVersionLeavesTheOtherFrames(t *testing.T) {
	for kind := range 256 {
		if kind == 0 || Kind(kind).Known() {
			continue
		}
		for _, size := range []int{0, 1, 8, 333} {
			p := Packer{Limit: SafeDatagram}
			clear(p.Frame(KindVote, voteBytes))
			for i := range p.Frame(Kind(kind), size) {
				p.slabs[0][p.open-pad8(size)+i] = 0xa5
			}
			clear(p.Frame(KindVote, voteBytes+8))
			clear(p.Frame(KindStatus, statusBytes))
			_, frames, err := Open(p.Flush(netip.AddrPort{}, nil)[0].Bytes)
			if err != nil {
				t.Fatal(err)
			}
			var v Vote
			for i, want := range []Kind{KindVote, Kind(kind), KindVote, KindStatus} {
				k, payload, ok := frames.Next()
				if !ok || k != want {
					t.Fatalf("kind %d of %d bytes: frame %d is %v, want %v", kind, size, i, k, want)
				}
				if err := v.Decode(payload); k == KindVote && (err == nil) != (i == 0) {
					t.Errorf("a vote of %d bytes: %v", len(payload), err)
				}
			}
			if _, _, ok := frames.Next(); ok || frames.Err() != nil {
				t.Errorf("kind %d of %d bytes: %v", kind, size, frames.Err())
			}
		}
	}
}

// Bytes behind the end of a frame of a fixed size, and behind what a frame's lengths say, are refused: a layout grows by a new
// version, or by another kind.
func TestNoFrameTakesTrailingBytes(t *testing.T) {
	open := map[string]bool{ // all that follows is theirs: a list, entries, opaque bytes, zeros of any number
		"append": true, "heartbeat": true, "join": true, "found-ask": true, "found-answer": true, "found-answer-blank": true, "found-list": true,
		"hello": true, "request": true, "reply": true, "member": true, "path-ask": true, "path-echo": true, "path-probe": true,
	}
	for _, s := range samples() {
		if open[s.name] {
			continue
		}
		if err := s.fresh().Decode(append(encode(s.frame), make([]byte, 8)...)); err == nil {
			t.Errorf("%s: eight bytes more are taken", s.name)
		}
	}
}
