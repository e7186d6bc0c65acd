package node

import "golang.org/x/sys/unix"

// sinceBoot is how long ago the machine was started, sleep included.
func sinceBoot() (int64, bool) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano(), err == nil
}
