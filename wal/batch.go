package wal

import (
	"errors"
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
	written int    // of extents
	oldest  uint64 // if a segment begins within: the oldest one that its header names
	slot    bool   // write slotBuf to the page of the last segment
	rolls   bool   // the segment changes within
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
// The first error latches: this and every later Write and Sync return it. ErrFull alone does not: the same Write may be
// called again, and goes on where it was.
func (b *Batch) Write() error {
	l := b.l
	if err := l.Err(); err != nil {
		return err
	}
	for ; b.written < len(b.extents); b.written++ {
		if err := b.writeExtent(&b.extents[b.written]); errors.Is(err, ErrFull) {
			return err
		} else if err != nil {
			return l.fail(err)
		}
	}
	if b.slot {
		if err := l.write(b.slotBuf[:], b.slotOff, false); err != nil {
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
	if err := l.write(b.buf[e.from:e.to], e.off, b.alone()); err != nil {
		return fmt.Errorf("wal: write %d bytes at %d of segment %d: %w", e.to-e.from, e.off, e.seq, err)
	}
	if e.seal {
		if err := l.syncFile(); err != nil {
			return fmt.Errorf("wal: sync segment %d, sealed: %w", e.seq, err)
		}
	}
	return nil
}

// alone says that one write is all that the next sync is for.
func (b *Batch) alone() bool {
	return b.NeedsSync && len(b.extents) == 1 && !b.slot && !b.l.unsynced
}

// write writes to the active segment; with now, in a mode that can, it also makes the bytes durable.
func (l *Log) write(p []byte, off int64, now bool) error {
	if f, ok := l.file.(vfs.SyncWriter); ok && now {
		_, err := f.WriteSyncAt(p, off)
		return err
	}
	l.unsynced = true
	_, err := l.file.WriteAt(p, off)
	return err
}

// syncFile syncs the active segment, unless all in it was synced as it was written.
func (l *Log) syncFile() error {
	if !l.unsynced {
		return nil
	}
	l.unsynced = false
	return l.file.Sync()
}

// openNext makes segment seq the active one, whose predecessor is sealed and synced.
func (l *Log) openNext(seq uint64) error {
	next, err := l.takeSpareFile(seq)
	if err != nil {
		return err
	}
	old := l.file
	l.file, l.unsynced = next, false
	l.active.Store(seq)
	if old != nil {
		if err := old.Close(); err != nil {
			return fmt.Errorf("wal: close segment %d: %w", seq-1, err)
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
		if err := l.syncFile(); err != nil {
			return l.fail(fmt.Errorf("wal: sync segment %d: %w", e.seq, err))
		}
	}
	if end := place(e.seq, e.off+int64(e.to-e.from)); end > l.durable.Load() {
		l.durable.Store(end)
	}
	if b.oldest > l.spares.unused.Load() {
		l.spares.unused.Store(b.oldest)
	}
	return nil
}

// Close gives the files and the directory back. What was not synced may be lost.
func (l *Log) Close() error {
	l.readers.close()
	first := l.spares.close()
	if l.file != nil {
		if err := l.file.Close(); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		first = fmt.Errorf("wal: close %s: %w", path.Base(l.o.Dir), first)
	}
	l.file = nil
	l.fail(fmt.Errorf("wal: the log is closed"))
	if err := l.lock.Close(); err != nil && first == nil {
		first = err
	}
	return first
}
