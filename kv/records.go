package kv

import (
	"encoding/binary"
	"math/bits"
)

// records is the memory of the live keys: each key, its value and what is known of its last change lie together in one
// record, in large blocks of bytes without a pointer, so that a look-up touches neighbouring cache lines and a garbage
// collection has nothing to follow, however many keys there are. A record is named by its ref, a number that is never
// 0; it stays valid until the record is freed. Where a record lies is a function of the calls made, of nothing else.
//
// A record:
//
//	 0 u64 index     of the last change
//	 8 u64 term
//	16 u32 value length
//	20 u16 key length
//	22 u16 units     that the record takes; outsideBit: the value is not in it
//	24 key
//	   value, or, of one that is outside, its place in outside (u32)
//
// A freed record holds, in its first two bytes, the unit of the next free one in its block.
type records struct {
	blocks  []*[blockBytes]byte
	of      []blockUse           // of each block
	room    [mostUnits + 1]int32 // by units of its records: first of the blocks with room; 0: none, as block 0 is none
	spare   []int32              // blocks of which nothing is used, of any size of record
	outside [][]byte             // values longer than insideMost
	vacant  []uint32             // places of outside that are not used
}

// blockUse is what one block holds: records of one size. Blocks with room are a list, by size.
type blockUse struct {
	units      uint16 // of each record
	live       uint16
	fresh      uint16 // unit from which on nothing was ever used
	free       uint16 // unit of the first freed record, plus 1; 0: none
	prev, next int32
}

const (
	unitBytes   = 16
	blockBytes  = 32 << 10
	blockUnits  = blockBytes / unitBytes
	recordBytes = 24 // before the key
	// insideMost is the longest value that lies in its record. A longer one has memory of its own, and gives it back.
	insideMost = 2 << 10
	outsideRef = 4
	outsideBit = 1 << 15
	// mostUnits is the largest record there can be.
	mostUnits  = (recordBytes+MaxKey+insideMost+unitBytes-1)/unitBytes/16*16 + 16
	spareMost  = 16 // blocks kept for the next use
	blocksMost = 1 << 32 / blockUnits
)

func newRecords() records {
	return records{blocks: make([]*[blockBytes]byte, 1), of: make([]blockUse, 1)}
}

// roundUnits: sizes of records are a unit apart, from 32 units on a sixteenth.
func roundUnits(n int) int {
	if n <= 32 {
		return n
	}
	step := 1 << (bits.Len(uint(n)) - 5)
	return (n + step - 1) &^ (step - 1)
}

// at is the record and what follows it in its block.
func (r *records) at(ref uint32) []byte {
	return r.blocks[ref/blockUnits][ref%blockUnits*unitBytes:]
}

// key is a view until the record is freed.
func (r *records) key(ref uint32) []byte {
	b := r.at(ref)
	n := recordBytes + int(binary.LittleEndian.Uint16(b[20:]))
	return b[recordBytes:n:n]
}

// holds says whether the record's key is key.
func (r *records) holds(ref uint32, key []byte) bool {
	b := r.at(ref)
	return int(b[20])|int(b[21])<<8 == len(key) && string(b[recordBytes:recordBytes+len(key)]) == string(key)
}

// value is a view until the record is written or freed.
func (r *records) value(ref uint32) []byte {
	b := r.at(ref)
	le := binary.LittleEndian
	at, n := recordBytes+int(le.Uint16(b[20:])), int(le.Uint32(b[16:]))
	if le.Uint16(b[22:])&outsideBit != 0 {
		return r.outside[le.Uint32(b[at:])]
	}
	return b[at : at+n : at+n]
}

// change is index and term of the last change.
func (r *records) change(ref uint32) (index, term uint64) {
	b := r.at(ref)
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
}

// add makes a record of key with room for a value of n bytes, and an empty value.
func (r *records) add(key []byte, n int) uint32 {
	if n > insideMost {
		n = 0
	}
	units := roundUnits((recordBytes + len(key) + max(n, outsideRef) + unitBytes - 1) / unitBytes)
	ref := r.take(units)
	b := r.at(ref)
	clear(b[:20])
	binary.LittleEndian.PutUint16(b[20:], uint16(len(key)))
	binary.LittleEndian.PutUint16(b[22:], uint16(units))
	copy(b[recordBytes:], key)
	return ref
}

// take finds memory for a record.
func (r *records) take(units int) uint32 {
	block := r.room[units]
	if block == 0 {
		block = r.open(units)
	}
	u := &r.of[block]
	at := uint32(u.fresh)
	if u.free != 0 {
		at = uint32(u.free - 1)
		u.free = binary.LittleEndian.Uint16(r.blocks[block][at*unitBytes:])
	} else {
		u.fresh += u.units
	}
	u.live++
	if u.full() {
		r.unlink(block)
	}
	return uint32(block)*blockUnits + at
}

