package bulk

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"balsa/wire"
	"balsa/wire/fault"
)

var size = flag.Int64("bulk.size", 32<<20, "bytes that cross the simulated link; the tables in docs are of 1 GiB")

// noise is a source of so many bytes that no two pieces of are alike.
type noise int64

func (n noise) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := uint64(off) + uint64(i)
		if i%8 == 0 {
			at *= 0x9e3779b97f4a7c15
		}
		p[i] = byte(at >> 13)
	}
	return len(p), nil
}

// lab is a sender and a receiver, and a link each way under virtual time.
type lab struct {
	t         testing.TB
	total     uint64
	sender    *Sender
	receiver  *Receiver
	boot      uint64
	there     fault.Link
	back      fault.Link
	rng       *rand.Rand
	now       int64
	parts     fault.Line[[]byte]
	acks      fault.Line[wire.BulkAck]
	packer    wire.Packer
	packets   []wire.Packet
	spare     [][]byte
	written   map[uint32]int
	check     []byte
	spoil     func(*wire.Bulk)        // of a test: what happens to a part on its way, under a right checksum
	writeFail func(piece uint32) bool // of a test
	stop      func() bool             // of a test: run ends
}

func newLab(t testing.TB, total int64, link fault.Link) *lab {
	l := &lab{t: t, total: uint64(total), there: link, back: link, rng: rand.New(rand.NewPCG(1, 2)), now: 1, written: map[uint32]int{}}
	l.receiver = NewReceiver(ReceiverOptions{Transfer: 7, Total: l.total})
	l.startSender(wire.SafeDatagram)
	return l
}

// startSender begins with another process; what is on its way is lost.
func (l *lab) startSender(limit int) {
	l.boot++
	l.sender = NewSender(SenderOptions{Transfer: 7, Boot: l.boot, Total: l.total, Limit: limit, Source: noise(l.total)})
	l.packer = wire.Packer{Limit: limit, Header: wire.Header{Src: 1, Dst: 2, Boot: l.boot}}
}

func (l *lab) startReceiver(have Progress) {
	l.receiver = NewReceiver(ReceiverOptions{Transfer: 7, Total: l.total, Have: have})
}

// run goes on until all is there; it gives the bytes per second of virtual time.
func (l *lab) run(most int64) float64 {
	l.t.Helper()
	began, first := l.now, l.receiver.Progress().Floor
	for !l.sender.Done() && (l.stop == nil || !l.stop()) {
		if l.now-began > most {
			l.t.Fatalf("not done after %d s: floor %d of %d, window %d, flying %d", most/1e9, l.receiver.have.Floor, l.sender.pieces, l.sender.pace.Window, l.sender.flying)
		}
		l.step()
	}
	return float64(l.receiver.Progress().Floor-first) * wire.BulkPieceBytes / (float64(l.now-began) / 1e9)
}

func (l *lab) step() {
	for {
		b, _, ok := l.parts.Take(l.now)
		if !ok {
			break
		}
		l.receive(b)
		l.spare = append(l.spare, b)
	}
	for {
		piece, off, b, ok := l.receiver.Whole()
		if !ok {
			break
		}
		l.check = slices.Grow(l.check[:0], len(b))[:len(b)]
		noise(l.total).ReadAt(l.check, off)
		if !bytes.Equal(b, l.check) {
			l.t.Fatalf("piece %d is not what was sent", piece)
		}
		failed := l.writeFail != nil && l.writeFail(piece)
		if !failed {
			l.written[piece]++
		}
		l.receiver.Written(l.now, piece, failed)
	}
	if a, ok := l.receiver.Ack(l.now); ok {
		if arrivals, _ := l.back.Carry(l.rng, l.now, 160); len(arrivals) > 0 {
			for _, d := range slices.Clone(arrivals) {
				l.acks.Add(l.now+d.Delay, a)
			}
		}
	}
	for {
		a, _, ok := l.acks.Take(l.now)
		if !ok {
			break
		}
		l.sender.Ack(l.now, &a)
	}
	l.send()
	next := min(l.parts.Next(), l.acks.Next(), l.sender.Deadline(), l.receiver.Deadline())
	if next == never {
		return // over
	}
	if next <= l.now { // more than a turn's worth is due
		next = l.now + 1000
	}
	l.now = next
}

