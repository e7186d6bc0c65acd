//go:build !portable

package udp

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errorQueueMost bounds one drain; the rest waits for the next.
const errorQueueMost = 64

// drain empties the socket's error queues, notes who refused, and gives how many did. Of two
// that share an address the kernel tells either.
func (s *Socket) drain() (refused int) {
	for _, fd := range s.queues[:s.queued] {
		refused += s.drainQueue(fd)
	}
	return refused
}

// drainQueue empties one. Any goroutine may: all it works with is on its own stack.
func (s *Socket) drainQueue(fd uintptr) int {
	refused := 0
	for range errorQueueMost {
		var (
			name    sockaddr
			control [512]byte
			first   byte
			iov     = unix.Iovec{Base: &first}
			h       = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&name)), Iov: &iov, Control: &control[0]}
		)
		iov.SetLen(1)
		h.Namelen = uint32(unsafe.Sizeof(name))
		h.SetIovlen(1)
		h.SetControllen(len(control))
		_, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			break
		}
		if h.Namelen > 0 && isRefusal(control[:min(int(h.Controllen), len(control))]) {
			refused++
			s.counters.refused.Add(1)
			s.refused.add(name.get())
		}
	}
	return refused
}

// isRefusal walks control messages for an extended error that came by ICMP and says that
// nobody listens on the port.
func isRefusal(control []byte) bool {
	for m := range controlMessages(control) {
		v4 := m.level == unix.SOL_IP && m.kind == unix.IP_RECVERR
		v6 := m.level == unix.SOL_IPV6 && m.kind == unix.IPV6_RECVERR
		if (v4 || v6) && len(m.data) >= int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			x := (*unix.SockExtendedErr)(unsafe.Pointer(&m.data[0]))
			byICMP := x.Origin == unix.SO_EE_ORIGIN_ICMP || x.Origin == unix.SO_EE_ORIGIN_ICMP6
			return byICMP && x.Errno == uint32(unix.ECONNREFUSED)
		}
	}
	return false
}
