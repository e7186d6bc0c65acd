package wire

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of what a Configuration may hold. Check also sees that it fits an entry.
const (
	MaxMembers = 64 // and as many old voters, and as many in a target
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
//	24  flags 1: 1 leases, 2 joint, 4 target | zero 1 | members 2 | old voters 2 | target 2
//	32  members, ascending by id, each
//	       0  id 2 | role 1 | address length 1 | zero 4
//	       8  incarnation 8
//	      16  address, then zeros up to a multiple of eight
//	    old voters, ascending, 2 each, then zeros up to a multiple of eight
//	    target, as members, all voters
//
// One configuration has one encoding: equal bytes, equal configurations.
type Configuration struct {
	Cluster   [16]byte
	Leases    bool     // leaders may serve reads by a lease
	Operation uint64   // which membership change made it; 0 = founding
	Members   []Member // decoded: ascending by id
	Old       []uint16 // the old set's voters while joint, else nil
	Target    []Member // the voters that the change under way wants; nil when none is. Decoded: ascending by id
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
	if err := checkMembers(c.Members, "members"); err != nil {
		return err
	}
	if c.Old != nil && len(c.Old) == 0 || len(c.Old) > MaxMembers {
		return fmt.Errorf("%w: %d old voters, want 1 to %d while joint", ErrConfiguration, len(c.Old), MaxMembers)
	}
	for i, id := range c.Old {
		if id == NoNode || id > MaxNode || slices.Contains(c.Old[:i], id) {
			return fmt.Errorf("%w: old voter %d out of range or twice", ErrConfiguration, id)
		}
	}
	if c.Target != nil {
		if err := checkMembers(c.Target, "servers in the target"); err != nil {
			return err
		}
		for _, m := range c.Target {
			if m.Role != MemberVoter {
				return fmt.Errorf("%w: server %d is no voter of the target", ErrConfiguration, m.ID)
			}
		}
	}
	if n := c.size(); n > MaxEntryBody {
		return fmt.Errorf("%w: %d bytes long, an entry has room for %d", ErrConfiguration, n, MaxEntryBody)
	}
	return nil
}

// size is the encoded length.
func (c *Configuration) size() int {
	n := configurationHeaderBytes + pad8(2*len(c.Old))
	for _, list := range [][]Member{c.Members, c.Target} {
		for i := range list {
			n += memberHeaderBytes + pad8(len(list[i].Addr))
		}
	}
	return n
}

func checkMembers(list []Member, what string) error {
	if len(list) == 0 || len(list) > MaxMembers {
		return fmt.Errorf("%w: %d %s, want 1 to %d", ErrConfiguration, len(list), what, MaxMembers)
	}
	for i := range list {
		m := &list[i]
		if m.ID == NoNode || m.ID > MaxNode {
			return fmt.Errorf("%w: id %d, want 1 to %d", ErrConfiguration, m.ID, MaxNode)
		}
		if m.Role != MemberVoter && m.Role != MemberLearner {
			return fmt.Errorf("%w: server %d has role %d", ErrConfiguration, m.ID, m.Role)
		}
		if m.Addr == "" || !AddrOK(m.Addr) {
			return fmt.Errorf("%w: server %d has address %q, want 1 to %d printable characters", ErrConfiguration, m.ID, m.Addr, MaxAddr)
		}
		for _, o := range list[:i] {
			if o.ID == m.ID {
				return fmt.Errorf("%w: server %d stands there twice", ErrConfiguration, m.ID)
			}
		}
	}
	return nil
}

// AppendConfiguration appends c, members, old voters and target in ascending order
// whatever theirs is. It panics when Check fails: what comes from an operator is checked before.
func AppendConfiguration(dst []byte, c *Configuration) []byte {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	old := slices.Clone(c.Old)
	slices.Sort(old)

	start := len(dst)
	dst = append(dst, c.Cluster[:]...)
	dst = le.AppendUint64(dst, c.Operation)
	dst = append(dst, bit(c.Leases, 1)|bit(len(old) > 0, 2)|bit(len(c.Target) > 0, 4), 0)
	dst = le.AppendUint16(dst, uint16(len(c.Members)))
	dst = le.AppendUint16(dst, uint16(len(old)))
	dst = le.AppendUint16(dst, uint16(len(c.Target)))
	dst = appendMembers(dst, start, c.Members)
	for _, id := range old {
		dst = le.AppendUint16(dst, id)
	}
	dst = appendPadded(dst, start, "")
	return appendMembers(dst, start, c.Target)
}

func appendMembers(dst []byte, start int, list []Member) []byte {
	members := slices.Clone(list)
	slices.SortFunc(members, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	for i := range members {
		m := &members[i]
		dst = le.AppendUint16(dst, m.ID)
		dst = append(dst, m.Role, uint8(len(m.Addr)), 0, 0, 0, 0)
		dst = le.AppendUint64(dst, m.Incarnation)
		dst = appendPadded(dst, start, m.Addr)
	}
	return dst
}

// DecodeConfiguration reads what AppendConfiguration made, and nothing else: any
// other bytes are an error.
func DecodeConfiguration(b []byte) (Configuration, error) {
	if len(b) < configurationHeaderBytes {
		return Configuration{}, ErrShort
	}
	if len(b) > MaxEntryBody {
		return Configuration{}, ErrTrailing
	}
	flags, count, olds, targets := b[24], int(le.Uint16(b[26:])), int(le.Uint16(b[28:])), int(le.Uint16(b[30:]))
	if flags&^7 != 0 || b[25] != 0 {
		return Configuration{}, ErrReserved
	}
	if count == 0 || count > MaxMembers || olds > MaxMembers || targets > MaxMembers || (flags&2 != 0) != (olds > 0) || (flags&4 != 0) != (targets > 0) {
		return Configuration{}, ErrValue
	}
	c := Configuration{Leases: flags&1 != 0, Operation: le.Uint64(b[16:])}
	copy(c.Cluster[:], b)
	var err error
	p := b[configurationHeaderBytes:]
	if c.Members, p, err = decodeMembers(p, count); err != nil {
		return Configuration{}, err
	}
	if c.Old, p, err = decodeOld(p, olds); err != nil {
		return Configuration{}, err
	}
	if targets > 0 {
		if c.Target, p, err = decodeMembers(p, targets); err != nil {
			return Configuration{}, err
		}
		if slices.ContainsFunc(c.Target, func(m Member) bool { return m.Role != MemberVoter }) {
			return Configuration{}, ErrValue
		}
	}
	if len(p) > 0 {
		return Configuration{}, ErrTrailing
	}
	return c, nil
}

// decodeMembers reads count members, ascending by id, and gives what is behind them.
func decodeMembers(p []byte, count int) ([]Member, []byte, error) {
	list, last := make([]Member, 0, count), uint16(NoNode)
	for range count {
		m, n, err := decodeMember(p)
		if err != nil {
			return nil, nil, err
		}
		if m.ID <= last || m.ID > MaxNode {
			return nil, nil, ErrValue
		}
		last, p = m.ID, p[n:]
		list = append(list, m)
	}
	return list, p, nil
}

// decodeOld reads the old voters, and gives what is behind them.
func decodeOld(p []byte, count int) (old []uint16, rest []byte, err error) {
	n := pad8(2 * count)
	if len(p) < n {
		return nil, nil, ErrShort
	}
	if !zero(p[2*count : n]) {
		return nil, nil, ErrReserved
	}
	last := uint16(NoNode)
	for i := range count {
		id := le.Uint16(p[2*i:])
		if id <= last || id > MaxNode {
			return nil, nil, ErrValue
		}
		last = id
		old = append(old, id)
	}
	return old, p[n:], nil
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
