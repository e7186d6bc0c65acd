package kv

import (
	"math/bits"
	"slices"
	"time"
)

// Sessions make a command that arrives many times take effect once. A client numbers its commands; the table keeps
// the result of every number the client has not acknowledged, and answers a repeat with the very same result.
//
// What holds, on every server alike, because only entries and their log time go in:
//   - a session is created only by a command with FlagRegister whose registration is at most Horizon old, and lives
//     at least until no copy of such a command can be accepted any more; so a late copy finds the session, or is refused;
//   - an unknown session is an error, never created silently;
//   - a late copy of a registering command for a client already known is a plain repeat: it evicts nothing;
//   - nothing is evicted for room: at MaxSessions a new registration is refused (Busy).

// Times in nanoseconds of log time.
const (
	Horizon     = int64(60 * time.Second) // oldest registration accepted; longer than any client's timeout
	SessionIdle = int64(10 * time.Minute) // a session unused for longer is forgotten
)

// MaxSessions bounds the table.
const MaxSessions = 1 << 20

// slot is the result of one sequence number. It is live while seq >= the session's acked.
type slot struct {
	seq, index, term uint64
	sub              uint16
	status           Status
}

// session is what is known of one client.
type session struct {
	client     uint64
	acked      uint64 // the client has every outcome below it
	used       int64  // log time: last command, or creation for a one-shot
	class      uint8
	ring       []slot  // by seq modulo its length, a power of two; covers [acked, acked+len)
	first      [1]slot // the ring of a session with one command
	prev, next *session
}

// Classes of sessions: one queue each, ordered by used, so that the oldest is always in front.
const (
	classIdle         = iota // forgotten SessionIdle after the last command
	classOneShot             // forgotten Horizon after creation
	classOneShotAhead        // created with a registration ahead of log time: twice the horizon
	classes
)

var classLife = [classes]int64{SessionIdle, Horizon, 2 * Horizon}

// sessions is the table. The map is never ranged over except to be sorted.
type sessions struct {
	byClient map[uint64]*session
	queue    [classes]struct{ front, back *session }
	free     *session // chain by next
	last     *session // found last, if it is in the table: a client's commands often come one after another
}

// find returns a client's session, nil if it has none.
func (t *sessions) find(client uint64) *session {
	if t.last != nil && t.last.client == client {
		return t.last
	}
	s := t.byClient[client]
	if s != nil {
		t.last = s
	}
	return s
}

func (t *sessions) add(client uint64, class uint8, now int64) *session {
	s := t.free
	if s != nil {
		t.free = s.next
		*s = session{}
	} else {
		s = new(session)
	}
	s.client, s.class, s.used, s.acked = client, class, now, 1
	s.ring = s.first[:]
	t.byClient[client] = s
	t.push(s)
	return s
}

func (t *sessions) push(s *session) {
	q := &t.queue[s.class]
	s.prev, s.next = q.back, nil
	if q.back != nil {
		q.back.next = s
	} else {
		q.front = s
	}
	q.back = s
}

func (t *sessions) unlink(s *session) {
	q := &t.queue[s.class]
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		q.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		q.back = s.prev
	}
}

// touch notes a command of s at log time now. A one-shot lives by its creation.
func (t *sessions) touch(s *session, now int64) {
	if s.class != classIdle || s.used == now {
		return
	}
	s.used = now
	if t.queue[classIdle].back != s {
		t.unlink(s)
		t.push(s)
	}
}

// expire forgets at most budget sessions of each class whose time is over.
func (t *sessions) expire(now int64, budget int) {
	for class := range t.queue {
		for n := 0; n < budget; n++ {
			s := t.queue[class].front
			if s == nil || now-s.used <= classLife[class] {
				break
			}
			t.unlink(s)
			delete(t.byClient, s.client)
			if t.last == s {
				t.last = nil
			}
			s.ring, s.prev = nil, nil
			s.next, t.free = t.free, s
		}
	}
}

// fresh says whether a registration made at log time registered may still create a session at now.
func fresh(registered, now int64) bool {
	return registered >= now-Horizon && registered <= now+Horizon
}

func (t *sessions) register(c *Command, now int64) *session {
	class := uint8(classIdle)
	if c.Flags&FlagOneShot != 0 {
		class = classOneShot
		if c.Registered > now {
			class = classOneShotAhead
		}
	}
	return t.add(c.Client, class, now)
}

// acknowledge frees the results below.
func (s *session) acknowledge(below uint64) {
	if below > s.acked {
		s.acked = below
	}
}

// cached returns the result of seq if it was applied and not acknowledged.
func (s *session) cached(seq uint64) *slot {
	if seq < s.acked {
		return nil
	}
	if p := &s.ring[seq&uint64(len(s.ring)-1)]; p.seq == seq {
		return p
	}
	return nil
}

// keep stores a result; seq is in [acked, acked+Window).
func (s *session) keep(p slot) {
	if span := p.seq - s.acked + 1; span > uint64(len(s.ring)) {
		s.grow(1 << bits.Len64(span-1))
	}
	s.ring[p.seq&uint64(len(s.ring)-1)] = p
}

func (s *session) grow(size int) {
	ring := make([]slot, max(size, 8))
	for _, p := range s.ring {
		if p.seq >= s.acked {
			ring[p.seq&uint64(len(ring)-1)] = p
		}
	}
	s.ring = ring
}

// sorted returns the sessions by client id: for hashing, at a cost that grows with the table.
func (t *sessions) sorted() []*session {
	all := make([]*session, 0, len(t.byClient))
	for class := range t.queue {
		for s := t.queue[class].front; s != nil; s = s.next {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int {
		if a.client < b.client {
			return -1
		}
		return 1
	})
	return all
}
