package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// incast is many senders and one receiver, whose socket has a bounded buffer and drops what
// finds no room, under virtual time. Every step it takes one batch, as a loop does.
type incast struct {
	now       int64
	payload   []byte
	senders   []*Fragmenter
	packers   []Packer
	reass     *Reassembler
	buffer    int // bytes that the socket may be charged with
	charged   int
	queue     [][]byte
	coming    [][]byte // sent in this step
	statuses  []FragmentOwed
	arrived   map[uint16]bool
	sent      int // bytes
	overflown uint32
	loss      float64
	rng       *rand.Rand
}

const (
	incastStep  = int64(50e3) // ns: half a round trip
	incastBatch = 64          // datagrams that the receiver takes in a step
)

// charge is what a kernel charges a buffer for a datagram.
func charge(b []byte) int { return 2*len(b) + 512 }

func newIncast(n, size, buffer int) *incast {
	c := &incast{rng: rand.New(rand.NewPCG(4, uint64(n))), payload: randomBytes(3, size), buffer: buffer, arrived: map[uint16]bool{}, reass: NewReassembler(64<<20, 64)}
	c.reass.Buffer = buffer / 2
	for i := range n {
		c.senders = append(c.senders, NewFragmenter(FragmenterOptions{Boot: rigBoot, GiveUp: 60e9}))
		c.packers = append(c.packers, Packer{Limit: SafeDatagram, Header: Header{Src: uint16(i + 1), Boot: rigBoot}})
		c.senders[i].Add(0, 1, KindRequest, c.payload)
	}
	return c
}

func (c *incast) step(t *testing.T) (busy int) {
	for i, f := range c.senders {
		if f.Busy() == 0 {
			continue
		}
		busy++
		if f.Deadline() > c.now {
			continue
		}
		p := &c.packers[i]
		f.Pack(c.now, p)
		for _, d := range p.Flush(netip.AddrPort{}, nil) {
			c.sent += len(d.Bytes)
			c.coming = append(c.coming, bytes.Clone(d.Bytes))
		}
		p.Reset()
	}
	c.now += incastStep
	for _, b := range c.coming {
		if c.rng.Float64() < c.loss {
			continue
		}
		if c.charged+charge(b) > c.buffer {
			c.overflown++
			continue
		}
		c.charged += charge(b)
		c.queue = append(c.queue, b)
	}
	c.coming = c.coming[:0]
	c.receive(t)
	c.now += incastStep
	for _, o := range c.statuses {
		if c.rng.Float64() < c.loss {
			continue
		}
		c.senders[o.To.Src-1].Status(c.now, &o.Status)
	}
	c.statuses = c.statuses[:0]
	return busy
}

