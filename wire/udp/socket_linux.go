//go:build !portable

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

	"golang.org/x/sys/unix"
)

// mmsghdr is the kernel's struct mmsghdr: x/sys has none. Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// Socket is a bound UDP socket.
type Socket struct {
	file  *os.File // non-blocking, on the poller; its RawConn makes no garbage, unlike net's. nil with own
	raw   syscall.RawConn
	own   *own // past the poller; nil: by it
	local netip.AddrPort
	v6    bool

	queues [2]uintptr // descriptors to receive from; the first is sent by
	queued int        // how many there are; file is the one, or an epoll descriptor of both

	sizes [2]int // of the kernel's buffers: receive, send

	tellsOverflows bool // the kernel does
	offload
	counters
	refused refusals

	woken    atomic.Bool // Wake was called, and no Receive has ended by it yet
	sleeping atomic.Bool // a Receive waits, or is about to, with its deadline set
	closed   atomic.Bool

	reading sync.Mutex // a Receive is under way, with own
	in      reader

	mu  sync.Mutex // of out
	out writer
}

// Listen binds addr (IPv4, or IPv6; [::] takes both). Errors are the operator's.
func Listen(addr netip.AddrPort, o Options) (*Socket, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.Addr().IsValid() {
		return nil, fmt.Errorf("udp: listen: no address given")
	}
	s := &Socket{v6: addr.Addr().Is6()}
	var err error
	if o.Apart {
		err = s.listenApart(addr, o)
	}
	if !o.Apart || err != nil && unsteered(err) {
		err = s.listenOne(addr, o)
	}
	if err != nil {
		return nil, fmt.Errorf("udp: listen %s: %w", addr, err)
	}
	s.in.prepare(s)
	s.out.prepare(s)
	return s, nil
}

func (s *Socket) listenOne(addr netip.AddrPort, o Options) error {
	fd, err := s.open()
	if err != nil {
		return err
	}
	if err := s.configure(fd, addr, o); err != nil {
		unix.Close(fd)
		return err
	}
	s.queues[0], s.queued = uintptr(fd), 1
	if !o.Own {
		return s.adopt(fd, addr)
	}
	if err = s.adoptOwn(); err != nil {
		unix.Close(fd)
	}
	return err
}

func (s *Socket) open() (int, error) {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

// adopt gives a descriptor to the runtime's poller; an error closes it.
func (s *Socket) adopt(fd int, addr netip.AddrPort) (err error) {
	s.file = os.NewFile(uintptr(fd), "udp "+addr.String())
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.file.SetReadDeadline(time.Time{}) // fails if the poller did not take it
	}
	if err != nil {
		s.file.Close()
	}
	return err
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
	s.neverFragment(fd)
	s.tellOverflows(fd)
	if !o.Plain {
		s.offload = detect(fd)
	}
	s.sizes[0] = buffer(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, o.ReceiveBuffer)
	s.sizes[1] = buffer(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, o.SendBuffer)

	return s.bind(fd, addr)
}

// buffer asks for a kernel buffer, past the system's bound where we may, and gives the size
// that came of it. The kernel doubles what it grants, for its own book-keeping.
func buffer(fd, option, force, bytes int) int {
	if bytes == 0 {
		bytes = DefaultBuffer
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bytes) // clamped, not refused: read back
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return n / 2
}

// neverFragment has every datagram leave with "don't fragment" set, whatever the system
// believes of the path: one that is too large is lost, and so found out by whoever
// searches the path (wire.Path), where fragments would hide it and multiply every loss.
// A system that knows no such option fragments, and only that.
func (s *Socket) neverFragment(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if s.v6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	}
}

// offload says what the system does many datagrams at a time.
type offload struct{ send, receive bool }

// detect asks the kernel. That it knows a run of datagrams says nothing of the devices
// on the way: a run that one refuses goes as single datagrams (writer.part).
func detect(fd int) (o offload) {
	_, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
	o.send = err == nil
	o.receive = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	return o
}

// Apart says whether servers' and clients' datagrams wait in queues of their own.
func (s *Socket) Apart() bool { return s.queued > 1 }

// Offload says whether the system takes, and gives, several datagrams as one.
func (s *Socket) Offload() (send, receive bool) { return s.offload.send, s.offload.receive }

// LocalAddr is the address bound, with the port the system chose if 0 was asked for.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Buffers gives the bytes that the kernel granted for receiving and for sending.
func (s *Socket) Buffers() (receive, send int) { return s.sizes[0], s.sizes[1] }

// Counts gives the totals since Listen.
func (s *Socket) Counts() Counts { return s.counters.load() }

// Refused visits the destinations that answered "port unreachable" since the last
// call. A hint: anyone on the path can forge it.
func (s *Socket) Refused(visit func(netip.AddrPort)) { s.refused.take(visit) }

// Spin has every Receive of a socket with Options.Own look again and again for so long before it waits; 0: not at
// all. Only who receives may call it. On a processor that is shared it costs others more than it saves.
func (s *Socket) Spin(d time.Duration) {
	if s.own != nil {
		s.own.spin = d
	}
}

// BusyPoll has the system look at the card itself for so long when a queue is empty, where it can and we may.
func (s *Socket) BusyPoll(d time.Duration) {
	for _, fd := range s.queues[:s.queued] {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUSY_POLL, int(d.Microseconds()))
	}
}

// Wake ends the Receive in progress, or the next one. Any goroutine may call it.
func (s *Socket) Wake() {
	switch {
	case s.woken.Swap(true) || !s.sleeping.Load():
	case s.own != nil:
		s.own.rouse()
	default:
		_ = s.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, which wakes too
	}
}

// Close ends the socket, and a Receive in progress.
func (s *Socket) Close() error {
	if s.closed.Swap(true) {
		return ErrClosed
	}
	if s.own != nil {
		return s.closeOwn()
	}
	err := s.file.Close() // returns when nobody works with the descriptors any more
	if s.queued > 1 {
		err = errors.Join(err, s.closeQueues())
	}
	return err
}

func (s *Socket) closeQueues() (err error) {
	for _, fd := range s.queues[:s.queued] {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(int(fd))))
	}
	return err
}

func (s *Socket) failed(err error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return fmt.Errorf("udp: socket %s: %w", s.local, err)
}
