package wal

import (
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"

	"balsa/wal/vfs"
)

// Segments are made before they are needed, by a filler beside the writer, in small pieces, so that the
// writer waits for none of them; a retired segment's file is zeroed and used again, since overwriting what is on disk
// already costs a journal nothing. A file has its segment's name only when it is zeroed and synced to its end.

// ErrFull says that the next segment cannot be made for want of space. It does not latch: nothing that was written is in
// doubt, and the same Write can be called again.
var ErrFull = errors.New("wal: no space left for the next segment")

// A piece is what one Fill writes and waits for: small, so that it never leaves the disk a heap of work before the writer's
// next sync; larger the further the filler is behind, since a wait for each small one would never catch up.
const (
	pieceBytes    = 256 << 10
	maxPieceBytes = 4 << 20
)

// spares are the segments to come.
type spares struct {
	work   sync.Mutex // held for one piece at a time
	making maker      // under work

	mu    sync.Mutex // held for no call of the file system
	ready []vfs.File // under mu; of segments active+1 on

	lowest   atomic.Uint64 // the oldest file there is, retired or not
	prepared atomic.Uint64 // the newest segment that is ready
	filled   atomic.Int64  // of the segment in the making
	starved  atomic.Bool   // the last attempt to make one failed
	unused   atomic.Uint64 // files below this number are of no use to the log any more: a durable header says so
	found    []sized       // spares found at Open that have not the size that they would get now; the owner's
}

type sized struct {
	seq  uint64
	size int64
}

// sizeOf is the size that segment seq has or will have.
func (l *Log) sizeOf(seq uint64) int64 {
	for _, f := range l.spares.found {
		if f.seq == seq {
			return f.size
		}
	}
	return l.o.segmentSize(seq)
}

// spareBytes is the space that lies ready beyond segment seq.
func (l *Log) spareBytes(seq uint64) int64 {
	n := int64(0)
	for next := seq + 1; next <= l.spares.prepared.Load(); next++ {
		n += l.sizeOf(next)
	}
	return n
}

// NeedsSpare says that there is work for Fill: less lies ready than should, or retired files are left. Anyone may ask.
func (l *Log) NeedsSpare() bool {
	if l.Err() != nil {
		return false
	}
	active := l.active.Load()
	return l.spares.prepared.Load() <= active || l.spareBytes(active) < l.o.SpareBytes || l.spares.lowest.Load() < l.spares.unused.Load()
}

// FillDue says that the next segment is not as far along as the log is in the active one: time for the next Fill. When
// it is not due, Fill may still be called, at leisure.
func (l *Log) FillDue() bool { return l.behind() > 0 }

// behind is how many bytes the filler should be further, to be done with the next segment well before the log is with
// the active one.
func (l *Log) behind() int64 {
	active, d := l.active.Load(), l.durable.Load()
	if l.spares.prepared.Load() > active || d>>32 != active {
		return 0
	}
	used, size := int64(d&(1<<32-1))*sectorBytes, l.sizeOf(active)
	return l.sizeOf(active+1)*min(used+used/4+size/16, size)/size - l.spares.filled.Load()
}

// Fill does one small piece of what NeedsSpare asks for. Any one goroutine may call it beside the owner and the writer.
// An error does not latch: ErrFull where space is short, and Low then warns the owner.
func (l *Log) Fill() error {
	if err := l.Err(); err != nil {
		return err
	}
	s := &l.spares
	s.work.Lock()
	defer s.work.Unlock()
	if s.making.file == nil && (s.prepared.Load() > l.active.Load() && l.spareBytes(l.active.Load()) >= l.o.SpareBytes) {
		return l.removeRetired()
	}
	return l.fillPiece(max(pieceBytes, l.behind()))
}

// Prepare calls Fill until nothing is left to do.
func (l *Log) Prepare() error {
	for l.NeedsSpare() {
		if err := l.Fill(); err != nil {
			return err
		}
	}
	return l.Err()
}

// Low says that the disk is full, and the log near the end of what lies ready: whoever may refuse work refuses it now, so
// that what must be written still can be. Asked by the owner.
func (l *Log) Low() bool {
	return l.spares.starved.Load() && l.Room() < min(max(l.seg.size/4, MinSegmentBytes/4), maxBatchBytes)
}

// Fits says whether entries of n bytes, which another server accepted before its log was low, are taken all the same. On a
// full disk a part of what lies ready is kept for what nobody can refuse: terms, votes, the first entry of a term.
func (l *Log) Fits(n int) bool {
	return !l.spares.starved.Load() || l.Room()-int64(n) >= min(max(l.seg.size/16, MinSegmentBytes/16), maxBatchBytes/16)
}

// Room is how many bytes of batches fit into what lies ready. Asked by the owner.
func (l *Log) Room() int64 {
	n := l.spareBytes(l.seg.seq)
	if !l.sealed {
		n += l.seg.size - l.off - int64(l.PendingBytes())
	}
	return max(n, 0)
}

