//go:build !portable

package udp

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"balsa/wire"
)

// Send hands all packets to the system, in order. What a transient error (a full
// buffer, a firewall, a network that is away) keeps from leaving counts as lost, as
// any datagram may be. An error that belongs to an earlier datagram is taken off
// the queue and the send repeated: no dead destination costs a live one its datagram.
func (s *Socket) Send(p []wire.Packet) error {
	if len(p) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.out
	for len(p) > 0 {
		n := w.fill(p)
		p = p[n:]
		w.errno = 0
		switch {
		case s.own == nil:
			if err := s.raw.Control(w.send); err != nil {
				return s.failed(err)
			}
		case s.closed.Load(): // Close takes the lock before it gives the descriptors back
			return ErrClosed
		default:
			w.flush(0)
		}
		w.release()
		if w.errno != 0 {
			return fmt.Errorf("udp: send from %s: %w", s.local, os.NewSyscallError("sendmmsg", w.errno))
		}
	}
	return nil
}

// writer is what Send works with, under the socket's lock.
//
// A message is one datagram, or, with send offload, a run of datagrams to one
// destination, equal in size but for the last that may be shorter, which the system
// takes as one and parts again as late as it can. Message i has counts[i] of the
// vectors, in order.
type writer struct {
	s        *Socket
	hdrs     [Batch]mmsghdr
	iovs     [Batch]unix.Iovec
	names    [Batch]sockaddr
	controls [Batch]segmentControl
	firsts   [Batch]int // the first vector of message i
	counts   [Batch]int
	n        int // messages
	packets  int // vectors
	errno    syscall.Errno
	send     func(fd uintptr)

	plain  [maxPlain]sockaddr // destinations that take no run: a ring
	plains int                // ever put there
	refuse func() bool        // a test's: whether the system is to refuse the next run
}

// segmentControl is the control message that tells the size of the parts of a run.
type segmentControl struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte
}

const (
	segmentControlLen = int(unsafe.Sizeof(unix.Cmsghdr{})) + 2
	maxRun            = 64         // datagrams; every kernel that has the offload takes as many
	maxRunBytes       = 65535 - 48 // with the largest headers still a datagram of IP
	maxPlain          = 64
)

func (w *writer) prepare(s *Socket) {
	w.s = s
	for i := range w.hdrs {
		w.hdrs[i].hdr.Name = (*byte)(unsafe.Pointer(&w.names[i]))
		c := &w.controls[i].hdr
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(segmentControlLen)
	}
	w.send = w.flush
}

// fill takes packets from the front of p, up to a batch, and gives how many; those that
// can't go anywhere (no bytes, no address of this family) count as lost.
func (w *writer) fill(p []wire.Packet) int {
	w.n, w.packets = 0, 0
	var run run
	for i := range p {
		if w.packets == Batch {
			return i
		}
		b := p[i].Bytes
		if run.takes(p[i].To, len(b)) {
			run.add(len(b))
			w.counts[w.n-1]++
		} else {
			size, ok := w.names[w.n].put(p[i].To, w.s.v6)
			if !ok || len(b) == 0 {
				w.s.lost.Add(1)
				continue
			}
			w.hdrs[w.n].hdr.Namelen = size
			w.firsts[w.n], w.counts[w.n] = w.packets, 1
			run.begin(p[i].To, len(b), w.joins(&w.names[w.n]))
			w.n++
		}
		w.iovs[w.packets].Base = &b[0]
		w.iovs[w.packets].SetLen(len(b))
		w.packets++
	}
	return len(p)
}

// run is the message being filled.
type run struct {
	to    netip.AddrPort
	size  int // of every datagram but the last
	bytes int
	count int
	open  bool // another may be added
}

func (r *run) begin(to netip.AddrPort, size int, joins bool) {
	*r = run{to: to, size: size, bytes: size, count: 1, open: joins}
}

func (r *run) takes(to netip.AddrPort, size int) bool {
	return r.open && to == r.to && size <= r.size && size > 0 && r.bytes+size <= maxRunBytes && r.count < maxRun
}

func (r *run) add(size int) {
	r.bytes += size
	r.count++
	r.open = size == r.size
}

// joins says whether runs may go to a destination.
func (w *writer) joins(to *sockaddr) bool {
	if !w.s.offload.send {
		return false
	}
	for i := range min(w.plains, maxPlain) {
		if w.plain[i] == *to {
			return false
		}
	}
	return true
}

