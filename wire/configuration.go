package wire

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of what a Configuration may hold. The largest one fits an entry.
const (
	MaxMembers = 64 // and as many old voters
	MaxAddr    = 255
	MaxNode    = ClientNode - 1

	MemberVoter   = 1 // roles of a Member
	MemberLearner = 2

	configurationHeaderBytes = 32
	memberHeaderBytes        = 16
)

// ErrConfiguration is wrapped by all that Check finds wrong.
var ErrConfiguration = errors.New("wire: not a valid configuration")

// Configuration is who belongs to the cluster, as log entries, founding lists and
// status answers carry it.
//
//	 0  cluster 16
//	16  operation 8
//	24  flags 1: 1 leases, 2 joint | zero 1 | members 2 | old voters 2 | zero 2
//	32  members, ascending by id, each
//	       0  id 2 | role 1 | address length 1 | zero 4
//	       8  incarnation 8
//	      16  address, then zeros up to a multiple of eight
//	    old voters, ascending, 2 each, then zeros up to a multiple of eight
//
// One configuration has one encoding: equal bytes, equal configurations.
type Configuration struct {
	Cluster   [16]byte
	Leases    bool     // leaders may serve reads by a lease
	Operation uint64   // which membership change made it; 0 = founding
	Members   []Member // decoded: ascending by id
	Old       []uint16 // the old set's voters while joint, else nil
}

// Member is one server of a Configuration.
type Member struct {
	ID          uint16
	Incarnation uint64 // votes and acks count only from it; 0 = not known yet
	Role        uint8  // MemberVoter or MemberLearner
	Addr        string // host:port
}

// Check tells what of c can't be encoded: counts, ids, roles, addresses.
func (c *Configuration) Check() error {
	if len(c.Members) == 0 || len(c.Members) > MaxMembers {
		return fmt.Errorf("%w: %d members, want 1 to %d", ErrConfiguration, len(c.Members), MaxMembers)
	}
	for i := range c.Members {
		m := &c.Members[i]
		if m.ID == NoNode || m.ID > MaxNode {
			return fmt.Errorf("%w: id %d, want 1 to %d", ErrConfiguration, m.ID, MaxNode)
		}
		if m.Role != MemberVoter && m.Role != MemberLearner {
			return fmt.Errorf("%w: server %d has role %d", ErrConfiguration, m.ID, m.Role)
		}
		if m.Addr == "" || !AddrOK(m.Addr) {
			return fmt.Errorf("%w: server %d has address %q, want 1 to %d printable characters", ErrConfiguration, m.ID, m.Addr, MaxAddr)
		}
		for _, o := range c.Members[:i] {
			if o.ID == m.ID {
				return fmt.Errorf("%w: server %d stands there twice", ErrConfiguration, m.ID)
			}
		}
	}
	if c.Old != nil && len(c.Old) == 0 || len(c.Old) > MaxMembers {
		return fmt.Errorf("%w: %d old voters, want 1 to %d while joint", ErrConfiguration, len(c.Old), MaxMembers)
	}
	for i, id := range c.Old {
		if id == NoNode || id > MaxNode || slices.Contains(c.Old[:i], id) {
			return fmt.Errorf("%w: old voter %d out of range or twice", ErrConfiguration, id)
		}
	}
	return nil
}

// AppendConfiguration appends c, members and old voters in ascending order whatever
// theirs is. It panics when Check fails: what comes from an operator is checked before.
func AppendConfiguration(dst []byte, c *Configuration) []byte {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	members, old := slices.Clone(c.Members), slices.Clone(c.Old)
	slices.SortFunc(members, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	slices.Sort(old)

	start := len(dst)
	dst = append(dst, c.Cluster[:]...)
	dst = le.AppendUint64(dst, c.Operation)
	dst = append(dst, bit(c.Leases, 1)|bit(len(old) > 0, 2), 0)
	dst = le.AppendUint16(dst, uint16(len(members)))
	dst = le.AppendUint16(dst, uint16(len(old)))
	dst = append(dst, 0, 0)
	for i := range members {
		m := &members[i]
		dst = le.AppendUint16(dst, m.ID)
		dst = append(dst, m.Role, uint8(len(m.Addr)), 0, 0, 0, 0)
		dst = le.AppendUint64(dst, m.Incarnation)
		dst = appendPadded(dst, start, m.Addr)
	}
	for _, id := range old {
		dst = le.AppendUint16(dst, id)
	}
	return appendPadded(dst, start, "")
}

// DecodeConfiguration reads what AppendConfiguration made, and nothing else: any
// other bytes are an error.
func DecodeConfiguration(b []byte) (Configuration, error) {
	if len(b) < configurationHeaderBytes {
		return Configuration{}, ErrShort
	}
	flags, count, olds := b[24], int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	if flags&^3 != 0 || b[25] != 0 || !zero(b[30:32]) {
		return Configuration{}, ErrReserved
	}
	if count == 0 || count > MaxMembers || olds > MaxMembers || (flags&2 != 0) != (olds > 0) {
		return Configuration{}, ErrValue
	}
	c := Configuration{Leases: flags&1 != 0, Operation: le.Uint64(b[16:]), Members: make([]Member, 0, count)}
	copy(c.Cluster[:], b)
	p, last := b[configurationHeaderBytes:], uint16(NoNode)
	for range count {
		m, n, err := decodeMember(p)
		if err != nil {
			return Configuration{}, err
		}
		if m.ID <= last || m.ID > MaxNode {
			return Configuration{}, ErrValue
		}
		last, p = m.ID, p[n:]
		c.Members = append(c.Members, m)
	}
	if err := fixed(p, pad8(2*olds)); err != nil {
		return Configuration{}, err
	}
	if !zero(p[2*olds:]) {
		return Configuration{}, ErrReserved
	}
	last = NoNode
	for i := range olds {
		id := le.Uint16(p[2*i:])
		if id <= last || id > MaxNode {
			return Configuration{}, ErrValue
		}
		last = id
		c.Old = append(c.Old, id)
	}
	return c, nil
}

// decodeMember reads the member at the beginning of p and gives its length.
func decodeMember(p []byte) (Member, int, error) {
	if len(p) < memberHeaderBytes {
		return Member{}, 0, ErrShort
	}
	n := memberHeaderBytes + int(p[3])
	if len(p) < pad8(n) {
		return Member{}, 0, ErrShort
	}
	if le.Uint32(p[4:]) != 0 || !zero(p[n:pad8(n)]) {
		return Member{}, 0, ErrReserved
	}
	addr := p[memberHeaderBytes:n]
	if role := p[2]; role != MemberVoter && role != MemberLearner || len(addr) == 0 || !addrOK(addr) {
		return Member{}, 0, ErrValue
	}
	m := Member{ID: le.Uint16(p), Role: p[2], Incarnation: le.Uint64(p[8:]), Addr: string(addr)}
	return m, pad8(n), nil
}

// AddrOK tells whether an address may stand in a frame: at most MaxAddr bytes, all
// printable ASCII without spaces. It may still be empty, or mean nothing to a resolver.
func AddrOK(addr string) bool { return addrOK(addr) }

func addrOK[T string | []byte](addr T) bool {
	if len(addr) > MaxAddr {
		return false
	}
	for i := range len(addr) {
		if addr[i] <= ' ' || addr[i] > '~' {
			return false
		}
	}
	return true
}

// appendPadded appends s, then zeros until what was appended since start is a
// multiple of eight.
func appendPadded(dst []byte, start int, s string) []byte {
	dst = append(dst, s...)
	for (len(dst)-start)%8 != 0 {
		dst = append(dst, 0)
	}
	return dst
}
