package wire

// Pace decides how many bytes may be on their way to one destination, and for how long to
// wait for word of them. Fragments and bulk share it. Not safe for two goroutines.
type Pace struct {
	stride  int
	most    int   // bytes that the window never goes beyond
	Window  int   // bytes
	Trip    int64 // smoothed round trip; 0 = none seen
	Stray   int64 // smoothed deviation from it
	least   int64 // the shortest lately
	leastAt int64
	ProbeAt int64 // when silence has lasted too long
	backoff uint

	// A round is about one round trip: the window moves once in each.
	roundEnd  int64
	shortest  int64 // round trip in it; 0 = none
	arrived   int
	Missed    int
	overflows uint32 // as told last
	overflown bool
	told1     bool // overflows is known
}

const (
	paceFirst    = 16          // parts
	paceLeast    = 8           // parts
	PaceMost     = 2 << 20     // bytes: of a bulk transfer
	paceStanding = 200e3       // ns of queue on the way that are welcome
	paceForget   = int64(10e9) // ns after which the shortest round trip is looked for anew

	silenceFirst = int64(100e6)
	silenceLeast = int64(1e6)
	silenceMost  = int64(2e9)

	paceDelay = int64(200e3) // ns that an answer may wait at the receiver
)

// Begin sets out with datagrams of so many bytes, or goes on with another size; the window never
// exceeds most bytes, and never falls below eight datagrams unless that is less.
func (p *Pace) Begin(stride, most int) {
	p.stride, p.most = stride, most
	p.Window = min(paceFirst*stride, most)
}

// Sent starts the wait for an answer.
func (p *Pace) Sent(now int64) {
	if p.ProbeAt <= now {
		p.ProbeAt = now + p.silence()
	}
}

// silence is how long without any answer is too long.
func (p *Pace) silence() int64 {
	d := silenceFirst
	if p.Trip > 0 {
		d = max(silenceLeast, p.Trip+4*p.Stray+paceDelay)
	}
	const patient = 3 // probes before it takes the silence for more than bad luck
	if p.backoff > patient {
		d <<= min(p.backoff-patient, 12)
	}
	return min(d, silenceMost)
}

// Patience is how long a part may be behind later ones before it is taken to be lost.
func (p *Pace) Patience() int64 { return p.Trip + p.Trip/8 + 2*p.Stray }

// Probed notes that silence lasted too long.
func (p *Pace) Probed(now int64) {
	p.backoff++
	p.ProbeAt = now + p.silence()
}

// Measure takes a round trip, in which the receiver waited for so long.
func (p *Pace) Measure(trip, delay int64) {
	trip = max(trip-min(delay, trip/2), 1)
	if p.Trip == 0 {
		p.Trip, p.Stray = trip, trip/2
	}
	p.Stray += (max(trip-p.Trip, p.Trip-trip) - p.Stray) / 4
	p.Trip += (trip - p.Trip) / 8
	if p.shortest == 0 || trip < p.shortest {
		p.shortest = trip
	}
}

// Told takes what an answer said, and moves the window at the end of a round.
func (p *Pace) Told(now int64, overflows uint32, arrived, missed int) {
	if arrived > 0 {
		p.backoff = 0
		p.ProbeAt = now + p.silence()
	}
	p.overflown = p.overflown || p.told1 && overflows != p.overflows
	p.overflows, p.told1 = overflows, true
	p.arrived += arrived
	p.Missed += missed
	if now < p.roundEnd || p.shortest == 0 && !p.overflown && p.Missed <= p.arrived {
		return
	}
	if p.shortest > 0 && (p.least == 0 || p.shortest <= p.least || now-p.leastAt > paceForget) {
		p.least, p.leastAt = p.shortest, now
	}
	switch welcome := p.least + paceStanding + p.least/8; {
	case p.overflown:
		p.Window /= 2
	case p.shortest > welcome:
		p.Window = max(p.Window/2, int(float64(p.Window)*float64(welcome)/float64(p.shortest)))
	case p.Missed > p.arrived: // more than half is lost: whatever the reason, less of it
		p.Window = p.Window * 4 / 5
	default:
		p.Window += p.Window/4 + p.stride
	}
	p.Window = min(max(p.Window, paceLeast*p.stride), p.most)
	p.roundEnd = now + p.Trip
	if p.Trip == 0 {
		p.roundEnd = now + silenceLeast
	}
	p.shortest, p.arrived, p.Missed, p.overflown = 0, 0, 0, false
}
