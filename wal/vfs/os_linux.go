package vfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync: the bytes, and the size if it changed, but not the times. Into space that was written
// before (the log writes only into such) it costs no journal transaction.
func syncData(f *os.File) error {
	fd := int(f.Fd())
	for {
		if err := unix.Fdatasync(fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// WriteBack implements WriteBacker. Where the system cannot, it does nothing: Sync then writes all. An error of the disk is
// told by the next Sync too.
func (f *osFile) WriteBack(off, n int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		err := unix.SyncFileRange(int(f.Fd()), off, n, all)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ESPIPE):
			return nil
		case err != nil:
			return fmt.Errorf("write back %d bytes at %d of %s: %w", n, off, f.Name(), err)
		default:
			return nil
		}
	}
}

// Reserve implements Reserver where the file system can.
func (f *osFile) Reserve(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		case err != nil:
			return fmt.Errorf("reserve %d bytes for %s: %w", size, f.Name(), err)
		default:
			return nil
		}
	}
}

// lockFile takes the advisory lock of an open file; it ends with the descriptor, so also with the process.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		default:
			return err
		}
	}
}
