package bulk

import (
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"balsa/wire"
)

// SenderOptions say what to send.
type SenderOptions struct {
	Transfer uint64
	Boot     uint64 // of this process: an answer that echoes another counts for nothing
	Total    uint64 // bytes, at least 1
	Limit    int    // of a datagram (SafeDatagram)
	Source   io.ReaderAt
}

// Sender sends a transfer. Not safe for two goroutines.
type Sender struct {
	o      SenderOptions
	stride uint32
	pieces uint32
	have   Progress // of the receiver, as it told last
	open   [wire.BulkAhead]outgoing
	next   uint32 // the next piece to begin
	lost   []part // to be sent again, first come first served
	lostAt int    // of lost: those before have gone

	flights [ringFlights]flight // by number
	tail    uint64              // no number before it is on its way
	heard   uint64              // the largest that arrived
	number  uint64              // the last one used
	flying  int                 // bytes
	pace    wire.Pace
}

// outgoing is a piece that the receiver does not keep yet.
type outgoing struct {
	piece uint32
	size  int
	sum   uint64
	bytes []byte
	at    uint32 // offset of the first part that was never sent
	acked [partWords]uint64
	left  int   // parts that have not arrived
	doneA int64 // when the last of them did
	used  bool
}

type part struct {
	piece, offset uint32
}

// flight is one part on its way.
type flight struct {
	part
	bytes int
	at    int64
	state uint8
}

const (
	settled = iota // arrived, or taken to be lost
	flies
)

const (
	ringFlights = 4096
	perProbe    = 4          // parts that are sent again into a silence
	perPack     = 64         // parts of one Pack: a turn's worth
	stall       = int64(2e9) // ns after which a piece that arrived and is not kept is sent again
)

// NewSender makes one.
func NewSender(o SenderOptions) *Sender {
	if o.Limit == 0 {
		o.Limit = wire.SafeDatagram
	}
	if o.Total == 0 {
		panic("bulk: nothing to send")
	}
	s := &Sender{o: o, pieces: wire.BulkPieces(o.Total), tail: 1}
	s.cut()
	return s
}

// Done says that the receiver keeps all of it.
func (s *Sender) Done() bool { return s.have.Floor >= s.pieces }

// Resize goes on with datagrams of another size, on a path that changed; a smaller one of Pack's
// packer does so by itself.
func (s *Sender) Resize(limit int) {
	if limit == s.o.Limit {
		return
	}
	s.o.Limit = limit
	s.cut()
	s.anew()
}

// cut sets the size of a part.
func (s *Sender) cut() {
	s.stride = uint32(wire.MaxFrame(s.o.Limit)-wire.BulkHeaderBytes) &^ 7
	s.pace.Begin(int(s.stride), wire.PaceMost)
}

// anew begins again behind what the receiver keeps: nothing that is on its way counts any more.
func (s *Sender) anew() {
	for n := s.tail; n <= s.number; n++ {
		s.flights[n%ringFlights].state = settled
	}
	s.tail, s.flying = s.number+1, 0
	s.lost, s.lostAt = s.lost[:0], 0
	for i := range s.open {
		s.open[i].used = false
	}
	s.next = s.have.Floor
}

// Sent is how many parts were sent, repetitions among them.
func (s *Sender) Sent() uint64 { return s.number }

// Pack adds to p the parts that may leave now and gives how many, at most a turn's worth. When
// p's Limit is below the Sender's, the Sender goes on with that. An error is the source's.
func (s *Sender) Pack(now int64, p *wire.Packer) (int, error) {
	if p.Limit < s.o.Limit {
		s.Resize(p.Limit)
	}
	s.overdue(now)
	for n := 0; ; n++ {
		if n == perPack || !s.room() {
			return n, nil
		}
		what, ok, err := s.choose()
		if err != nil || !ok {
			return n, err
		}
		s.send(now, p, what)
	}
}

// room says whether the window is open.
func (s *Sender) room() bool {
	return s.flying+int(s.stride) <= s.pace.Window && s.number+1-s.tail < ringFlights
}

