//go:build !portable

package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"balsa/wire"
)

// One address, two queues: what servers send and what clients send wait in the kernel
// apart, each in a buffer of its own, so that no flood of clients' datagrams keeps a
// heartbeat out. Two sockets are bound to the address, and a filter of four instructions
// looks at the header's source. Both are read by one Receive, servers' first: an epoll
// descriptor that holds both stands in the runtime's poller for them. All is sent by the
// first.
const (
	serversQueue = 0
	clientsQueue = 1

	// sourceOffset is where the header tells its sender. A client's number is the same in
	// either order of its bytes, so the filter need not know which is ours.
	sourceOffset = 8

	// leastSlots of a Receive are left to clients, however many datagrams of servers (or
	// of who says so) there are. Each queue has half of the slots that the kernel fills, so
	// that what is left of a flood's runs does not keep the other queue from being looked at.
	leastSlots = Batch / 4
	leastBytes = BatchBytes / 4
)

// listenApart opens both sockets. An error leaves none.
func (s *Socket) listenApart(addr netip.AddrPort, o Options) (err error) {
	if addr, err = s.free(addr); err != nil {
		return err
	}
	var fds [3]int
	opened := 0
	defer func() {
		for i := 0; err != nil && i < opened; i++ {
			unix.Close(fds[i])
		}
	}()
	for i := range 2 {
		if fds[i], err = s.open(); err != nil {
			return err
		}
		opened++
		if err = unix.SetsockoptInt(fds[i], unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
		if err = s.configure(fds[i], addr, o); err != nil {
			return err
		}
	}
	if err = steer(fds[0]); err != nil {
		return err
	}
	if o.Own {
		s.queues, s.queued = [2]uintptr{uintptr(fds[0]), uintptr(fds[1])}, 2
		return s.adoptOwn()
	}
	if fds[2], err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	opened++
	for i := range 2 {
		event := unix.EpollEvent{Events: unix.EPOLLIN}
		if err = unix.EpollCtl(fds[2], unix.EPOLL_CTL_ADD, fds[i], &event); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
		s.queues[i] = uintptr(fds[i])
	}
	if err = unix.SetNonblock(fds[2], true); err != nil { // or the runtime's poller does not take it
		return os.NewSyscallError("fcntl", err)
	}
	s.queued, err = 2, s.adopt(fds[2], addr)
	opened = 2 // the third was closed with its file
	return err
}

// free tells an address that is in use, which two sockets that may share theirs are not
// told; with port 0 it gives one that is free.
func (s *Socket) free(addr netip.AddrPort) (netip.AddrPort, error) {
	fd, err := s.open()
	if err != nil {
		return addr, err
	}
	defer unix.Close(fd)
	if err := s.bind(fd, addr); err != nil {
		return addr, err
	}
	return netip.AddrPortFrom(addr.Addr(), s.local.Port()), nil
}

// steer has the kernel put a client's datagrams into the second socket's queue.
func steer(fd int) error {
	filter := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: sourceOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: wire.ClientNode, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: clientsQueue},
		{Code: unix.BPF_RET | unix.BPF_K, K: serversQueue}, // nor does what is too short to be ours come anywhere else
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &program); err != nil {
		return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", err)
	}
	return nil
}

// everyQueue names all queues, whatever is known of them.
const everyQueue = 1<<serversQueue | 1<<clientsQueue

// bind binds, and notes the address that came of it.
func (s *Socket) bind(fd int, addr netip.AddrPort) error {
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

// unsteered errors are a kernel's that cannot keep clients apart: one queue is what it gets.
func unsteered(err error) bool {
	return errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}
