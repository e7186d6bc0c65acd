package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// A record is a header of 128 bytes and a body, and begins at a multiple of 128 bytes, so that a header never
// crosses a sector. docs/wal-format.md has every byte.
const (
	sectorBytes  = 512
	recordAlign  = 128
	headerBytes  = 128
	trailerBytes = 64
	padByte      = 0xA5
	recordFormat = 1

	// MaxBody is the largest body of an entry, MaxFounding that of a founding record, in bytes.
	MaxBody     = 40 << 10
	MaxFounding = 8 << 10
)

var le = binary.LittleEndian

// Type says what a record is.
type Type uint8

// The types of records. TypeNone is what Scan gives for bytes whose header is lost.
const (
	TypeNone Type = iota
	TypeFounding
	TypeEntry
	TypeHardState
	TypeTruncate
	TypeSync
	TypeSeal
	TypeBase
)

var typeNames = [...]string{"unknown", "founding", "entry", "hardstate", "truncate", "sync", "seal", "base"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type%d", uint8(t))
}

// flags of a record.
const (
	flagFirst    = 1 << iota // of its batch
	flagLast                 // of its batch
	flagRewrite              // the writing again of a damaged entry
	flagVoteless             // this log once lost a vote: it never votes again
)

// header is the decoded head of a record. All of it is covered by a checksum of its own, so that what the record is
// survives damage to its body.
type header struct {
	sum, salt   uint64
	typ         Type
	flags       uint8
	whiten      uint8
	body        uint32 // bytes stored after the header
	at          int64  // from the start of the batch to this header
	batch       int64  // bytes of the batch
	prevTerm    uint64 // of the last entry before an entry; of the last entry after any other record
	prev        uint64 // sum of the header before this one
	synced      int64  // bytes of this segment known durable when this was written
	index, term uint64
	last        uint64 // index and term of the last entry after this batch
	lastTerm    uint64
	bodySum     uint64
	time        int64
	kind, codec uint8
	group       uint16
	count, raw  uint32
	number      int // of the record in its batch, from 0
	records     int // in the batch
	stateMark
}

// stateMark is what every record and every trailer repeats of the state at its writing: the hard state with the
// count of its changes, and the count of founding records.
type stateMark struct {
	current    uint64 // term
	vote       uint16
	generation uint32
	foundings  uint16
	voteless   bool
}

func (h *header) size() int64 { return align(headerBytes+int64(h.body), recordAlign) }

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// encode fills b[:128] but for what finish adds. It stores words of 8 bytes only: the checksum reads such words at once,
// and a load waits for narrower stores that it covers to leave the processor's store buffer.
func (h *header) encode(b []byte) {
	b = b[:headerBytes]
	back := h.current - h.prevTerm
	if h.prevTerm > h.current || back >= 1<<32-1 {
		back = 1<<32 - 1
	}
	le.PutUint64(b[8:], h.salt)
	le.PutUint64(b[16:], uint64(h.typ)|uint64(h.flags)<<8|uint64(h.whiten)<<16|recordFormat<<24|uint64(h.body)<<32)
	le.PutUint64(b[24:], uint64(uint16(h.at/recordAlign))|uint64(uint16(h.batch/sectorBytes))<<16|back<<32)
	le.PutUint64(b[32:], h.prev)
	le.PutUint64(b[40:], uint64(h.synced))
	le.PutUint64(b[48:], h.index)
	le.PutUint64(b[56:], h.term)
	le.PutUint64(b[64:], h.last)
	le.PutUint64(b[72:], h.lastTerm)
	le.PutUint64(b[80:], h.current)
	le.PutUint64(b[88:], h.bodySum)
	le.PutUint64(b[96:], uint64(h.time))
	le.PutUint64(b[104:], uint64(h.kind)|uint64(h.codec)<<8|uint64(h.group)<<16|uint64(h.count)<<32)
	le.PutUint64(b[112:], uint64(h.raw)|uint64(h.generation)<<32)
	le.PutUint64(b[120:], uint64(h.vote)|uint64(h.foundings)<<16|uint64(uint16(h.number))<<32)
}

// finishHeader adds what is known only when the batch is complete, and the checksum, which it returns.
func finishHeader(b []byte, flags uint8, batch int64, records int, prev uint64, synced int64, last, lastTerm uint64) uint64 {
	b = b[:headerBytes]
	le.PutUint64(b[16:], le.Uint64(b[16:])|uint64(flags)<<8)
	le.PutUint64(b[24:], le.Uint64(b[24:])&^(0xFFFF<<16)|uint64(uint16(batch/sectorBytes))<<16)
	le.PutUint64(b[32:], prev)
	le.PutUint64(b[40:], uint64(synced))
	le.PutUint64(b[64:], last)
	le.PutUint64(b[72:], lastTerm)
	le.PutUint64(b[120:], le.Uint64(b[120:])&^(0xFFFF<<48)|uint64(uint16(records))<<48)
	sum := xxhash.Sum64(b[8:])
	le.PutUint64(b, sum)
	return sum
}