// choose gives the part to send next: one that was lost, or the next one.
func (s *Sender) choose() (part, bool, error) {
	for s.lostAt < len(s.lost) {
		l := s.lost[s.lostAt]
		s.lostAt++
		if out := s.piece(l.piece); out != nil && !out.has(l.offset/s.stride) {
			return l, true, nil
		}
	}
	s.lost, s.lostAt = s.lost[:0], 0
	for {
		if s.next > 0 {
			if out := s.piece(s.next - 1); out != nil && int(out.at) < out.size {
				l := part{out.piece, out.at}
				out.at += s.stride
				return l, true, nil
			}
		}
		s.next = max(s.next, s.have.Floor)
		if s.next >= s.pieces || s.next-s.have.Floor >= wire.BulkAhead {
			return part{}, false, nil
		}
		if !s.have.Has(s.next) {
			if err := s.begin(s.next); err != nil {
				return part{}, false, err
			}
		}
		s.next++
	}
}

// piece is an open piece, or nil.
func (s *Sender) piece(n uint32) *outgoing {
	if out := &s.open[n%wire.BulkAhead]; out.used && out.piece == n {
		return out
	}
	return nil
}

// begin reads a piece.
func (s *Sender) begin(n uint32) error {
	out := &s.open[n%wire.BulkAhead]
	b := out.bytes
	if b == nil {
		b = make([]byte, wire.BulkPieceBytes)
	}
	size := wire.BulkPieceSize(s.o.Total, n)
	if got, err := s.o.Source.ReadAt(b[:size], int64(n)*wire.BulkPieceBytes); got < size {
		return fmt.Errorf("bulk: piece %d: got %d of %d bytes: %w", n, got, size, err)
	}
	*out = outgoing{piece: n, size: size, bytes: b, sum: xxhash.Sum64(b[:size]), left: (size + int(s.stride) - 1) / int(s.stride), used: true}
	return nil
}

func (out *outgoing) has(n uint32) bool { return out.acked[n/64]>>(n%64)&1 != 0 }

// send packs a part under a new number.
func (s *Sender) send(now int64, p *wire.Packer, what part) {
	out := s.piece(what.piece)
	body := out.bytes[what.offset:min(out.size, int(what.offset+s.stride))]
	s.number++
	f := wire.Bulk{
		Transfer: s.o.Transfer, Number: s.number, Total: s.o.Total, Sum: out.sum, Piece: what.piece, Offset: what.offset, Stride: s.stride, Body: body,
	}
	b := p.Frame(wire.KindBulk, f.Size())
	if b == nil {
		panic("bulk: the packer's limit is below the sender's")
	}
	f.Encode(b)
	s.flights[s.number%ringFlights] = flight{part: what, bytes: len(body), at: now, state: flies}
	s.flying += len(body)
	s.pace.Sent(now)
}

// Ack takes in an answer.
func (s *Sender) Ack(now int64, f *wire.BulkAck) {
	if f.Transfer != s.o.Transfer || f.EchoBoot != s.o.Boot || f.Largest > s.number || f.Floor > s.pieces {
		return
	}
	switch {
	case f.Largest < s.heard: // old news: of its numbers alone
	case f.Floor > s.have.Floor || f.Floor == s.have.Floor && f.Kept|s.have.Kept == f.Kept:
		s.have = Progress{f.Floor, f.Kept}
		s.release()
	case f.Largest > s.heard: // no old news: the receiver lost what it kept last
		s.have = Progress{f.Floor, f.Kept}
		s.anew()
	}
	arrived := 0
	if s.arrived(now, f.Largest) {
		arrived++
		s.pace.Measure(now-s.flights[f.Largest%ringFlights].at, int64(f.Delay)*1e3)
	}
	for i := range uint64(wire.BulkBitmap) {
		if f.Largest > 1+i && f.Bitmap[i/64]>>(i%64)&1 != 0 && s.arrived(now, f.Largest-1-i) {
			arrived++
		}
	}
	s.heard = max(s.heard, f.Largest)
	s.pace.Told(now, f.Overflows, arrived, s.miss(now))
}

