// Package kv is the replicated state machine: an ordered map of keys to values, and the session table that makes
// every command take effect exactly once.
//
// It is deterministic. The state is a function of the entries applied, in index order, and of nothing else: no clock
// but the log time in the entries, no map order, no goroutine. Equal index means equal Hash on all servers.
//
// One goroutine owns a Store. What it returns are views, valid until the next Apply unless said otherwise.
package kv

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/btree"
)

// Kinds of entries, the same numbers in log, wire and core.
const (
	KindNoOp          = 1
	KindCommands      = 2
	KindConfiguration = 3
	KindBaseMark      = 4
	KindPart          = 5
)

// Entry is a committed log entry as the store needs it.
type Entry struct {
	Index, Term uint64
	Kind        uint8
	Time        int64  // log time, nanoseconds
	Count       uint32 // commands in Body
	Body        []byte // borrowed for the call
}

// item is one live key. Its value's capacity is used again when the key is overwritten.
type item struct {
	key         string
	value       []byte
	index, term uint64 // of the last change
}

// Store is the state. The map answers point look-ups, the tree keeps the order; both hold the same items.
type Store struct {
	items    map[string]*item
	hints    hints
	ahead    ahead
	tree     *btree.BTreeG[*item]
	sessions sessions
	parts    parts
	results  []Result

	unpacked int // bytes, by the last Apply

	index, term uint64 // last applied entry
	now         int64  // log time; never falls
}

// New returns the empty store, as it is before index 1.
func New() *Store {
	byKey := func(a, b *item) bool { return a.key < b.key }
	return &Store{
		items:    make(map[string]*item),
		tree:     btree.NewBTreeGOptions(byKey, btree.Options{NoLocks: true}),
		sessions: sessions{byClient: make(map[uint64]*session)},
	}
}

// Applied returns index and term of the last applied entry; 0, 0 at first.
func (s *Store) Applied() (index, term uint64) { return s.index, s.term }

// Unpacked is how many bytes the last Apply made of packed values.
func (s *Store) Unpacked() int { return s.unpacked }

// LogTime is the log time of the last applied entry, nanoseconds.
func (s *Store) LogTime() int64 { return s.now }

// expireBudget is how many sessions of a class one entry may forget beyond twice those it can create: so the table
// cannot outgrow its expiry, and no entry pays for a crowd that left at once.
const expireBudget = 64

// Apply executes the next entry, whatever its kind, and returns a result for each of its commands in order. The
// slice is reused by the next Apply. It panics if an index is skipped or repeated: the caller is wrong.
func (s *Store) Apply(e *Entry) []Result {
	if e.Index != s.index+1 && s.index != 0 {
		panic("kv: entry applied out of order")
	}
	s.index, s.term = e.Index, e.Term
	s.now = max(s.now, e.Time)
	s.sessions.expire(s.now, expireBudget+2*int(min(e.Count, 1<<16)))
	s.results, s.unpacked = s.results[:0], 0
	if e.Kind == KindPart {
		if whole, ok := s.parts.take(e); ok {
			s.applyAll(e, whole, 1)
			s.parts.void()
		}
		return s.results
	}
	s.parts.void()
	if e.Kind == KindCommands {
		s.applyAll(e, e.Body, e.Count)
	}
	return s.results
}

// applyAll executes count commands. The leader logs only what decodes; should something else be there, all servers
// stop at the same byte.
func (s *Store) applyAll(e *Entry, body []byte, count uint32) {
	a := &s.ahead
	at := 0
	a.n = 0
	for sub := uint32(0); sub < count; sub++ {
		if at >= a.n {
			s.lookAhead(body, count-sub)
			at = 0
		}
		c, size, err := DecodeCommand(body)
		if err != nil {
			return
		}
		body = body[size:]
		var hash uint64
		if at < a.n {
			hash = a.hashes[at]
			at++
		}
		s.results = append(s.results, s.apply(e, &c, hash, uint16(sub)))
	}
}

// apply finds the session and executes the command unless it is a repeat or refused.
func (s *Store) apply(e *Entry, c *Command, hash uint64, sub uint16) Result {
	r := Result{Sub: sub, Client: c.Client, Seq: c.Seq, Index: e.Index, Term: e.Term}
	if c.Op.IsRead() {
		r.Status = Malformed
		return r
	}
	p := s.sessions.byClient[c.Client]
	if p == nil {
		if r.Status = s.admit(e, c); r.Status != 0 {
			return r
		}
		p = s.sessions.register(c, s.now)
	}
	s.sessions.touch(p, s.now)
	p.acknowledge(c.AckedBelow)
	if c.Seq < p.acked {
		r.Status = TooOld
		return r
	}
	if k := p.cached(c.Seq); k != nil {
		r.Status, r.Sub, r.Index, r.Term = k.status, k.sub, k.index, k.term
		return r
	}
	if c.Term != 0 && c.Term != e.Term {
		r.Status = WrongTerm
		return r
	}
	if c.Seq-p.acked >= Window {
		r.Status = BeyondWindow
		return r
	}
	r.Status = s.execute(e, c, hash)
	p.keep(slot{seq: c.Seq, index: e.Index, term: e.Term, sub: sub, status: r.Status})
	return r
}