func (u *blockUse) full() bool { return u.free == 0 && int(u.fresh)+int(u.units) > blockUnits }

// open gives records of a size a block.
func (r *records) open(units int) int32 {
	var block int32
	if last := len(r.spare) - 1; last >= 0 {
		block, r.spare = r.spare[last], r.spare[:last]
	} else {
		if len(r.blocks) == blocksMost {
			panic("kv: 64 GiB of records")
		}
		block = int32(len(r.blocks))
		r.blocks, r.of = append(r.blocks, nil), append(r.of, blockUse{})
	}
	if r.blocks[block] == nil {
		r.blocks[block] = new([blockBytes]byte)
	}
	r.of[block] = blockUse{units: uint16(units)}
	r.link(block)
	return block
}

func (r *records) link(block int32) {
	u := &r.of[block]
	u.prev, u.next = 0, r.room[u.units]
	if u.next != 0 {
		r.of[u.next].prev = block
	}
	r.room[u.units] = block
}

func (r *records) unlink(block int32) {
	u := &r.of[block]
	if u.prev != 0 {
		r.of[u.prev].next = u.next
	} else {
		r.room[u.units] = u.next
	}
	if u.next != 0 {
		r.of[u.next].prev = u.prev
	}
}

// free gives the record's memory back; nothing may refer to it any more.
func (r *records) free(ref uint32) {
	b := r.at(ref)
	if binary.LittleEndian.Uint16(b[22:])&outsideBit != 0 {
		r.inside(b)
	}
	block, at := int32(ref/blockUnits), uint16(ref%blockUnits)
	u := &r.of[block]
	if u.full() {
		r.link(block)
	}
	binary.LittleEndian.PutUint16(b, u.free)
	u.free = at + 1
	if u.live--; u.live > 0 {
		return
	}
	r.unlink(block)
	if len(r.spare) >= spareMost {
		r.blocks[block] = nil // its number is used again, with other memory
	}
	r.spare = append(r.spare, block)
}

// inside gives the memory of a value outside its record back.
func (r *records) inside(b []byte) {
	le := binary.LittleEndian
	place := le.Uint32(b[recordBytes+int(le.Uint16(b[20:])):])
	r.outside[place] = nil
	r.vacant = append(r.vacant, place)
	le.PutUint16(b[22:], le.Uint16(b[22:])&^outsideBit)
}

// snug says whether n bytes fit into room without wasting more than three quarters of it.
func snug(n, room int) bool { return n <= room && room <= 4*n+1024 }

// fits says whether a value of n bytes can be written to the record; if not, the key needs another record.
func (r *records) fits(ref uint32, n int) bool {
	b := r.at(ref)
	le := binary.LittleEndian
	key, units := int(le.Uint16(b[20:])), int(le.Uint16(b[22:]))
	if n > insideMost {
		return true
	}
	if units&outsideBit != 0 {
		if snug(n, cap(r.outside[le.Uint32(b[recordBytes+key:])])) {
			return true
		}
		units &^= outsideBit
	}
	return snug(n, units*unitBytes-recordBytes-key)
}

// write puts a value that fits into the record, into the room of the old one where it can.
func (r *records) write(ref uint32, value []byte, index, term uint64) {
	b := r.at(ref)
	le := binary.LittleEndian
	le.PutUint64(b, index)
	le.PutUint64(b[8:], term)
	le.PutUint32(b[16:], uint32(len(value)))
	at := recordBytes + int(le.Uint16(b[20:]))
	isOutside := le.Uint16(b[22:])&outsideBit != 0
	if isOutside || len(value) > insideMost {
		if r.writeOutside(b, at, isOutside, value) {
			return
		}
	}
	copy(b[at:], value)
}

// writeOutside keeps a value outside its record; false if it belongs inside.
func (r *records) writeOutside(b []byte, at int, isOutside bool, value []byte) bool {
	le := binary.LittleEndian
	if isOutside {
		place := &r.outside[le.Uint32(b[at:])]
		if snug(len(value), cap(*place)) {
			*place = append((*place)[:0], value...)
			return true
		}
		if len(value) <= insideMost {
			r.inside(b)
			return false
		}
		*place = append(make([]byte, 0, pad8(len(value))), value...)
		return true
	}
	var place uint32
	if last := len(r.vacant) - 1; last >= 0 {
		place, r.vacant = r.vacant[last], r.vacant[:last]
	} else {
		place = uint32(len(r.outside))
		r.outside = append(r.outside, nil)
	}
	r.outside[place] = append(make([]byte, 0, pad8(len(value))), value...)
	le.PutUint32(b[at:], place)
	le.PutUint16(b[22:], le.Uint16(b[22:])|outsideBit)
	return true
}
