package wire

import "math"

// FragmenterOptions is how a Fragmenter paces itself. The zero value of a field
// takes the value named beside it.
type FragmenterOptions struct {
	Boot   uint64 // the sender's own: a status that echoes another counts for nothing
	Limit  int    // largest datagram, bytes (SafeDatagram)
	Window int    // bytes that may be out without an answer, over all messages (512 KiB)
	Resend int64  // nanoseconds until a piece is sent again, before a round trip was seen (20 ms)
	GiveUp int64  // nanoseconds without any progress after which a message is dropped (10 s)
}

const (
	resendLeast = int64(5e6)
	resendMost  = int64(500e6)
	ringPieces  = 256 // above bitmapFragments+1, the most pieces out of one message
)

// Fragmenter sends messages to one destination in pieces, and again those that are
// missing there: selectively, by what the statuses tell, and by time passed in.
//
// No goroutine, no clock. Not safe for two goroutines.
type Fragmenter struct {
	o        FragmenterOptions
	stride   int
	window   int // pieces
	messages []*outgoing
	free     []*outgoing
	out      int    // pieces out, over all messages
	order    uint64 // counts pieces as they are sent
	trip     int64  // smoothed round trip, nanoseconds; 0 = none seen
	stray    int64  // smoothed deviation from it
	backoff  uint   // doublings of the resend time since the last progress
	dropped  uint64
}

// outgoing is a message on its way. Pieces below base have arrived, pieces from next
// on were never sent: base <= next <= base+bitmapFragments+1.
type outgoing struct {
	id         uint64
	kind       Kind
	payload    []byte
	count      int // pieces
	base, next int
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
	return &Fragmenter{o: o, stride: stride, window: max(2, o.Window/stride)}
}

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
	m.base, m.next = 0, 0
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
// ones while the window is open. p's Limit must not be below the Fragmenter's.
func (f *Fragmenter) Pack(now int64, p *Packer) {
	f.giveUp(now)
	expired := false
	for _, m := range f.messages {
		for i := m.base; i < m.next; i++ {
			s := &m.ring[i%ringPieces]
			if s.held || !s.lost && now-s.at < f.resend() {
				continue
			}
			expired = expired || !s.lost
			f.send(now, p, m, i)
		}
	}
	if expired {
		f.backoff = min(f.backoff+1, 8)
	}
	for _, m := range f.messages {
		for m.next < m.count && f.out < f.window && m.next-m.base <= bitmapFragments {
			m.ring[m.next%ringPieces] = piece{}
			f.out++
			f.send(now, p, m, m.next)
			m.next++
		}
	}
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
		if m.next < m.count && f.out < f.window && m.next-m.base <= bitmapFragments {
			return 0
		}
		for i := m.base; i < m.next; i++ {
			if s := &m.ring[i%ringPieces]; s.lost {
				return 0
			} else if !s.held {
				due = min(due, s.at+f.resend())
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

// arrived marks what a status names, and what it shows to be lost: a piece that is
// still missing though three that were sent after it are there, and the longest round
// trip to be expected has passed (pieces of one burst overtake each other).
func (f *Fragmenter) arrived(now int64, m *outgoing, s *FragmentStatus) {
	have := int(s.Have) / f.stride
	if int(s.Have)%f.stride != 0 || have > m.next {
		return // not of this message as we cut it
	}
	if have < m.base {
		have = m.base // old news, whose bitmap lies below what is known
	} else {
		for i := range bitmapFragments {
			if s.Bitmap[i/8]>>(i%8)&1 != 0 && have+1+i < m.next {
				f.hold(now, m, have+1+i)
			}
		}
	}
	for i := m.base; i < have; i++ {
		f.hold(now, m, i)
	}
	for m.base < m.next && m.ring[m.base%ringPieces].held {
		m.base++
	}
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
		if s := &m.ring[i%ringPieces]; !s.held && s.order < latest[2] && now-s.at >= f.trip+4*f.stray {
			s.lost = true
		}
	}
}

// hold notes that piece i of m has arrived.
func (f *Fragmenter) hold(now int64, m *outgoing, i int) {
	s := &m.ring[i%ringPieces]
	if s.held {
		return
	}
	if s.tries == 1 { // of a piece sent twice nobody knows which one arrived
		trip := max(1, now-s.at)
		if f.trip == 0 {
			f.trip, f.stray = trip, trip/2
		}
		f.stray += (max(trip-f.trip, f.trip-trip) - f.stray) / 4
		f.trip += (trip - f.trip) / 8
	}
	s.held, s.lost = true, false
	f.out--
	f.progressed(now, m)
}

func (f *Fragmenter) progressed(now int64, m *outgoing) {
	m.progress = now
	f.backoff = 0
}

// resend is how long a piece may be out before it is taken to be lost.
func (f *Fragmenter) resend() int64 {
	d := f.o.Resend
	if f.trip > 0 {
		d = max(resendLeast, 2*f.trip+4*f.stray)
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
	for n := m.base; n < m.next; n++ {
		if !m.ring[n%ringPieces].held {
			f.out--
		}
	}
	m.payload = nil
	f.messages = append(f.messages[:i], f.messages[i+1:]...)
	f.free = append(f.free, m)
}
