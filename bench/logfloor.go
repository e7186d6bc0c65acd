package bench

import (
	"os"
	"path/filepath"
)

// floorLogBytes is the size of the file that the floor writes into, again and again from its beginning.
const floorLogBytes = 32 << 20

// RawFloor is the floor of the log: the bare bytes of a batch, written by one pwrite into a file filled with zeros before,
// and one fdatasync. Nothing tells where a record ends or whether it is whole, so nothing that could be read back is
// faster.
var RawFloor = Subject{Name: "floor", Open: openFloor}

type floorLog struct {
	file *os.File
	off  int64
	buf  []byte
}

func openFloor(dir string, shape Shape) (Log, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := prepareFile(filepath.Join(dir, "floor"), floorLogBytes)
	if err != nil {
		return nil, err
	}
	return &floorLog{file: file, buf: make([]byte, 0, shape.Record*shape.Batch)}, nil
}

func (f *floorLog) Append(records [][]byte) error {
	f.buf = f.buf[:0]
	for _, r := range records {
		f.buf = append(f.buf, r...)
	}
	if f.off+int64(len(f.buf)) > floorLogBytes {
		f.off = 0
	}
	if _, err := f.file.WriteAt(f.buf, f.off); err != nil {
		return err
	}
	f.off += int64(len(f.buf))
	return syncData(f.file)
}

func (f *floorLog) Begin(bool) error { return nil }
func (f *floorLog) End() error       { return nil }
func (f *floorLog) Spent() bool      { return false }
func (f *floorLog) Close() error     { return f.file.Close() }
