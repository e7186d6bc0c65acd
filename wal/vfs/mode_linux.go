package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func osWith(m Mode) (FS, error) {
	if m > DirectDSync {
		return nil, fmt.Errorf("mode %s: %w", m, ErrUnsupported)
	}
	return modeFS{osFS{}, m}, nil
}

type modeFS struct {
	osFS
	mode Mode
}

func (s modeFS) Create(name string) (File, error) {
	f, err := s.osFS.Create(name)
	if err != nil {
		return nil, err
	}
	return s.with(f.(*osFile))
}

func (s modeFS) Open(name string) (File, error) {
	f, err := s.osFS.Open(name)
	if err != nil {
		return nil, err
	}
	return s.with(f.(*osFile))
}

func (s modeFS) with(f *osFile) (File, error) {
	m := &modeFile{osFile: *f}
	if s.mode == Auto || s.mode == Direct || s.mode == DirectDSync {
		d, err := os.OpenFile(f.Name(), os.O_RDWR|unix.O_DIRECT, 0)
		if refused := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP); refused && s.mode == Auto {
			return f, nil
		} else if refused {
			err = fmt.Errorf("open %s with O_DIRECT: %w", f.Name(), ErrUnsupported)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		m.direct = d
	}
	if s.mode == DSync || s.mode == DirectDSync {
		return &dsyncFile{m}, nil
	}
	return m, nil
}

// modeFile writes past the page cache what fits the blocks of a disk: as it lies where the disk takes it from there, else
// through a buffer of its own. It reads, and writes the rest, through the page cache. One goroutine writes.
type modeFile struct {
	osFile
	direct *os.File // or nil
	room   []byte   // made when it is needed first
	strict bool     // the disk takes only what lies at multiples of directBlock
	large  bool     // its blocks are larger than a sector: all goes through the page cache
}

const (
	directBlock = 4096 // where memory begins that every disk takes; offsets and lengths only have to fit the disk's own blocks
	directRoom  = 256 << 10
)

// aligned says whether b begins at a multiple of to, a power of two.
func aligned(b []byte, to uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(to-1) == 0
}

func alignedBytes(n int) []byte {
	b := make([]byte, n+directBlock)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (directBlock - 1))
	return b[skip : skip+n : skip+n]
}

func (f *modeFile) WriteAt(p []byte, off int64) (int, error) { return f.write(p, off, 0) }

func (f *modeFile) write(p []byte, off int64, flags int) (int, error) {
	done := 0
	for done < len(p) {
		n, err := f.writePiece(p[done:], off, flags)
		done += n
		off += int64(n)
		if err != nil {
			return done, &os.PathError{Op: "write", Path: f.Name(), Err: err}
		}
	}
	return done, nil
}

func (f *modeFile) writePiece(p []byte, off int64, flags int) (int, error) {
	if f.direct == nil || f.large || off%SectorBytes != 0 || len(p)%SectorBytes != 0 {
		return pwrite(f.File, p, off, flags)
	}
	if !f.strict && aligned(p, SectorBytes) || aligned(p, directBlock) {
		n, err := pwrite(f.direct, p, off, flags)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		f.strict = true
	}
	if f.room == nil {
		f.room = alignedBytes(directRoom)
	}
	piece := f.room[:copy(f.room, p)]
	n, err := pwrite(f.direct, piece, off, flags)
	if errors.Is(err, unix.EINVAL) {
		f.large = true
		n, err = pwrite(f.File, piece, off, flags)
	}
	return n, err
}

func pwrite(f *os.File, p []byte, off int64, flags int) (int, error) {
	for {
		n, err := pwritev2(int(f.Fd()), p, off, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			return 0, io.ErrShortWrite
		}
		return n, err
	}
}

// pwritev2 makes the system call without a slice of slices, so that nothing is allocated.
func pwritev2(fd int, p []byte, off int64, flags int) (int, error) {
	vec := unix.Iovec{Base: &p[0]}
	vec.SetLen(len(p))
	n, _, errno := syscall.Syscall6(unix.SYS_PWRITEV2, uintptr(fd), uintptr(unsafe.Pointer(&vec)), 1, uintptr(off), uintptr(off>>32), uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (f *modeFile) Close() error {
	err := f.osFile.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

// dsyncFile makes a write durable in one call.
type dsyncFile struct{ *modeFile }

func (f *dsyncFile) WriteSyncAt(p []byte, off int64) (int, error) {
	return f.write(p, off, unix.RWF_DSYNC)
}
