package vfs

import (
	"errors"
	"syscall"
)

// Reserver is a File that can be given its space before it is written, so that a full disk is known at once. What is
// reserved reads as zeros and still has to be written: a first write into it costs more than one into written space.
type Reserver interface {
	Reserve(size int64) error
}

// IsFull says whether an error means that there is no space left, or no more is allowed.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// WriteBacker is a File whose bytes can be sent on their way to the disk, and waited for there, before a Sync makes them
// durable. It costs neither a flush of the disk's cache nor a journal's transaction, and leaves the Sync little to do.
type WriteBacker interface {
	WriteBack(off, n int64) error
}