// unknownTerm stands for a term that a header could not carry.
const unknownTerm = ^uint64(0)

// headerState is what decodeHeader finds.
type headerState uint8

const (
	headerBad headerState = iota
	headerGood
	headerNewer // a whole header of a later format
)

// decodeHeader reads b, which may be anything; salt 0 takes any segment's.
func decodeHeader(b []byte, salt uint64, h *header) headerState {
	if len(b) < headerBytes {
		return headerBad
	}
	b = b[:headerBytes]
	s := le.Uint64(b[8:])
	if s == 0 || salt != 0 && s != salt || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return headerBad
	}
	if b[19] != recordFormat {
		if b[19] > recordFormat {
			return headerNewer
		}
		return headerBad
	}
	h.decodeFields(b)
	if h.typ == TypeNone || h.typ > TypeBase || h.body > MaxBody || h.batch == 0 || h.batch > maxBatchBytes || h.synced < 0 ||
		h.index == 0 && (h.typ == TypeEntry || h.typ == TypeTruncate) {
		return headerBad
	}
	return headerGood
}

// decodeFields reads b without a question.
func (h *header) decodeFields(b []byte) {
	b = b[:headerBytes]
	*h = header{
		sum: le.Uint64(b), salt: le.Uint64(b[8:]), typ: Type(b[16]), flags: b[17], whiten: b[18], body: le.Uint32(b[20:]),
		at: int64(le.Uint16(b[24:])) * recordAlign, batch: int64(le.Uint16(b[26:])) * sectorBytes,
		prev: le.Uint64(b[32:]), synced: int64(le.Uint64(b[40:])), index: le.Uint64(b[48:]), term: le.Uint64(b[56:]),
		last: le.Uint64(b[64:]), lastTerm: le.Uint64(b[72:]), bodySum: le.Uint64(b[88:]), time: int64(le.Uint64(b[96:])),
		kind: b[104], codec: b[105], group: le.Uint16(b[106:]), count: le.Uint32(b[108:]), raw: le.Uint32(b[112:]),
		number: int(le.Uint16(b[124:])), records: int(le.Uint16(b[126:])),
		stateMark: stateMark{
			current: le.Uint64(b[80:]), generation: le.Uint32(b[116:]), vote: le.Uint16(b[120:]), foundings: le.Uint16(b[122:]),
			voteless: b[17]&flagVoteless != 0,
		},
	}
	h.prevTerm = unknownTerm
	if back := uint64(le.Uint32(b[28:])); back < 1<<32-1 && back <= h.current {
		h.prevTerm = h.current - back
	}
}

// metaBytes is what the portable checksum covers before the body: what the entry is.
const metaBytes = 48

func (e *Entry) encodeMeta(b []byte) { // words of 8 bytes, as header.encode has it
	b = b[:metaBytes]
	le.PutUint64(b[0:], e.Index)
	le.PutUint64(b[8:], e.Term)
	le.PutUint64(b[16:], uint64(e.Kind)|uint64(e.Codec)<<8|uint64(e.Group)<<16|uint64(e.Count)<<32)
	le.PutUint64(b[24:], uint64(e.RawBytes)|uint64(uint32(len(e.Body)))<<32)
	le.PutUint64(b[32:], uint64(e.Time))
	le.PutUint64(b[40:], 0)
}

func (h *header) encodeMeta(b []byte) { // of an entry's header: the same bytes
	b = b[:metaBytes]
	le.PutUint64(b[0:], h.index)
	le.PutUint64(b[8:], h.term)
	le.PutUint64(b[16:], uint64(h.kind)|uint64(h.codec)<<8|uint64(h.group)<<16|uint64(h.count)<<32)
	le.PutUint64(b[24:], uint64(h.raw)|uint64(h.body)<<32)
	le.PutUint64(b[32:], uint64(h.time))
	le.PutUint64(b[40:], 0)
}

// Sum is the portable checksum of an entry: of what it is and of its stored bytes, so the same on every server.
func Sum(e *Entry) uint64 {
	var meta [metaBytes]byte
	e.encodeMeta(meta[:])
	var d xxhash.Digest
	d.Reset()
	d.Write(meta[:])
	d.Write(e.Body)
	return d.Sum64()
}

// sumInPlace is Sum of the entry that h heads, whose body stands in rec behind the room of a header, of which it uses the
// end: one pass over bytes in a row is twice as fast as a digest of two pieces.
func (h *header) sumInPlace(rec []byte) uint64 {
	from := headerBytes - metaBytes
	h.encodeMeta(rec[from:])
	return xxhash.Sum64(rec[from : headerBytes+int(h.body)])
}

// entry gives the entry that h heads; its body is body.
func (h *header) entry(body []byte) Entry {
	return Entry{Index: h.index, Term: h.term, Kind: h.kind, Codec: h.codec, Group: h.group, Count: h.count,
		RawBytes: h.raw, Time: h.time, Sum: h.bodySum, Body: body}
}

