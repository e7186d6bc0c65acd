package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"path"
	"slices"
	"sync/atomic"

	"balsa/wal/vfs"

	"github.com/cespare/xxhash/v2"
)

// Errors of Create, Open and Read; test with errors.Is. A directory in use gives vfs.ErrLocked.
var (
	ErrExists  = errors.New("wal: the directory has a log already")
	ErrNotMade = errors.New("wal: no log here: it was never made by init")
	ErrNewer   = errors.New("wal: the log was written by a newer version")
	ErrMissing = errors.New("wal: a segment is missing")
	ErrCorrupt = errors.New("wal: damage that leaves no way to start")
	ErrDamaged = errors.New("wal: the entry's stored bytes are damaged")
	ErrAbsent  = errors.New("wal: the log has no such entry")
)

var errNotExist = fs.ErrNotExist

// VoteSpent is the vote of a recovered hard state whose term is known and whose vote is not: no server has this id.
const VoteSpent = 0xFFFF

// Entry is an entry of the log. Sum is Sum(&e), made once by the leader; 0 lets Append compute it.
type Entry struct {
	Index, Term uint64
	Kind, Codec uint8
	Group       uint16
	Count       uint32 // commands
	RawBytes    uint32 // of the body before compression
	Time        int64  // log time, nanoseconds
	Sum         uint64
	Body        []byte
}

// HardState is what Raft must not forget. Vote 0 is none.
type HardState struct {
	Term uint64
	Vote uint16
}

// Options say where a log is and how it is made.
type Options struct {
	FS           vfs.FS
	Dir          string
	SegmentBytes int64                 // full size of a segment; 0 is 64 MiB, at least 64 KiB
	SpareBytes   int64                 // how much lies ready beyond the active segment; at least one segment does
	Random       func() uint64         // salts; must be set
	Keep         func(kind uint8) bool // kinds whose entries Open returns; nil is none
	// Each lends hands to Open: it runs do(0) to do(n-1), beside each other if it can, and returns when all are done.
	// nil: one after another. What Open finds does not depend on it.
	Each func(n int, do func(i int))
}

