package wire

import "math"

// FragmenterOptions is how a Fragmenter paces itself. The zero value of a field
// takes the value named beside it.
type FragmenterOptions struct {
	Boot   uint64 // the sender's own: a status that echoes another counts for nothing
	Limit  int    // largest datagram, bytes (SafeDatagram)
	Window int    // most bytes that may be out without an answer, over all messages (512 KiB)
	Resend int64  // nanoseconds until a piece is sent again, before a round trip was seen (20 ms)
	GiveUp int64  // nanoseconds without any progress after which a message is dropped (10 s)
}

const (
	resendLeast = int64(5e6)
	resendMost  = int64(500e6)
	ringPieces  = 256 // above bitmapFragments+1, the most pieces out of one message
	probePieces = 4   // of those that are overdue: as many are sent again into a silence
)

// Fragmenter sends messages to one destination in pieces, and again those that are
// missing there: selectively, by what the statuses tell, and by time passed in. It sends
// what the receiver has granted, and of that what the window allows (Pace).
//
// No goroutine, no clock. Not safe for two goroutines.
type Fragmenter struct {
	o        FragmenterOptions
	stride   int
	pace     Pace
	messages []*outgoing
	free     []*outgoing
	out      int    // pieces on their way, over all messages: not arrived, and not known to be lost
	order    uint64 // counts pieces as they are sent
	latest   int    // piece that came last, by the status being taken in
	backoff  uint   // doublings of the resend time since the last progress
	patient  int64  // no overdue piece is sent again before
	dropped  uint64
}

// outgoing is a message on its way. Pieces below base have arrived, pieces from next
// on were never sent (or the receiver keeps nothing of them): base <= next <= grant,
// next <= base+bitmapFragments+1.
type outgoing struct {
	id         uint64
	kind       Kind
	payload    []byte
	count      int // pieces
	base, next int
	grant      int   // pieces that may be sent
	high       int   // pieces that ever were
	refused    bool  // the receiver has no place: nothing but a probe leaves
	probeAt    int64 // when to ask for a grant, if none comes by itself
	waits      uint  // doublings of the time until then
	progress   int64 // when the last piece was seen to arrive
	ring       [ringPieces]piece
}

// piece is what is known of a piece between base and next, at its number mod ringPieces.
type piece struct {
	at    int64
	order uint64
	tries uint8
	held  bool // arrived
	lost  bool // to be sent again at once
}

// NewFragmenter makes one for a destination.
func NewFragmenter(o FragmenterOptions) *Fragmenter {
	if o.Limit == 0 {
		o.Limit = SafeDatagram
	}
	if o.Window == 0 {
		o.Window = 512 << 10
	}
	if o.Resend == 0 {
		o.Resend = 20e6
	}
	if o.GiveUp == 0 {
		o.GiveUp = 10e9
	}
	stride := (MaxFrame(o.Limit) - FragmentHeaderBytes) &^ 7
	f := &Fragmenter{o: o, stride: stride}
	f.pace.Begin(stride, max(o.Window, 2*stride))
	return f
}

// open says whether the window is.
func (f *Fragmenter) open() bool { return (f.out+1)*f.stride <= f.pace.Window }

// Add takes a message: the payload of a frame of this kind, 1 to MaxMessage bytes,
// which must not change until the message is over. The id must be one that this
// process has not used for this destination; ids of a second Fragmenter count, too.
func (f *Fragmenter) Add(now int64, id uint64, k Kind, payload []byte) {
	if len(payload) == 0 || len(payload) > MaxMessage {
		fits("message", len(payload)-1, MaxMessage-1)
	}
	var m *outgoing
	if n := len(f.free); n > 0 {
		m, f.free = f.free[n-1], f.free[:n-1]
	} else {
		m = new(outgoing)
	}
	m.id, m.kind, m.payload, m.progress = id, k, payload, now
	m.count = (len(payload) + f.stride - 1) / f.stride
	m.base, m.next, m.high, m.grant = 0, 0, 0, min(m.count, unscheduled)
	m.refused, m.waits, m.probeAt = false, 0, 0
	f.messages = append(f.messages, m)
}

// Busy is how many messages are not over yet.
func (f *Fragmenter) Busy() int { return len(f.messages) }

// Waiting is how many bytes these have.
func (f *Fragmenter) Waiting() (bytes int) {
	for _, m := range f.messages {
		bytes += len(m.payload)
	}
	return bytes
}

// Dropped counts messages given up.
func (f *Fragmenter) Dropped() uint64 { return f.dropped }

// Has tells whether the message is not over yet.
func (f *Fragmenter) Has(id uint64) bool {
	for _, m := range f.messages {
		if m.id == id {
			return true
		}
	}
	return false
}

