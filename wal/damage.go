package wal

import (
	"fmt"
	"path"

	"balsa/wal/vfs"
)

// Flip turns over one bit (0 to 7) of a byte of a segment, for drills. Flip, Zero and Cut refuse a directory in use.
func Flip(fs vfs.FS, dir, segment string, offset int64, bit uint) error {
	if bit > 7 {
		return fmt.Errorf("wal: flip: bit %d, a byte has 0 to 7", bit)
	}
	return damage(fs, dir, segment, offset, func(f vfs.File, size int64) error {
		var b [1]byte
		if _, err := f.ReadAt(b[:], offset); err != nil {
			return err
		}
		b[0] ^= 1 << bit
		_, err := f.WriteAt(b[:], offset)
		return err
	})
}

// Zero writes n bytes of zeros.
func Zero(fs vfs.FS, dir, segment string, offset, n int64) error {
	if n < 1 {
		return fmt.Errorf("wal: zero: %d bytes", n)
	}
	return damage(fs, dir, segment, offset, func(f vfs.File, size int64) error {
		return writeZeros(f, offset, min(offset+n, size))
	})
}

// Cut zeroes from offset to the end of what was written, as a power cut leaves it: a sector is written whole or not at
// all, so zeros begin with the first sector at or after offset. Where nothing was written from there on, they begin
// at offset itself.
func Cut(fs vfs.FS, dir, segment string, offset int64) error {
	return damage(fs, dir, segment, offset, func(f vfs.File, size int64) error {
		var w window
		if _, err := w.open(f); err != nil {
			return err
		}
		sector := offset &^ (sectorBytes - 1)
		end := w.end(sector)
		if w.err != nil {
			return w.err
		}
		from := align(offset, sectorBytes)
		if from >= end {
			from = offset
		}
		if from >= end || end == sector+sectorBytes && isZero(w.view(sector, sectorBytes)[offset-sector:]) {
			return fmt.Errorf("nothing is written at %d or after it", offset)
		}
		return writeZeros(f, from, end)
	})
}

func damage(fs vfs.FS, dir, segment string, offset int64, do func(f vfs.File, size int64) error) error {
	lock, err := fs.Lock(dir)
	if err != nil {
		return fmt.Errorf("wal: damage: %w", err)
	}
	defer lock.Close()
	if _, ok := parseSegmentName(segment); !ok {
		return fmt.Errorf("wal: damage: %q is not the name of a segment, such as %s", segment, segmentName(1))
	}
	f, err := fs.Open(path.Join(dir, segment))
	if err != nil {
		return fmt.Errorf("wal: damage: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("wal: damage: %w", err)
	}
	if offset < 0 || offset >= size {
		return fmt.Errorf("wal: damage: offset %d, the file has %d bytes", offset, size)
	}
	if err := do(f, size); err != nil {
		return fmt.Errorf("wal: damage %s: %w", segment, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("wal: damage %s: %w", segment, err)
	}
	return nil
}
