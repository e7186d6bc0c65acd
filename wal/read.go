package wal

import (
	"fmt"
	"path"
	"slices"

	"balsa/wal/vfs"
)

// maxReaders bounds the files that are open for reading.
const maxReaders = 16

// readers are the segments open for reading, the one used last at the end.
type readers struct {
	files []reader
}

type reader struct {
	seq  uint64
	file vfs.File
}

func (r *readers) open(l *Log, seq uint64) (vfs.File, error) {
	for i := len(r.files) - 1; i >= 0; i-- {
		if r.files[i].seq == seq {
			f := r.files[i]
			copy(r.files[i:], r.files[i+1:])
			r.files[len(r.files)-1] = f
			return f.file, nil
		}
	}
	f, err := l.o.FS.OpenRead(path.Join(l.o.Dir, segmentName(seq)))
	if err != nil {
		return nil, fmt.Errorf("wal: read: %w", err)
	}
	if len(r.files) == maxReaders {
		r.files[0].file.Close()
		r.files = slices.Delete(r.files, 0, 1)
	}
	r.files = append(r.files, reader{seq, f})
	return f, nil
}

// drop closes the files of segments before seq.
func (r *readers) drop(seq uint64) {
	r.files = slices.DeleteFunc(r.files, func(f reader) bool {
		if f.seq < seq {
			f.file.Close()
		}
		return f.seq < seq
	})
}

func (r *readers) close() {
	for _, f := range r.files {
		f.file.Close()
	}
	r.files = nil
}

// Read returns an entry. Its body is in buf, which is grown if it must be and returned for the next call. What is
// taken and not yet released is read from memory, so an entry can be read as soon as its batch is taken.
// ErrDamaged: its stored bytes are not what was written; from then on Append takes the entry once more. ErrAbsent: no such entry, or not taken yet.
func (l *Log) Read(index uint64, buf []byte) (Entry, []byte, error) {
	if index < l.first || index > l.last {
		return Entry{}, buf, fmt.Errorf("%w: %d, it has %d to %d", ErrAbsent, index, l.first, l.last)
	}
	at := l.locs.get(int(index - l.first))
	if at.seg == 0 || l.isDamaged(index) {
		return Entry{}, buf, fmt.Errorf("%w: index %d", ErrDamaged, index)
	}
	n := int(at.size) * recordAlign
	buf = slices.Grow(buf[:0], n)[:n]
	off := int64(at.at) * recordAlign
	var h header
	if rec := l.inMemory(uint64(at.seg), off, n); rec != nil {
		copy(buf, rec)
		h.decodeFields(buf)
	} else {
		file, err := l.readers.open(l, uint64(at.seg))
		if err != nil {
			return Entry{}, buf, err
		}
		if _, err := file.ReadAt(buf, off); err != nil {
			return Entry{}, buf, fmt.Errorf("wal: read index %d at %d of %s: %w", index, off, segmentName(uint64(at.seg)), err)
		}
		if decodeHeader(buf, 0, &h) != headerGood || headerBytes+int(h.body) > n {
			l.spoil(index)
			return Entry{}, buf, fmt.Errorf("%w: header of index %d at %d of %s", ErrDamaged, index, off, segmentName(uint64(at.seg)))
		}
	}
	body := buf[headerBytes : headerBytes+int(h.body)]
	whiten(body, h.whiten)
	e := h.entry(body)
	if h.typ != TypeEntry || h.index != index || Sum(&e) != e.Sum {
		l.spoil(index)
		return Entry{}, buf, fmt.Errorf("%w: index %d at %d of %s", ErrDamaged, index, off, segmentName(uint64(at.seg)))
	}
	return e, buf, nil
}

// inMemory finds a record in what is not released yet, or pending; nil if it is only on disk.
func (l *Log) inMemory(seq uint64, off int64, n int) []byte {
	for i := len(l.out); i >= 0; i-- {
		b := l.pending
		if i < len(l.out) {
			b = l.out[i]
		}
		if b == nil {
			continue
		}
		for k := range b.extents {
			e := &b.extents[k]
			to := e.to
			if to == 0 {
				to = len(b.buf) // the open one
			}
			if pos := int64(e.from) + off - e.off; e.seq == seq && off >= e.off && pos+int64(n) <= int64(to) {
				return b.buf[pos : pos+int64(n)]
			}
		}
	}
	return nil
}
