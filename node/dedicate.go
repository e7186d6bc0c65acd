package node

import (
	"runtime"
	"time"
)

// dedication is what `--profile dedicated` does with the processors: the loop
// is bound to one, and before it waits it looks again and again for a while, so
// that what comes soon finds it awake. That is worth a wake-up a hop where the
// processor is its own, and costs everybody where it is not: who is driven from
// it by others, again and again, gives both up for a time.
//
//	        spinFewest processors or more
//	off ------------------------------------> spins ----.
//	                                            ^       | spinSwitches in spinLook
//	            the rest is over, and doubles   |       v
//	                                            `---- rests
//
// A rest begins at restLeast and doubles up to restMost with each that follows
// soon upon another.
type dedication struct {
	wanted   bool
	spins    bool
	lookAt   int64 // when the switches are looked at next
	switches int64 // involuntary ones of the loop's thread, at the last look
	rest     int64 // how long the last rest was
	wakeAt   int64 // when it ends
}

const (
	spinTime     = 200 * time.Microsecond // several times a wake-up: less than one pays for both
	busyPollTime = 50 * time.Microsecond
	spinFewest   = 2 // processors
	spinSwitches = 10
	spinLook     = int64(100e6) // ns
	restLeast    = int64(1e9)
	restMost     = int64(60e9)
)

// due says that the switches are to be looked at.
func (d *dedication) due(now int64) bool { return d.wanted && now >= d.lookAt }

// look takes how often the thread was driven from its processor so far, and
// says whether what it shall do has changed.
func (d *dedication) look(now, switches int64) (changed bool) {
	began, driven := d.lookAt == 0, switches-d.switches
	late := now - d.lookAt // a look that comes late has counted for longer
	d.lookAt, d.switches = now+spinLook, switches
	switch {
	case began:
		d.spins = now >= d.wakeAt
		return true
	case d.spins && driven*spinLook >= spinSwitches*(spinLook+late):
		if now-d.wakeAt > 2*d.rest {
			d.rest = 0
		}
		d.rest = min(max(2*d.rest, restLeast), restMost)
		d.spins, d.wakeAt = false, now+d.rest
		return true
	case !d.spins && now >= d.wakeAt:
		d.spins = true
		return true
	}
	return false
}

// settle begins a loop, on whichever thread: what was found out of the processors
// stays.
func (d *dedication) settle(c *Config) {
	d.wanted = c.Dedicated && c.Sole && runtime.NumCPU() >= spinFewest
	d.lookAt = 0 // its switches are other ones
}

// dedicate is the shell's part of it, once a turn.
func (s *shell) dedicate(now int64, thread *binding) {
	d := &s.dedication
	if !d.due(now) {
		return
	}
	switches, ok := drivenOff()
	if !ok {
		d.wanted = false
		return
	}
	if !d.look(now, switches) {
		return
	}
	if !d.spins {
		s.socket.Spin(0)
		thread.free()
		s.config.Logger.Info("the processor is not this server's alone: it neither spins nor is bound to one", "for_s", d.rest/1e9)
		return
	}
	processor := thread.bind()
	s.socket.Spin(spinTime)
	s.socket.BusyPoll(busyPollTime)
	s.config.Logger.Info("spinning before each wait", "us", spinTime.Microseconds(), "processor", processor)
}
