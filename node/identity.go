package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

// identity is the founding record: who this server is (made once by Init) and,
// once a founding reached it, the list of its cluster. It is the body of the
// log's founding record, written again at the head of every segment.
//
//	offset  0  version 1 | flags 1 (1: has a list, 2: leases, 4: was removed) | id 2 | name length 2 | voters 2
//	        8  incarnation 8
//	       16  voter ids 2 each | name | pool length 4 | pool | list length 4 | list
//	           | if removed: index 8 of the configuration that did it
type identity struct {
	ID          uint16
	Incarnation uint64
	Name        string
	Voters      []uint16      // the first voters, ascending; the lowest founds
	Pool        []wire.Server // every server that init was told of
	Leases      bool          // what this server founds allows them; the list says whether its cluster does
	List        []byte        // encoded founding configuration; nil while blank
	Left        uint64        // the last committed configuration that left this server out; 0: none did
}

const (
	identityVersion     = 1
	identityHeaderBytes = 16

	hasList    = 1 // flags
	withLeases = 2
	wasRemoved = 4
)

func (d *identity) encode() []byte {
	b := make([]byte, identityHeaderBytes, 256)
	b[0] = identityVersion
	if d.List != nil {
		b[1] = hasList
	}
	if d.Left != 0 {
		b[1] |= wasRemoved
	}
	if d.Leases {
		b[1] |= withLeases
	}
	binary.LittleEndian.PutUint16(b[2:], d.ID)
	binary.LittleEndian.PutUint16(b[4:], uint16(len(d.Name)))
	binary.LittleEndian.PutUint16(b[6:], uint16(len(d.Voters)))
	binary.LittleEndian.PutUint64(b[8:], d.Incarnation)
	for _, v := range d.Voters {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	b = append(b, d.Name...)
	pool := wire.AppendServers(nil, d.Pool)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pool)))
	b = append(b, pool...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(d.List)))
	b = append(b, d.List...)
	if d.Left != 0 {
		b = binary.LittleEndian.AppendUint64(b, d.Left)
	}
	return b
}

