package node

import (
	"testing"
	"time"
)

func TestTheClockCountsTheTimeOfASuspendedMachine(t *testing.T) {
	began, asleep := time.Now(), int64(0)
	c := newClock(func() (int64, bool) { return int64(time.Since(began)) + asleep, true })
	before := c.now()
	if c.slept != 0 {
		t.Errorf("slept %d ns", c.slept)
	}
	asleep = int64(time.Hour)
	after := c.now()
	if after-before < asleep-sleepNoticed {
		t.Errorf("%d ns passed, slept %d", after-before, asleep)
	}
	if again := c.now(); again < after || again-after > asleep/2 {
		t.Errorf("from %d to %d: an hour counts once", after, again)
	}
	if left := time.Until(c.moment(after + int64(time.Minute))); left > time.Minute || left < -time.Hour/2 {
		t.Errorf("a timer for a minute rings in %v", left)
	}
}

func TestTheClockGoesOnWithoutAClockThatCountsSleep(t *testing.T) {
	c := newClock(func() (int64, bool) { return 1 << 60, false })
	before := c.now()
	if after := c.now(); after < before || c.slept != 0 {
		t.Errorf("from %d to %d, slept %d", before, after, c.slept)
	}
}

func TestReadingTheClockAllocatesNothing(t *testing.T) {
	c := newClock(sinceBoot)
	if n := testing.AllocsPerRun(100, func() { c.now() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
