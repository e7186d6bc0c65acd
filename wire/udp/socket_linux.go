package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"balsa/wire"
)

// mmsghdr is the kernel's struct mmsghdr: x/sys has none. Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// Socket is a bound UDP socket.
type Socket struct {
	file  *os.File // non-blocking, on the poller; its RawConn makes no garbage, unlike net's
	raw   syscall.RawConn
	local netip.AddrPort
	v6    bool
	sizes [2]int // of the kernel's buffers: receive, send
	counters
	refused refusals

	woken    atomic.Bool // Wake was called, and no Receive has ended by it yet
	sleeping atomic.Bool // a Receive waits, or is about to, with its deadline set
	closed   atomic.Bool

	in reader

	mu  sync.Mutex // of out
	out writer
}

// reader is what Receive works with; one goroutine's.
type reader struct {
	hdrs  [Batch]mmsghdr
	iovs  [Batch]unix.Iovec
	names [Batch]sockaddr
	froms [Batch]netip.AddrPort
	bufs  []byte // Batch slots; untouched pages cost nothing
	good  [Batch]int
	n     int // datagrams in good

	armed time.Time // the read deadline that the poller has; zero = unknown
	tries int
	got   int
	errno syscall.Errno
	wait  func(fd uintptr) bool // made once, so that no call makes a closure
	once  func(fd uintptr)
}

// Listen binds addr (IPv4, or IPv6; [::] takes both). Errors are the operator's.
func Listen(addr netip.AddrPort, o Options) (*Socket, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.Addr().IsValid() {
		return nil, fmt.Errorf("udp: listen: no address given")
	}
	s := &Socket{v6: addr.Addr().Is6()}
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("udp: listen %s: %w", addr, os.NewSyscallError("socket", err))
	}
	if err := s.configure(fd, addr, o); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("udp: listen %s: %w", addr, err)
	}
	s.file = os.NewFile(uintptr(fd), "udp "+addr.String())
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.file.SetReadDeadline(time.Time{}) // fails if the poller did not take it
	}
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("udp: listen %s: %w", addr, err)
	}
	s.in.prepare(s)
	s.out.prepare(s)
	return s, nil
}

// configure sets the options, binds, and reads back what the kernel made of it.
func (s *Socket) configure(fd int, addr netip.AddrPort, o Options) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil && !s.v6 {
		return os.NewSyscallError("setsockopt IP_RECVERR", err)
	}
	if s.v6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1); err != nil {
			return os.NewSyscallError("setsockopt IPV6_RECVERR", err)
		}
		only := 1
		if addr.Addr().IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	s.sizes[0] = buffer(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, o.ReceiveBuffer)
	s.sizes[1] = buffer(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, o.SendBuffer)

	var name sockaddr
	n, ok := name.put(addr, s.v6)
	if !ok {
		return fmt.Errorf("no such zone: %q", addr.Addr().Zone())
	}
	if _, _, e := syscall.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(n)); e != 0 {
		return os.NewSyscallError("bind", e)
	}
	size := uint32(unsafe.Sizeof(name))
	if _, _, e := syscall.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return os.NewSyscallError("getsockname", e)
	}
	s.local = name.get()
	return nil
}

// buffer asks for a kernel buffer, past the system's bound where we may, and gives the size
// that came of it (the kernel doubles what it grants).
func buffer(fd, option, force, bytes int) int {
	if bytes == 0 {
		bytes = defaultBuffer
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bytes) // clamped, not refused: read back
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return n
}

// LocalAddr is the address bound, with the port the system chose if 0 was asked for.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Buffers gives the sizes in bytes of the kernel's receive and send buffers.
func (s *Socket) Buffers() (receive, send int) { return s.sizes[0], s.sizes[1] }

// Counts gives the totals since Listen.
func (s *Socket) Counts() Counts { return s.counters.load() }

// Refused visits the destinations that answered "port unreachable" since the last
// call. A hint: anyone on the path can forge it.
func (s *Socket) Refused(visit func(netip.AddrPort)) { s.refused.take(visit) }

// Receive waits for at least one datagram and gives how many there are, up to Batch. It
// gives 0, nil at the deadline, after a Wake, and when there is a refusal to be
// told. A zero deadline doesn't wait. The socket is always looked at first, and once
// more at the deadline: datagrams that wait there are never passed over for a timer.
func (s *Socket) Receive(deadline time.Time) (int, error) {
	r := &s.in
	r.n = 0
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
	r.tries, r.got, r.errno = 0, 0, 0
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
	s.in.got, s.in.errno = 0, 0
	if err := s.raw.Control(s.in.once); err != nil {
		return 0, s.failed(err)
	}
	return s.collect()
}

// collect sorts out what the kernel gave: too large ones are dropped.
func (s *Socket) collect() (int, error) {
	r := &s.in
	if r.errno != 0 && r.errno != unix.EAGAIN {
		return 0, fmt.Errorf("udp: receive at %s: %w", s.local, os.NewSyscallError("recvmmsg", r.errno))
	}
	for i := range r.got {
		h := &r.hdrs[i]
		if h.hdr.Flags&unix.MSG_TRUNC != 0 {
			s.truncated.Add(1)
			continue
		}
		r.froms[r.n] = r.names[i].get()
		r.good[r.n] = i
		r.n++
	}
	s.counters.received.Add(uint64(r.n))
	return r.n, nil
}

