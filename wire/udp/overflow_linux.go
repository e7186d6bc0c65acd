//go:build !portable

package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel counts, for each socket, the datagrams that its receive buffer had no room
// for, and notes the count with every one that it takes from then on: what is lost is told
// with the next datagram that is not.

// tellOverflows has a socket do so; an old kernel that does not know it counts nothing.
func (s *Socket) tellOverflows(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1) == nil {
		s.tellsOverflows = true
	}
}

// overflow takes the count from the last slot that one call filled from a queue: counts
// only rise, so those before it have nothing to add.
func (r *reader) overflow(s *Socket, fd uintptr, slot int) {
	h := &r.hdrs[max(slot, 0)].hdr
	if slot < 0 || h.Controllen == 0 {
		return
	}
	queue := 0
	if fd != s.queues[0] {
		queue = 1
	}
	for m := range controlMessages(r.controls[slot][:min(int(h.Controllen), controlBytes)]) {
		if m.level == unix.SOL_SOCKET && m.kind == unix.SO_RXQ_OVFL && len(m.data) >= 4 {
			count := *(*uint32)(unsafe.Pointer(&m.data[0]))
			s.counters.overflows.Add(uint64(count - r.dropped[queue])) // it may wrap
			r.dropped[queue] = count
			return
		}
	}
}