func (c *incast) receive(t *testing.T) {
	c.reass.Overflows = c.overflown
	for _, b := range c.queue[:min(incastBatch, len(c.queue))] {
		c.charged -= charge(b)
		h, frames, err := Open(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, p, ok := frames.Next(); ok; _, p, ok = frames.Next() {
			var g Fragment
			if err := g.Decode(p); err != nil {
				t.Fatal(err)
			}
			w, whole, _ := c.reass.Add(c.now, &h, &g)
			if whole && (c.arrived[h.Src] || !bytes.Equal(w.Payload, c.payload)) {
				t.Fatalf("the message of %d came twice, or as other bytes", h.Src)
			}
			if whole {
				c.arrived[h.Src] = true
			}
		}
	}
	c.queue = c.queue[min(incastBatch, len(c.queue)):]
	for o, ok := c.reass.NextStatus(); ok; o, ok = c.reass.NextStatus() {
		c.statuses = append(c.statuses, o)
	}
}

// However many send at once, the receiver's buffer is not what decides how often.
func TestIncastDoesNotCollapse(t *testing.T) {
	const size = 1 << 20
	for _, n := range []int{1, 64, 512} {
		t.Run(fmt.Sprintf("%d senders", n), func(t *testing.T) {
			c := newIncast(n, size, 8<<20)
			for c.step(t) > 0 && c.now < 30e9 {
			}
			times := float64(c.sent) / float64(n*size)
			t.Logf("%d of %d arrived after %.1f s; %.2f times the payload was sent, %d datagrams found no room", len(c.arrived), n, float64(c.now)/1e9, times, c.overflown)
			if len(c.arrived) != n || times > 1.5 {
				t.Errorf("%d of %d arrived, %.2f times the payload was sent", len(c.arrived), n, times)
			}
		})
	}
}

// Loss on the way makes it slower, and nobody stands still.
func TestIncastOverALossyLink(t *testing.T) {
	c := newIncast(64, 256<<10, 8<<20)
	c.loss = 0.3
	for c.step(t) > 0 && c.now < 60e9 {
	}
	times := float64(c.sent) / float64(64*256<<10)
	t.Logf("%d arrived after %.1f s, %.2f times the payload was sent", len(c.arrived), float64(c.now)/1e9, times)
	if len(c.arrived) != 64 || times > 2.5 {
		t.Errorf("%d of 64 arrived, %.2f times the payload was sent", len(c.arrived), times)
	}
}

// What is granted at once to all never fills more than half of the socket's buffer.
func TestGrantsFillHalfOfTheBufferAtMost(t *testing.T) {
	const n = 4
	c := newIncast(n, 1<<20, 400<<10)
	most := 0
	for c.step(t) > 0 && c.now < 60e9 {
		most = max(most, c.reass.promised)
		due := 0
		for i := range c.reass.slots {
			if s := &c.reass.slots[i]; s.used {
				due += s.due()
			}
		}
		if due != c.reass.promised || due > c.buffer/2 {
			t.Fatalf("%d bytes are granted (counted %d), of a buffer of %d", due, c.reass.promised, c.buffer)
		}
	}
	if len(c.arrived) != n || c.overflown > 0 || most < c.buffer/4 {
		t.Errorf("%d of %d arrived, %d datagrams found no room, at most %d bytes were granted at once", len(c.arrived), n, c.overflown, most)
	}
}

// Nothing leaves beyond the first pieces without a grant, and nothing but a probe without a place.
func TestASenderKeepsToItsGrant(t *testing.T) {
	f := NewFragmenter(FragmenterOptions{Boot: 1})
	p := Packer{Limit: SafeDatagram}
	pack := func(now int64) (n int) {
		f.Pack(now, &p)
		n = len(p.Flush(netip.AddrPort{}, nil))
		p.Reset()
		return n
	}
	f.Add(0, 1, KindRequest, make([]byte, 100*f.stride))
	if n := pack(0); n != unscheduled {
		t.Fatalf("%d pieces left before any grant", n)
	}
	at := func(pieces int) uint32 { return uint32(pieces * f.stride) }
	f.Status(1e5, &FragmentStatus{Message: 1, EchoBoot: 1, Have: at(16), Grant: at(20)})
	if n := pack(1e5); n != 4 {
		t.Fatalf("%d pieces left, granted 4", n)
	}
	f.Status(2e5, &FragmentStatus{Message: 1, EchoBoot: 1, Have: at(20), Grant: at(20)})
	if n := pack(2e5); n != 0 {
		t.Fatalf("%d pieces left, granted none", n)
	}
	last := int64(0)
	for range 4 { // it asks, ever more seldom
		due := f.Deadline()
		if due <= 2e5 || due-last < last/2 || pack(due) != 1 {
			t.Fatalf("no probe, or an early one, at %d (the last at %d)", due, last)
		}
		last = due
	}
	f.Status(last+1, &FragmentStatus{Message: 1, EchoBoot: 1}) // the receiver has forgotten it
	if n := pack(last + 1); n != 0 || f.out != 0 {
		t.Fatalf("%d pieces left, %d are on their way, and there is no place", n, f.out)
	}
	if n := pack(f.Deadline()); n != 1 {
		t.Fatalf("%d pieces left as a probe", n)
	}
	f.Status(last+1e9, &FragmentStatus{Message: 1, EchoBoot: 1, Have: at(1), Grant: at(10)})
	if n := pack(last + 1e9); n != 9 {
		t.Fatalf("%d pieces left, granted 9 beyond the first", n)
	}
}

// Who finds no place is told so, and is told again, first come first served, when there is one.
func TestWhoFindsNoPlaceIsToldAndServedLater(t *testing.T) {
	r := NewReassembler(2*2*MinStride, 2)
	told := func() (all []FragmentOwed) {
		for o, ok := r.NextStatus(); ok; o, ok = r.NextStatus() {
			all = append(all, o)
		}
		return all
	}
	for src := range uint16(4) {
		_, _, _ = r.Add(0, &Header{Src: src + 1, Boot: 1}, twoPieces(1, 0, 'a'))
	}
	grants := map[uint16]uint32{}
	for _, o := range told() {
		grants[o.To.Src] = o.Status.Grant
	}
	if len(grants) != 4 || grants[1] != 2*MinStride || grants[2] != 2*MinStride || grants[3] != 0 || grants[4] != 0 {
		t.Fatalf("granted %v", grants)
	}
	if _, whole, err := r.Add(1, &Header{Src: 2, Boot: 1}, twoPieces(1, 1, 'a')); !whole || err != nil {
		t.Fatal(whole, err)
	}
	all := told()
	if len(all) != 2 || !all[0].Status.Done || all[1].To.Src != 3 || all[1].Status.Grant != 2*MinStride || all[1].Status.Have != 0 {
		t.Fatalf("told %+v", all)
	}
	if r.Bytes() != 2*2*MinStride {
		t.Errorf("%d bytes set aside: a grant is memory", r.Bytes())
	}
	_, _, _ = r.Add(slotExpiry+1, &Header{Src: 9, Boot: 1}, twoPieces(1, 0, 'a')) // all others are gone
	if all := told(); len(all) != 1 || all[0].To.Src != 9 {
		t.Errorf("told %+v", all)
	}
}

// A rise of the receiver's count of overflows halves the window, once in a round trip.
func TestAReportedOverflowHalvesTheWindow(t *testing.T) {
	f := NewFragmenter(FragmenterOptions{Boot: 1})
	p := Packer{Limit: SafeDatagram}
	f.Add(0, 1, KindRequest, make([]byte, 4000*f.stride))
	status := func(now int64, overflows uint32) {
		f.Status(now, &FragmentStatus{Message: 1, EchoBoot: 1, Have: uint32(f.messages[0].next * f.stride), Latest: uint32((f.messages[0].next - 1) * f.stride), Grant: 4000 * uint32(f.stride), Overflows: overflows})
		f.Pack(now, &p)
		p.Reset()
	}
	f.Pack(0, &p)
	now := int64(0)
	for range 12 {
		now += 100e3
		status(now, 5)
	}
	before := f.pace.Window
	status(now+100e3, 6)
	if before <= 16*f.stride || f.pace.Window != before/2 {
		t.Fatalf("the window was %d before an overflow, and %d after", before, f.pace.Window)
	}
	status(now+200e3, 6)
	if f.pace.Window <= before/2 {
		t.Errorf("the window stays at %d: one overflow was counted twice", f.pace.Window)
	}
}
