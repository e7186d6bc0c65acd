package node

import "time"

// clock is the time that a node goes by: nanoseconds since the process began,
// never falling, and going on while the machine is suspended. Go's monotonic
// clock, like the kernel's, leaves that out; a leader that woke up would then
// believe in a lease that ran out in its sleep, and a follower would wait for
// time that is long over.
type clock struct {
	began     time.Time
	bootBegan int64
	slept     int64
	sinceBoot func() (ns int64, ok bool) // counts a suspended machine's time; not ok where nothing does
}

// sleepNoticed is how far the two clocks must be apart: more than reading them
// one after the other ever makes it seem.
const sleepNoticed = int64(time.Millisecond)

func newClock(sinceBoot func() (int64, bool)) clock {
	c := clock{began: time.Now(), sinceBoot: sinceBoot}
	c.bootBegan, _ = sinceBoot()
	return c
}

// now reads the clock. The one that may have slept is read last: a process that
// is held up in between has not slept.
func (c *clock) now() int64 {
	boot, ok := c.sinceBoot()
	now := int64(time.Since(c.began)) + 1 + c.slept
	if gap := boot - c.bootBegan - now; ok && gap > sleepNoticed {
		c.slept += gap
		now += gap
	}
	return now
}

// moment is when now will be at, for a timer.
func (c *clock) moment(at int64) time.Time {
	return c.began.Add(time.Duration(min(at, 1<<62) - c.slept))
}