func (o Options) withDefaults() Options {
	if o.FS == nil || o.Random == nil {
		panic("wal: Options.FS and Options.Random must be set")
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = max(o.SegmentBytes&^(pageBytes-1), MinSegmentBytes)
	return o
}

// segmentSize is the size of a new segment: small ones first, so that a new server starts at once.
func (o *Options) segmentSize(seq uint64) int64 {
	return min(o.SegmentBytes, firstSegmentBytes<<min(seq-1, 20))
}

// Log is an open log. One goroutine owns it: Append, Truncate, SetHardState, SetFounding, PublishSynced, Take, Release
// Retire and Read only touch memory (Read: the disk, too) and decide where every byte goes. Batch.Write and Batch.Sync do
// what was decided, in the order of Take, from any one goroutine at a time; Fill may run beside both.
type Log struct {
	o    Options
	lock io.Closer

	// the owner's
	state
	founding []byte
	seg      segmentHeader // that the next record goes to
	off      int64         // where its next batch begins
	sealed   bool          // nothing more fits into it
	prev     uint64        // checksum of the last header
	told     uint64        // the watermark that the last batch carried, as in durable
	pending  *Batch
	out      []*Batch // taken and not released, in order
	free     []*Batch
	readers  readers
	bases    []base // of the segments of the log, oldest first

	// everybody's
	durable atomic.Uint64 // segment and bytes of it that are synced: see place
	failed  atomic.Pointer[failure]
	active  atomic.Uint64 // the segment that Write writes to
	spares  spares

	file     vfs.File // the active segment's; the writer's
	unsynced bool     // it was written to since its last sync
}

type failure struct{ err error }

// base is the last entry before a segment. Void: it was truncated after the segment began, so a log that began there could
// not tell what the truncation left.
type base struct {
	seq, index, term uint64
	void             bool
}

func voidBases(bases []base, from uint64) {
	for i := range bases {
		bases[i].void = bases[i].void || bases[i].index >= from
	}
}

// place packs a segment and an offset of it into a word that grows as the log does.
func place(seq uint64, off int64) uint64 { return seq<<32 | uint64(off/sectorBytes) }

// fail latches the first error: what the disk holds is no longer known, so nothing more is promised.
func (l *Log) fail(err error) error {
	l.failed.CompareAndSwap(nil, &failure{err})
	return l.failed.Load().err
}

// Err returns the latched error, or nil.
func (l *Log) Err() error {
	if f := l.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// First is the index of the oldest entry, or Last()+1 when there is none.
func (l *Log) First() uint64 { return l.first }

// Last is the index of the last entry, counting what is only pending.
func (l *Log) Last() uint64 { return l.last }

// LastTerm is the term of the last entry.
func (l *Log) LastTerm() uint64 { return l.lastTerm }

// Hard is the hard state, counting what is only pending.
func (l *Log) Hard() HardState { return HardState{l.current, l.vote} }

// Append puts an entry into the pending batch; e.Body is copied. Its index is Last()+1, or that of a damaged entry
// that is written again, with the same term. It panics on anything else.
func (l *Log) Append(e *Entry) {
	if len(e.Body) > MaxBody {
		panic(fmt.Sprintf("wal: entry %d has %d bytes, limit %d", e.Index, len(e.Body), MaxBody))
	}
	var h header
	h.typ, h.index, h.term, h.prevTerm, h.bodySum, h.time = TypeEntry, e.Index, e.Term, l.lastTerm, e.Sum, e.Time
	h.kind, h.codec, h.group, h.count, h.raw = e.Kind, e.Codec, e.Group, e.Count, e.RawBytes
	switch {
	case e.Index == l.last+1 && e.Term >= l.lastTerm:
	case e.Index <= l.last && l.isDamaged(e.Index) && l.termAt(e.Index) == e.Term:
		h.flags |= flagRewrite
		h.prevTerm = unknownTerm
	default:
		panic(fmt.Sprintf("wal: entry (%d, term %d) after (%d, term %d)", e.Index, e.Term, l.last, l.lastTerm))
	}
	at := l.put(&h, e.Body)
	if h.flags&flagRewrite != 0 {
		l.repaired(e.Index, at)
	} else {
		l.push(e.Index, e.Term, at)
	}
}

// Truncate makes the entries from index from on void; they go out of use with the batch that says so.
func (l *Log) Truncate(from uint64) {
	if from > l.last+1 || from < l.first {
		panic(fmt.Sprintf("wal: truncate from %d: the log has %d to %d", from, l.first, l.last))
	}
	l.room(headerBytes) // first, so that a batch that this closes does not tell of what is not in it
	l.cut(from)
	voidBases(l.bases, from)
	h := header{typ: TypeTruncate, index: from, prevTerm: l.lastTerm}
	l.put(&h, nil)
}

// SetHardState puts the hard state into the pending batch, whose Write also writes it to a slot of the segment's page.
func (l *Log) SetHardState(h HardState) {
	if h.Term < l.current {
		panic(fmt.Sprintf("wal: term %d after %d", h.Term, l.current))
	}
	l.room(headerBytes)
	l.current, l.vote = h.Term, h.Vote
	l.generation++
	rec := header{typ: TypeHardState, index: l.last, term: l.current, prevTerm: l.lastTerm}
	l.put(&rec, nil)
	l.pending.slot = true
}

// SetFounding replaces the founding record, opaque here; the latest is repeated at the start of each segment.
// It is written twice, so that no single fault loses it.
func (l *Log) SetFounding(body []byte) {
	if len(body) > MaxFounding {
		panic(fmt.Sprintf("wal: founding record has %d bytes, limit %d", len(body), MaxFounding))
	}
	l.room(int64(headerBytes + len(body)))
	l.founding = slices.Clone(body)
	l.foundings++
	for range 2 {
		h := header{typ: TypeFounding, index: l.last, prevTerm: l.lastTerm, bodySum: xxhash.Sum64(body)}
		l.put(&h, body)
	}
}

// Retire says that the entries up to index are kept elsewhere: the segments that hold nothing else are not of the log
// any more. Their files are used again once a later segment's header that says so is durable. Nothing up to index may
// be truncated from now on. First is then the oldest entry in what is left.
func (l *Log) Retire(index uint64) {
	if index > l.last {
		panic(fmt.Sprintf("wal: retire up to %d: the log ends at %d", index, l.last))
	}
	n := len(l.bases) - 1
	for n > 0 && (l.bases[n].void || l.bases[n].index > index) {
		n--
	}
	if n <= 0 {
		return
	}
	l.bases = slices.Delete(l.bases, 0, n)
	from := l.bases[0]
	l.drop(from.index, from.term)
	l.seg.oldest = from.seq
	l.readers.drop(from.seq)
}

// PublishSynced puts a sync record into the pending batch if something synced is not yet told so by a later record:
// then damage to it can be told from a torn tail. The record needs no sync of its own.
func (l *Log) PublishSynced() {
	if l.PendingBytes() > 0 || l.durable.Load() <= l.told {
		return
	}
	h := header{typ: TypeSync, index: l.last, prevTerm: l.lastTerm}
	l.put(&h, nil)
	l.pending.NeedsSync = l.pending.rolls
}

// PendingBytes is the size of what the next Take would take.
func (l *Log) PendingBytes() int {
	if l.pending == nil {
		return 0
	}
	return len(l.pending.buf)
}

// put lays a record out: it goes behind the others of the open batch if it fits there, else into a batch of its own,
// else into the next segment. Returns where its header will be.
func (l *Log) put(h *header, body []byte) loc {
	l.room(int64(headerBytes + len(body)))
	l.pending.NeedsSync = true
	return l.encode(h, body)
}

func (l *Log) encode(h *header, body []byte) loc {
	b := l.pending
	h.salt, h.body = l.seg.salt, uint32(len(body))
	h.current, h.vote, h.generation, h.foundings, h.voteless = l.current, l.vote, l.generation, l.foundings, l.voteless
	if len(body) == 0 && h.typ != TypeEntry {
		h.bodySum = xxhash.Sum64(nil)
	}
	h.at, h.number = int64(len(b.buf)-b.start), len(b.recs)
	if l.voteless {
		h.flags |= flagVoteless
	}
	h.whiten = whitener(body, h.at+headerBytes)
	pos, size := len(b.buf), h.size()
	b.recs = append(b.recs, pos)
	b.buf = grow(b.buf, int(size))
	rec := b.buf[pos:]
	n := copy(rec[headerBytes:], body)
	if h.bodySum == 0 && h.typ == TypeEntry {
		h.bodySum = h.sumInPlace(rec)
	}
	h.encode(rec)
	whiten(rec[headerBytes:headerBytes+n], h.whiten)
	fill(rec[headerBytes+n:], padByte)
	return loc{uint32(l.seg.seq), uint32((l.off + h.at) / recordAlign), uint32(size / recordAlign)}
}

// room makes sure that a record of n bytes fits into the open batch.
func (l *Log) room(n int64) {
	if l.pending == nil {
		l.pending = l.newBatch()
	}
	b := l.pending
	n = align(n, recordAlign) + trailerBytes
	if len(b.recs) > 0 {
		used := int64(len(b.buf) - b.start)
		size := align(used+n, sectorBytes)
		if l.off+size+sectorBytes <= l.seg.size && size <= maxBatchBytes {
			return
		}
		l.finish()
	}
	if l.sealed || l.off+align(n, sectorBytes)+sectorBytes > l.seg.size {
		l.roll()
		return
	}
	l.begin(int64(len(b.buf)))
}

// begin opens a batch of records at the end of the buffer; from is where the bytes that go with it begin.
func (l *Log) begin(from int64) {
	b := l.pending
	b.start = len(b.buf)
	b.extents = append(b.extents, extent{seq: l.seg.seq, off: l.off - (int64(b.start) - from), from: int(from), size: l.seg.size})
}

// finish closes the open batch of records: fills its last sector, and completes the headers.
func (l *Log) finish() {
	b := l.pending
	used := len(b.buf) - b.start
	size := int(align(int64(used+trailerBytes), sectorBytes))
	b.buf = grow(b.buf, size-used)
	fill(b.buf[b.start+used:], padByte)
	durable, synced := l.durable.Load(), int64(0)
	if durable>>32 == l.seg.seq {
		synced = int64(durable&(1<<32-1)) * sectorBytes
	}
	for i, pos := range b.recs {
		var flags uint8
		if i == 0 {
			flags |= flagFirst
		}
		if i == len(b.recs)-1 {
			flags |= flagLast
		}
		l.prev = finishHeader(b.buf[pos:], flags, int64(size), len(b.recs), l.prev, synced, l.last, l.lastTerm)
	}
	t := trailer{start: l.off, last: l.last, lastTerm: l.lastTerm, synced: synced, records: len(b.recs), stateMark: l.stateMark}
	t.encode(b.buf[len(b.buf)-trailerBytes:], l.seg.salt)
	e := &b.extents[len(b.extents)-1]
	e.to = len(b.buf)
	b.recs = b.recs[:0]
	l.off += int64(size)
	l.told = durable
}

// roll goes on in the next segment: seals this one, and begins the next with its page, the founding record and the
// hard state, so that nothing older is needed for them.
func (l *Log) roll() {
	b := l.pending
	b.rolls = true
	if !l.sealed {
		l.begin(int64(len(b.buf)))
		h := header{typ: TypeSeal, index: l.last, prevTerm: l.lastTerm}
		l.encode(&h, nil)
		l.finish()
		b.extents[len(b.extents)-1].seal = true
	}
	next := segmentHeader{seq: l.seg.seq + 1, salt: l.o.Random() | 1, oldest: l.seg.oldest, base: l.last, baseT: l.lastTerm}
	next.size = l.sizeOf(next.seq)
	next.before.salt, next.before.sum, next.before.end = l.seg.salt, l.prev, l.off
	l.seg, l.off, l.sealed = next, pageBytes, false
	l.bases = append(l.bases, base{seq: next.seq, index: l.last, term: l.lastTerm})
	b.oldest = next.oldest
	from := len(b.buf)
	b.buf = grow(b.buf, pageBytes)
	encodePage(b.buf[from:], &next, &l.stateMark)
	l.begin(int64(from))
	b.extents[len(b.extents)-1].opens = true
	b.slot = false // the page has it
	b.NeedsSync = true
	for range 2 {
		h := header{typ: TypeFounding, index: l.last, prevTerm: l.lastTerm, bodySum: xxhash.Sum64(l.founding)}
		l.encode(&h, l.founding)
	}
	h := header{typ: TypeHardState, index: l.last, term: l.current, prevTerm: l.lastTerm}
	l.encode(&h, nil)
}

// grow makes b longer by n bytes. Its room is a power of two: the allocator gives such pieces an address that is a multiple
// of their size or of a page, and from there a disk takes them without a copy (vfs.Direct).
func grow(b []byte, n int) []byte {
	if need := len(b) + n; need > cap(b) {
		more := make([]byte, len(b), max(sectorBytes, 1<<bits.Len(uint(need-1))))
		copy(more, b)
		b = more
	}
	return b[:len(b)+n]
}

func fill(b []byte, v byte) {
	for words := uint64(v) * 0x0101010101010101; len(b) >= 8; b = b[8:] {
		le.PutUint64(b, words)
	}
	for i := range b {
		b[i] = v
	}
}

// Create makes a new log in o.Dir, which is made if absent, with its founding record.
func Create(o Options, founding []byte) error {
	o = o.withDefaults()
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return fmt.Errorf("wal: create: %w", err)
	}
	lock, err := o.FS.Lock(o.Dir)
	if err != nil {
		return fmt.Errorf("wal: create: %w", err)
	}
	defer lock.Close()
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return fmt.Errorf("wal: create: %w", err)
	}
	for _, name := range names {
		if _, ok := parseSegmentName(name); ok {
			return fmt.Errorf("%w: %s", ErrExists, path.Join(o.Dir, name))
		}
	}
	if len(founding) > MaxFounding {
		return fmt.Errorf("wal: create: founding record has %d bytes, limit %d", len(founding), MaxFounding)
	}
	l := &Log{o: o, founding: founding, sealed: true}
	l.foundings = 1
	l.first = 1
	l.seg.oldest = 1
	l.pending = l.newBatch()
	l.roll()
	l.finish()
	m := maker{fs: o.FS, dir: o.Dir, seq: 1, size: l.seg.size}
	if err := m.makeFirst(l.pending.buf); err != nil {
		return err
	}
	if err := o.FS.SyncDir(path.Dir(path.Clean(o.Dir))); err != nil {
		return fmt.Errorf("wal: create: %w", err)
	}
	return nil
}
