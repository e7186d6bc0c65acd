package fault

import "math/rand/v2"

// maxStanding is how long a datagram may stand before a slow link, ns; what would stand
// longer is lost, as at the end of a router's queue.
const maxStanding = 200e6

// Fate says what became of a datagram that did not arrive once and whole.
type Fate uint8

// Of a datagram whose arrivals Carry gives.
const (
	Arrives  Fate = iota // once or twice
	Lost                 // by chance
	IsCut                // the link is cut
	TooLong              // for the MTU
	Overflow             // the link is too slow for what is sent
)

// Carry gives the arrivals of a datagram of size bytes that is sent at now, in
// nanoseconds of whatever clock, and what became of it if there are none. It is Decide
// with all that depends on size and time: the MTU, and the Rate, by which datagrams stand
// in line. The slice is valid until the next call.
func (l *Link) Carry(rng *rand.Rand, now int64, size int) ([]Delivery, Fate) {
	d := l.Decide(rng)
	switch {
	case l.Cut:
		return nil, IsCut
	case l.MTU > 0 && size > l.MTU:
		return nil, TooLong
	}
	if l.Rate > 0 {
		begin := max(now, l.busy)
		if begin-now > maxStanding {
			return nil, Overflow
		}
		l.busy = begin + int64(size)*1e9/l.Rate
		for i := range d {
			d[i].Delay += l.busy - now
		}
	}
	if len(d) == 0 {
		return nil, Lost
	}
	return d, Arrives
}
