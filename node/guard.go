package node

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"balsa/wal"
)

// A follower, and a leader with little to do, writes and syncs inside its loop:
// no goroutine is woken for it. The guard sees to it that a sync which takes
// long, or for ever, does not silence the server: it takes the loop over, and
// the goroutine that is inside the sync is from then on what the writer is for
// a leader.
//
//	loop ---- begins a sync ----> inside ---- it ends in time ----> loop
//	                                 |
//	                                 `-- Patience passes -------> the guard's goroutine is the loop,
//	                                                               this one says how the sync ended, and ends
type guard struct {
	inside   atomic.Int64 // since when the loop is inside a sync, by lasts; 0: it is not
	patience atomic.Int64 // ns, of the sync under way
	armed    atomic.Bool  // the timer runs
	timer    *time.Timer
}

// ErrDiskHangs ends a server that cannot wait for its disk any longer.
var ErrDiskHangs = errors.New("stopped without waiting for the disk: a write or a sync does not end")

// hangWait is how long a server that stops waits for its disk.
const hangWait = 2 * time.Second

// guarded makes a batch durable inside the loop. It says whether the loop is
// still the caller's: if not, the result is on its way to whoever has it now.
func (s *shell) guarded(b *wal.Batch) (mine bool, err error) {
	began, patience := s.lasts(), s.node.Patience()
	s.guard.patience.Store(patience)
	s.guard.inside.Store(began)
	if !s.guard.armed.Load() {
		s.guard.armed.Store(true)
		s.guard.timer.Reset(time.Duration(patience))
	}
	err = persistBatch(b)
	if s.guard.inside.CompareAndSwap(began, 0) {
		return true, err
	}
	s.finished <- finished{batch: b, err: s.whenSpace(b, err)} // there is room: one batch is out at most
	s.socket.Wake()
	s.workers.Done()
	return false, nil
}

// watch is what the timer starts: it looks whether the loop is inside a sync,
// and is the loop if that has lasted too long. With no sync under way it rests
// until the next one.
func (s *shell) watch(ctx context.Context) {
	s.guard.armed.Store(false)
	since := s.guard.inside.Load()
	if since == 0 {
		return
	}
	if left := since + s.guard.patience.Load() - s.lasts(); left > 0 {
		s.guard.armed.Store(true)
		s.guard.timer.Reset(time.Duration(left))
		return
	}
	s.workers.Add(1) // for the one that is inside, before it can know
	if !s.guard.inside.CompareAndSwap(since, 0) {
		s.workers.Done()
		return
	}
	s.run(ctx)
}

// lasts is the guard's own time: the loop's clock belongs to the loop.
func (s *shell) lasts() int64 { return int64(time.Since(s.clock.began)) + 1 }

// run is the loop until it ends for good, or another goroutine has it.
func (s *shell) run(ctx context.Context) {
	if s.config.Dedicated { // what is bound is a thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	if err := s.loop(ctx); !errors.Is(err, errTaken) {
		s.ended <- err
	}
}

var errTaken = errors.New("another goroutine is the loop now")

// rest waits until nothing of ours is with the disk any more; not for ever.
func (s *shell) rest() error {
	done := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(hangWait):
		return ErrDiskHangs
	}
}
