package wal

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A segment is a file of a fixed size, zeroed before its first use: a page of 4096 bytes, then batches. The page has
// the segment's header twice and the two slots of the hard state, each in a sector of its own.
const (
	pageBytes   = 4096
	slotOffset0 = 1024
	slotOffset1 = 2048
	noteOffset  = 3072
	headerCopy  = pageBytes - sectorBytes

	segmentMagic  = "balsaWAL"
	slotMagic     = "balsaHRD"
	noteMagic     = "balsaSYN"
	segmentFormat = 1

	// MinSegmentBytes is the smallest segment: it holds the largest entry beside what a segment repeats.
	MinSegmentBytes     = 64 << 10
	defaultSegmentBytes = 64 << 20
	firstSegmentBytes   = 4 << 20
	maxBatchBytes       = 4 << 20 // offsets and counts of 16 bits reach twice as far
)

// segmentHeader is what the first sector of a segment says; all zeros there mean a spare, not used yet.
type segmentHeader struct {
	seq    uint64 // counts from 1; the file's name
	salt   uint64 // random, in every record of the segment: bytes of another file are not taken for ours
	size   int64  // of the file
	oldest uint64 // the oldest segment that the log had when this one began
	base   uint64 // last entry before this segment
	baseT  uint64
	before struct { // the segment before this one
		salt, sum uint64 // its salt, and the checksum of its last header: where the chain goes on
		end       int64  // bytes used of it, with the seal
	}
}

func (s *segmentHeader) encode(b []byte) {
	b = b[:sectorBytes]
	clear(b)
	copy(b, segmentMagic)
	le.PutUint16(b[8:], segmentFormat)
	le.PutUint32(b[12:], pageBytes)
	le.PutUint64(b[16:], s.seq)
	le.PutUint64(b[24:], s.salt)
	le.PutUint64(b[32:], uint64(s.size))
	le.PutUint64(b[40:], s.oldest)
	le.PutUint64(b[48:], s.base)
	le.PutUint64(b[56:], s.baseT)
	le.PutUint64(b[64:], s.before.salt)
	le.PutUint64(b[72:], s.before.sum)
	le.PutUint64(b[80:], uint64(s.before.end))
	le.PutUint64(b[504:], xxhash.Sum64(b[:504]))
}

func decodeSegmentHeader(b []byte, s *segmentHeader) headerState {
	if len(b) < sectorBytes {
		return headerBad
	}
	b = b[:sectorBytes]
	if string(b[:8]) != segmentMagic || le.Uint64(b[504:]) != xxhash.Sum64(b[:504]) {
		return headerBad
	}
	if le.Uint16(b[8:]) > segmentFormat {
		return headerNewer
	}
	*s = segmentHeader{seq: le.Uint64(b[16:]), salt: le.Uint64(b[24:]), size: int64(le.Uint64(b[32:])),
		oldest: le.Uint64(b[40:]), base: le.Uint64(b[48:]), baseT: le.Uint64(b[56:])}
	s.before.salt, s.before.sum, s.before.end = le.Uint64(b[64:]), le.Uint64(b[72:]), int64(le.Uint64(b[80:]))
	if s.seq == 0 || s.salt == 0 || s.size < MinSegmentBytes || s.size%sectorBytes != 0 {
		return headerBad
	}
	return headerGood
}

// encodeSlot writes a hard state as a sector; the slot is the one of its generation, so the one before it stays.
func encodeSlot(b []byte, salt uint64, m *stateMark) {
	b = b[:sectorBytes]
	clear(b)
	copy(b, slotMagic)
	le.PutUint64(b[8:], salt)
	le.PutUint64(b[16:], m.current)
	le.PutUint32(b[24:], m.generation)
	le.PutUint16(b[28:], m.vote)
	if m.voteless {
		b[30] = 1
	}
	b[31] = 1 // format
	le.PutUint64(b[504:], xxhash.Sum64(b[:504]))
}

func decodeSlot(b []byte, salt uint64, m *stateMark) bool {
	b = b[:sectorBytes]
	if string(b[:8]) != slotMagic || le.Uint64(b[8:]) != salt || le.Uint64(b[504:]) != xxhash.Sum64(b[:504]) {
		return false
	}
	*m = stateMark{current: le.Uint64(b[16:]), generation: le.Uint32(b[24:]), vote: le.Uint16(b[28:]), voteless: b[30] == 1}
	return true
}

// encodeNote writes the sector that keeps a watermark whose record is about to be cut.
func encodeNote(b []byte, salt uint64, synced int64) {
	b = b[:sectorBytes]
	clear(b)
	copy(b, noteMagic)
	le.PutUint64(b[8:], salt)
	le.PutUint64(b[16:], uint64(synced))
	le.PutUint64(b[504:], xxhash.Sum64(b[:504]))
}

// decodeNote returns the watermark of a note, or 0.
func decodeNote(b []byte, salt uint64) int64 {
	b = b[:sectorBytes]
	if string(b[:8]) != noteMagic || le.Uint64(b[8:]) != salt || le.Uint64(b[504:]) != xxhash.Sum64(b[:504]) {
		return 0
	}
	return max(int64(le.Uint64(b[16:])), 0)
}

func slotOffset(generation uint32) int64 {
	if generation&1 == 0 {
		return slotOffset0
	}
	return slotOffset1
}

// encodePage writes a segment's whole page. The slot that the present generation does not fall into says that no
// hard state was ever there (generation 0), so that a slot of zeros is always a loss.
func encodePage(b []byte, s *segmentHeader, m *stateMark) {
	b = b[:pageBytes]
	clear(b)
	s.encode(b)
	s.encode(b[headerCopy:])
	encodeSlot(b[slotOffset(m.generation):], s.salt, m)
	encodeSlot(b[slotOffset(m.generation+1):], s.salt, &stateMark{voteless: m.voteless})
}

const segmentSuffix = ".wal"

func segmentName(seq uint64) string { return fmt.Sprintf("%012d%s", seq, segmentSuffix) }

func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil && seq > 0 && segmentName(seq) == name
}

// unfinishedName is a segment's name until it is zeroed and synced to its end.
const unfinishedName = "unfinished.tmp"

// zeros lie where a disk takes them without a copy: see grow.
var zeros = make([]byte, 256<<10)

func writeZeros(f io.WriterAt, from, to int64) error {
	for from < to {
		n := min(int64(len(zeros)), to-from)
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}
