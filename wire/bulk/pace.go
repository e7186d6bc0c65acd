package bulk

// pace decides how many bytes may be on their way, and for how long to wait for word of
// them.
type pace struct {
	stride  int
	window  int   // bytes
	trip    int64 // smoothed round trip; 0 = none seen
	stray   int64 // smoothed deviation from it
	least   int64 // the shortest lately
	leastAt int64
	probeAt int64 // when silence has lasted too long
	backoff uint

	// A round is about one round trip: the window moves once in each.
	roundEnd  int64
	shortest  int64 // round trip in it; 0 = none
	arrived   int
	missed    int
	overflows uint32 // as told last
	overflown bool
	told1     bool // overflows is known
}

const (
	windowFirst = 16          // parts
	windowLeast = 8           // parts
	windowMost  = 2 << 20     // bytes
	standing    = 200e3       // ns of queue on the way that are welcome
	forget      = int64(10e9) // ns after which the shortest round trip is looked for anew

	probeFirst = int64(100e6)
	probeLeast = int64(1e6)
	probeMost  = int64(2e9)
)

func (p *pace) begin(stride int) {
	p.stride = stride
	p.window = windowFirst * stride
}

// sent starts the wait for an answer.
func (p *pace) sent(now int64) {
	if p.probeAt <= now {
		p.probeAt = now + p.silence()
	}
}

// silence is how long without any answer is too long.
func (p *pace) silence() int64 {
	d := probeFirst
	if p.trip > 0 {
		d = max(probeLeast, p.trip+4*p.stray+ackDelay)
	}
	const patient = 3 // probes before it takes the silence for more than bad luck
	if p.backoff > patient {
		d <<= min(p.backoff-patient, 12)
	}
	return min(d, probeMost)
}

// patience is how long a part may be behind later ones before it is taken to be lost.
func (p *pace) patience() int64 { return p.trip + p.trip/8 + 2*p.stray }

// probed notes that silence lasted too long.
func (p *pace) probed(now int64) {
	p.backoff++
	p.probeAt = now + p.silence()
}

// measure takes a round trip, in which the receiver waited for so long.
func (p *pace) measure(trip, delay int64) {
	trip = max(trip-min(delay, trip/2), 1)
	if p.trip == 0 {
		p.trip, p.stray = trip, trip/2
	}
	p.stray += (max(trip-p.trip, p.trip-trip) - p.stray) / 4
	p.trip += (trip - p.trip) / 8
	if p.shortest == 0 || trip < p.shortest {
		p.shortest = trip
	}
}

// told takes what an answer said, and moves the window at the end of a round.
func (p *pace) told(now int64, overflows uint32, arrived, missed int) {
	if arrived > 0 {
		p.backoff = 0
		p.probeAt = now + p.silence()
	}
	p.overflown = p.overflown || p.told1 && overflows != p.overflows
	p.overflows, p.told1 = overflows, true
	p.arrived += arrived
	p.missed += missed
	if now < p.roundEnd || p.shortest == 0 {
		return
	}
	if p.least == 0 || p.shortest <= p.least || now-p.leastAt > forget {
		p.least, p.leastAt = p.shortest, now
	}
	switch welcome := p.least + standing + p.least/8; {
	case p.overflown:
		p.window /= 2
	case p.shortest > welcome:
		p.window = max(p.window/2, int(float64(p.window)*float64(welcome)/float64(p.shortest)))
	case p.missed > p.arrived: // more than half is lost: whatever the reason, less of it
		p.window = p.window * 4 / 5
	default:
		p.window += p.window/4 + p.stride
	}
	p.window = min(max(p.window, windowLeast*p.stride), windowMost)
	p.roundEnd = now + p.trip
	p.shortest, p.arrived, p.missed, p.overflown = 0, 0, 0, false
}
