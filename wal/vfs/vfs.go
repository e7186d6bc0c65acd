// Package vfs is the seam between the log and a file system.
//
// It promises just what the log needs: files that are created exclusively, read and written at offsets and
// synced one by one, and directories whose changes are durable only after SyncDir. OS is the real thing; Mem
// keeps everything in memory and knows what a power cut would leave of it.
package vfs

import (
	"errors"
	"io"
)

// SectorBytes is the unit that a disk is assumed to write whole or not at all.
const SectorBytes = 512

// ErrLocked is wrapped by Lock when another holder has the directory.
var ErrLocked = errors.New("directory is in use by another process")

// FS is a file system. Names are slash-separated paths. Errors for a file that is absent or already there
// satisfy errors.Is with fs.ErrNotExist and fs.ErrExist.
type FS interface {
	// Create makes a new file for reading and writing; it fails when the name exists.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// OpenRead opens an existing file for reading only.
	OpenRead(name string) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List returns the names in a directory, without the path, sorted.
	List(dir string) ([]string, error)
	MkdirAll(dir string) error
	// SyncDir makes what was created, renamed and removed in dir durable.
	SyncDir(dir string) error
	// Lock takes dir exclusively until the closer is closed; ErrLocked (wrapped) when another holds it.
	Lock(dir string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may be called beside each other and beside Sync.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes the file's bytes and its size durable (fdatasync).
	Sync() error
	Size() (int64, error)
	Close() error
}
