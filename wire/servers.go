package wire

import "fmt"

// MaxServers is the longest list of servers.
const MaxServers = 128

const serverHeaderBytes = 8

// Server is where a server is said to be: all that a pool says.
type Server struct {
	ID   uint16
	Addr string // host:port; may be empty where a list only names ids
}

// AppendServers appends a list of servers in the order given:
//
//	0  count 2 | zero 6
//	8  servers, each
//	      0  id 2 | address length 1 | zero 5
//	      8  address, then zeros up to a multiple of eight
//
// It panics on a list that can't be decoded again: too long, an id out of range, an
// address for which AddrOK is false.
func AppendServers(dst []byte, servers []Server) []byte {
	fits("servers", len(servers), MaxServers)
	start := len(dst)
	dst = le.AppendUint16(dst, uint16(len(servers)))
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	for _, s := range servers {
		if s.ID == NoNode || s.ID > MaxNode || !AddrOK(s.Addr) {
			panic(fmt.Sprintf("wire: server %d at %q can't be encoded", s.ID, s.Addr))
		}
		dst = le.AppendUint16(dst, s.ID)
		dst = append(dst, uint8(len(s.Addr)), 0, 0, 0, 0, 0)
		dst = appendPadded(dst, start, s.Addr)
	}
	return dst
}

// DecodeServers reads what AppendServers made, and nothing else. No bytes at all are
// an empty list.
func DecodeServers(b []byte) ([]Server, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < serverHeaderBytes {
		return nil, ErrShort
	}
	count := int(le.Uint16(b))
	if !zero(b[2:8]) {
		return nil, ErrReserved
	}
	if count > MaxServers {
		return nil, ErrValue
	}
	servers, p := make([]Server, 0, count), b[serverHeaderBytes:]
	for range count {
		if len(p) < serverHeaderBytes {
			return nil, ErrShort
		}
		n := serverHeaderBytes + int(p[2])
		if len(p) < pad8(n) {
			return nil, ErrShort
		}
		if !zero(p[3:8]) || !zero(p[n:pad8(n)]) {
			return nil, ErrReserved
		}
		id, addr := le.Uint16(p), p[serverHeaderBytes:n]
		if id == NoNode || id > MaxNode || !addrOK(addr) {
			return nil, ErrValue
		}
		servers = append(servers, Server{ID: id, Addr: string(addr)})
		p = p[pad8(n):]
	}
	if len(p) != 0 {
		return nil, ErrTrailing
	}
	return servers, nil
}