// Datagram is the i-th datagram of the last Receive, and where it came from. The bytes
// are valid until the next Receive.
func (s *Socket) Datagram(i int) ([]byte, netip.AddrPort) {
	if i >= s.in.n {
		panic("udp: no such datagram")
	}
	slot := s.in.good[i]
	n := int(s.in.hdrs[slot].n)
	return s.in.bufs[slot*slotBytes:][:n:n], s.in.froms[i]
}

// Wake ends the Receive in progress, or the next one. Any goroutine may call it.
func (s *Socket) Wake() {
	if !s.woken.Swap(true) && s.sleeping.Load() {
		_ = s.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, which wakes too
	}
}

// Close ends the socket, and a Receive in progress.
func (s *Socket) Close() error {
	if s.closed.Swap(true) {
		return ErrClosed
	}
	return s.file.Close()
}

func (s *Socket) failed(err error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return fmt.Errorf("udp: socket %s: %w", s.local, err)
}

func (r *reader) prepare(s *Socket) {
	r.bufs = make([]byte, Batch*slotBytes)
	for i := range r.hdrs {
		r.iovs[i].Base = &r.bufs[i*slotBytes]
		r.iovs[i].SetLen(slotBytes)
		h := &r.hdrs[i].hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
	}
	r.once = func(fd uintptr) { r.try(s, fd) }
	r.wait = func(fd uintptr) bool {
		r.try(s, fd)
		r.tries++
		if r.errno != unix.EAGAIN {
			return true
		}
		// Woken, and nothing there: it was the error queue, whose pending error a
		// send may have taken. Told to the caller as an empty batch.
		return r.tries > 1 && s.drain(fd) > 0
	}
}

// try receives without waiting. A pending ICMP error comes before the data: it is
// drained, and data is asked for again; with none, the empty batch makes the caller
// look at Refused.
func (r *reader) try(s *Socket, fd uintptr) {
	refused := 0
	for range 8 {
		for i := range r.hdrs {
			r.hdrs[i].hdr.Namelen = uint32(unsafe.Sizeof(r.names[i])) // the kernel shortened it
		}
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.hdrs)), Batch, unix.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			r.got, r.errno = int(n), 0
			return
		}
		r.got, r.errno = 0, e
		switch {
		case e == unix.EAGAIN:
			if refused > 0 {
				r.errno = 0
			}
			return
		case e == unix.EINTR:
		case pendingError(e):
			refused += 1 + s.drain(fd)
		default:
			return
		}
	}
	r.errno = 0 // a flood of errors: an empty batch, the next Receive goes on
}

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
		if err := s.raw.Control(w.send); err != nil {
			return s.failed(err)
		}
		w.release()
		if w.errno != 0 {
			return fmt.Errorf("udp: send from %s: %w", s.local, os.NewSyscallError("sendmmsg", w.errno))
		}
	}
	return nil
}

// writer is what Send works with, under the socket's lock.
type writer struct {
	s     *Socket
	hdrs  [Batch]mmsghdr
	iovs  [Batch]unix.Iovec
	names [Batch]sockaddr
	n     int // filled
	errno syscall.Errno
	send  func(fd uintptr)
}

func (w *writer) prepare(s *Socket) {
	w.s = s
	for i := range w.hdrs {
		h := &w.hdrs[i].hdr
		h.Iov = &w.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&w.names[i]))
	}
	w.send = w.flush
}

// fill takes packets from the front of p, up to a batch, and gives how many; those that
// can't go anywhere (no bytes, no address of this family) count as lost.
func (w *writer) fill(p []wire.Packet) int {
	w.n = 0
	for i := range p {
		if w.n == Batch {
			return i
		}
		size, ok := w.names[w.n].put(p[i].To, w.s.v6)
		if !ok || len(p[i].Bytes) == 0 {
			w.s.lost.Add(1)
			continue
		}
		w.iovs[w.n].Base = &p[i].Bytes[0]
		w.iovs[w.n].SetLen(len(p[i].Bytes))
		w.hdrs[w.n].hdr.Namelen = size
		w.n++
	}
	return len(p)
}

// flush sends what is filled.
func (w *writer) flush(fd uintptr) {
	repeats := 0
	for at := 0; at < w.n; {
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.hdrs[at])), uintptr(w.n-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			w.s.sent.Add(uint64(n))
			at += int(n)
			repeats = 0
		case fatal(e):
			w.errno = e
			return
		case e == unix.EINTR:
		case pendingError(e) && repeats < 8:
			repeats++
			if w.s.drain(fd) > 0 {
				w.s.Wake() // this may not be the goroutine that looks at Refused
			} else if repeats > 1 {
				repeats = 8 // nothing is pending: the error is this datagram's own
			}
		default: // this one is lost, not those behind it
			w.s.lost.Add(1)
			at++
			repeats = 0
		}
	}
}

// release lets go of the packets' bytes.
func (w *writer) release() {
	for i := range w.n {
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

// pendingError is an error that an earlier datagram's ICMP answer may have left behind.
func pendingError(e syscall.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENOPROTOOPT,
		unix.EPROTO, unix.EMSGSIZE, unix.EACCES, unix.EOPNOTSUPP, unix.ENONET:
		return true
	}
	return false
}
