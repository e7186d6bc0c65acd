package wal

import (
	"fmt"
	"path"

	"balsa/wal/vfs"
)

// Batch is what one Write and one Sync make durable. It is the log's; Release gives it back.
type Batch struct {
	LastIndex, LastTerm uint64 // the last entry of the log as of this batch
	Bytes               int    // that Write writes
	NeedsSync           bool   // false: it holds only what may be lost

	l       *Log
	buf     []byte
	start   int   // in buf, of the open batch of records
	recs    []int // headers of the open batch, in buf
	extents []extent
	slot    bool // write slotBuf to the page of the last segment
	rolls   bool // the segment changes within
	slotBuf [sectorBytes]byte
	slotOff int64
}

// extent is a piece of a batch that goes to one place.
type extent struct {
	seq      uint64
	off      int64
	from, to int
	size     int64 // of the segment
	seal     bool  // ends its segment
	opens    bool  // begins it
}

func (l *Log) newBatch() *Batch {
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return &Batch{l: l}
}

// Take closes what is pending and hands it out, all of it; nil if there is nothing. Batches are written, synced and
// released in the order in which they were taken.
func (l *Log) Take() *Batch {
	b := l.pending
	if b == nil || len(b.buf) == 0 {
		return nil
	}
	if len(b.recs) > 0 {
		l.finish()
	}
	b.LastIndex, b.LastTerm, b.Bytes = l.last, l.lastTerm, len(b.buf)
	if b.slot {
		encodeSlot(b.slotBuf[:], l.seg.salt, &l.stateMark)
		b.slotOff = slotOffset(l.generation)
		b.Bytes += sectorBytes
	}
	l.pending = nil
	l.out = append(l.out, b)
	return b
}

// keptBuffer bounds what a released batch keeps for the next one.
const keptBuffer = 4 << 20

// Release says that b is over; its memory is used again. Called by the owner, oldest first.
func (l *Log) Release(b *Batch) {
	if len(l.out) == 0 || l.out[0] != b {
		panic("wal: batches are released in the order in which they were taken, once")
	}
	copy(l.out, l.out[1:])
	l.out = l.out[:len(l.out)-1]
	buf := b.buf[:0]
	if cap(buf) > keptBuffer {
		buf = nil
	}
	*b = Batch{l: l, buf: buf, recs: b.recs[:0], extents: b.extents[:0]}
	l.free = append(l.free, b)
}

// Write writes the batch: one call for all its records unless the segment changes within, and one more for a hard
// state's slot. Where it changes, the old segment is sealed and synced before the first byte of the new one.
// The first error latches: this and every later Write and Sync return it.
func (b *Batch) Write() error {
	l := b.l
	if err := l.Err(); err != nil {
		return err
	}
	for i := range b.extents {
		if err := b.writeExtent(&b.extents[i]); err != nil {
			return l.fail(err)
		}
	}
	if b.slot {
		if _, err := l.file.WriteAt(b.slotBuf[:], b.slotOff); err != nil {
			return l.fail(fmt.Errorf("wal: write hard state to segment %d: %w", l.active.Load(), err))
		}
	}
	return nil
}

func (b *Batch) writeExtent(e *extent) error {
	l := b.l
	switch {
	case e.seal:
		// The next file is there before the seal is: a sealed segment without a next one has lost it.
		if err := l.ensureSpare(e.seq + 1); err != nil {
			return err
		}
	case e.opens:
		if err := l.openNext(e.seq); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(b.buf[e.from:e.to], e.off); err != nil {
		return fmt.Errorf("wal: write %d bytes at %d of segment %d: %w", e.to-e.from, e.off, e.seq, err)
	}
	if e.seal {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("wal: sync segment %d, sealed: %w", e.seq, err)
		}
	}
	return nil
}

// openNext makes segment seq the active one, whose predecessor is sealed and synced.
func (l *Log) openNext(seq uint64) error {
	if err := l.ensureSpare(seq); err != nil {
		return err
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return fmt.Errorf("wal: close segment %d: %w", seq-1, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.spareFile = l.spareFile, nil
	l.active.Store(seq)
	return nil
}

// ensureSpare makes segment seq unless it is ready.
func (l *Log) ensureSpare(seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.prepared.Load() >= seq {
		return nil
	}
	f, err := makeSegment(l.o.FS, l.o.Dir, seq, l.sizeOf(seq), nil)
	if err != nil {
		return err
	}
	l.spareFile = f
	l.prepared.Store(seq)
	return nil
}

// NeedsSpare says that the segment after the active one is not ready.
func (l *Log) NeedsSpare() bool {
	return l.prepared.Load() <= l.active.Load() && l.Err() == nil
}

// Prepare makes the next segment, zeroed and durable, unless it is there. Any one goroutine may call it beside the
// owner and the writer. An error (a full disk) does not latch; the roll that needs the segment tries again.
func (l *Log) Prepare() error {
	if err := l.Err(); err != nil {
		return err
	}
	for l.NeedsSpare() {
		if err := l.ensureSpare(l.active.Load() + 1); err != nil {
			return err
		}
	}
	return nil
}

// Sync makes durable what this batch and those before it wrote. The first error latches and is never tried again:
// after a failed sync the kernel may take lost pages for clean ones.
func (b *Batch) Sync() error {
	l := b.l
	if err := l.Err(); err != nil {
		return err
	}
	e := &b.extents[len(b.extents)-1]
	if e.seq == l.active.Load() { // else the roll has synced it
		if err := l.file.Sync(); err != nil {
			return l.fail(fmt.Errorf("wal: sync segment %d: %w", e.seq, err))
		}
	}
	if end := place(e.seq, e.off+int64(e.to-e.from)); end > l.durable.Load() {
		l.durable.Store(end)
	}
	return nil
}

// Close gives the files and the directory back. What was not synced may be lost.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers.close()
	var first error
	for _, f := range []vfs.File{l.file, l.spareFile} {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil && first == nil {
			first = fmt.Errorf("wal: close %s: %w", path.Base(l.o.Dir), err)
		}
	}
	l.file, l.spareFile = nil, nil
	l.fail(fmt.Errorf("wal: the log is closed"))
	if err := l.lock.Close(); err != nil && first == nil {
		first = err
	}
	return first
}