// Cancel forgets a message; its payload is free again.
func (f *Fragmenter) Cancel(id uint64) {
	for i, m := range f.messages {
		if m.id == id {
			f.remove(i)
			return
		}
	}
}

// Pack adds to p all pieces that are due: those known or taken to be lost, then new
// ones while the window is open; and asks for grants that should have come. p's Limit must
// not be below the Fragmenter's.
func (f *Fragmenter) Pack(now int64, p *Packer) {
	f.giveUp(now)
	f.again(now, p)
	for _, m := range f.messages {
		for f.fresh(now, m) {
			m.ring[m.next%ringPieces] = piece{}
			f.out++
			f.send(now, p, m, m.next)
			m.next++
			m.high = max(m.high, m.next)
		}
		switch {
		case now < m.probeAt:
		case m.refused && m.next > 0, m.starved():
			f.wait(now, m)
			if !m.refused {
				f.send(now, p, m, m.base-1) // it is there: its answer tells the grant
			}
		}
	}
}

// again sends what was lost while the window is open, and a few of what is overdue.
func (f *Fragmenter) again(now int64, p *Packer) {
	overdue := 0
	for _, m := range f.messages {
		for i := m.base; i < m.next; i++ {
			switch s := &m.ring[i%ringPieces]; {
			case s.held:
			case s.lost && f.open():
				f.out++
				f.send(now, p, m, i)
			case !s.lost && now >= max(s.at+f.resend(), f.patient) && overdue < probePieces:
				overdue++
				f.send(now, p, m, i)
			}
		}
	}
	if overdue > 0 {
		f.backoff = min(f.backoff+1, 8)
		f.patient = now + f.resend()
	}
}

// fresh says whether a piece of m may leave that was never sent.
func (f *Fragmenter) fresh(now int64, m *outgoing) bool {
	return m.next < m.grant && m.next-m.base <= bitmapFragments && f.open() && (!m.refused || m.next == 0 && now >= m.probeAt)
}

// starved says that all that was granted has arrived, and it was not all.
func (m *outgoing) starved() bool { return !m.refused && m.base == m.grant && m.grant < m.count }

// wait sets when a grant is asked for again.
func (f *Fragmenter) wait(now int64, m *outgoing) {
	m.probeAt = now + min(f.resend()<<m.waits, resendMost)
	m.waits = min(m.waits+1, 8)
}

// Status takes in what the destination tells; what it lacks is due at the next Pack.
// It gives true when the message is over.
func (f *Fragmenter) Status(now int64, s *FragmentStatus) bool {
	if s.EchoBoot != f.o.Boot {
		return false
	}
	for i, m := range f.messages {
		if m.id != s.Message {
			continue
		}
		if s.Done {
			f.progressed(now, m)
			f.remove(i)
			return true
		}
		f.arrived(now, m, s)
		return false
	}
	return false
}

// Deadline is when Pack has something to do without any status, or math.MaxInt64.
func (f *Fragmenter) Deadline() int64 {
	due := int64(math.MaxInt64)
	for _, m := range f.messages {
		due = min(due, m.progress+f.o.GiveUp)
		switch {
		case m.starved(), m.refused && f.open():
			due = min(due, m.probeAt)
		case f.fresh(math.MaxInt64, m):
			return 0
		}
		for i := m.base; i < m.next; i++ {
			if s := &m.ring[i%ringPieces]; s.lost && f.open() {
				return 0
			} else if !s.held && !s.lost {
				due = min(due, max(s.at+f.resend(), f.patient))
			}
		}
	}
	return due
}

// send packs piece i of m and notes it.
func (f *Fragmenter) send(now int64, p *Packer, m *outgoing, i int) {
	offset := i * f.stride
	body := m.payload[offset:min(len(m.payload), offset+f.stride)]
	g := Fragment{
		Message: m.id, Kind: m.kind, Body: body,
		Total: uint32(len(m.payload)), Offset: uint32(offset), Stride: uint32(f.stride),
	}
	b := p.Frame(KindFragment, g.Size())
	if b == nil {
		panic("wire: the packer's limit is below the fragmenter's")
	}
	g.Encode(b)
	f.order++
	s := &m.ring[i%ringPieces]
	s.at, s.order, s.lost = now, f.order, false
	s.tries = min(s.tries+1, 250)
}