// miss drops what is behind three that arrived, and was given time enough; it gives how many.
func (s *Sender) miss(now int64) (missed int) {
	for n := s.tail; n+3 <= s.heard; n++ {
		if fl := &s.flights[n%ringFlights]; fl.state == flies {
			if now < fl.at+s.pace.Patience() {
				break // those behind it left later
			}
			s.drop(n)
			missed++
		}
	}
	s.advance()
	return missed
}

// release lets go of the pieces that the receiver keeps.
func (s *Sender) release() {
	for i := range s.open {
		if out := &s.open[i]; out.used && s.have.Has(out.piece) {
			out.used = false
		}
	}
}

// arrived settles a number that the receiver has; true: it was on its way.
func (s *Sender) arrived(now int64, n uint64) bool {
	if n < s.tail || n > s.number {
		return false
	}
	fl := &s.flights[n%ringFlights]
	if fl.state != flies {
		return false
	}
	fl.state = settled
	s.flying -= fl.bytes
	if out := s.piece(fl.piece); out != nil {
		k := fl.offset / s.stride
		if !out.has(k) {
			out.acked[k/64] |= 1 << (k % 64)
			out.left--
			out.doneA = now
		}
	}
	return true
}

// drop takes a number to be lost.
func (s *Sender) drop(n uint64) {
	fl := &s.flights[n%ringFlights]
	fl.state = settled
	s.flying -= fl.bytes
	if len(s.lost) == cap(s.lost) && s.lostAt > 0 {
		s.lost, s.lostAt = append(s.lost[:0], s.lost[s.lostAt:]...), 0
	}
	s.lost = append(s.lost, fl.part)
}

func (s *Sender) advance() {
	for s.tail <= s.number && s.flights[s.tail%ringFlights].state != flies {
		s.tail++
	}
}

// overdue acts on what time alone tells: nothing was heard for long, so the oldest are sent
// again to find out; a piece arrived and is not kept, so all of it is.
func (s *Sender) overdue(now int64) {
	s.pace.Missed += s.miss(now)
	if s.flying > 0 && now >= s.pace.ProbeAt {
		for n, k := s.tail, 0; n <= s.number && k < perProbe; n++ {
			if s.flights[n%ringFlights].state == flies {
				s.drop(n)
				k++
			}
		}
		s.advance()
		s.pace.Probed(now)
	}
	for i := range s.open {
		if out := &s.open[i]; out.used && out.left == 0 && now-out.doneA >= stall {
			*out = outgoing{piece: out.piece, size: out.size, bytes: out.bytes, sum: out.sum, used: true}
			for at := uint32(0); int(at) < out.size; at += s.stride {
				s.lost = append(s.lost, part{out.piece, at})
				out.left++
			}
			out.at = uint32(out.size)
		}
	}
}

// Deadline is when Pack has something to do without any answer; 0: at once.
func (s *Sender) Deadline() int64 {
	at := int64(never)
	if s.Done() {
		return at
	}
	if s.room() && s.wants() {
		return 0
	}
	if s.flying > 0 {
		at = s.pace.ProbeAt
		if s.tail+3 <= s.heard {
			at = min(at, s.flights[s.tail%ringFlights].at+s.pace.Patience())
		}
	}
	for i := range s.open {
		if out := &s.open[i]; out.used && out.left == 0 {
			at = min(at, out.doneA+stall)
		}
	}
	return at
}

// wants says whether there is anything to send.
func (s *Sender) wants() bool {
	if s.lostAt < len(s.lost) {
		return true
	}
	if s.next > 0 {
		if out := s.piece(s.next - 1); out != nil && int(out.at) < out.size {
			return true
		}
	}
	for n := max(s.next, s.have.Floor); n < s.pieces && n-s.have.Floor < wire.BulkAhead; n++ {
		if !s.have.Has(n) {
			return true
		}
	}
	return false
}