func (l *lab) send() {
	l.packer.Reset()
	if _, err := l.sender.Pack(l.now, &l.packer); err != nil {
		l.t.Fatal(err)
	}
	l.packets = l.packer.Flush(netip.AddrPort{}, l.packets[:0])
	for _, p := range l.packets {
		arrivals, _ := l.there.Carry(l.rng, l.now, len(p.Bytes))
		for _, d := range arrivals {
			var b []byte
			if n := len(l.spare); n > 0 {
				b, l.spare = l.spare[n-1], l.spare[:n-1]
			}
			l.parts.Add(l.now+d.Delay, append(b[:0], p.Bytes...))
		}
	}
}

func (l *lab) receive(b []byte) {
	h, frames, err := wire.Open(b)
	if err != nil {
		l.t.Fatal(err)
	}
	for {
		kind, p, ok := frames.Next()
		if !ok {
			return
		}
		var f wire.Bulk
		if err := f.Decode(p); kind != wire.KindBulk || err != nil {
			l.t.Fatal(kind, err)
		}
		if l.spoil != nil {
			l.spoil(&f)
		}
		if err := l.receiver.Part(l.now, h.Boot, &f); err != nil && !errors.Is(err, ErrContradiction) && !errors.Is(err, ErrAhead) {
			l.t.Fatal(err)
		}
	}
}

// all checks that every piece was written.
func (l *lab) all() {
	l.t.Helper()
	if want := int(wire.BulkPieces(l.total)); len(l.written) != want {
		l.t.Errorf("%d pieces written, want %d", len(l.written), want)
	}
}

// gigabit is a link of 1 Gb/s and a round trip of 0.2 to 0.3 ms.
var gigabit = fault.Link{Rate: 125_000_000, DelayMin: 100e3, DelayMax: 150e3}

func TestLossCostsLittleMoreThanWhatIsLost(t *testing.T) {
	rates := map[float64]float64{}
	for _, loss := range []float64{0, 0.01, 0.05, 0.3} {
		link := gigabit
		link.Loss = loss
		l := newLab(t, *size, link)
		rates[loss] = l.run(600e9)
		l.all()
		t.Logf("loss %2.0f %%: %6.1f MB/s, %.3f of a lossless link's; %d parts for %d", 100*loss, rates[loss]/1e6, rates[loss]/rates[0], l.sender.Sent(),
			(l.total+uint64(l.sender.stride)-1)/uint64(l.sender.stride))
	}
	if rates[0] < 0.75*125e6 {
		t.Errorf("%.1f MB/s without loss, of 125", rates[0]/1e6)
	}
	if rates[0.05] < rates[0]/2 {
		t.Errorf("%.1f MB/s at 5 %% loss, %.1f without: less than half", rates[0.05]/1e6, rates[0]/1e6)
	}
	if rates[0.3] < rates[0]/4 {
		t.Errorf("%.1f MB/s at 30 %% loss, %.1f without", rates[0.3]/1e6, rates[0]/1e6)
	}
}

func TestItCrossesEveryKindOfBadLink(t *testing.T) {
	for name, link := range map[string]fault.Link{
		"perfect": {}, "slow": {Rate: 1e6, DelayMin: 1e6, DelayMax: 2e6}, "far": {Rate: 125e6, DelayMin: 50e6, DelayMax: 51e6},
		"all sorts":  {Loss: 0.1, Dup: 0.2, Reorder: 0.3, ReorderDelay: 20e6, DelayMin: 1e6, DelayMax: 3e6, Rate: 50e6},
		"half lost":  {Loss: 0.5, DelayMin: 100e3, DelayMax: 200e3, Rate: 125e6},
		"small path": {MTU: wire.SafeDatagram, DelayMin: 100e3, DelayMax: 200e3},
	} {
		l := newLab(t, 3<<20+12345, link)
		rate := l.run(120e9)
		l.all()
		t.Logf("%s: %.1f MB/s, %d parts", name, rate/1e6, l.sender.Sent())
	}
	for _, total := range []int64{1, 255, 1200, wire.BulkPieceBytes, wire.BulkPieceBytes + 1} {
		l := newLab(t, total, gigabit)
		l.run(10e9)
		l.all()
	}
}

// The sender dies, again and again, and another process goes on, over a path that takes
// other datagrams: nothing that is kept is sent again but what a first window holds.
func TestItGoesOnAfterTheSendersDeath(t *testing.T) {
	link := gigabit
	link.Loss = 0.05
	l := newLab(t, 16<<20, link)
	limits := []int{wire.SafeDatagram, 8952, wire.MinDatagram, wire.MaxDatagram, 1472}
	for n, limit := range limits {
		if n > 0 {
			l.startSender(limit)
		}
		goal := wire.BulkPieces(l.total) * uint32(n+1) / uint32(len(limits))
		l.stop = func() bool { return n+1 < len(limits) && l.receiver.Progress().Floor >= goal }
		l.run(60e9)
	}
	l.all()
	again := 0
	for _, n := range l.written {
		again += n - 1
	}
	if again != 0 {
		t.Errorf("%d pieces were written again", again)
	}
}

