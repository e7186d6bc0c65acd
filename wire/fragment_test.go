package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// rig joins a Fragmenter and a Reassembler over a link that loses, repeats and reorders.
type rig struct {
	rng     *rand.Rand
	loss    float64
	now     int64
	frag    *Fragmenter
	reass   *Reassembler
	out     Packer
	back    Packer
	heap    []flight // unordered; the earliest is looked for
	wholes  []Whole
	packets int
}

type flight struct {
	at     int64
	toward bool // the receiver
	bytes  []byte
}

const rigBoot = 55

func newRig(seed uint64, loss float64, limit int) *rig {
	return &rig{
		rng: rand.New(rand.NewPCG(seed, 1)), loss: loss,
		frag:  NewFragmenter(FragmenterOptions{Boot: rigBoot, Limit: limit, GiveUp: 60e9}),
		reass: NewReassembler(24<<20, 8),
		out:   Packer{Limit: limit, Header: Header{Src: ClientNode, Dst: 1, Incarnation: 7, Boot: rigBoot}},
		back:  Packer{Limit: limit, Header: Header{Src: 1, Dst: ClientNode, Incarnation: 8, Boot: 9}},
	}
}

func (r *rig) fly(p *Packer, toward bool) {
	for _, d := range p.Flush(netip.AddrPort{}, nil) {
		r.packets++
		for range 1 + r.rng.IntN(8)/7 { // one in eight twice
			if r.rng.Float64() >= r.loss {
				r.heap = append(r.heap, flight{r.now + 50e3 + r.rng.Int64N(400e3), toward, bytes.Clone(d.Bytes)})
			}
		}
	}
	p.Reset()
}

// run goes on until all is delivered; it fails when that takes too long.
func (r *rig) run(t *testing.T) {
	t.Helper()
	for steps := 0; r.frag.Busy() > 0 || len(r.heap) > 0; steps++ {
		if steps > 500_000 {
			t.Fatalf("not over after %d steps, %d busy", steps, r.frag.Busy())
		}
		r.frag.Pack(r.now, &r.out)
		r.fly(&r.out, true)
		next := -1
		for i := range r.heap {
			if next < 0 || r.heap[i].at < r.heap[next].at {
				next = i
			}
		}
		if due := r.frag.Deadline(); next < 0 || due < r.heap[next].at {
			if r.frag.Busy() > 0 {
				r.now = max(r.now, due)
			}
			continue
		}
		f := r.heap[next]
		r.heap[next] = r.heap[len(r.heap)-1]
		r.heap = r.heap[:len(r.heap)-1]
		r.now = max(r.now, f.at)
		r.deliver(t, f)
	}
}

func (r *rig) deliver(t *testing.T, f flight) {
	h, frames, err := Open(f.bytes)
	if err != nil {
		t.Fatal(err)
	}
	for {
		k, p, ok := frames.Next()
		if !ok {
			break
		}
		switch k {
		case KindFragment:
			var g Fragment
			if err := g.Decode(p); err != nil {
				t.Fatal(err)
			}
			w, whole, err := r.reass.Add(r.now, &h, &g)
			if err != nil && !errors.Is(err, ErrRoom) {
				t.Fatal(err)
			}
			if whole {
				w.Payload = bytes.Clone(w.Payload)
				r.wholes = append(r.wholes, w)
			}
		case KindFragmentStatus:
			var s FragmentStatus
			if err := s.Decode(p); err != nil {
				t.Fatal(err)
			}
			r.frag.Status(r.now, &s)
		}
	}
	for {
		o, ok := r.reass.NextStatus()
		if !ok {
			break
		}
		if o.To != (Sender{ClientNode, 7, rigBoot}) {
			t.Fatalf("a status for %+v", o.To)
		}
		o.Status.Encode(r.back.Frame(KindFragmentStatus, o.Status.Size()))
	}
	r.fly(&r.back, false)
}

func randomBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestMessagesArriveOnceAndWholeOverABadLink(t *testing.T) {
	sizes := []int{1, 255, 1096, 5_000, 70_000, 300_000}
	for seed := range uint64(12) {
		for _, limit := range []int{MinDatagram, SafeDatagram, MaxDatagram} {
			loss := []float64{0, 0.05, 0.3}[seed%3]
			t.Run(fmt.Sprintf("seed %d limit %d loss %v", seed, limit, loss), func(t *testing.T) {
				r := newRig(seed, loss, limit)
				for i, n := range sizes {
					r.frag.Add(r.now, uint64(i+1), KindRequest, randomBytes(uint64(i), n))
				}
				r.run(t)
				if r.frag.Dropped() != 0 || len(r.wholes) != len(sizes) {
					t.Fatalf("%d of %d arrived, %d dropped", len(r.wholes), len(sizes), r.frag.Dropped())
				}
				for _, w := range r.wholes {
					if i := int(w.Message) - 1; !bytes.Equal(w.Payload, randomBytes(uint64(i), sizes[i])) {
						t.Errorf("message %d came out as other bytes", w.Message)
					}
				}
				if r.frag.out != 0 || r.reass.Bytes() != 0 {
					t.Errorf("left over: %d pieces out, %d bytes set aside", r.frag.out, r.reass.Bytes())
				}
			})
		}
	}
}

func TestResendIsSelective(t *testing.T) {
	r := newRig(1, 0.1, SafeDatagram)
	message := randomBytes(1, 1<<20)
	r.frag.Add(0, 1, KindRequest, message)
	r.run(t)
	pieces := len(message)/r.frag.stride + 1
	if r.frag.order > uint64(2*pieces) {
		t.Errorf("%d pieces were sent for %d at a loss of a tenth", r.frag.order, pieces)
	}
}

func TestTheWindowBoundsWhatIsOut(t *testing.T) {
	for _, limit := range []int{SafeDatagram, MaxDatagram} {
		f := NewFragmenter(FragmenterOptions{Limit: limit})
		p := Packer{Limit: limit}
		for id := range uint64(5) {
			f.Add(0, id+1, KindRequest, make([]byte, MaxMessage))
		}
		f.Pack(0, &p)
		total := 0
		for _, d := range p.Flush(netip.AddrPort{}, nil) {
			total += len(d.Bytes)
		}
		if total == 0 || total > 600<<10 {
			t.Errorf("limit %d: %d bytes left at once", limit, total)
		}
	}
}

func TestAMessageWithoutAnswersIsGivenUp(t *testing.T) {
	f := NewFragmenter(FragmenterOptions{GiveUp: 1e9})
	p := Packer{Limit: SafeDatagram}
	f.Add(0, 1, KindRequest, make([]byte, 3000))
	sends := 0
	for now := int64(0); f.Busy() > 0; {
		f.Pack(now, &p)
		sends += len(p.Flush(netip.AddrPort{}, nil))
		p.Reset()
		if due := f.Deadline(); f.Busy() > 0 && due <= now {
			t.Fatalf("nothing to do at %d, yet the deadline is %d", now, due)
		} else {
			now = due
		}
	}
	if f.Dropped() != 1 || sends < 6 || sends > 60 {
		t.Errorf("%d dropped after %d datagrams", f.Dropped(), sends)
	}
}

func twoPieces(message uint64, n uint32, fill byte) *Fragment {
	return &Fragment{Message: message, Kind: KindRequest, Total: 2 * MinStride, Stride: MinStride, Offset: n * MinStride, Body: bytes.Repeat([]byte{fill}, MinStride)}
}

