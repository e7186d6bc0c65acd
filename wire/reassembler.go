package wire

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
)

// What a Reassembler refuses. Both are counted and dropped; ErrRoom heals by itself,
// as the sender tries again.
var (
	ErrContradiction = errors.New("wire: a fragment contradicts an earlier one of its message")
	ErrRoom          = errors.New("wire: no room to put another message together")
)

const (
	slotExpiry = int64(2e9)  // without a new piece
	doneExpiry = int64(30e9) // above any sender's GiveUp, so that it never begins again
)

// Sender is who a message comes from: one process, so that ids of an earlier boot
// never mix with those of this one.
type Sender struct {
	Src               uint16
	Incarnation, Boot uint64 // a client's id is its incarnation
}

// Whole is a message put together.
type Whole struct {
	From    Sender
	Message uint64
	Kind    Kind
	Payload []byte // valid until the Reassembler is told to Reuse it; never told, it is the caller's
}

// Reassembler puts messages together from their fragments, in bounded memory: a
// message's bytes are set aside when its first piece is taken, so what was begun
// can be ended. Time is passed in. Not safe for two goroutines.
type Reassembler struct {
	maxBytes, maxSlots int

	index map[key]int // of slots in use; never walked
	slots []slot
	bytes int // set aside
	dirty int // slots from here on may owe a status

	done    map[key]int64 // finished a while ago, and when; never walked
	ring    []key         // the same, oldest at ringAt
	ringAt  int
	repeats []FragmentOwed // statuses owed to late duplicates
	handed  []byte         // the payload handed out last, which may be looked at still
	spare   []byte         // one that nobody looks at any more
}

type key struct {
	from    Sender
	message uint64
}

type slot struct {
	key
	addr          netip.Addr // not valid: no limit by address
	kind          Kind
	total, stride uint32
	buf           []byte
	have          bitset
	missing       int // pieces
	first         int // first missing piece
	last          int64
	used, owed    bool
}

// FragmentOwed is a status to be sent, and to whom.
type FragmentOwed struct {
	To     Sender
	Status FragmentStatus
}

// NewReassembler makes one that holds at most maxSlots unfinished messages, of together at
// most maxBytes; and that remembers four times as many finished ones.
func NewReassembler(maxBytes, maxSlots int) *Reassembler {
	if maxBytes < 1 || maxSlots < 1 {
		panic("wire: a reassembler without room")
	}
	return &Reassembler{
		maxBytes: maxBytes, maxSlots: maxSlots,
		index: make(map[key]int), done: make(map[key]int64),
		slots: make([]slot, maxSlots), ring: make([]key, max(64, 4*maxSlots)),
	}
}

// Add takes a decoded fragment that came at now under header h. It gives the message,
// once, when it is whole.
func (r *Reassembler) Add(now int64, h *Header, f *Fragment) (w Whole, whole bool, err error) {
	return r.AddFrom(now, h, f, netip.Addr{})
}

// AddFrom is Add, for senders that may call themselves anything: those of one address
// together get no more than three quarters of the room.
func (r *Reassembler) AddFrom(now int64, h *Header, f *Fragment, from netip.Addr) (w Whole, whole bool, err error) {
	k := key{Sender{h.Src, h.Incarnation, h.Boot}, f.Message}
	if at, ok := r.done[k]; ok {
		if now-at < doneExpiry {
			r.repeat(k)
			return Whole{}, false, nil
		}
		r.forget(k)
	}
	i, ok := r.index[k]
	if !ok {
		if i, err = r.open(now, k, f, from); err != nil {
			return Whole{}, false, err
		}
	}
	s := &r.slots[i]
	if s.kind != f.Kind || s.total != f.Total || s.stride != f.Stride {
		return Whole{}, false, ErrContradiction
	}
	n := int(f.Offset / f.Stride)
	place := s.buf[f.Offset : int(f.Offset)+len(f.Body)]
	s.owed = true
	if s.have.has(n) {
		if !bytes.Equal(place, f.Body) {
			return Whole{}, false, ErrContradiction
		}
		return Whole{}, false, nil
	}
	copy(place, f.Body)
	s.have.set(n)
	s.missing--
	s.last = now
	if s.missing > 0 {
		s.first = s.have.firstMissing(s.first, s.pieces())
		return Whole{}, false, nil
	}
	w = Whole{From: k.from, Message: k.message, Kind: s.kind, Payload: s.buf}
	r.handed = s.buf
	r.close(i)
	r.remember(now, k)
	r.repeat(k)
	return w, true, nil
}

// Reuse says that no payload handed out so far is looked at any more: the next message
// may be put together where the last one was. A datagram may hold the end of one message
// and the beginning of another, so Add can't know this by itself.
func (r *Reassembler) Reuse() {
	if r.handed != nil {
		r.spare, r.handed = r.handed, nil
	}
}