// arrived marks what a status names, and what it shows to be lost, and takes the grant.
func (f *Fragmenter) arrived(now int64, m *outgoing, s *FragmentStatus) {
	have := int(s.Have) / f.stride
	if int(s.Have)%f.stride != 0 || have > m.high || have > m.count {
		return // not of this message as we cut it
	}
	if s.Grant == 0 {
		f.refuse(now, m)
		f.pace.Told(now, s.Overflows, 0, 0)
		return
	}
	grant := min((int(s.Grant)+f.stride-1)/f.stride, m.count)
	if have < m.base && now-m.progress >= f.resend() { // no old news: it heard nothing for long, forgot all, and began anew
		f.forgetPieces(m)
		m.base, m.next, m.grant = 0, 0, grant
	}
	if m.refused || grant > m.grant {
		m.refused, m.waits = false, 0
		m.grant = max(m.grant, grant)
	}
	held := f.mark(now, m, have, s)
	lost := f.overtaken(now, m)
	f.pace.Told(now, s.Overflows, held, lost)
	if m.starved() && m.waits == 0 {
		f.wait(now, m)
	}
}

// refuse takes the receiver's word that it has no place: it keeps nothing of the message, so
// nothing is on its way, and all of it is sent anew when there is a place.
func (f *Fragmenter) refuse(now int64, m *outgoing) {
	f.forgetPieces(m)
	m.base, m.next, m.grant = 0, 0, 1
	if !m.refused {
		m.refused, m.waits = true, 0
		f.wait(now, m)
	}
}

// forgetPieces takes the pieces of m out of those on their way.
func (f *Fragmenter) forgetPieces(m *outgoing) {
	for n := m.base; n < m.next; n++ {
		if s := &m.ring[n%ringPieces]; !s.held && !s.lost {
			f.out--
		}
	}
}

// mark notes the pieces that a status names, and gives how many are news.
func (f *Fragmenter) mark(now int64, m *outgoing, have int, s *FragmentStatus) (held int) {
	f.latest = int(s.Latest) / f.stride
	switch {
	case have > m.next: // it kept them after all, though we were told otherwise meanwhile
		f.forgetPieces(m)
		held = have - m.base
		m.base, m.next, m.grant = have, have, max(m.grant, have)
		f.progressed(now, m)
		return held
	case have < m.base:
		have = m.base // old news, whose bitmap lies below what is known
	default:
		for i := range bitmapFragments {
			if s.Bitmap[i/8]>>(i%8)&1 != 0 && have+1+i < m.next {
				held += f.hold(now, m, have+1+i)
			}
		}
	}
	for i := m.base; i < have; i++ {
		held += f.hold(now, m, i)
	}
	for m.base < m.next && m.ring[m.base%ringPieces].held {
		m.base++
	}
	return held
}

// overtaken finds what is lost: a piece that is still missing though three that were sent
// after it are there, and the longest round trip to be expected has passed (pieces of one
// burst overtake each other). It gives how many.
func (f *Fragmenter) overtaken(now int64, m *outgoing) (lost int) {
	var latest [3]uint64 // the orders of the three held pieces sent last, descending
	for i := m.base; i < m.next; i++ {
		if s := &m.ring[i%ringPieces]; s.held {
			switch o := s.order; {
			case o > latest[0]:
				latest[0], latest[1], latest[2] = o, latest[0], latest[1]
			case o > latest[1]:
				latest[1], latest[2] = o, latest[1]
			case o > latest[2]:
				latest[2] = o
			}
		}
	}
	for i := m.base; i < m.next; i++ {
		if s := &m.ring[i%ringPieces]; !s.held && !s.lost && s.order < latest[2] && now-s.at >= f.pace.Trip+4*f.pace.Stray {
			s.lost = true
			f.out--
			lost++
		}
	}
	return lost
}

// hold notes that piece i of m has arrived; 1: that is news.
func (f *Fragmenter) hold(now int64, m *outgoing, i int) int {
	s := &m.ring[i%ringPieces]
	if s.held {
		return 0
	}
	if s.tries == 1 && i == f.latest { // of a piece sent twice nobody knows which one arrived
		f.pace.Measure(now-s.at, 0)
	}
	if !s.lost {
		f.out--
	}
	s.held, s.lost = true, false
	f.progressed(now, m)
	return 1
}

func (f *Fragmenter) progressed(now int64, m *outgoing) {
	m.progress = now
	f.backoff, f.patient = 0, 0
}

// resend is how long a piece may be out before it is taken to be lost.
func (f *Fragmenter) resend() int64 {
	d := f.o.Resend
	if f.pace.Trip > 0 {
		d = max(resendLeast, 2*f.pace.Trip+4*f.pace.Stray)
	}
	return min(d<<f.backoff, max(resendMost, f.o.Resend))
}

func (f *Fragmenter) giveUp(now int64) {
	for i := 0; i < len(f.messages); {
		if now-f.messages[i].progress < f.o.GiveUp {
			i++
			continue
		}
		f.dropped++
		f.remove(i)
	}
}

// remove ends message i: its pieces are out no more.
func (f *Fragmenter) remove(i int) {
	m := f.messages[i]
	f.forgetPieces(m)
	m.payload = nil
	f.messages = append(f.messages[:i], f.messages[i+1:]...)
	f.free = append(f.free, m)
}
