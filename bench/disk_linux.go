package bench

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alignedBuffer is memory that O_DIRECT takes: it begins on a page. No sector of it is zero.
func alignedBuffer(size int) []byte {
	b := make([]byte, size+4096)
	skip := (4096 - int(uintptr(unsafe.Pointer(&b[0]))%4096)) % 4096
	b = b[skip : skip+size]
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// open makes the file, with the space that its way wants, durable before anything is measured.
func (f *diskFile) open() error {
	flags := os.O_RDWR | os.O_CREATE
	if f.space == spaceZeroed {
		if _, err := os.Stat(f.path); err != nil {
			zeroed, err := prepareFile(f.path, diskFileBytes)
			if err != nil {
				return err
			}
			zeroed.Close()
		}
	}
	if f.direct {
		flags |= unix.O_DIRECT
	}
	file, err := os.OpenFile(f.path, flags, 0o600)
	if err != nil {
		return err
	}
	f.file = file
	if f.space == spaceAllocated {
		err = unix.Fallocate(int(file.Fd()), 0, 0, diskFileBytes)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		file.Close()
	}
	return err
}

func (f *diskFile) write(data []byte) error {
	if !f.dsync {
		if _, err := f.file.WriteAt(data, f.off); err != nil {
			return err
		}
		return syncData(f.file)
	}
	n, err := unix.Pwritev2(int(f.file.Fd()), [][]byte{data}, f.off, unix.RWF_DSYNC)
	if err == nil && n < len(data) {
		err = fmt.Errorf("%d of %d bytes written", n, len(data))
	}
	return err
}

// notSupported says that this file system, or this kernel, does not know a way of writing.
func notSupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}
