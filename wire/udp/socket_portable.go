//go:build !linux || portable

package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"balsa/wire"
)

// noWait stands for not waiting: a deadline that has passed would keep the standard
// library from looking at all.
const noWait = 50 * time.Microsecond

// Socket is a bound UDP socket.
type Socket struct {
	conn  *net.UDPConn
	local netip.AddrPort
	counters
	refused refusals

	woken    atomic.Bool
	sleeping atomic.Bool
	closed   atomic.Bool

	buf   []byte
	n     int // bytes of the datagram
	got   int // 0 or 1
	heard int64
	from  netip.AddrPort
}

// Listen binds addr. Errors are the operator's.
func Listen(addr netip.AddrPort, o Options) (*Socket, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("udp: listen %s: %w", addr, err)
	}
	if o.ReceiveBuffer == 0 {
		o.ReceiveBuffer = DefaultBuffer
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = DefaultBuffer
	}
	_ = conn.SetReadBuffer(o.ReceiveBuffer) // refused past the system's bound: it keeps its own
	_ = conn.SetWriteBuffer(o.SendBuffer)
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	return &Socket{conn: conn, local: local, buf: make([]byte, slotBytes)}, nil
}

// LocalAddr is the address bound, with the port the system chose if 0 was asked for.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Buffers gives 0, 0: sizes are not read back here.
func (s *Socket) Buffers() (receive, send int) { return 0, 0 }

// Counts gives the totals since Listen.
func (s *Socket) Counts() Counts { return s.counters.load() }

// Refused visits the destinations that are known to have refused. Unconnected
// sockets of this system are not told, so there are none.
func (s *Socket) Refused(visit func(netip.AddrPort)) { s.refused.take(visit) }

// Receive waits for a datagram and gives 1, or 0, nil at the deadline or after a Wake.
// A zero deadline, or one that has passed, takes what is there.
func (s *Socket) Receive(deadline time.Time) (int, error) {
	s.got = 0
	soon := time.Now().Add(noWait)
	if s.woken.Swap(false) || deadline.Before(soon) {
		deadline = soon
	}
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return 0, s.failed(err)
	}
	// As on Linux: Wake sets woken, then looks at sleeping; we the other way round.
	s.sleeping.Store(true)
	if s.woken.Load() {
		_ = s.conn.SetReadDeadline(soon)
	}
	s.counters.receiveCalls.Add(1)
	n, from, err := s.conn.ReadFromUDPAddrPort(s.buf)
	s.sleeping.Store(false)
	s.woken.Store(false)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ECONNREFUSED):
		return 0, nil
	case err != nil:
		return 0, s.failed(err)
	}
	s.n, s.got = n, 1
	s.from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	s.counters.received.Add(1)
	s.heard += int64(n)
	return 1, nil
}

// Drained says that the last Receive found nothing: it takes one datagram at a time, and
// only an empty socket proves that no other waits.
func (s *Socket) Drained() bool { return s.got == 0 }

// Heard is how many bytes of the system's buffer, at least, all that was received has taken there.
func (s *Socket) Heard() int64 { return s.heard }

// Capacity is how many bytes the system's buffer may hold: it is not read back here, so what was asked for.
func (s *Socket) Capacity() int64 { return 2 * DefaultBuffer }

// Apart says that there is one queue for all.
func (s *Socket) Apart() bool { return false }

// Offload says that every datagram is a call of its own.
func (s *Socket) Offload() (send, receive bool) { return false, false }

// Datagram is the i-th datagram of the last Receive, and where it came from. The bytes
// are valid until the next Receive.
func (s *Socket) Datagram(i int) ([]byte, netip.AddrPort) {
	if i >= s.got {
		panic("udp: no such datagram")
	}
	return s.buf[:s.n:s.n], s.from
}

// Send hands all packets to the system, in order; what it does not take counts as lost.
func (s *Socket) Send(p []wire.Packet) error {
	for i := range p {
		s.counters.sendCalls.Add(1)
		if _, err := s.conn.WriteToUDPAddrPort(p[i].Bytes, p[i].To); err != nil {
			if s.closed.Load() {
				return ErrClosed
			}
			s.lost.Add(1)
			continue
		}
		s.sent.Add(1)
	}
	return nil
}

// Spin does nothing here.
func (s *Socket) Spin(time.Duration) {}

// BusyPoll does nothing here.
func (s *Socket) BusyPoll(time.Duration) {}

// Wake ends the Receive in progress, or the next one. Any goroutine may call it.
func (s *Socket) Wake() {
	if !s.woken.Swap(true) && s.sleeping.Load() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, which wakes too
	}
}

// Close ends the socket, and a Receive in progress.
func (s *Socket) Close() error {
	if s.closed.Swap(true) {
		return ErrClosed
	}
	return s.conn.Close()
}

func (s *Socket) failed(err error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return fmt.Errorf("udp: socket %s: %w", s.local, err)
}
