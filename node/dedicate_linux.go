package node

import "golang.org/x/sys/unix"

// binding is which processors the loop's thread may run on. The thread is
// locked to the loop's goroutine as long as it is bound.
type binding struct {
	bound bool
	was   unix.CPUSet
}

// bind keeps the calling thread on the last processor it may run on: the first
// ones have the machine's interrupts. It gives that processor, -1 if the system
// will not.
func (b *binding) bind() int {
	if !b.bound && unix.SchedGetaffinity(0, &b.was) != nil {
		return -1
	}
	last := -1
	for i := range 64 * len(b.was) {
		if b.was.IsSet(i) {
			last = i
		}
	}
	if last < 0 {
		return -1
	}
	var one unix.CPUSet
	one.Set(last)
	if unix.SchedSetaffinity(0, &one) != nil {
		return -1
	}
	b.bound = true
	return last
}

// free lets the calling thread run where it might before.
func (b *binding) free() {
	if b.bound {
		_ = unix.SchedSetaffinity(0, &b.was) // what was allowed is
		b.bound = false
	}
}

// drivenOff is how often the calling thread was driven from its processor by
// others.
func drivenOff() (int64, bool) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return u.Nivcsw, err == nil
}