// ensureSpare makes segment seq now, unless it is ready. The filler's half-made one is finished.
func (l *Log) ensureSpare(seq uint64) error {
	s := &l.spares
	if s.prepared.Load() >= seq {
		return nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	for s.prepared.Load() < seq {
		if err := l.fillPiece(maxPieceBytes); err != nil {
			return err
		}
	}
	return nil
}

// fillPiece goes on with the segment in the making, or begins one. A failure leaves nothing behind.
func (l *Log) fillPiece(n int64) error {
	s := &l.spares
	m := &s.making
	var err error
	if m.file == nil {
		err = l.beginSpare(max(s.prepared.Load(), l.active.Load()) + 1)
	}
	if err == nil {
		err = m.fill(min(n, maxPieceBytes))
	}
	if err == nil && m.done == m.size {
		err = m.finish()
		if err == nil {
			s.mu.Lock()
			s.ready = append(s.ready, m.file)
			s.mu.Unlock()
			s.prepared.Store(m.seq)
			*m = maker{}
		}
	}
	if err != nil {
		err = m.abandon(err)
	}
	s.filled.Store(m.done)
	s.starved.Store(err != nil)
	return err
}

// beginSpare takes a retired file of the right size, or a new one.
func (l *Log) beginSpare(seq uint64) error {
	s := &l.spares
	m := maker{fs: l.o.FS, dir: l.o.Dir, seq: seq, size: l.sizeOf(seq)}
	for s.lowest.Load() < s.unused.Load() {
		from := s.lowest.Load()
		reused, err := m.reuse(from)
		if err != nil && !errors.Is(err, errNotExist) {
			s.making = m
			return err
		}
		s.lowest.Store(from + 1)
		if reused {
			s.making = m
			return nil
		}
	}
	err := m.create()
	s.making = m
	return err
}

// removeRetired removes one retired file for which there is no use.
func (l *Log) removeRetired() error {
	s := &l.spares
	seq := s.lowest.Load()
	if seq >= s.unused.Load() {
		return nil
	}
	if err := l.o.FS.Remove(path.Join(l.o.Dir, segmentName(seq))); err != nil && !errors.Is(err, errNotExist) {
		return fmt.Errorf("wal: remove a retired segment: %w", err)
	}
	s.lowest.Store(seq + 1)
	return nil
}

// takeSpareFile hands segment seq's file to the writer.
func (l *Log) takeSpareFile(seq uint64) (vfs.File, error) {
	if err := l.ensureSpare(seq); err != nil {
		return nil, err
	}
	s := &l.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.ready[0]
	s.ready = append(s.ready[:0], s.ready[1:]...)
	return f, nil
}

func (s *spares) close() error {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for _, f := range append(s.ready, s.making.file) {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil && first == nil {
			first = err
		}
	}
	s.ready, s.making = nil, maker{}
	return first
}

// maker makes the file of one segment: real zeros, on their way to the disk piece by piece and synced at the end, and then
// its name.
type maker struct {
	fs   vfs.FS
	dir  string
	seq  uint64
	size int64
	done int64
	file vfs.File
}

func (m *maker) unfinished() string { return path.Join(m.dir, unfinishedName) }

// create begins with a new file, whose space is reserved at once where the file system can: that the disk is full is
// known before the active segment has filled.
func (m *maker) create() error {
	if err := m.fs.Remove(m.unfinished()); err != nil && !errors.Is(err, errNotExist) {
		return err
	}
	f, err := m.fs.Create(m.unfinished())
	if err != nil {
		return err
	}
	m.file = f
	if r, ok := f.(vfs.Reserver); ok {
		return r.Reserve(m.size)
	}
	return nil
}

// reuse begins with the file of retired segment seq, if it has the size; else it is removed.
func (m *maker) reuse(seq uint64) (bool, error) {
	name := path.Join(m.dir, segmentName(seq))
	f, err := m.fs.Open(name)
	if err != nil {
		return false, err
	}
	size, err := f.Size()
	if err != nil || size != m.size {
		return false, errors.Join(err, f.Close(), m.fs.Remove(name))
	}
	if err := m.fs.Rename(name, m.unfinished()); err != nil {
		return false, errors.Join(err, f.Close())
	}
	m.file = f
	return true, m.fs.SyncDir(m.dir) // else a power cut may leave it both names, the old one and the next
}

func (m *maker) fill(n int64) error {
	to := min(m.done+n, m.size)
	if err := writeZeros(m.file, m.done, to); err != nil {
		return err
	}
	from := m.done
	m.done = to
	if w, ok := m.file.(vfs.WriteBacker); ok {
		return w.WriteBack(from, to-from) // a flush for each piece would be one that the writer's own sync waits for
	}
	return m.file.Sync()
}

// finish makes the zeros durable and gives the file its name, for good.
func (m *maker) finish() error {
	if err := m.file.Sync(); err != nil {
		return err
	}
	if err := m.fs.Rename(m.unfinished(), path.Join(m.dir, segmentName(m.seq))); err != nil {
		return err
	}
	return m.fs.SyncDir(m.dir)
}

// abandon gives up: the file may be why the disk is full.
func (m *maker) abandon(err error) error {
	if m.file != nil {
		m.file.Close()
		m.fs.Remove(m.unfinished())
	}
	if vfs.IsFull(err) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	err = fmt.Errorf("wal: make segment %s of %d bytes: %w", segmentName(m.seq), m.size, err)
	*m = maker{}
	return err
}

// makeFirst makes the first segment of a log, head and all, in one go.
func (m *maker) makeFirst(head []byte) error {
	err := m.create()
	for err == nil && m.done < m.size {
		err = m.fill(m.size)
	}
	if err == nil {
		_, err = m.file.WriteAt(head, 0)
	}
	if err == nil {
		err = m.finish()
	}
	if err != nil {
		return m.abandon(err)
	}
	return m.file.Close()
}
