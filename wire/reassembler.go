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
// can be ended. Beyond the first pieces senders send what they were granted, and the
// grants that are out at once never fill more than half of the socket's buffer: however many
// send at once, they do not overflow it. Who finds no place is told so, and told again when there
// is one. Time is passed in. Not safe for two goroutines.
type Reassembler struct {
	maxBytes, maxSlots int

	Buffer    int    // bytes of the socket's receive buffer, as the system says it granted (4 MiB, set anew at will)
	Overflows uint32 // of the socket, to be told

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

	now      int64    // newest time told
	promised int      // of the socket's buffer, by grants of which nothing has come yet
	waiting  []waiter // found no place, oldest first; bounded
	freed    bool     // a place, since they were looked at
}

// waiter is a message without a place.
type waiter struct {
	key
	addr          netip.Addr
	kind          Kind
	total, stride uint32
	at            int64 // when it last asked
}

// charged is what the kernel takes of a receive buffer for a fragment, at most: it counts the memory
// that holds a datagram, not its bytes. The buffer that a system says it granted is half
// of what it charges against.
func charged(stride uint32) int { return 2*int(stride) + 512 }

// bufferBytes is a socket's receive buffer unless the owner knows better.
const bufferBytes = 4 << 20

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
	missing       int    // pieces
	first         int    // first missing piece
	granted       int    // pieces that may be sent
	latest        uint32 // offset of the piece that came last
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
	r.now = max(r.now, now)
	k := key{Sender{h.Src, h.Incarnation, h.Boot}, f.Message}
	if at, ok := r.done[k]; ok {
		if now-at < doneExpiry {
			r.repeat(k, true)
			return Whole{}, false, nil
		}
		r.forget(k)
	}
	i, ok := r.index[k]
	if !ok {
		w := waiter{k, from, f.Kind, f.Total, f.Stride, now}
		if i, err = r.open(&w); err != nil {
			r.await(&w)
			r.repeat(k, false)
			return Whole{}, false, err
		}
		r.grant(&r.slots[i], min(unscheduled, r.slots[i].missing)) // they are on their way already
	}
	s := &r.slots[i]
	if s.kind != f.Kind || s.total != f.Total || s.stride != f.Stride {
		return Whole{}, false, ErrContradiction
	}
	n := int(f.Offset / f.Stride)
	place := s.buf[f.Offset : int(f.Offset)+len(f.Body)]
	s.owed, s.latest = true, f.Offset
	if s.have.has(n) {
		if !bytes.Equal(place, f.Body) {
			return Whole{}, false, ErrContradiction
		}
		if s.due() == 0 {
			s.last = now // it asks for the grant that we owe
		}
		return Whole{}, false, nil
	}
	copy(place, f.Body)
	r.promised -= s.due()
	s.have.set(n)
	s.missing--
	r.promised += s.due()
	s.last = now
	if s.missing > 0 {
		s.first = s.have.firstMissing(s.first, s.pieces())
		return Whole{}, false, nil
	}
	w = Whole{From: k.from, Message: k.message, Kind: s.kind, Payload: s.buf}
	r.handed = s.buf
	r.close(i)
	r.remember(now, k)
	r.repeat(k, true)
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
		o.Status.Overflows = r.Overflows
		return o, true
	}
	if r.dirty == 0 {
		r.Expire(r.now)
		r.admit()
	}
	for ; r.dirty < len(r.slots); r.dirty++ {
		s := &r.slots[r.dirty]
		if !s.used {
			continue
		}
		stood := s.due() == 0
		if grew := r.extend(s); s.owed || stood && grew {
			s.owed = false
			st := s.status()
			st.Overflows = r.Overflows
			return FragmentOwed{To: s.from, Status: st}, true
		}
	}
	r.dirty = 0
	return FragmentOwed{}, false
}

// due is what the kernel may yet be charged with for what a message was granted.
func (s *slot) due() int {
	return max(0, s.granted-(s.pieces()-s.missing)) * charged(s.stride)
}