// Ids begin anew with each boot: what an earlier process left half sent must not be
// finished with pieces of the next one.
func TestPiecesOfTwoBootsNeverMix(t *testing.T) {
	r := NewReassembler(1<<20, 8)
	old, young := Header{Src: 3, Incarnation: 4, Boot: 1}, Header{Src: 3, Incarnation: 4, Boot: 2}
	if _, whole, err := r.Add(0, &old, twoPieces(1, 0, 'o')); whole || err != nil {
		t.Fatal(whole, err)
	}
	if _, whole, err := r.Add(1, &young, twoPieces(1, 1, 'y')); whole || err != nil {
		t.Fatalf("pieces of two boots made a whole (%v, %v)", whole, err)
	}
	w, whole, err := r.Add(2, &young, twoPieces(1, 0, 'y'))
	if err != nil || !whole || w.From.Boot != 2 || !bytes.Equal(w.Payload, bytes.Repeat([]byte{'y'}, 2*MinStride)) {
		t.Fatalf("whole %v, %v: %q", whole, err, w.Payload)
	}
	// The same for other processes: another id, another incarnation.
	for _, h := range []Header{{Src: 5, Incarnation: 4, Boot: 1}, {Src: 3, Incarnation: 5, Boot: 1}} {
		if _, whole, _ := r.Add(3, &h, twoPieces(1, 1, 'x')); whole {
			t.Errorf("pieces of two senders made a whole: %+v", h)
		}
	}
	// A finished message of one boot says nothing of the other's.
	if w, whole, _ := r.Add(4, &old, twoPieces(1, 1, 'o')); !whole || w.Payload[0] != 'o' || w.Payload[MinStride] != 'o' {
		t.Error("the earlier boot's message was lost")
	}
}

func TestAStatusOfAnotherBootCountsForNothing(t *testing.T) {
	f := NewFragmenter(FragmenterOptions{Boot: 2})
	f.Add(0, 1, KindRequest, make([]byte, 3000))
	p := Packer{Limit: SafeDatagram}
	f.Pack(0, &p)
	if f.Status(1, &FragmentStatus{Message: 1, EchoBoot: 1, Done: true}) || !f.Has(1) {
		t.Error("an answer to an earlier boot ended a message of this one")
	}
	if !f.Status(1, &FragmentStatus{Message: 1, EchoBoot: 2, Done: true}) || f.Has(1) {
		t.Error("its own answer did not")
	}
}

func TestOverlappingAndContradictoryFragmentsAreRefused(t *testing.T) {
	for what, spoil := range map[string]func(f *Fragment){
		"off its stride":   func(f *Fragment) { f.Offset = 8 },
		"too long":         func(f *Fragment) { f.Body = append(f.Body, 1) },
		"too short":        func(f *Fragment) { f.Body = f.Body[1:] },
		"past the end":     func(f *Fragment) { f.Offset = 2 * MinStride },
		"an empty message": func(f *Fragment) { f.Total, f.Body = 0, nil },
		"too large":        func(f *Fragment) { f.Total = MaxMessage + 1 },
		"short strides":    func(f *Fragment) { f.Stride, f.Offset, f.Body = 8, 8, f.Body[:8] },
		"nested":           func(f *Fragment) { f.Kind = KindFragment },
	} {
		g := twoPieces(1, 0, 'a')
		spoil(g)
		if err := new(Fragment).Decode(encode(g)); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v, want ErrValue", what, err)
		}
	}
	for what, spoil := range map[string]func(f *Fragment){
		"other bytes":  func(f *Fragment) { f.Body[5] ^= 1 },
		"other total":  func(f *Fragment) { f.Total += MinStride },
		"other kind":   func(f *Fragment) { f.Kind = KindReply },
		"other stride": func(f *Fragment) { f.Stride, f.Body = 2*MinStride, bytes.Repeat([]byte{'a'}, 2*MinStride) },
	} {
		r := NewReassembler(1<<20, 4)
		h := Header{Src: 3, Boot: 1}
		if _, _, err := r.Add(0, &h, twoPieces(1, 0, 'a')); err != nil {
			t.Fatal(err)
		}
		g := twoPieces(1, 0, 'a')
		spoil(g)
		if err := new(Fragment).Decode(encode(g)); err != nil {
			t.Fatalf("%s: not well-formed: %v", what, err)
		}
		if _, whole, err := r.Add(1, &h, g); whole || !errors.Is(err, ErrContradiction) {
			t.Errorf("%s: %v, %v, want ErrContradiction", what, whole, err)
		}
		if w, whole, err := r.Add(2, &h, twoPieces(1, 1, 'a')); !whole || err != nil || !bytes.Equal(w.Payload, bytes.Repeat([]byte{'a'}, 2*MinStride)) {
			t.Errorf("%s: what came first was spoiled: %v, %v", what, whole, err)
		}
	}
}

