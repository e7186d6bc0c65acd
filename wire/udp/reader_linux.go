//go:build !portable

package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader is what Receive works with; one goroutine's.
//
// A slot takes one datagram, or, with receive offload, several of one sender that the
// system left joined: equal ones, the last perhaps shorter. They are handed out one by
// one, at most Batch a Receive; what is left is next.
type reader struct {
	hdrs     [Batch]mmsghdr
	iovs     [Batch]unix.Iovec
	names    [Batch]sockaddr
	controls [Batch][controlBytes]byte
	bufs     []byte    // Batch slots; untouched pages cost nothing
	control  int       // bytes of each of controls that the kernel may use; 0 when it has nothing to tell
	dropped  [2]uint32 // overflows of each queue, as told last

	inboxes [2]inbox
	heard   int64 // see Heard
	views   [Batch]view
	n       int // of views
	bytes   int // of them

	armed time.Time // the read deadline that the poller has; zero = unknown
	tries int
	errno syscall.Errno
	wait  func(fd uintptr) bool // made once, so that no call makes a closure
	once  func(fd uintptr)
}

// inbox is the slots of one queue. What is left in one keeps nothing out of the other.
type inbox struct {
	first, most int // its slots

	got    int // of them filled
	slot   int // the first of them that is not all handed out
	offset int // bytes of it that are
	from   netip.AddrPort
	more   bool // the queue may hold more than was taken
}

// left says that something taken is not handed out yet.
func (b *inbox) left() bool { return b.slot < b.got }

// view is a datagram in its slot.
type view struct {
	from  netip.AddrPort
	start int // in bufs
	bytes int
}

// controlBytes holds the size of joined datagrams and the count of overflows, 24 bytes
// each, and whatever else a kernel may add.
const controlBytes = 64

// Receive waits for at least one datagram and gives how many there are, up to Batch. It
// gives 0, nil at the deadline, after a Wake, and when there is a refusal to be
// told. A zero deadline doesn't wait. The socket is always looked at first, and once
// more at the deadline: datagrams that wait there are never passed over for a timer.
func (s *Socket) Receive(deadline time.Time) (int, error) {
	r := &s.in
	r.n = 0
	if r.inboxes[serversQueue].left() || r.inboxes[clientsQueue].left() {
		if s.queued == 1 {
			return s.hand(), nil
		}
		deadline = time.Time{} // of the other queue something may be there
	}
	if s.own != nil {
		return s.receiveOwn(deadline)
	}
	if deadline.IsZero() || s.woken.Load() {
		s.woken.Store(false)
		return s.poll()
	}
	if deadline != r.armed {
		if err := s.file.SetReadDeadline(deadline); err != nil {
			return 0, s.failed(err)
		}
		r.armed = deadline
	}
	// From here on Wake moves the deadline itself. It sets woken before it looks at
	// sleeping, we set sleeping before we look at woken: one of the two sees the other.
	s.sleeping.Store(true)
	if s.woken.Load() {
		s.sleeping.Store(false)
		s.woken.Store(false)
		return s.poll()
	}
	r.tries, r.errno = 0, 0
	err := s.raw.Read(r.wait)
	s.sleeping.Store(false)
	if s.woken.Swap(false) {
		r.armed = time.Time{}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.armed = time.Time{} // perhaps not ours but a late Wake's: set it anew next time
		return s.poll()
	}
	if err != nil {
		return 0, s.failed(err)
	}
	return s.collect()
}

// poll takes what is there without waiting, whatever the read deadline says.
func (s *Socket) poll() (int, error) {
	s.in.errno = 0
	if err := s.raw.Control(s.in.once); err != nil {
		return 0, s.failed(err)
	}
	return s.collect()
}

// collect begins to hand out what the kernel gave.
func (s *Socket) collect() (int, error) {
	if e := s.in.errno; e != 0 && e != unix.EAGAIN {
		return 0, fmt.Errorf("udp: receive at %s: %w", s.local, os.NewSyscallError("recvmmsg", e))
	}
	return s.hand(), nil
}

// hand gives the next Batch of what lies in the slots: servers' first, though some is always
// of clients if there is any.
func (s *Socket) hand() int {
	r := &s.in
	r.n = 0
	r.bytes = 0
	if s.queued > 1 {
		s.handFrom(&r.inboxes[serversQueue], Batch-leastSlots, BatchBytes-leastBytes)
		s.handFrom(&r.inboxes[clientsQueue], Batch, BatchBytes)
	} else {
		s.handFrom(&r.inboxes[serversQueue], Batch, BatchBytes)
	}
	s.counters.received.Add(uint64(r.n))
	return r.n
}

// handFrom adds views of one queue's slots until there are so many, or so many bytes. What a slot had no room
// for is dropped, and so is what came joined without a word on how to part it.
func (s *Socket) handFrom(b *inbox, most, mostBytes int) {
	r := &s.in
	for ; b.left() && r.n < most && r.bytes < mostBytes; b.slot, b.offset = b.slot+1, 0 {
		at := b.first + b.slot
		h := &r.hdrs[at].hdr
		size, total := 0, int(r.hdrs[at].n)
		if h.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			s.truncated.Add(1)
			continue
		}
		if h.Controllen > 0 {
			size = joinedSize(r.controls[at][:min(int(h.Controllen), controlBytes)])
		}
		if size <= 0 || size >= total {
			size = max(1, total) // one by itself, perhaps of no bytes
		} else if b.offset == 0 {
			s.counters.joined.Add(1)
		}
		if b.offset == 0 {
			b.from = r.names[at].get()
		}
		for r.n < most && r.bytes < mostBytes && (b.offset < total || b.offset == 0) {
			n := min(size, total-b.offset)
			r.views[r.n] = view{b.from, at*slotBytes + b.offset, n}
			r.n++
			r.bytes += n
			b.offset += size
		}
		if b.offset < total {
			return // the batch is full in the midst of a slot
		}
	}
}

