// Package fault decides what becomes of a datagram on a bad link: lost, repeated,
// delayed, overtaken, corrupted. It decides from a random stream that it is given and
// knows no clock and no socket, so the simulator and a proxy share one fault model.
package fault

import "math/rand/v2"

// Link is how bad one direction between two ends is. The zero value is a perfect one.
type Link struct {
	Cut                bool    // nothing passes
	Loss, Dup, Corrupt float64 // probability for each datagram, 0 to 1
	Reorder            float64 // probability that it is held back
	DelayMin, DelayMax int64   // nanoseconds, uniform between the two
	ReorderDelay       int64   // nanoseconds on top, at most, for one held back
	MTU                int     // longer ones are lost; 0 = no bound
	Rate               int64   // bytes a second, see Carry; 0 = no bound
	busy               int64   // until when the link is taken, by the Rate
	out                [2]Delivery
}

// Delivery is one arrival of a datagram.
type Delivery struct {
	Delay   int64 // nanoseconds from sending to arrival
	Corrupt bool
	Flip    uint64 // which bit, see Apply
}

// Decide gives the arrivals of one datagram: none when it is lost, two when it is
// repeated. The slice is valid until the next Decide. Each call takes the same number
// of draws, so that changing one probability leaves the rest of a seed's stream alone.
func (l *Link) Decide(rng *rand.Rand) []Delivery {
	lost, twice := rng.Float64() < l.Loss, rng.Float64() < l.Dup
	for i := range l.out {
		l.out[i] = l.arrival(rng)
	}
	switch {
	case l.Cut || lost:
		return l.out[:0]
	case twice:
		return l.out[:2]
	}
	return l.out[:1]
}

// DecideSize is Decide for a datagram of a known size, which the MTU may stop.
func (l *Link) DecideSize(rng *rand.Rand, size int) []Delivery {
	d := l.Decide(rng)
	if l.MTU > 0 && size > l.MTU {
		return d[:0]
	}
	return d
}

func (l *Link) arrival(rng *rand.Rand) Delivery {
	d := Delivery{Delay: l.DelayMin + within(rng, l.DelayMax-l.DelayMin)}
	held, by := rng.Float64() < l.Reorder, within(rng, l.ReorderDelay)
	if held {
		d.Delay += by
	}
	d.Corrupt = rng.Float64() < l.Corrupt
	d.Flip = rng.Uint64()
	return d
}

// within is uniform from 0 to span. It takes one draw whatever the span is.
func within(rng *rand.Rand, span int64) int64 {
	u := rng.Float64()
	if span <= 0 {
		return 0
	}
	return min(int64(u*float64(span+1)), span)
}

// Apply flips the bit that a corrupt delivery names; it leaves others alone.
func (d *Delivery) Apply(datagram []byte) {
	if !d.Corrupt || len(datagram) == 0 {
		return
	}
	bit := d.Flip % uint64(8*len(datagram))
	datagram[bit/8] ^= 1 << (bit % 8)
}
