//go:build !linux

package vfs

import "os"

// syncData is a full fsync where fdatasync is not to be had.
func syncData(f *os.File) error { return f.Sync() }

// lockFile cannot lock here; one server per directory is then the operator's care.
func lockFile(*os.File) error { return nil }