func TestItGoesOnAfterTheReceiversDeathFromWhatItKept(t *testing.T) {
	l := newLab(t, 8<<20, gigabit)
	l.stop = func() bool { return l.receiver.Progress().Floor >= 10 }
	l.run(10e9)
	l.startReceiver(l.receiver.Progress())
	l.stop = nil
	l.run(20e9)
	l.all()
	for piece, n := range l.written {
		if n != 1 {
			t.Errorf("piece %d was written %d times", piece, n)
		}
	}
}

// What the receiver had kept last is lost with it, and the sender lives on.
func TestItGoesOnWithAReceiverThatKeptLessThanItSaid(t *testing.T) {
	link := gigabit
	link.Loss = 0.05
	for _, have := range []Progress{{}, {Floor: 3, Kept: 5}, {Floor: 9}} {
		l := newLab(t, 12<<20, link)
		l.stop = func() bool { return l.receiver.Progress().Floor >= 30 }
		l.run(10e9)
		l.startReceiver(have)
		l.stop = nil
		l.run(20e9)
		l.all()
		if !l.receiver.Done() {
			t.Errorf("from %+v: the sender is done, the receiver at %+v", have, l.receiver.Progress())
		}
	}
}

// The path takes less all of a sudden, and more again: what is under way is cut anew.
func TestItFollowsAPathThatChanges(t *testing.T) {
	link := gigabit
	link.Loss = 0.05
	l := newLab(t, 12<<20, link)
	l.startSender(8952)
	for n, limit := range []int{8952, wire.MinDatagram, wire.MaxDatagram, wire.SafeDatagram} {
		l.packer.Limit, l.there.MTU = limit, limit
		if n > 0 && limit > wire.MinDatagram {
			l.sender.Resize(limit)
		}
		l.stop = func() bool { return n < 3 && l.receiver.Progress().Floor >= uint32(10*(n+1)) }
		l.run(20e9)
	}
	l.all()
}

func TestASpoiledPieceAndAFailedWriteAreSentAgain(t *testing.T) {
	l := newLab(t, 2<<20, gigabit)
	spoiled, failed := 0, 0
	l.spoil = func(f *wire.Bulk) {
		if f.Piece == 3 && f.Offset == 0 && spoiled < 2 {
			spoiled++
			f.Body[0] ^= 1
		}
	}
	l.writeFail = func(piece uint32) bool {
		if piece == 5 && failed < 2 {
			failed++
			return true
		}
		return false
	}
	l.run(60e9)
	l.all()
	if l.receiver.Spoiled != 2 || failed != 2 {
		t.Errorf("%d spoiled, %d writes failed", l.receiver.Spoiled, failed)
	}
}

func TestAnOverflowHalvesTheWindowAtOnce(t *testing.T) {
	l := newLab(t, 64<<20, gigabit)
	l.stop = func() bool { return l.receiver.Progress().Floor >= 40 }
	l.run(10e9)
	before := l.sender.pace.Window
	l.receiver.Overflows = 17
	least := before
	l.stop = func() bool {
		least = min(least, l.sender.pace.Window)
		return l.receiver.Progress().Floor >= 60
	}
	l.run(10e9)
	if least > before*6/10 {
		t.Errorf("the window went from %d to %d at least", before, least)
	}
}

func TestMemoryIsBoundedWhateverIsSent(t *testing.T) {
	r := NewReceiver(ReceiverOptions{Transfer: 7, Total: 1 << 40})
	rng := rand.New(rand.NewPCG(8, 8))
	for n := range uint64(20_000) {
		f := wire.Bulk{Transfer: 7, Total: 1 << 40, Number: n + 1, Piece: rng.Uint32N(1 << 22), Stride: 1024, Offset: 1024 * rng.Uint32N(256), Body: make([]byte, 1024)}
		if n%2 == 0 {
			f.Piece %= 20
		}
		_ = r.Part(int64(n), n%3, &f)
	}
	held := 0
	for i := range r.open {
		held += cap(r.open[i].bytes)
	}
	if held > wire.BulkAhead*wire.BulkPieceBytes {
		t.Errorf("%d bytes held", held)
	}
}

