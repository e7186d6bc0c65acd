//go:build !portable

package udp

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// own is how a Socket waits that its process lives for (Options.Own): in the kernel, for
// its queues and for Wake, past the runtime's poller.
//
// Whoever waits by the runtime gives its processor back, and is given one again when
// something comes; where nothing else runs, each time round also rouses the runtime's
// monitor, which then looks every 20 µs. That costs more than all we do with a datagram
// (decision 0019). So the first holdMost of a wait keep the processor: what comes soon is
// had by nobody's leave. What is to stop the world interrupts it by a signal. Whoever waits
// longer gives the processor back as any other. Before either it may look again and again
// (Spin).
//
//	Receive ---> spin ---> hold, up to holdMost ---> wait, processor given back
//	   ^           |                |                            |
//	   `-----------'--- a datagram, a refusal, Wake, the deadline'
type own struct {
	fds  [3]unix.PollFd // the queues, and last what Wake writes to
	mu   sync.Mutex     // of wake, against a Wake that comes as late as Close
	wake int            // an eventfd; -1 when it was closed
	spin time.Duration  // of each wait
}

// holdMost is how long a wait keeps its processor: longer than any server is silent in a
// cluster that works. A wait that is cut up costs more than one held to its end.
const holdMost = 20 * time.Millisecond

const wakeSlot = 2

// adoptOwn makes what Wake writes to. The queues are open; an error leaves them so.
func (s *Socket) adoptOwn() error {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	w := &own{wake: fd}
	for i := range w.fds {
		w.fds[i] = unix.PollFd{Fd: -1, Events: unix.POLLIN} // a negative one is passed over
	}
	for i := range s.queued {
		w.fds[i].Fd = int32(s.queues[i])
	}
	w.fds[wakeSlot].Fd = int32(fd)
	s.own = w
	return nil
}

// receiveOwn is Receive past the runtime's poller. Close waits until it has returned.
func (s *Socket) receiveOwn(deadline time.Time) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed.Load() {
		return 0, ErrClosed
	}
	ready, e := s.own.await(s, deadline)
	if e != 0 {
		return 0, s.failed(os.NewSyscallError("ppoll", e))
	}
	r := &s.in
	r.takeReady(s, ready)
	return s.collect()
}

// await gives the queues that have something, a bit each; none at the deadline and after a
// Wake. They are always looked at once more.
func (w *own) await(s *Socket, deadline time.Time) (ready uint, e syscall.Errno) {
	if deadline.IsZero() {
		ready, _, e = w.look(s, 0, true)
		s.woken.Store(false)
		return ready, e
	}
	// Wake sets woken before it looks at sleeping, we set sleeping before we look at woken:
	// one of the two sees the other.
	s.sleeping.Store(true)
	began, woken, over := time.Now(), false, false
	left := deadline.Sub(began)
	for ready == 0 && !woken && !over && e == 0 {
		over = s.woken.Load() || left <= 0
		switch {
		case over:
			ready, woken, e = w.look(s, 0, true)
		case deadline.Sub(began)-left < w.spin:
			ready, woken, e = w.look(s, 0, true)
		case deadline.Sub(began)-left < holdMost:
			ready, woken, e = w.look(s, min(left, holdMost), true)
		default:
			ready, woken, e = w.look(s, left, false)
		}
		if ready == 0 && !woken && !over {
			left = time.Until(deadline)
		}
	}
	s.sleeping.Store(false)
	s.woken.Store(false)
	return ready, e
}

// look asks the kernel what is there, and waits for it so long; with hold it keeps the
// processor. A signal ends a wait early.
func (w *own) look(s *Socket, wait time.Duration, hold bool) (ready uint, woken bool, e syscall.Errno) {
	timeout := unix.NsecToTimespec(int64(wait))
	var n uintptr
	for {
		s.counters.looks.Add(1)
		if hold {
			n, _, e = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds)), uintptr(len(w.fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		} else {
			n, _, e = syscall.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds)), uintptr(len(w.fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		}
		if e != unix.EINTR {
			break
		}
		if wait > 0 {
			return 0, false, 0
		}
	}
	if e != 0 || n == 0 {
		return 0, false, e
	}
	for i := range wakeSlot {
		if w.fds[i].Revents != 0 {
			ready |= 1 << i
		}
	}
	if woken = w.fds[wakeSlot].Revents != 0; woken {
		var count uint64
		_, _, _ = syscall.RawSyscall(unix.SYS_READ, uintptr(w.wake), uintptr(unsafe.Pointer(&count)), 8)
	}
	return ready, woken, 0
}

// rouse ends a wait, or the next one.
func (w *own) rouse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake < 0 {
		return
	}
	one := uint64(1)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(w.wake), uintptr(unsafe.Pointer(&one)), 8) // full: it is readable
}

// takeReady fills the slots from the queues that have something. One that has only an
// error is looked at, too: that is how a refusal is told.
func (r *reader) takeReady(s *Socket, ready uint) {
	for i := range s.queued {
		if ready&(1<<i) != 0 && s.own.fds[i].Revents&unix.POLLERR != 0 {
			s.drainQueue(s.queues[i])
		}
	}
	r.takeAll(s, ready)
	if r.errno == unix.EAGAIN {
		r.errno = 0
	}
}

// closeOwn ends a Receive in progress, and gives the descriptors back when nobody works with
// them any more.
func (s *Socket) closeOwn() error {
	s.own.rouse()
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	err := unix.Close(s.own.wake)
	s.own.wake = -1 // the number may be another file's by now
	return errors.Join(s.closeQueues(), os.NewSyscallError("close", err))
}
