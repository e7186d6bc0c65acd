package vfs

import (
	"errors"
	"fmt"
)

// Mode is how files of the operating system are written and synced. Which is fastest is the disk's affair: `balsa wal
// bench` measures.
type Mode uint8

const (
	Auto        Mode = iota // Direct where a file can be, else Buffered
	Buffered                // pwrite, fdatasync
	DSync                   // one pwritev2 with RWF_DSYNC
	Direct                  // pwrite past the page cache (O_DIRECT), fdatasync
	DirectDSync             // both
)

// Modes are all of them.
var Modes = []Mode{Auto, Buffered, DSync, Direct, DirectDSync}

func (m Mode) String() string {
	names := [...]string{"auto", "buffered", "dsync", "direct", "direct+dsync"}
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("mode%d", uint8(m))
}

// ErrUnsupported says that this system or this file system has no such mode.
var ErrUnsupported = errors.New("not supported here")

// SyncWriter is a File that can write and sync in one call: when it returns, these bytes are durable, and nothing is
// said of others.
type SyncWriter interface {
	WriteSyncAt(p []byte, off int64) (int, error)
}

// OSWith is OS in another mode. Where the operating system has none, the error is ErrUnsupported; where a file
// system has none, its files cannot be opened, or fall back to the page cache where the bytes do not fit its blocks.
func OSWith(m Mode) (FS, error) {
	if m == Buffered {
		return OS, nil
	}
	fs, err := osWith(m)
	if m == Auto && errors.Is(err, ErrUnsupported) {
		return OS, nil
	}
	return fs, err
}