// bodyFits says whether the checksum in h is that of body (no longer whitened).
func (h *header) bodyFits(body []byte) bool {
	if h.typ == TypeEntry {
		e := h.entry(body)
		return Sum(&e) == h.bodySum
	}
	return xxhash.Sum64(body) == h.bodySum
}

// recordFits is bodyFits for the body where it stands in rec, which it leaves as it was.
func (h *header) recordFits(rec []byte) bool {
	body := rec[headerBytes : headerBytes+int(h.body)]
	if h.typ != TypeEntry {
		return xxhash.Sum64(body) == h.bodySum
	}
	var kept [metaBytes]byte
	copy(kept[:], rec[headerBytes-metaBytes:])
	sum := h.sumInPlace(rec)
	copy(rec[headerBytes-metaBytes:], kept[:])
	return sum == h.bodySum
}

// whitener returns the byte by which a body at this offset of its sector is XORed so that no sector inside it is
// all zero: 0, which changes nothing, unless one would be.
func whitener(body []byte, offset int64) byte {
	start := align(offset, sectorBytes) - offset
	if start+sectorBytes > int64(len(body)) {
		return 0
	}
	hit := false
	for p := start; p+sectorBytes <= int64(len(body)); p += sectorBytes {
		if isZero(body[p : p+sectorBytes]) {
			hit = true
			break
		}
	}
	if !hit {
		return 0
	}
	var taken [256]bool // values that fill a sector alone; at most MaxBody/512 of them
	for p := start; p+sectorBytes <= int64(len(body)); p += sectorBytes {
		s := body[p : p+sectorBytes]
		taken[s[0]] = taken[s[0]] || isAll(s, s[0])
	}
	w := byte(padByte)
	for taken[w] {
		w++
	}
	return w
}

func whiten(b []byte, w byte) {
	if w == 0 {
		return
	}
	for i := range b {
		b[i] ^= w
	}
}

func isZero(b []byte) bool {
	for ; len(b) >= 64; b = b[64:] {
		c := b[:64]
		if le.Uint64(c)|le.Uint64(c[8:])|le.Uint64(c[16:])|le.Uint64(c[24:])|le.Uint64(c[32:])|le.Uint64(c[40:])|le.Uint64(c[48:])|le.Uint64(c[56:]) != 0 {
			return false
		}
	}
	for len(b) >= 8 {
		if le.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	return isAll(b, 0)
}

func isAll(b []byte, v byte) bool {
	for words := uint64(v) * 0x0101010101010101; len(b) >= 8; b = b[8:] {
		if le.Uint64(b) != words {
			return false
		}
	}
	for _, c := range b {
		if c != v {
			return false
		}
	}
	return true
}

// trailer ends every batch in its last 64 bytes. It repeats what the batch comes to, so that damage to the headers
// of a batch leaves its identity.
type trailer struct {
	start          int64 // of its batch, in the segment
	last, lastTerm uint64
	synced         int64
	records        int
	stateMark
}

const trailerMagic = 0x0E4D7A1B

func (t *trailer) encode(b []byte, salt uint64) {
	b = b[:trailerBytes]
	le.PutUint64(b[8:], salt)
	le.PutUint32(b[16:], uint32(t.start/sectorBytes))
	le.PutUint32(b[20:], uint32(t.synced/sectorBytes))
	le.PutUint64(b[24:], t.last)
	le.PutUint64(b[32:], t.lastTerm)
	le.PutUint64(b[40:], t.current)
	le.PutUint32(b[48:], t.generation)
	le.PutUint16(b[52:], t.vote)
	le.PutUint16(b[54:], t.foundings)
	magic := uint32(trailerMagic)
	if t.voteless {
		magic |= 1 << 31
	}
	le.PutUint32(b[56:], magic)
	le.PutUint16(b[60:], recordFormat)
	le.PutUint16(b[62:], uint16(t.records))
	le.PutUint64(b, xxhash.Sum64(b[8:]))
}

func decodeTrailer(b []byte, salt uint64, t *trailer) bool {
	if len(b) < trailerBytes {
		return false
	}
	b = b[:trailerBytes]
	magic := le.Uint32(b[56:])
	if le.Uint64(b[8:]) != salt || magic&^(1<<31) != trailerMagic || le.Uint16(b[60:]) != recordFormat || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return false
	}
	*t = trailer{
		start: int64(le.Uint32(b[16:])) * sectorBytes, synced: int64(le.Uint32(b[20:])) * sectorBytes,
		last: le.Uint64(b[24:]), lastTerm: le.Uint64(b[32:]), records: int(le.Uint16(b[62:])),
		stateMark: stateMark{current: le.Uint64(b[40:]), generation: le.Uint32(b[48:]), vote: le.Uint16(b[52:]),
			foundings: le.Uint16(b[54:]), voteless: magic>>31 == 1},
	}
	return true
}
