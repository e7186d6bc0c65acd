package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps for a fraction of a millisecond, which the timers of the runtime cannot: an idle process gets theirs up to
// one millisecond late.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // cut short by a signal: whoever naps looks at the clock
}