// admit says why a command of an unknown client may not create its session; 0 if it may.
func (s *Store) admit(e *Entry, c *Command) Status {
	switch {
	case c.Flags&FlagRegister == 0:
		return UnknownSession
	case c.Term != 0 && c.Term != e.Term: // first: a client knows which of its copies an answer below is about
		return WrongTerm
	case !fresh(c.Registered, s.now) && c.Registered > s.now:
		return EarlyRegistration
	case !fresh(c.Registered, s.now):
		return StaleRegistration
	case c.Seq-c.AckedBelow >= Window:
		return BeyondWindow
	case len(s.sessions.byClient) >= MaxSessions:
		return Busy
	}
	return 0
}

func (s *Store) execute(e *Entry, c *Command, hash uint64) Status {
	s.unpacked += c.PlainBytes()
	if c.Unpack() != nil {
		return Malformed // on every server: the bytes are the same
	}
	it := s.find(hash, c.Key)
	switch c.Op {
	case Put:
		s.set(it, c, hash, e)
	case Delete:
		if it == nil {
			return NotFound
		}
		s.hints.forget(it)
		delete(s.items, it.key)
		s.tree.Delete(it)
	case CompareAndSwap:
		if c.Flags&FlagOldAbsent != 0 {
			if it != nil {
				return Conflict
			}
		} else if it == nil || !bytes.Equal(it.value, c.Old) {
			return Conflict
		}
		s.set(it, c, hash, e)
	}
	return OK
}

// set writes the value, into the room of the old one if it fits without wasting more than three quarters of it.
func (s *Store) set(it *item, c *Command, hash uint64, e *Entry) {
	if it == nil {
		it = &item{key: string(c.Key)}
		s.items[it.key] = it
		s.tree.Set(it)
		s.hints.fit(len(s.items))
		s.hints.note(hash, it)
	}
	if n := len(c.Value); cap(it.value) < n || cap(it.value) > 4*n+1024 {
		it.value = make([]byte, 0, pad8(n))
	}
	it.value = append(it.value[:0], c.Value...)
	it.index, it.term = e.Index, e.Term
}

// Cached returns the result of a command that was already applied and not acknowledged: what a leader answers to a
// repeat without logging it.
func (s *Store) Cached(client, seq uint64) (Result, bool) {
	p := s.sessions.byClient[client]
	if p == nil {
		return Result{}, false
	}
	k := p.cached(seq)
	if k == nil {
		return Result{}, false
	}
	return Result{Status: k.status, Sub: k.sub, Client: client, Seq: seq, Index: k.index, Term: k.term}, true
}

// Get returns the value of key, a view until the next Apply, with index and term of its last change.
func (s *Store) Get(key []byte) (value []byte, index, term uint64, ok bool) {
	it := s.find(xxhash.Sum64(key), key)
	if it == nil {
		return nil, 0, 0, false
	}
	return it.value, it.index, it.term, true
}

// Len is the number of keys, Sessions that of sessions.
func (s *Store) Len() int      { return len(s.items) }
func (s *Store) Sessions() int { return len(s.sessions.byClient) }

// Scan visits, in order, the keys that begin with prefix, are at least from, and below to (empty: no bound), until
// visit returns false, limit pairs were visited (0: no limit), or the next pair would pass maxBytes by PairSize (0: no
// limit; the first pair always goes). more says that the range was not visited to its end. Key and value are views.
func (s *Store) Scan(prefix, from, to []byte, limit, maxBytes int, visit func(key, value []byte) bool) (more bool) {
	start, first := string(prefix), string(from)
	if first > start {
		start = first
	}
	var key []byte
	n, size := 0, 0
	s.tree.Ascend(&item{key: start}, func(it *item) bool {
		if !strings.HasPrefix(it.key, string(prefix)) || len(to) > 0 && it.key >= string(to) {
			return false
		}
		key = append(key[:0], it.key...)
		size += PairSize(key, it.value)
		if limit > 0 && n >= limit || maxBytes > 0 && n > 0 && size > maxBytes || !visit(key, it.value) {
			more = true
			return false
		}
		n++
		return true
	})
	return more
}

// Hash is over the whole state: keys, values and their last change, sessions with their cached results, parts under
// way, log time. It takes time in proportion to the state.
func (s *Store) Hash() uint64 {
	d := xxhash.New()
	var buf []byte
	u64 := func(vs ...uint64) {
		buf = buf[:0]
		for _, v := range vs {
			buf = binary.LittleEndian.AppendUint64(buf, v)
		}
		_, _ = d.Write(buf)
	}
	u64(s.index, s.term, uint64(s.now), uint64(len(s.items)))
	s.tree.Scan(func(it *item) bool {
		u64(uint64(len(it.key)), uint64(len(it.value)), it.index, it.term)
		_, _ = d.WriteString(it.key)
		_, _ = d.Write(it.value)
		return true
	})
	u64(uint64(len(s.sessions.byClient)))
	for _, p := range s.sessions.sorted() {
		u64(p.client, p.acked, uint64(p.used), uint64(p.class))
		for i := range uint64(len(p.ring)) {
			if k := p.cached(p.acked + i); k != nil {
				u64(k.seq, k.index, k.term, uint64(k.sub), uint64(k.status))
			}
		}
	}
	u64(s.parts.index, s.parts.term, uint64(s.parts.total))
	_, _ = d.Write(s.parts.buffer)
	return d.Sum64()
}