// joinedSize is the size of the datagrams that the system joined into one, from the
// control messages that came with it; 0 = it joined none.
func joinedSize(control []byte) int {
	for m := range controlMessages(control) {
		if m.level == unix.SOL_UDP && m.kind == unix.UDP_GRO && len(m.data) >= 4 {
			return int(*(*int32)(unsafe.Pointer(&m.data[0])))
		}
	}
	return 0
}

// Drained says that the last Receive left nothing in the socket that was there when it
// looked; of one with two queues, nothing of servers: no flood of clients' holds up who
// waits for silence.
func (s *Socket) Drained() bool {
	b := &s.in.inboxes[serversQueue]
	return !b.left() && !b.more
}

// Heard is how many bytes of the kernel's buffer, at least, all that was received from
// servers has taken there. When it has grown by Capacity, all has been heard that lay there
// before: so who never finds a flooded socket drained knows at some time, too.
func (s *Socket) Heard() int64 { return s.in.heard }

// Capacity is how many bytes of datagrams the kernel's buffer holds, with its own of each.
func (s *Socket) Capacity() int64 { return 2 * int64(s.sizes[0]) }

// leastCharge is what the kernel charges at least for what it queues, however small: its own
// bookkeeping alone is more.
const leastCharge = 512

// Datagram is the i-th datagram of the last Receive, and where it came from. The bytes
// are valid until the next Receive.
func (s *Socket) Datagram(i int) ([]byte, netip.AddrPort) {
	if i >= s.in.n {
		panic("udp: no such datagram")
	}
	v := &s.in.views[i]
	return s.in.bufs[v.start:][:v.bytes:v.bytes], v.from
}

func (r *reader) prepare(s *Socket) {
	r.bufs = make([]byte, Batch*slotBytes)
	if s.offload.receive || s.tellsOverflows {
		r.control = controlBytes
	}
	r.inboxes[serversQueue].most = Batch
	if s.queued > 1 {
		r.inboxes[serversQueue].most = Batch / 2
		r.inboxes[clientsQueue] = inbox{first: Batch / 2, most: Batch / 2}
	}
	for i := range r.hdrs {
		r.iovs[i].Base = &r.bufs[i*slotBytes]
		r.iovs[i].SetLen(slotBytes)
		h := &r.hdrs[i].hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		if r.control > 0 {
			h.Control = &r.controls[i][0]
		}
	}
	r.once = func(uintptr) { r.takeAll(s, everyQueue) }
	r.wait = func(uintptr) bool {
		r.takeAll(s, everyQueue)
		r.tries++
		if r.errno != unix.EAGAIN {
			return true
		}
		// Woken, and nothing there: it was the error queue, whose pending error a
		// send may have taken. Told to the caller as an empty batch.
		over := r.tries > 1 && s.drain() > 0
		if !over {
			s.counters.waits.Add(1)
		}
		return over
	}
}

// takeAll fills the slots from the queues named, without waiting; one whose slots are not all
// handed out keeps them.
func (r *reader) takeAll(s *Socket, queues uint) {
	any, refused := false, false
	r.errno = unix.EAGAIN
	for i := range s.queued {
		b := &r.inboxes[i]
		switch {
		case b.left():
			any = true
			continue
		case queues&(1<<i) == 0:
			b.got, b.slot, b.offset, b.more = 0, 0, 0, false
			continue
		}
		var e syscall.Errno
		b.got, e = r.take(s, s.queues[i], b.first, b.most)
		b.slot, b.offset, b.more = 0, 0, b.got == b.most
		if i == serversQueue {
			for at := b.first; at < b.first+b.got; at++ {
				r.heard += max(leastCharge, int64(r.hdrs[at].n))
			}
		}
		any, refused = any || b.got > 0, refused || b.got == 0 && e == 0
		if e != 0 && e != unix.EAGAIN {
			r.errno = e
			return
		}
	}
	if any || refused {
		r.errno = 0
	}
}

// take receives from one queue into the slots from first on, at most so many, without
// waiting. A pending ICMP error comes before the data: it is drained, and data is asked
// for again; with none, the empty batch makes the caller look at Refused.
func (r *reader) take(s *Socket, fd uintptr, first, most int) (int, syscall.Errno) {
	refused := 0
	for range 8 {
		for i := first; i < first+most; i++ { // the kernel shortened them
			r.hdrs[i].hdr.Namelen = uint32(unsafe.Sizeof(r.names[i]))
			r.hdrs[i].hdr.SetControllen(r.control)
		}
		s.counters.receiveCalls.Add(1)
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.hdrs[first])), uintptr(most), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			r.overflow(s, fd, first+int(n)-1)
			return int(n), 0
		case e == unix.EAGAIN && refused > 0:
			return 0, 0
		case e == unix.EINTR:
		case pendingError(e):
			refused += 1 + s.drain()
		default:
			return 0, e
		}
	}
	return 0, 0 // a flood of errors: an empty batch, the next Receive goes on
}
