package wire

import "math/bits"

const (
	// FragmentHeaderBytes is the size of a Fragment before its body.
	FragmentHeaderBytes = 32
	fragmentStatusBytes = 56

	// MinStride is the shortest fragment but the last one, so that a message has
	// a bounded number of them.
	MinStride = 256

	// bitmapFragments is how many fragments behind the first missing one a status tells.
	bitmapFragments = 128

	// unscheduled is how many fragments of a message leave before the receiver was heard; all
	// others wait for its grant.
	unscheduled = 16
)

// Fragment is a piece of a frame that is larger than a datagram. All pieces but the last
// have Stride bytes, and begin at multiples of it: two pieces are either the same
// or apart, and none can overlap another.
//
//	 0  message 8
//	 8  total 4 | offset 4
//	16  stride 4 | kind 1 | zero 3
//	24  zero 8
//	32  body
type Fragment struct {
	Message       uint64 // never used twice by one boot of its sender
	Kind          Kind   // of the whole frame, one that may come so (Kind.InFragments)
	Total, Offset uint32 // bytes: of the whole frame's payload, of this piece in it
	Stride        uint32
	Body          []byte
}

// Size is the encoded length.
func (f *Fragment) Size() int { return FragmentHeaderBytes + len(f.Body) }

// Encode writes the frame.
func (f *Fragment) Encode(p []byte) {
	le.PutUint64(p[0:], f.Message)
	le.PutUint32(p[8:], f.Total)
	le.PutUint32(p[12:], f.Offset)
	le.PutUint32(p[16:], f.Stride)
	p[20], p[21], p[22], p[23] = uint8(f.Kind), 0, 0, 0
	le.PutUint64(p[24:], 0)
	copy(p[FragmentHeaderBytes:], f.Body)
}

// Decode reads the frame; Body is a view. What it lets pass is consistent in itself:
// the piece lies within a message of at most MaxMessage, on its stride, and is of
// the length that its place demands. ErrKind says that it is, and of a frame that has no
// name here.
func (f *Fragment) Decode(p []byte) error {
	if len(p) < FragmentHeaderBytes {
		return ErrShort
	}
	if !zero(p[21:32]) {
		return ErrReserved
	}
	total, offset, stride := le.Uint32(p[8:]), le.Uint32(p[12:]), le.Uint32(p[16:])
	kind, body := Kind(p[20]), p[FragmentHeaderBytes:]
	switch {
	case total == 0 || total > MaxMessage || stride < MinStride || stride > MaxDatagram:
		return ErrValue
	case kind.Known() && !kind.InFragments():
		return ErrValue
	case offset >= total || offset%stride != 0 || uint32(len(body)) != min(stride, total-offset):
		return ErrValue
	}
	if !kind.Known() {
		return ErrKind
	}
	*f = Fragment{Message: le.Uint64(p[0:]), Kind: kind, Total: total, Offset: offset, Stride: stride, Body: body}
	return nil
}

// FragmentStatus tells a sender what of a message has arrived, and how far it may go on.
//
//	 0  message 8
//	 8  echoed boot 8
//	16  have 4 | grant 4
//	24  bitmap 16
//	40  overflows 4 | latest 4
//	48  flags 1: 1 done | zero 7
type FragmentStatus struct {
	Message   uint64
	EchoBoot  uint64   // of the message's sender: ids begin anew with each boot
	Have      uint32   // contiguous bytes from 0
	Grant     uint32   // bytes from 0 that may be sent; 0: there is no place for the message yet, and nothing of it is kept
	Bitmap    [16]byte // bit i: the fragment 1+i strides behind Have has arrived
	Overflows uint32   // datagrams that the receiver's sockets had no room for, since they were opened
	Latest    uint32   // offset of the piece that came last, just before this was said: of all others nobody knows when
	Done      bool     // the whole is there (or was, a while ago)
}

// Size is the encoded length.
func (s *FragmentStatus) Size() int { return fragmentStatusBytes }

// Encode writes the frame.
func (s *FragmentStatus) Encode(p []byte) {
	p = p[:fragmentStatusBytes]
	le.PutUint64(p[0:], s.Message)
	le.PutUint64(p[8:], s.EchoBoot)
	le.PutUint32(p[16:], s.Have)
	le.PutUint32(p[20:], s.Grant)
	copy(p[24:40], s.Bitmap[:])
	le.PutUint32(p[40:], s.Overflows)
	le.PutUint32(p[44:], s.Latest)
	le.PutUint64(p[48:], uint64(bit(s.Done, 1)))
}

// Decode reads the frame.
func (s *FragmentStatus) Decode(p []byte) error {
	if err := fixed(p, fragmentStatusBytes); err != nil {
		return err
	}
	if p[48]&^1 != 0 || !zero(p[49:56]) {
		return ErrReserved
	}
	*s = FragmentStatus{
		Message: le.Uint64(p[0:]), EchoBoot: le.Uint64(p[8:]), Have: le.Uint32(p[16:]), Grant: le.Uint32(p[20:]),
		Overflows: le.Uint32(p[40:]), Latest: le.Uint32(p[44:]), Done: p[48]&1 != 0,
	}
	copy(s.Bitmap[:], p[24:40])
	return nil
}

// bitset is a set of small numbers.
type bitset []uint64

func (b bitset) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }

// firstMissing is the least number from from on, up to n, that is not in the set.
func (b bitset) firstMissing(from, n int) int {
	for from < n {
		w := ^b[from/64] >> (from % 64)
		if w != 0 {
			return min(n, from+bits.TrailingZeros64(w))
		}
		from = (from/64 + 1) * 64
	}
	return n
}
