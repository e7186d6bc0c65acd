package bulk

import (
	"errors"
	"math"

	"github.com/cespare/xxhash/v2"

	"balsa/wire"
)

// What a Receiver refuses. All are counted and dropped.
var (
	ErrOther         = errors.New("bulk: a part of another transfer")
	ErrAhead         = errors.New("bulk: a piece too far ahead")
	ErrContradiction = errors.New("bulk: a part contradicts an earlier one of its piece")
)

// Progress is all that has to be kept to go on with a transfer later: every piece below
// Floor is there, and those of the bits of Kept, counted from Floor + 1.
type Progress struct {
	Floor uint32
	Kept  uint16
}

// Has says whether a piece is there.
func (p Progress) Has(piece uint32) bool {
	return piece < p.Floor || piece > p.Floor && piece-p.Floor <= 16 && p.Kept>>(piece-p.Floor-1)&1 != 0
}

// add notes a piece within reach.
func (p *Progress) add(piece uint32) {
	if piece > p.Floor {
		p.Kept |= 1 << (piece - p.Floor - 1)
		return
	}
	for p.Floor++; p.Kept&1 != 0; p.Floor++ {
		p.Kept >>= 1
	}
	p.Kept >>= 1
}

// ReceiverOptions say what is expected.
type ReceiverOptions struct {
	Transfer uint64
	Total    uint64   // bytes
	Have     Progress // of an earlier attempt
}

// Receiver puts a transfer together, in memory for BulkAhead pieces at most. What is whole
// and right is handed out once, to be written anywhere; only when its owner says that it
// was is the sender told so. Not safe for two goroutines.
type Receiver struct {
	o     ReceiverOptions
	have  Progress
	boot  uint64 // of the sender whose numbers these are
	large uint64 // the largest number
	at    int64  // when it came
	bits  [4]uint64
	owed  int   // parts since the last answer
	due   int64 // when the answer is due at the latest
	open  [wire.BulkAhead]incoming

	Overflows uint32 // of the socket, to be told
	Spoiled   uint64 // pieces whose checksum was wrong
}

// incoming is a piece that is not kept yet.
type incoming struct {
	piece   uint32
	sum     uint64
	stride  uint32
	missing int // parts
	have    [partWords]uint64
	bytes   []byte
	used    bool
	whole   bool // handed out, or about to be
	told    bool // handed out
}

const (
	mostParts = wire.BulkPieceBytes / wire.MinStride
	partWords = (mostParts + 63) / 64

	ackParts = 8             // parts that are answered at once
	ackDelay = int64(200e3)  // ns that fewer wait
	never    = math.MaxInt64 // a deadline
)

// NewReceiver makes one.
func NewReceiver(o ReceiverOptions) *Receiver {
	return &Receiver{o: o, have: o.Have, due: never}
}

// Progress is what is there.
func (r *Receiver) Progress() Progress { return r.have }

// Done says that all of it is.
func (r *Receiver) Done() bool { return r.have.Floor >= wire.BulkPieces(r.o.Total) }

// Part takes a part that came at now from a sender's boot.
func (r *Receiver) Part(now int64, boot uint64, f *wire.Bulk) error {
	if f.Transfer != r.o.Transfer || f.Total != r.o.Total {
		return ErrOther
	}
	if boot != r.boot { // another sender: it counts from the beginning
		r.boot, r.large, r.bits = boot, 0, [4]uint64{}
		for i := range r.open {
			r.open[i].used = r.open[i].whole
		}
	}
	r.number(now, f.Number)
	if r.have.Has(f.Piece) {
		return nil // the answer tells
	}
	if f.Piece-r.have.Floor >= wire.BulkAhead {
		return ErrAhead
	}
	in := &r.open[f.Piece%wire.BulkAhead]
	if in.whole && in.piece == f.Piece {
		return nil
	}
	// Cut anew for a path that changed: the newest part says how. What lags behind contradicts.
	if !in.used || in.piece == f.Piece && in.sum == f.Sum && in.stride != f.Stride && f.Number == r.large {
		in.begin(f)
	}
	if in.piece != f.Piece || in.sum != f.Sum || in.stride != f.Stride {
		return ErrContradiction
	}
	part := f.Offset / f.Stride
	if in.have[part/64]>>(part%64)&1 != 0 {
		return nil
	}
	copy(in.bytes[f.Offset:], f.Body)
	in.have[part/64] |= 1 << (part % 64)
	if in.missing--; in.missing > 0 {
		return nil
	}
	if xxhash.Sum64(in.bytes) != in.sum {
		r.Spoiled++
		in.used = false // all of it again
		return nil
	}
	in.whole = true
	return nil
}