func TestALateDuplicateOfAFinishedMessageIsAnsweredDone(t *testing.T) {
	r := NewReassembler(1<<20, 4)
	h := Header{Src: 3, Boot: 1}
	for n := range uint32(2) {
		_, _, err := r.Add(0, &h, twoPieces(1, n, 'a'))
		if err != nil {
			t.Fatal(err)
		}
	}
	if o, ok := r.NextStatus(); !ok || !o.Status.Done || o.Status.EchoBoot != 1 {
		t.Fatalf("status %+v, %v", o, ok)
	}
	for range 3 {
		if _, whole, err := r.Add(5e9, &h, twoPieces(1, 0, 'a')); whole || err != nil {
			t.Fatalf("a finished message began again: %v, %v", whole, err)
		}
	}
	if o, ok := r.NextStatus(); !ok || !o.Status.Done || o.Status.Message != 1 {
		t.Fatalf("status %+v, %v", o, ok)
	}
	if o, ok := r.NextStatus(); ok {
		t.Fatalf("three duplicates in a turn, and a second status: %+v", o)
	}
	if r.Bytes() != 0 {
		t.Errorf("%d bytes set aside", r.Bytes())
	}
}

func TestReassemblyIsBoundedAndExpires(t *testing.T) {
	r := NewReassembler(3*2*MinStride, 8)
	a, b := Header{Src: 3, Boot: 1}, Header{Src: 4, Boot: 1}
	add := func(now int64, h *Header, id uint64) error {
		_, _, err := r.Add(now, h, twoPieces(id, 0, 'a'))
		return err
	}
	if err := add(0, &a, 1); err != nil {
		t.Fatal(err)
	}
	if err := add(0, &a, 2); !errors.Is(err, ErrRoom) {
		t.Errorf("one sender takes more than half: %v", err)
	}
	if err := add(0, &b, 1); err != nil {
		t.Errorf("another sender is kept out: %v", err)
	}
	for i := range uint16(9) {
		_ = add(0, &Header{Src: 10 + i, Boot: 1}, 1)
		if r.Bytes() > 3*2*MinStride {
			t.Fatalf("%d bytes set aside", r.Bytes())
		}
	}
	if err := add(slotExpiry, &a, 3); err != nil || r.Bytes() != 2*MinStride {
		t.Errorf("what expired did not make room: %v, %d bytes", err, r.Bytes())
	}
	if r.Deadline() != 2*slotExpiry {
		t.Errorf("deadline %d", r.Deadline())
	}
	for id := range uint64(1000) { // what is remembered is bounded, too
		for n := range uint32(2) {
			if _, _, err := r.Add(2*slotExpiry, &b, twoPieces(100+id, n, 'z')); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.done) > len(r.ring) || len(r.index) > 1 {
		t.Errorf("%d finished messages remembered, %d open", len(r.done), len(r.index))
	}
}

// What was handed out stays as it is until its reader says so; then its memory serves again.
func TestAPayloadIsReusedOnlyWhenItsReaderSaysSo(t *testing.T) {
	r := NewReassembler(1<<20, 8)
	h := Header{Src: 3, Boot: 1}
	put := func(id uint64, fill byte) []byte {
		t.Helper()
		if _, _, err := r.Add(0, &h, twoPieces(id, 0, fill)); err != nil {
			t.Fatal(err)
		}
		w, whole, err := r.Add(0, &h, twoPieces(id, 1, fill))
		if err != nil || !whole {
			t.Fatal(whole, err)
		}
		return w.Payload
	}
	a, b := put(1, 'a'), put(2, 'b')
	if a[0] != 'a' || b[0] != 'b' {
		t.Errorf("got %q and %q", a[0], b[0])
	}
	r.Reuse()
	if c := put(3, 'c'); &c[0] != &b[0] || a[0] != 'a' {
		t.Error("what nobody looks at any more is not used again, or what may still be is")
	}
}
