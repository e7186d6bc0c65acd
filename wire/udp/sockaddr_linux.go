//go:build !portable

package udp

import (
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr holds a socket address of either family, as the kernel lays it out.
type sockaddr struct {
	unix.RawSockaddrInet6 // the larger one
}

// put writes a, as an address for a socket of the given family, and gives its size in
// bytes; false when such a socket can't reach it.
func (s *sockaddr) put(a netip.AddrPort, v6 bool) (uint32, bool) {
	ip := a.Addr()
	if !ip.IsValid() {
		return 0, false
	}
	if !v6 {
		if ip = ip.Unmap(); !ip.Is4() {
			return 0, false
		}
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: ip.As4()}
		putPort(&in.Port, a.Port())
		return unix.SizeofSockaddrInet4, true
	}
	s.RawSockaddrInet6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: ip.As16()}
	putPort(&s.Port, a.Port())
	if zone := ip.Zone(); zone != "" {
		id, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			link, err := net.InterfaceByName(zone)
			if err != nil {
				return 0, false
			}
			id = uint64(link.Index)
		}
		s.Scope_id = uint32(id)
	}
	return unix.SizeofSockaddrInet6, true
}

// get reads the address, IPv4 always in its own form.
func (s *sockaddr) get() netip.AddrPort {
	switch s.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), getPort(&in.Port))
	case unix.AF_INET6:
		ip := netip.AddrFrom16(s.Addr).Unmap()
		if s.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(s.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, getPort(&s.Port))
	}
	return netip.AddrPort{}
}

// Ports stand in network order in a field of the machine's.
func putPort(field *uint16, port uint16) {
	b := (*[2]byte)(unsafe.Pointer(field))
	b[0], b[1] = byte(port>>8), byte(port)
}

func getPort(field *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(field))
	return uint16(b[0])<<8 | uint16(b[1])
}
