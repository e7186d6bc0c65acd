package wal

import (
	"fmt"
	"io"

	"balsa/wal/vfs"
)

// window shows a file through a buffer that slides over it, so that what reads a log needs the memory of two batches
// and not of a segment. A view holds until one outside the buffer is asked for. Bytes may be changed in place; the
// file does not notice.
type window struct {
	file vfs.File
	size int64 // of the file, in whole sectors
	from int64
	buf  []byte // what is loaded, from from on
	room []byte
	err  error // the first one; what could not be read is shown as zeros
}

const windowBytes = 2 * maxBatchBytes

// overBytes shows what is in memory already.
func overBytes(b []byte) *window {
	return &window{size: int64(len(b)) &^ (sectorBytes - 1), buf: b}
}

// open begins with another file; the buffer stays.
func (w *window) open(file vfs.File) (int64, error) {
	size, err := file.Size()
	if err != nil {
		return 0, err
	}
	room := w.room
	if int64(len(room)) < min(size, windowBytes) {
		room = make([]byte, min(size, windowBytes))
	}
	*w = window{file: file, size: size &^ (sectorBytes - 1), room: room}
	return size, nil
}

// view returns n bytes at off, fewer where the file ends; n is at most windowBytes.
func (w *window) view(off, n int64) []byte {
	n = min(n, w.size-off)
	if n <= 0 {
		return nil
	}
	if off < w.from || off+n > w.from+int64(len(w.buf)) {
		w.slide(off)
	}
	return w.buf[off-w.from:][:n]
}

// slide loads from off on, keeping what it has of that.
func (w *window) slide(off int64) {
	kept := 0
	if off >= w.from && off < w.from+int64(len(w.buf)) {
		kept = copy(w.room, w.buf[off-w.from:])
	}
	w.buf = w.room[:min(int64(len(w.room)), w.size-off)]
	w.from = off
	rest := w.buf[kept:]
	n, err := w.file.ReadAt(rest, off+int64(kept))
	if err == io.EOF && n == len(rest) {
		err = nil
	}
	if err != nil {
		clear(rest[n:])
		if w.err == nil {
			w.err = fmt.Errorf("read %d bytes at %d: %w", len(rest), off+int64(kept), err)
		}
	}
}

// forget has the next view read the file.
func (w *window) forget() { w.buf = w.buf[:0] }

// end returns the end of the last sector from from on that is not all zero; from if all are.
func (w *window) end(from int64) int64 {
	limit := from
	for x := from; x < w.size; {
		b := w.view(x, stepBytes)
		for k := int64(len(b)); k > 0; k -= sectorBytes {
			if !isZero(b[k-sectorBytes : k]) {
				limit = x + k
				break
			}
		}
		x += int64(len(b))
	}
	return limit
}

// stepBytes is how much is looked at in one go.
const stepBytes = 1 << 20