func (d *identity) decode(b []byte) error {
	if len(b) < identityHeaderBytes {
		return fmt.Errorf("%d bytes, want at least %d", len(b), identityHeaderBytes)
	}
	if b[0] != identityVersion {
		return fmt.Errorf("version %d, want %d", b[0], identityVersion)
	}
	flags := b[1]
	d.Leases = flags&withLeases != 0
	d.ID = binary.LittleEndian.Uint16(b[2:])
	name := int(binary.LittleEndian.Uint16(b[4:]))
	voters := int(binary.LittleEndian.Uint16(b[6:]))
	d.Incarnation = binary.LittleEndian.Uint64(b[8:])
	b = b[identityHeaderBytes:]
	if len(b) < 2*voters+name {
		return errors.New("cut short in its voters or name")
	}
	d.Voters = make([]uint16, voters)
	for i := range d.Voters {
		d.Voters[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	d.Name = string(b[2*voters : 2*voters+name])
	pool, b, err := cutSized(b[2*voters+name:])
	if err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	if d.Pool, err = wire.DecodeServers(pool); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	list, b, err := cutSized(b)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	d.List = nil
	if flags&hasList != 0 {
		d.List = slices.Clone(list)
	}
	d.Left = 0
	if flags&wasRemoved != 0 {
		if len(b) < 8 {
			return errors.New("cut short in the configuration that removed it")
		}
		d.Left = binary.LittleEndian.Uint64(b)
	}
	if d.ID == 0 || d.ID == wire.ClientNode || d.Incarnation == 0 {
		return fmt.Errorf("id %d and incarnation %d, want an id of 1 to 65534 and an incarnation that is not 0", d.ID, d.Incarnation)
	}
	return nil
}

// cutSized splits a 4-byte length and so many bytes off b.
func cutSized(b []byte) (head, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("%d bytes, want a length of 4", len(b))
	}
	size := binary.LittleEndian.Uint32(b)
	if uint64(size) > uint64(len(b)-4) {
		return nil, nil, fmt.Errorf("length %d, but %d bytes follow", size, len(b)-4)
	}
	return b[4 : 4+size], b[4+size:], nil
}

// InitOptions describe a server to be made.
type InitOptions struct {
	FS           vfs.FS
	Dir          string
	ID           uint16
	Pool         []wire.Server
	Voters       []uint16 // empty: all of the pool
	Leases       bool     // a cluster that this server founds lets its leaders serve reads by a lease
	Name         string
	SegmentBytes int64 // 0: the log's default
	Random       func() uint64
}

// Init makes a data directory and the server's identity in it, once: a fresh
// incarnation, so that a server wiped and made again under its old id is
// another server to everybody (SAFETY 9). A directory with an identity is
// refused with an error that is wal.ErrExists.
func Init(o InitOptions) error {
	if err := checkInit(&o); err != nil {
		return err
	}
	d := identity{ID: o.ID, Incarnation: o.Random() | 1, Name: o.Name, Pool: o.Pool, Voters: o.Voters, Leases: o.Leases}
	return wal.Create(wal.Options{FS: o.FS, Dir: o.Dir, SegmentBytes: o.SegmentBytes, Random: o.Random}, d.encode())
}

// ErrPool is a pool, an id or first voters that do not fit each other.
var ErrPool = errors.New("pool")

func checkInit(o *InitOptions) error {
	if len(o.Pool) == 0 {
		return fmt.Errorf("%w: empty, want ID=HOST:PORT of each server", ErrPool)
	}
	if len(o.Pool) > wire.MaxServers {
		return fmt.Errorf("%w: %d servers, want at most %d", ErrPool, len(o.Pool), wire.MaxServers)
	}
	known := func(id uint16) bool {
		return slices.ContainsFunc(o.Pool, func(s wire.Server) bool { return s.ID == id })
	}
	slices.SortFunc(o.Pool, func(a, b wire.Server) int { return int(a.ID) - int(b.ID) })
	for i, s := range o.Pool {
		if s.ID == 0 || s.ID == wire.ClientNode {
			return fmt.Errorf("%w: id %d, want 1 to 65534", ErrPool, s.ID)
		}
		if s.Addr == "" || !wire.AddrOK(s.Addr) {
			return fmt.Errorf("%w: server %d has address %q, want HOST:PORT of at most %d printable characters", ErrPool, s.ID, s.Addr, wire.MaxAddr)
		}
		if i > 0 && o.Pool[i-1].ID == s.ID {
			return fmt.Errorf("%w: id %d stands in it twice", ErrPool, s.ID)
		}
	}
	if !known(o.ID) {
		return fmt.Errorf("%w: does not name this server, id %d", ErrPool, o.ID)
	}
	if len(o.Voters) == 0 {
		for _, s := range o.Pool {
			o.Voters = append(o.Voters, s.ID)
		}
	}
	slices.Sort(o.Voters)
	o.Voters = slices.Compact(o.Voters)
	if len(o.Voters) > wire.MaxMembers {
		return fmt.Errorf("%w: %d first voters, want at most %d", ErrPool, len(o.Voters), wire.MaxMembers)
	}
	for _, v := range o.Voters {
		if !known(v) {
			return fmt.Errorf("%w: first voter %d is not in it", ErrPool, v)
		}
	}
	return checkFits(o)
}

// checkFits refuses a pool or a founding list that no ordinary datagram holds:
// both travel before anything is known of the path.
func checkFits(o *InitOptions) error {
	const room = 128 // of a hello's or an answer's own fields
	most := wire.MaxFrame(wire.SafeDatagram) - room
	if size := len(wire.AppendServers(nil, o.Pool)); size > most {
		return fmt.Errorf("%w: its %d addresses take %d bytes, want at most %d", ErrPool, len(o.Pool), size, most)
	}
	var list wire.Configuration
	for _, s := range o.Pool {
		if slices.Contains(o.Voters, s.ID) {
			list.Members = append(list.Members, wire.Member{ID: s.ID, Incarnation: 1, Role: wire.MemberVoter, Addr: s.Addr})
		}
	}
	if size := len(wire.AppendConfiguration(nil, &list)); size > most {
		return fmt.Errorf("%w: a founding list of %d first voters takes %d bytes, want at most %d", ErrPool, len(o.Voters), size, most)
	}
	return nil
}
