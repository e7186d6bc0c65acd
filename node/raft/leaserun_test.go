package raft

import "testing"

// The runs of SAFETY 1 and 2, with three servers and the judge that lets nobody lead beside a lease.

// leaseWorld has a cluster that leads with leases; what it was sent and told is settled.
func leaseWorld(t *testing.T, timeout int64) (*world, *host) {
	t.Helper()
	w := newWorld(1, Config{Timeout: timeout, LargestTimeout: 1000 * msec, Heartbeat: 10 * msec, Resend: 20 * msec}, leasing(voters(1, 2, 3)), 1, 2, 3)
	l := w.host(1)
	w.now = l.core.Deadline()
	l.core.Tick(w.now)
	w.take(l)
	w.calm()
	if !l.core.Leased(w.now) {
		t.Fatalf("no lease: %+v", l.core.Status())
	}
	return w, l
}

// calm delivers and syncs until nothing moves, among those that hear.
func (w *world) calm(deaf ...uint16) {
	hears := func(id uint16) bool {
		for _, d := range deaf {
			if d == id {
				return false
			}
		}
		return true
	}
	for moved := true; moved; {
		moved = false
		net := w.net
		w.net = nil
		for _, p := range net {
			if hears(p.To) && hears(p.From) {
				w.deliver(p)
				moved = true
			}
		}
		for _, h := range w.hosts {
			for h.up && w.sync(h) {
				moved = true
			}
		}
	}
}

// without lets the others go on without the leader, a millisecond at a time, until one of them leads; at each step
// the old one is asked for a read. It gives when the new one led, and when the old one last served at once.
func (w *world) without(l *host, each func()) (led, served int64) {
	start := w.now
	for w.now < start+5000*msec {
		w.now += msec
		each()
		for _, h := range w.hosts {
			if h != l && h.core.Deadline() <= w.now {
				h.core.Tick(w.now)
				w.take(h)
			}
		}
		w.calm(l.id)
		for _, h := range w.hosts {
			if h != l && h.core.Role() == Leader && h.core.commit > 1 {
				return w.now - start, served
			}
		}
		before := l.core.LeaseReads()
		if l.core.Role() == Leader && w.read(l) == nil && l.core.LeaseReads() > before {
			served = w.now - start
		}
	}
	return 0, served
}

// T is 1 s as a lease is granted; it shrinks to 100 ms, the acknowledgement is lost, and the leader is cut off.
func TestAShrinkingTimeoutWithItsAnswerLostElectsNobodyInsideALeaseSafety1(t *testing.T) {
	w, l := leaseWorld(t, 1000*msec)
	for _, h := range w.hosts {
		h.core.SetTimes(100*msec, h.core.cfg.Heartbeat, h.core.cfg.Resend)
	}
	w.now = l.core.Deadline()
	l.core.Tick(w.now)
	w.take(l)
	for _, p := range w.net {
		w.deliver(p)
	}
	w.net = nil // the acknowledgements
	led, served := w.without(l, func() {})
	if led < 980*msec || served < 780*msec || served >= led {
		t.Errorf("the new leader's term began to commit after %d ms, the old one served until %d ms", led/msec, served/msec)
	}
}

// Someone says of the leader, which lives, that its process is gone.
func TestForgedRefusalsElectNobodyInsideALeaseSafety2(t *testing.T) {
	w, l := leaseWorld(t, 200*msec)
	led, served := w.without(l, func() {
		for _, h := range w.hosts {
			if h != l {
				h.core.Refused(w.now, l.id)
			}
		}
	})
	if led < 200*msec || served < 150*msec || served >= led {
		t.Errorf("the new leader's term began to commit after %d ms, the old one served until %d ms", led/msec, served/msec)
	}
}

// The voters restart while the leader, cut off, still has its lease.
func TestRestartedVotersElectNobodyInsideALeaseSafety2(t *testing.T) {
	w, l := leaseWorld(t, 1000*msec)
	for _, h := range w.hosts {
		if h != l {
			w.crash(h, 0)
			w.start(h)
		}
	}
	led, served := w.without(l, func() {})
	if led < 1000*msec || served < 780*msec {
		t.Errorf("the new leader's term began to commit after %d ms, the old one served until %d ms", led/msec, served/msec)
	}
}