// flush sends what is filled.
func (w *writer) flush(uintptr) {
	for i := range w.n {
		w.lay(i)
	}
	repeats := 0
	for at := 0; at < w.n; {
		n, e := w.transmit(at)
		switch {
		case e == 0:
			w.note(at, n)
			at += n
			repeats = 0
			if at < w.n && w.refuse == nil && w.s.drain() > 0 {
				w.s.Wake() // the next one met an error that this call does not tell, and cleared
			}
		case fatal(e):
			w.errno = e
			return
		case e == unix.EINTR:
		case pendingError(e) && repeats < 8:
			repeats++
			if w.s.drain() > 0 {
				w.s.Wake() // this may not be the goroutine that looks at Refused
			} else if repeats > 1 {
				repeats = 8 // nothing is pending: the error is this message's own
			}
		case w.counts[at] > 1 && !busy(e):
			w.part(at) // the same bytes again, as the datagrams that they are
			repeats = 0
		default: // this one is lost, not those behind it
			w.s.lost.Add(uint64(w.counts[at]))
			at++
			repeats = 0
		}
	}
}

// transmit hands messages from the at-th on to the system and gives how many it took.
func (w *writer) transmit(at int) (int, syscall.Errno) {
	end := w.n
	if w.refuse != nil {
		if w.counts[at] > 1 && w.refuse() {
			return 0, unix.EIO
		}
		end = at + 1
	}
	w.s.counters.sendCalls.Add(1)
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, w.s.queues[0], uintptr(unsafe.Pointer(&w.hdrs[at])), uintptr(end-at), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

// note counts n messages that the system took.
func (w *writer) note(at, n int) {
	sent, joined := 0, 0
	for _, c := range w.counts[at : at+n] {
		sent += c
		if c > 1 {
			joined += c
		}
	}
	w.s.sent.Add(uint64(sent))
	w.s.counters.offloaded.Add(uint64(joined))
}

// part makes messages of their own of the datagrams of a run that the system does not
// take, and remembers the destination: a device without checksums, a tunnel, a smaller
// path. It is no reason to do without the offload elsewhere.
func (w *writer) part(at int) {
	w.plain[w.plains%maxPlain] = w.names[at]
	w.plains++
	w.s.counters.fallbacks.Add(1)
	more := w.counts[at] - 1
	for i := w.n - 1; i > at; i-- {
		w.place(i+more, i, w.firsts[i], w.counts[i])
	}
	for i := more; i >= 0; i-- {
		w.place(at+i, at, w.firsts[at]+i, 1)
	}
	w.n += more
}

// place makes message i, to where message j goes.
func (w *writer) place(i, j, first, count int) {
	w.names[i], w.hdrs[i].hdr.Namelen = w.names[j], w.hdrs[j].hdr.Namelen
	w.firsts[i], w.counts[i] = first, count
	w.lay(i)
}

// lay points the header of message i at its vectors, and for a run at the size of its parts.
func (w *writer) lay(i int) {
	h, vectors := &w.hdrs[i].hdr, w.iovs[w.firsts[i]:]
	h.Iov = &vectors[0]
	h.SetIovlen(w.counts[i])
	h.Control = nil
	h.SetControllen(0)
	if w.counts[i] > 1 {
		w.controls[i].size = uint16(vectors[0].Len)
		h.Control = (*byte)(unsafe.Pointer(&w.controls[i]))
		h.SetControllen(int(unsafe.Sizeof(w.controls[i])))
	}
}

// release lets go of the packets' bytes.
func (w *writer) release() {
	for i := range w.packets {
		w.iovs[i].Base = nil
	}
}

// fatal errors mean that we, not the network, are wrong.
func fatal(e syscall.Errno) bool {
	switch e {
	case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.ENOSYS, unix.EDESTADDRREQ:
		return true
	}
	return false
}

// busy errors say nothing of the datagram: the same a moment later may pass.
func busy(e syscall.Errno) bool {
	switch e {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EPERM:
		return true
	}
	return false
}

// pendingError is an error that an earlier datagram's ICMP answer may have left behind.
func pendingError(e syscall.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENOPROTOOPT,
		unix.EPROTO, unix.EMSGSIZE, unix.EACCES, unix.EOPNOTSUPP, unix.ENONET:
		return true
	}
	return false
}
