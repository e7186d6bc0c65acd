package kv

import "encoding/binary"

// A command larger than an entry's body spans consecutive entries of kind Part, of one term. The body of such an entry:
//
//	0 u32 total   bytes of the whole command
//	4 u32 offset  of the first byte that follows
//	8 bytes
const PartHeaderBytes = 8

// AppendPart encodes the body of one Part entry.
func AppendPart(dst []byte, total, offset uint32, piece []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, total)
	dst = binary.LittleEndian.AppendUint32(dst, offset)
	return append(dst, piece...)
}

// DecodePart reads the body of one Part entry; piece is a view.
func DecodePart(b []byte) (total, offset uint32, piece []byte, ok bool) {
	if len(b) < PartHeaderBytes {
		return 0, 0, nil, false
	}
	total, offset = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	piece = b[PartHeaderBytes:]
	if total > MaxCommand || uint64(offset)+uint64(len(piece)) > uint64(total) {
		return 0, 0, nil, false
	}
	return total, offset, piece, true
}

// parts gathers the Part entries of one command. Only an unbroken run (consecutive indexes, one term, offsets that
// fit) ever completes: whatever stands in between voids it, and equally so on every server.
type parts struct {
	buffer      []byte
	total       uint32
	index, term uint64 // of the last one taken; index 0: none
}

// keptPartBytes is the largest buffer that is kept for the next command in parts.
const keptPartBytes = 64 << 10

func (p *parts) void() {
	p.index, p.term, p.total = 0, 0, 0
	p.buffer = p.buffer[:0]
	if cap(p.buffer) > keptPartBytes {
		p.buffer = nil
	}
}

// take adds one entry and returns the whole command when it is complete, valid until the next take or void.
func (p *parts) take(e *Entry) ([]byte, bool) {
	total, offset, piece, ok := DecodePart(e.Body)
	if !ok || len(piece) == 0 {
		p.void()
		return nil, false
	}
	if offset == 0 {
		p.void()
		p.total = total
	} else if p.index == 0 || p.index+1 != e.Index || p.term != e.Term || p.total != total || uint32(len(p.buffer)) != offset {
		p.void()
		return nil, false
	}
	p.index, p.term = e.Index, e.Term
	p.buffer = append(p.buffer, piece...)
	return p.buffer, uint32(len(p.buffer)) == p.total
}