// Answers that were never earned, of any form, neither panic nor end a transfer early.
func TestForgedAnswersOfAnotherBootCountForNothing(t *testing.T) {
	l := newLab(t, 1<<20, gigabit)
	l.send()
	for _, a := range []wire.BulkAck{
		{Transfer: 7, EchoBoot: 99, Largest: 1, Floor: 4}, {Transfer: 8, EchoBoot: 1, Largest: 1, Floor: 4}, {Transfer: 7, EchoBoot: 1, Largest: 1 << 50, Floor: 4},
		{Transfer: 7, EchoBoot: 1, Floor: 1 << 30},
	} {
		l.sender.Ack(l.now, &a)
	}
	if l.sender.have != (Progress{}) || l.sender.Done() {
		t.Errorf("got %+v", l.sender.have)
	}
	l.run(10e9)
	l.all()
}

func TestProgressCountsInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		var p Progress
		kept := map[uint32]bool{}
		for p.Floor < 60 {
			piece := p.Floor + rng.Uint32N(wire.BulkAhead)
			if p.Has(piece) != kept[piece] {
				t.Fatalf("piece %d: %v, want %v, of %+v", piece, p.Has(piece), kept[piece], p)
			}
			if !kept[piece] {
				p.add(piece)
				kept[piece] = true
			}
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const total = 1 << 40
	sender := NewSender(SenderOptions{Transfer: 7, Boot: 1, Total: total, Source: noise(total)})
	receiver := NewReceiver(ReceiverOptions{Transfer: 7, Total: total})
	packer := wire.Packer{Limit: wire.SafeDatagram}
	var packets []wire.Packet
	now := int64(1)
	turn := func() {
		now += 100e3
		packer.Reset()
		if _, err := sender.Pack(now, &packer); err != nil {
			panic(err)
		}
		packets = packer.Flush(netip.AddrPort{}, packets[:0])
		for i := range packets {
			_, frames, _ := wire.Open(packets[i].Bytes)
			_, p, _ := frames.Next()
			var f wire.Bulk
			if i%10 == 3 || f.Decode(p) != nil { // every tenth is lost
				continue
			}
			if err := receiver.Part(now, 1, &f); err != nil {
				panic(err)
			}
		}
		for {
			piece, _, _, ok := receiver.Whole()
			if !ok {
				break
			}
			receiver.Written(now, piece, false)
		}
		if a, ok := receiver.Ack(now + ackDelay); ok {
			sender.Ack(now+1000, &a)
		}
	}
	for receiver.Progress().Floor < 2*wire.BulkAhead {
		turn()
	}
	if n := testing.AllocsPerRun(500, turn); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if receiver.Progress().Floor < 50 {
		t.Errorf("it stands still at piece %d", receiver.Progress().Floor)
	}
}

// Whatever answers come, and whatever parts: no panic, and what is handed out is right.
func FuzzAnswersAndParts(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, script []byte) {
		const total = 40*wire.BulkPieceBytes + 77
		s := NewSender(SenderOptions{Transfer: 7, Boot: 1, Total: total, Source: noise(total)})
		r := NewReceiver(ReceiverOptions{Transfer: 7, Total: total})
		packer := wire.Packer{Limit: wire.MaxDatagram}
		now := int64(1)
		for ; len(script) >= 8; script = script[8:] {
			b := script[:8]
			now += int64(b[0]) * 1e5
			packer.Reset()
			if _, err := s.Pack(now, &packer); err != nil {
				t.Fatal(err)
			}
			a := wire.BulkAck{Transfer: 7, EchoBoot: 1, Largest: s.number - min(s.number, uint64(b[1])), Floor: uint32(b[2] % 42), Kept: uint16(b[3]), Delay: uint32(b[4]) << b[4], Overflows: uint32(b[5])}
			a.Bitmap[b[5]%4] = uint64(b[6])<<56 | uint64(b[7])
			s.Ack(now, &a)
			part := wire.Bulk{Transfer: 7, Number: uint64(b[1]), Total: total, Sum: uint64(b[2]), Piece: uint32(b[3] % 41), Stride: 1 << (8 + b[4]%8)}
			size := wire.BulkPieceSize(total, part.Piece)
			part.Offset = part.Stride * (uint32(b[5]) % uint32((size+int(part.Stride)-1)/int(part.Stride)))
			part.Body = make([]byte, min(int(part.Stride), size-int(part.Offset)))
			_ = r.Part(now, uint64(b[6]%2), &part)
			if piece, _, _, ok := r.Whole(); ok {
				r.Written(now, piece, b[7]&1 == 1)
			}
			r.Ack(now)
			if s.flying < 0 || s.Deadline() < 0 || r.Deadline() < 0 {
				t.Fatalf("%d bytes on their way, deadlines %d, %d", s.flying, s.Deadline(), r.Deadline())
			}
		}
	})
}