func (in *incoming) begin(f *wire.Bulk) {
	size := wire.BulkPieceSize(f.Total, f.Piece)
	b := in.bytes
	if cap(b) < size {
		b = make([]byte, wire.BulkPieceBytes)
	}
	*in = incoming{piece: f.Piece, sum: f.Sum, stride: f.Stride, bytes: b[:size], used: true}
	in.missing = (size + int(f.Stride) - 1) / int(f.Stride)
}

// number notes that a number has arrived.
func (r *Receiver) number(now int64, n uint64) {
	switch {
	case n > r.large:
		shift(&r.bits, n-r.large)
		if back := n - r.large; r.large > 0 && back <= wire.BulkBitmap {
			r.bits[(back-1)/64] |= 1 << ((back - 1) % 64)
		}
		r.large, r.at = n, now
	case n < r.large && r.large-n <= wire.BulkBitmap:
		back := r.large - n
		r.bits[(back-1)/64] |= 1 << ((back - 1) % 64)
	}
	r.owed++
	r.due = min(r.due, now+ackDelay)
}

// shift moves all bits up by n.
func shift(b *[4]uint64, n uint64) {
	for ; n >= 64; n -= 64 {
		b[3], b[2], b[1], b[0] = b[2], b[1], b[0], 0
		if *b == ([4]uint64{}) {
			return
		}
	}
	if n > 0 {
		b[3] = b[3]<<n | b[2]>>(64-n)
		b[2] = b[2]<<n | b[1]>>(64-n)
		b[1] = b[1]<<n | b[0]>>(64-n)
		b[0] <<= n
	}
}

// Whole gives a piece that is whole and right, once. Its bytes are the owner's until Written.
func (r *Receiver) Whole() (piece uint32, offset int64, b []byte, ok bool) {
	for i := range r.open {
		if in := &r.open[i]; in.whole && !in.told {
			in.told = true
			return in.piece, int64(in.piece) * wire.BulkPieceBytes, in.bytes, true
		}
	}
	return 0, 0, nil, false
}

// Written says that a piece that Whole gave is where it belongs; failed, that it could not be
// written: it will be sent again.
func (r *Receiver) Written(now int64, piece uint32, failed bool) {
	in := &r.open[piece%wire.BulkAhead]
	if !in.told || in.piece != piece {
		panic("bulk: a piece that was not handed out")
	}
	in.used, in.whole, in.told = false, false, false
	if !failed {
		r.have.add(piece)
		r.owed = max(r.owed, 1)
		r.due = min(r.due, now)
	}
}

// Ack gives the answer that is owed, if it is due.
func (r *Receiver) Ack(now int64) (wire.BulkAck, bool) {
	if r.owed == 0 || r.owed < ackParts && now < r.due {
		return wire.BulkAck{}, false
	}
	r.owed, r.due = 0, never
	return wire.BulkAck{
		Transfer: r.o.Transfer, EchoBoot: r.boot, Largest: r.large, Floor: r.have.Floor, Kept: r.have.Kept,
		Overflows: r.Overflows, Delay: uint32(min(max(now-r.at, 0)/1e3, math.MaxUint32)), Bitmap: r.bits,
	}, true
}

// Deadline is when Ack has something to give though nothing more comes.
func (r *Receiver) Deadline() int64 {
	if r.owed >= ackParts {
		return 0
	}
	return r.due
}