// grant lets a message have so many pieces from its beginning on their way, or there.
func (r *Reassembler) grant(s *slot, pieces int) {
	r.promised -= s.due()
	s.granted = pieces
	r.promised += s.due()
}

// extend grants a message more, if there is room: of half of the socket's buffer, which the
// kernel charges with twice what it says it granted, an equal share; at least one piece when no other's is
// on its way.
func (r *Reassembler) extend(s *slot) bool {
	buffer, each := r.Buffer, charged(s.stride)
	if buffer == 0 {
		buffer = bufferBytes
	}
	share := max(1, buffer/each/max(1, len(r.index)))
	room := (buffer - r.promised) / each
	if r.promised == 0 {
		room = max(room, 1)
	}
	pieces := s.pieces()
	want := min(pieces, pieces-s.missing+share, s.first+1+bitmapFragments)
	if more := min(want-s.granted, room); more > 0 {
		r.grant(s, s.granted+more)
		return true
	}
	return false
}

// await notes a message that found no place; of more than can be remembered the sender asks
// again by itself.
func (r *Reassembler) await(w *waiter) {
	for i := range r.waiting {
		if r.waiting[i].key == w.key {
			r.waiting[i].at = w.at
			return
		}
	}
	if len(r.waiting) < 4*r.maxSlots {
		r.waiting = append(r.waiting, *w)
	}
}

// admit gives places that have become free to those that wait, the oldest first. Who has not
// asked for as long as an unfinished message is kept is gone.
func (r *Reassembler) admit() {
	if !r.freed || len(r.waiting) == 0 {
		return
	}
	r.freed = false
	kept := r.waiting[:0]
	for i := range r.waiting {
		w := &r.waiting[i]
		_, begun := r.index[w.key]
		_, over := r.done[w.key]
		if begun || over || r.now-w.at >= slotExpiry {
			continue
		}
		if len(r.index) == len(r.slots) {
			kept = append(kept, *w)
		} else if _, err := r.open(w); err != nil {
			kept = append(kept, *w)
		}
	}
	clear(r.waiting[len(kept):])
	r.waiting = kept
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
	st := FragmentStatus{Message: s.message, EchoBoot: s.from.Boot, Have: uint32(s.first) * s.stride, Grant: min(s.total, uint32(s.granted)*s.stride), Latest: s.latest}
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
func (r *Reassembler) open(w *waiter) (int, error) {
	i, err := r.vacancy(w.from, w.addr, int(w.total))
	if err != nil {
		r.Expire(r.now)
		if i, err = r.vacancy(w.from, w.addr, int(w.total)); err != nil {
			return 0, err
		}
	}
	s := &r.slots[i]
	have := s.have[:0]
	*s = slot{key: w.key, addr: w.addr, kind: w.kind, total: w.total, stride: w.stride, last: r.now, used: true}
	s.missing = s.pieces()
	for range (s.missing + 63) / 64 {
		have = append(have, 0)
	}
	s.have = have
	// A spare far too large would hold more memory than is accounted for.
	if s.buf = r.spare; cap(s.buf) < int(w.total) || cap(s.buf) > 2*int(w.total) {
		s.buf = make([]byte, w.total)
	}
	r.spare = nil
	s.buf = s.buf[:w.total]
	r.bytes += int(w.total)
	r.index[w.key] = i
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
	r.promised -= s.due()
	r.freed = true
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

// repeat owes the sender of a message that has no place here its status, once a turn: it is
// finished, or there was no room for it.
func (r *Reassembler) repeat(k key, done bool) {
	o := FragmentOwed{To: k.from, Status: FragmentStatus{Message: k.message, EchoBoot: k.from.Boot, Done: done}}
	for i := range r.repeats {
		if r.repeats[i] == o {
			return
		}
	}
	if len(r.repeats) < r.maxSlots {
		r.repeats = append(r.repeats, o)
	}
}
