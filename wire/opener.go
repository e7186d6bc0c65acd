package wire

import (
	"crypto/cipher"
	"errors"
)

// What an Opener refuses, besides the errors of Peek and Open.
var (
	ErrEpoch  = errors.New("wire: sealed with a key that is not held here")
	ErrSeal   = errors.New("wire: the seal does not fit")
	ErrReplay = errors.New("wire: a datagram that was taken before, or is too old to know")
	ErrCrowd  = errors.New("wire: too many strangers at once")
)

// StrangersATurn is how many seals of senders that were never heard an Opener tries
// between two calls of Turn, for each direction: making a key to find out costs as
// much as ten datagrams, and whoever sends garbage shall not have us do that for all of
// it. Who is known is never kept out by it.
const StrangersATurn = 16

// LaneIdle is how long a client's process is remembered at least, so that none of its
// datagrams is taken twice: above the life of an address token (Tokens.Give), which
// what is taken from it must carry. ns.
const LaneIdle = int64(tokenWindows+1) * tokenWindow

// Opener opens what one process receives, each datagram once. What it remembers of
// senders is bounded, and made only for those whose seal was right. Time is passed in.
// Not safe for two goroutines.
type Opener struct {
	keys  *Keys
	nonce [nonceBytes]byte
	lanes [classes]lanes
	tried [classes]int // strangers since Turn
}

// lanes are the senders of one class, by last use.
type lanes struct {
	most, least    int64 // how many; how long one is kept at least, ns
	index          map[lane]*opening
	oldest, newest *opening
}

type opening struct {
	lane
	aead         cipher.AEAD
	window       Window
	last         int64
	older, newer *opening
}

// Bounds of what an Opener remembers: about 2 KiB a sender. Of servers the oldest makes room at once: what
// they say to each other may arrive twice, and old, as nothing of it counts but by the
// boot and the term it names.
const (
	maxPeerLanes   = 512
	maxClientLanes = 16384
)

// NewOpener makes one for a server or, with a client's keys or for a client, answers alone.
func NewOpener(k *Keys) *Opener {
	o := &Opener{keys: k}
	for c := range o.lanes {
		o.lanes[c] = lanes{most: maxPeerLanes, index: make(map[lane]*opening)}
	}
	o.lanes[classAsks].most, o.lanes[classAsks].least = maxClientLanes, LaneIdle
	o.lanes[classOperators].least = LaneIdle
	return o
}

// Rekey takes other keys. Who is known under one that both have stays known.
func (o *Opener) Rekey(k *Keys) {
	for c := range o.lanes {
		ls := &o.lanes[c]
		for at := ls.oldest; at != nil; {
			next := at.newer
			was, is := o.keys.find(at.epoch), k.find(at.epoch)
			if is == nil || string(is.secrets[c]) != string(was.secrets[c]) {
				ls.remove(at)
			}
			at = next
		}
	}
	o.keys = k
}

// Turn lets strangers be tried again.
func (o *Opener) Turn() { o.tried = [classes]int{} }

// Senders is how many are remembered.
func (o *Opener) Senders() int {
	n := 0
	for c := range o.lanes {
		n += len(o.lanes[c].index)
	}
	return n
}

// Open opens a datagram in place: its body is changed, also when the seal is wrong.
// h is what Peek gave. remember says that the datagram is known to be fresh: it is
// noted so that no copy of it is taken, and its sender too. One that is not is opened
// and leaves no trace: whoever acts on it must not mind copies.
func (o *Opener) Open(now int64, h *Header, b []byte, remember bool) (Frames, error) {
	if h.Flags&FlagSealed == 0 || h.Flags&^flagsKnown != 0 || h.Flags&FlagOperator != 0 && h.Src != ClientNode || h.Packet == 0 {
		return Frames{}, ErrReserved
	}
	want := laneOf(h)
	ls := &o.lanes[want.class]
	known := ls.index[want]
	var aead cipher.AEAD
	if known != nil {
		if known.window.Seen(h.Packet) {
			return Frames{}, ErrReplay
		}
		aead = known.aead
	} else {
		if e := o.keys.find(want.epoch); e == nil || e.secrets[want.class] == nil {
			return Frames{}, ErrEpoch
		}
		if remember && ls.full(now) {
			return Frames{}, ErrCrowd
		}
		if ls.least == 0 || !remember { // else its token shows that it was answered already
			if o.tried[want.class] == StrangersATurn {
				return Frames{}, ErrCrowd
			}
			o.tried[want.class]++
		}
		aead = o.keys.aead(&want)
	}
	le.PutUint64(o.nonce[nonceBytes-8:], h.Packet)
	body := b[HeaderBytes:]
	plain, err := aead.Open(body[:0], o.nonce[:], body, b[:HeaderBytes])
	if err != nil {
		return Frames{}, ErrSeal
	}
	if known == nil && remember {
		known = ls.add(now, want, aead)
	}
	if known != nil {
		known.window.Take(h.Packet)
		ls.use(now, known)
	}
	return Frames{rest: plain}, nil
}

func (s *lanes) full(now int64) bool {
	return len(s.index) >= int(s.most) && now-s.oldest.last < s.least
}

func (s *lanes) add(now int64, l lane, a cipher.AEAD) *opening {
	if len(s.index) >= int(s.most) {
		s.remove(s.oldest)
	}
	n := &opening{lane: l, aead: a, last: now}
	s.index[l] = n
	s.push(n)
	return n
}

func (s *lanes) use(now int64, n *opening) {
	n.last = now
	if n != s.newest {
		s.unlink(n)
		s.push(n)
	}
}

func (s *lanes) push(n *opening) {
	n.older, n.newer = s.newest, nil
	if s.newest != nil {
		s.newest.newer = n
	} else {
		s.oldest = n
	}
	s.newest = n
}

func (s *lanes) remove(n *opening) {
	s.unlink(n)
	delete(s.index, n.lane)
}

func (s *lanes) unlink(n *opening) {
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		s.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		s.newest = n.older
	}
	n.older, n.newer = nil, nil
}
