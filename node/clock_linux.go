package node

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sinceBoot is how long ago the machine was started, sleep included. The call never waits, so the
// scheduler is not told of it: told after each idle moment it would rouse the runtime's monitor.
func sinceBoot() (int64, bool) {
	var t unix.Timespec
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano(), errno == 0
}
