package node

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// destinations finds a turn's open destinations by their address: few of them one after
// the other, many by a table that is as large as the most there were in a turn. Nothing
// is wiped between turns: what another turn wrote is not of this one.
type destinations struct {
	seed  uint64 // nobody outside can choose addresses that are slow to find
	turn  uint32
	table []openAt // a power of two, at least twice as many as are open; nil: few were
	count int      // of them, all that were added in this turn
}

// openAt is a place of a turn's open destination.
type openAt struct {
	turn uint32
	at   uint32
}

const fewDestinations = 8

func (d *destination) is(to netip.AddrPort, dst uint16, bulk bool) bool {
	return d.to == to && d.dst == dst && d.bulk == bulk && !d.alone
}

// find gives the open one, nil when there is none.
func (ds *destinations) find(open []*destination, to netip.AddrPort, dst uint16, bulk bool) *destination {
	if len(open) <= fewDestinations {
		for _, d := range open {
			if d.is(to, dst, bulk) {
				return d
			}
		}
		return nil
	}
	mask := uint64(len(ds.table) - 1)
	for i := ds.hash(to, dst, bulk) & mask; ds.table[i].turn == ds.turn; i = (i + 1) & mask {
		if d := open[ds.table[i].at]; d.is(to, dst, bulk) {
			return d
		}
	}
	return nil
}

// add takes the last of open, and those before it as soon as they are no longer few.
func (ds *destinations) add(open []*destination) {
	if len(open) <= fewDestinations {
		return
	}
	if 2*len(open) > len(ds.table) {
		ds.table = make([]openAt, 1<<bits.Len(uint(4*len(open)-1)))
		ds.count = 0
	}
	if ds.turn == 0 {
		ds.turn = 1
	}
	for ; ds.count < len(open); ds.count++ {
		ds.note(open[ds.count], uint32(ds.count))
	}
}

func (ds *destinations) note(d *destination, at uint32) {
	if d.alone {
		return
	}
	mask := uint64(len(ds.table) - 1)
	i := ds.hash(d.to, d.dst, d.bulk) & mask
	for ds.table[i].turn == ds.turn {
		i = (i + 1) & mask
	}
	ds.table[i] = openAt{ds.turn, at}
}

// forget begins another turn.
func (ds *destinations) forget() {
	ds.count = 0
	if ds.turn++; ds.turn == 0 { // of the turns before it none may be taken for one to come
		clear(ds.table)
		ds.turn = 1
	}
}

func (ds *destinations) hash(to netip.AddrPort, dst uint16, bulk bool) uint64 {
	ip := to.Addr().As16()
	rest := uint64(to.Port())<<32 | uint64(dst)<<8
	if bulk {
		rest |= 1
	}
	a := fold(binary.LittleEndian.Uint64(ip[:8])^ds.seed, binary.LittleEndian.Uint64(ip[8:])^0x9e3779b97f4a7c15)
	return fold(a^rest, ds.seed|1)
}

func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}
