package wire

// Sizes of a bulk transfer that both ends must agree on.
const (
	BulkPieceBytes  = 256 << 10 // a piece: what has a checksum, and is had or not
	BulkAhead       = 16        // pieces beyond the first missing one that a receiver takes
	BulkHeaderBytes = 48
	bulkAckBytes    = 72
	BulkBitmap      = 256 // numbers before the largest that an answer tells of
)

// Bulk is a part of a piece of something too large for a message: a base, a file. It
// tells all of the transfer, so that a receiver can begin with any.
//
//	 0  transfer 8
//	 8  number 8
//	16  total 8
//	24  checksum of the piece 8: xxhash64, seed 0
//	32  piece 4 | offset in the piece 4
//	40  stride 4 | zero 4
//	48  body
//
// All pieces but the last have 262,144 bytes, all parts of a piece but the last Stride.
type Bulk struct {
	Transfer uint64
	Number   uint64 // from 1, never used twice by one boot
	Total    uint64 // bytes of the whole
	Sum      uint64 // xxhash64 of the piece, seed 0
	Piece    uint32
	Offset   uint32
	Stride   uint32
	Body     []byte
}

// BulkPieces is how many pieces a whole of so many bytes has.
func BulkPieces(total uint64) uint32 {
	return uint32((total + BulkPieceBytes - 1) / BulkPieceBytes)
}

// BulkPieceSize is how many bytes a piece has.
func BulkPieceSize(total uint64, piece uint32) int {
	return int(min(BulkPieceBytes, total-uint64(piece)*BulkPieceBytes))
}

// Size is the encoded length.
func (f *Bulk) Size() int { return BulkHeaderBytes + len(f.Body) }

// EncodeHeader writes all but the body, which is to follow.
func (f *Bulk) EncodeHeader(p []byte) {
	le.PutUint64(p[0:], f.Transfer)
	le.PutUint64(p[8:], f.Number)
	le.PutUint64(p[16:], f.Total)
	le.PutUint64(p[24:], f.Sum)
	le.PutUint32(p[32:], f.Piece)
	le.PutUint32(p[36:], f.Offset)
	le.PutUint32(p[40:], f.Stride)
	le.PutUint32(p[44:], 0)
}

// Encode writes the frame.
func (f *Bulk) Encode(p []byte) {
	f.EncodeHeader(p)
	copy(p[BulkHeaderBytes:], f.Body)
}

// Decode reads the frame; Body is a view.
func (f *Bulk) Decode(p []byte) error {
	if len(p) < BulkHeaderBytes {
		return ErrShort
	}
	total, piece := le.Uint64(p[16:]), le.Uint32(p[32:])
	offset, stride := le.Uint32(p[36:]), le.Uint32(p[40:])
	switch {
	case le.Uint32(p[44:]) != 0:
		return ErrReserved
	case total == 0 || total > BulkPieceBytes<<31 || piece >= BulkPieces(total):
		return ErrValue
	case stride < MinStride || stride > MaxDatagram || offset%stride != 0 || le.Uint64(p[8:]) == 0:
		return ErrValue
	}
	size := BulkPieceSize(total, piece)
	if int64(offset) >= int64(size) || len(p)-BulkHeaderBytes != min(int(stride), size-int(offset)) {
		return ErrValue
	}
	*f = Bulk{
		Transfer: le.Uint64(p[0:]), Number: le.Uint64(p[8:]), Total: total, Sum: le.Uint64(p[24:]),
		Piece: piece, Offset: offset, Stride: stride, Body: p[BulkHeaderBytes:],
	}
	return nil
}

// BulkAck tells a sender what of a transfer has arrived, and what is kept.
//
//	 0  transfer 8
//	 8  echoed boot 8
//	16  largest number 8
//	24  floor 4 | kept beyond it 2 | zero 2
//	32  overflows 4 | delay 4
//	40  bitmap 32
//
// All pieces below the floor are kept, the floor is not; bit i says that piece floor + 1 + i
// is, too. Bit i of the bitmap says that number largest - 1 - i has arrived. The delay
// in microseconds is since the largest one did.
type BulkAck struct {
	Transfer  uint64
	EchoBoot  uint64
	Largest   uint64 // 0 = none of this boot
	Floor     uint32
	Kept      uint16
	Overflows uint32 // datagrams that the receiver's socket had no room for, since it was opened
	Delay     uint32
	Bitmap    [4]uint64
}

// Size is the encoded length.
func (f *BulkAck) Size() int { return bulkAckBytes }

// Encode writes the frame.
func (f *BulkAck) Encode(p []byte) {
	le.PutUint64(p[0:], f.Transfer)
	le.PutUint64(p[8:], f.EchoBoot)
	le.PutUint64(p[16:], f.Largest)
	le.PutUint32(p[24:], f.Floor)
	le.PutUint16(p[28:], f.Kept)
	le.PutUint16(p[30:], 0)
	le.PutUint32(p[32:], f.Overflows)
	le.PutUint32(p[36:], f.Delay)
	for i, w := range f.Bitmap {
		le.PutUint64(p[40+8*i:], w)
	}
}

// Decode reads the frame.
func (f *BulkAck) Decode(p []byte) error {
	if err := fixed(p, bulkAckBytes); err != nil {
		return err
	}
	if le.Uint16(p[30:]) != 0 {
		return ErrReserved
	}
	*f = BulkAck{
		Transfer: le.Uint64(p[0:]), EchoBoot: le.Uint64(p[8:]), Largest: le.Uint64(p[16:]), Floor: le.Uint32(p[24:]), Kept: le.Uint16(p[28:]),
		Overflows: le.Uint32(p[32:]), Delay: le.Uint32(p[36:]),
	}
	for i := range f.Bitmap {
		f.Bitmap[i] = le.Uint64(p[40+8*i:])
	}
	return nil
}