// NextStatus gives a status that is owed, one after the other until there is none:
// to be called at the end of a turn, so that a turn's pieces share one.
func (r *Reassembler) NextStatus() (FragmentOwed, bool) {
	if n := len(r.repeats); n > 0 {
		o := r.repeats[n-1]
		r.repeats = r.repeats[:n-1]
		return o, true
	}
	for ; r.dirty < len(r.slots); r.dirty++ {
		if s := &r.slots[r.dirty]; s.used && s.owed {
			s.owed = false
			return FragmentOwed{To: s.from, Status: s.status()}, true
		}
	}
	r.dirty = 0
	return FragmentOwed{}, false
}

// Expire drops messages that got no new piece for two seconds. Add does so by itself when
// it needs the room.
func (r *Reassembler) Expire(now int64) {
	for i := range r.slots {
		if s := &r.slots[i]; s.used && now-s.last >= slotExpiry {
			r.close(i)
		}
	}
}

// Deadline is when Expire has something to do, or math.MaxInt64.
func (r *Reassembler) Deadline() int64 {
	due := int64(math.MaxInt64)
	for i := range r.slots {
		if s := &r.slots[i]; s.used {
			due = min(due, s.last+slotExpiry)
		}
	}
	return due
}

// Bytes is how much is set aside for unfinished messages.
func (r *Reassembler) Bytes() int { return r.bytes }

func (s *slot) pieces() int { return int((s.total + s.stride - 1) / s.stride) }

func (s *slot) status() FragmentStatus {
	st := FragmentStatus{Message: s.message, EchoBoot: s.from.Boot, Have: uint32(s.first) * s.stride}
	pieces := s.pieces()
	for i := range bitmapFragments {
		n := s.first + 1 + i
		if n >= pieces {
			break
		}
		if s.have.has(n) {
			st.Bitmap[i/8] |= 1 << (i % 8)
		}
	}
	return st
}

// open finds a slot for a new message. A sender that has one already may not take more
// than half of the slots, or of the bytes, so that one can't keep all others out.
func (r *Reassembler) open(now int64, k key, f *Fragment, from netip.Addr) (int, error) {
	i, err := r.vacancy(k.from, from, int(f.Total))
	if err != nil {
		r.Expire(now)
		if i, err = r.vacancy(k.from, from, int(f.Total)); err != nil {
			return 0, err
		}
	}
	s := &r.slots[i]
	have := s.have[:0]
	*s = slot{key: k, addr: from, kind: f.Kind, total: f.Total, stride: f.Stride, last: now, used: true}
	s.missing = s.pieces()
	for range (s.missing + 63) / 64 {
		have = append(have, 0)
	}
	s.have = have
	// A spare far too large would hold more memory than is accounted for.
	if s.buf = r.spare; cap(s.buf) < int(f.Total) || cap(s.buf) > 2*int(f.Total) {
		s.buf = make([]byte, f.Total)
	}
	r.spare = nil
	s.buf = s.buf[:f.Total]
	r.bytes += int(f.Total)
	r.index[k] = i
	return i, nil
}

func (r *Reassembler) vacancy(from Sender, addr netip.Addr, total int) (int, error) {
	free, slots, held, near, nearHeld := -1, 0, 0, 0, 0
	for i := range r.slots {
		s := &r.slots[i]
		if !s.used {
			if free < 0 {
				free = i
			}
			continue
		}
		if s.from == from {
			slots++
			held += int(s.total)
		}
		if s.addr == addr && addr.IsValid() {
			near++
			nearHeld += int(s.total)
		}
	}
	crowds := slots > 0 && (slots+1 > (r.maxSlots+1)/2 || held+total > r.maxBytes/2) ||
		near > 0 && (near+1 > (3*r.maxSlots+3)/4 || nearHeld+total > 3*(r.maxBytes/4))
	if free < 0 || crowds || r.bytes+total > r.maxBytes {
		return 0, ErrRoom
	}
	return free, nil
}

func (r *Reassembler) close(i int) {
	s := &r.slots[i]
	delete(r.index, s.key)
	r.bytes -= int(s.total)
	*s = slot{have: s.have[:0]}
}

// remember notes that a message is finished; the oldest note makes room.
func (r *Reassembler) remember(now int64, k key) {
	if old := r.ring[r.ringAt]; old != (key{}) {
		delete(r.done, old)
	}
	r.ring[r.ringAt] = k
	r.ringAt = (r.ringAt + 1) % len(r.ring)
	r.done[k] = now
}

func (r *Reassembler) forget(k key) {
	delete(r.done, k)
	for i := range r.ring {
		if r.ring[i] == k {
			r.ring[i] = key{}
		}
	}
}

// repeat owes the sender of a finished message its status, once a turn.
func (r *Reassembler) repeat(k key) {
	o := FragmentOwed{To: k.from, Status: FragmentStatus{Message: k.message, EchoBoot: k.from.Boot, Done: true}}
	for i := range r.repeats {
		if r.repeats[i] == o {
			return
		}
	}
	if len(r.repeats) < r.maxSlots {
		r.repeats = append(r.repeats, o)
	}
}
