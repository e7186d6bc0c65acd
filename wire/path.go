package wire

// Path finds out how large a datagram to one destination may be, without trusting any
// word of the network: it sends probes of a size and hears of those that arrived.
//
// It begins at a size that is believed, asks at once whether that one passes, and again
// from time to time. From a size that passes it climbs a ladder, step by step, until one
// does not. A size that passed and does not any more, while the smallest datagrams do, is
// a black hole: it falls to SafeDatagram, from there to MinDatagram, and climbs again
// after a while. What nothing passes tells nothing, and changes nothing.
//
// No goroutine, no clock. Not safe for two goroutines. Nothing allocates.
type Path struct {
	o        PathOptions
	size     int    // in use
	trial    trial  // under way; target 0: none
	restTil  int64  // nothing to ask until then
	raiseAt  int64  // no climbing before
	raise    int64  // how long to wait after the next climb that fails
	asked    bool   // the size that was believed has passed
	nonce    uint64 // the next one
	trip     int64  // smoothed round trip of a probe; 0 = none seen
	stray    int64
	falls    uint64
	tellNext [2]int // sizes of the probes of this round that Next has not given yet; 0 = given
}

// PathOptions say where a Path begins. Sizes are of whole datagrams, multiples of eight.
type PathOptions struct {
	Boot  uint64 // the asker's own: an answer that echoes another counts for nothing
	Start int    // believed from the beginning (SafeDatagram)
	Most  int    // never tried beyond (MaxDatagram)
}

// trial asks whether one size passes, in rounds of a probe of that size and a small one.
// Round r has the nonces first + 2r (the size that is tried) and first + 2r + 1 (small).
type trial struct {
	target int
	first  uint64
	rounds int
	small  int    // small ones that arrived
	heard  uint64 // nonce of the last of them
	sentAt int64
	nextAt int64
	waits  uint // rounds that were for nothing, for the pause
}

const (
	pathConfirm   = int64(2e9)   // between questions whether the size still passes
	pathRaiseMin  = int64(1e9)   // after a climb that failed, doubling
	pathRaiseMost = int64(600e9) // up to
	pathPauseMin  = int64(20e6)  // of a round
	pathPauseNew  = int64(100e6) // before a round trip was seen
	pathPauseMost = int64(2e9)
	pathClimbing  = 4 // rounds without an answer that end a climb
	pathStanding  = 6 // rounds without an answer that make a size that passed a black hole
	pathProof     = 2 // small ones that must have arrived, or the rounds prove nothing
)

// pathLadder are sizes that some networks carry: IPv6's least, PPPoE and tunnels, Ethernet
// of 1,500, pages, Ethernet of 9,000, loopback.
var pathLadder = [...]int{MinDatagram, SafeDatagram, 1232, 1368, 1448, 1472, 4040, 8952, 16 << 10, 32 << 10, MaxDatagram}

// NewPath makes one for a destination.
func NewPath(o PathOptions) *Path {
	if o.Start == 0 {
		o.Start = SafeDatagram
	}
	if o.Most == 0 {
		o.Most = MaxDatagram
	}
	if o.Start < MinDatagram || o.Start > o.Most || o.Most > MaxDatagram {
		panic("wire: a path that begins outside its bounds")
	}
	return &Path{o: o, size: o.Start &^ 7, raise: pathRaiseMin, nonce: 2}
}

// Size is the largest datagram to be sent there now.
func (p *Path) Size() int { return p.size }

// Falls counts black holes.
func (p *Path) Falls() uint64 { return p.falls }

// Deadline is when Next has something to send without any answer.
func (p *Path) Deadline() int64 {
	if p.tellNext != [2]int{} {
		return 0
	}
	if p.trial.target != 0 {
		return p.trial.nextAt
	}
	return p.restTil
}

