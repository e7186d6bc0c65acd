package wal

import (
	"errors"
	"fmt"
	"io"
	"path"

	"balsa/wal/vfs"
)

// runWith looks over a part of a log, or over all of it.
func (s *survey) runWith(o *ScanOptions) error {
	switch {
	case o.File != "":
		return s.runFile(o.File)
	case o.Newest > 0:
		return s.runNewest(o.Newest)
	}
	return s.run()
}

// runFile looks over one file alone: a copy of a segment, under any name, without what was before and after it.
func (s *survey) runFile(name string) error {
	seq, err := s.numberOf(name)
	if err != nil {
		return err
	}
	s.files, s.used = []segmentFile{{seq: seq, name: name}}, -1
	f := &s.files[0]
	if err := s.readPage(f); err != nil {
		return err
	}
	if f.page == pageUsed {
		s.used = 0
	}
	s.total = f.bytes
	if err := s.walk(0); err != nil {
		return err
	}
	s.tell(f.bytes)
	return nil
}

// numberOf reads a segment's number from its header, whichever copy is whole; 1 if none is.
func (s *survey) numberOf(name string) (uint64, error) {
	file, err := s.fs.OpenRead(path.Join(s.dir, name))
	if err != nil {
		return 0, fmt.Errorf("wal: read %s: %w", name, err)
	}
	defer file.Close()
	page, err := readHead(file)
	if err != nil {
		return 0, fmt.Errorf("wal: read %s: %w", name, err)
	}
	var h segmentHeader
	for _, off := range [2]int{0, headerCopy} {
		if len(page) > off && decodeSegmentHeader(page[off:], &h) == headerGood {
			return h.seq, nil
		}
	}
	return 1, nil
}

// readHead reads a segment's page, or as much of it as there is.
func readHead(file vfs.File) ([]byte, error) {
	page := make([]byte, pageBytes)
	n, err := file.ReadAt(page, 0)
	if err == io.EOF {
		err = nil
	}
	return page[:n], err
}

// runNewest looks over the last n segments in use. What is missing before them is not asked.
func (s *survey) runNewest(n int) error {
	if err := s.listPages(); err != nil {
		return err
	}
	first := max(s.used-n+1, 0)
	s.problems, s.stale, s.files, s.used, s.total = nil, nil, s.files[first:], s.used-first, 0
	for i := range s.files {
		s.total += s.files[i].bytes
	}
	for i := range s.files {
		if err := s.walk(i); err != nil {
			return err
		}
		s.read += s.files[i].bytes
		s.tell(0)
	}
	return nil
}

// Follower reads what is added to a log, beside the server that writes it. It only ever shows whole batches: what is not
// whole may still be moving.
type Follower struct {
	fs   vfs.FS
	dir  string
	seq  uint64 // of the segment that is read
	off  int64  // where its next batch begins
	file vfs.File
	win  window
	salt uint64
	prev uint64
}

// Follow begins where a scan ended: behind the last batch of the newest segment in use.
func Follow(fs vfs.FS, dir string, rep *Report) *Follower {
	f := &Follower{fs: fs, dir: dir, seq: 1, off: pageBytes}
	for _, g := range rep.Segments {
		if g.State == "active" || g.State == "sealed" {
			f.seq, f.off = g.Seq, max(g.Written, pageBytes)
		}
		if g.State == "sealed" {
			f.seq, f.off = g.Seq+1, pageBytes
		}
	}
	return f
}

// Next visits what was added since the last call. stuck says that something stands there which is no whole batch.
func (f *Follower) Next(visit func(*Record) error) (stuck bool, err error) {
	for {
		ready, err := f.open()
		if err != nil || !ready {
			return false, err
		}
		var sector [sectorBytes]byte
		if n, err := f.file.ReadAt(sector[:], f.off); n < len(sector) || isZero(sector[:]) {
			if n == len(sector) {
				err = nil
			}
			return false, err
		}
		at := &segmentFile{seq: f.seq, name: segmentName(f.seq)}
		w := walker{win: &f.win, salt: f.salt, prev: f.prev, broken: f.prev == 0}
		w.visit = func(g *finding) error { return visit(g.show(at)) }
		if _, err := f.win.open(f.file); err != nil {
			return false, err
		}
		x, err := w.wholeBatches(f.off)
		if err == nil {
			err = f.win.err
		}
		stuck = x == f.off
		f.off, f.prev = x, w.prev
		if err != nil || stuck {
			return stuck, err
		}
		if w.sealed {
			f.Close()
			f.seq, f.off = f.seq+1, pageBytes
		}
	}
}

// open opens the segment that is next, if it is begun.
func (f *Follower) open() (bool, error) {
	if f.file != nil {
		return true, nil
	}
	file, err := f.fs.OpenRead(path.Join(f.dir, segmentName(f.seq)))
	if errors.Is(err, errNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: follow: %w", err)
	}
	page, err := readHead(file)
	var h segmentHeader
	if err != nil || len(page) < pageBytes || decodeSegmentHeader(page, &h) != headerGood {
		file.Close()
		return false, err
	}
	f.file, f.salt = file, h.salt
	return true, nil
}

// Close gives the open file back.
func (f *Follower) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// What of a log is not records' bodies, in bytes, for whoever shows what fills it.
const (
	HeaderBytes = headerBytes // before the body of a record
	PageBytes   = pageBytes   // before the first batch of a segment
)