// Next gives a probe that is due and the size of the datagram to put it in, alone, one
// after the other until there is none.
func (p *Path) Next(now int64) (f PathProbe, size int, ok bool) {
	for range 2 { // the end of a trial may be the beginning of another
		if p.tellNext == [2]int{} && now >= p.Deadline() {
			p.round(now)
		}
	}
	for i, size := range p.tellNext {
		if size != 0 {
			p.tellNext[i] = 0
			nonce := p.nonce - 2 + uint64(i)
			return PathProbe{AskBoot: p.o.Boot, Nonce: nonce, Pad: MaxFrame(size) - pathProbeBytes}, size, true
		}
	}
	return PathProbe{}, 0, false
}

// round begins a trial, or the next round of the one under way, or ends it.
func (p *Path) round(now int64) {
	t := &p.trial
	switch higher := p.higher(); {
	case t.target != 0:
		if p.spent(now) {
			return
		}
	case p.asked && now >= p.raiseAt && higher > 0:
		p.begin(higher)
	default:
		p.begin(p.size)
	}
	t.rounds++
	p.nonce += 2
	t.sentAt = now
	t.nextAt = now + min(p.pause()<<min(t.waits, 8), pathPauseMost)
	p.tellNext[0] = t.target
	if t.rounds > 1 && t.target > MinDatagram {
		p.tellNext[1] = MinDatagram // the first round of most trials is the only one: it goes without
	}
}

// begin starts a trial of a size. Every nonce of it is new.
func (p *Path) begin(target int) { p.trial = trial{target: target, first: p.nonce} }

// spent ends a trial that had its rounds, if they prove anything; if not, they begin anew.
func (p *Path) spent(now int64) bool {
	t := &p.trial
	climbing := t.target > p.size
	most := pathStanding
	if climbing {
		most = pathClimbing
	}
	switch {
	case t.rounds < most:
		return false
	case t.small < pathProof: // nothing passes at all, or nothing smaller could
		waits := t.waits + 1
		p.begin(t.target)
		t.waits = waits
		return false
	case climbing:
		p.raiseAt = now + p.raise
		p.end(now)
	default:
		p.falls++
		p.raise = pathRaiseMin // what lies between is not known any more
		p.raiseAt = now + p.raise
		p.size = MinDatagram
		if t.target > SafeDatagram {
			p.size = SafeDatagram
		}
		p.end(now)
		p.restTil = now // does that one pass?
	}
	p.raise = min(2*p.raise, pathRaiseMost)
	return true
}

// end is the end of a trial. Another climb follows when it may.
func (p *Path) end(now int64) {
	p.trial, p.tellNext = trial{}, [2]int{}
	p.restTil = now + pathConfirm
	if p.higher() > 0 {
		p.restTil = min(p.restTil, max(now, p.raiseAt))
	}
}

// higher is the next size to try, 0 when there is none.
func (p *Path) higher() int {
	for _, size := range pathLadder {
		if size > p.size && size <= p.o.Most {
			return size
		}
	}
	return 0
}

// Answer takes in that a probe arrived. It gives true when Size changed.
func (p *Path) Answer(now int64, f *PathAnswer) bool {
	t := &p.trial
	if f.EchoBoot != p.o.Boot || t.target == 0 || f.Nonce < t.first || f.Nonce >= p.nonce {
		return false
	}
	if f.Nonce >= p.nonce-2 {
		p.measure(now - t.sentAt)
	}
	if (f.Nonce-t.first)%2 == 1 {
		if f.Nonce > t.heard { // a repetition proves nothing
			t.heard = f.Nonce
			t.small++
		}
		return false
	}
	changed := t.target != p.size
	if changed {
		p.size, p.raise = t.target, pathRaiseMin
	}
	p.asked = true
	p.end(now)
	return changed
}

func (p *Path) measure(trip int64) {
	if trip = max(trip, 1); p.trip == 0 {
		p.trip, p.stray = trip, trip/2
	}
	p.stray += (max(trip-p.trip, p.trip-trip) - p.stray) / 4
	p.trip += (trip - p.trip) / 8
}

// pause is how long the answers of a round are waited for.
func (p *Path) pause() int64 {
	if p.trip == 0 {
		return pathPauseNew
	}
	return max(pathPauseMin, 2*p.trip+4*p.stray)
}
