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

// Store is the state. The table answers point look-ups, the tree keeps the order; both hold the same records.
type Store struct {
	hash     func(key []byte) uint64 // for the table
	table    table
	records  records
	tree     *btree.BTreeG[uint32]
	from     []byte // the key that the tree takes ref 0 for
	sessions sessions
	parts    parts
	results  []Result
	ahead    ahead

	unpacked int // bytes, by the last Apply

	index, term uint64 // last applied entry
	now         int64  // log time; never falls
}

// New returns the empty store, as it is before index 1.
func New() *Store { return NewHashing(xxhash.Sum64) }

// NewHashing is New with the hash by which the store finds its keys. Nothing of the state, its order or its Hash depends on
// it; how fast keys are found does. Who serves clients that may choose keys to be slow gives one that is seeded with
// what they can't know, as Go's own maps have: see table. It must not keep the key.
func NewHashing(hash func(key []byte) uint64) *Store {
	s := &Store{
		hash:     hash,
		table:    newTable(),
		records:  newRecords(),
		sessions: sessions{byClient: make(map[uint64]*session)},
	}
	s.tree = btree.NewBTreeGOptions(s.before, btree.Options{NoLocks: true})
	return s
}

// before is the order of the tree.
func (s *Store) before(a, b uint32) bool {
	x, y := s.from, s.from
	if a != 0 {
		x = s.records.key(a)
	}
	if b != 0 {
		y = s.records.key(b)
	}
	return bytes.Compare(x, y) < 0
}

// find returns the ref of key's record, 0 if there is none.
func (s *Store) find(key []byte) uint32 { return s.table.find(uint32(s.hash(key)), key, &s.records) }

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
	for sub := uint32(0); sub < count; {
		group := s.ahead.group[:min(count-sub, aheadMost)]
		n, size := s.foresee(group, body)
		for i := range group[:n] {
			s.results = append(s.results, Result{})
			s.apply(e, &group[i], uint16(sub), &s.results[len(s.results)-1])
			sub++
		}
		clear(group[:n]) // the body is not ours to keep
		if n < len(group) {
			return
		}
		body = body[size:]
	}
}

// apply finds the session and executes the command unless it is a repeat or refused.
func (s *Store) apply(e *Entry, f *foreseen, sub uint16, r *Result) {
	c := &f.Command
	r.Sub, r.Client, r.Seq, r.Index, r.Term = sub, c.Client, c.Seq, e.Index, e.Term
	if c.Op.IsRead() {
		r.Status = Malformed
		return
	}
	p := f.session
	if p == nil { // or it was made since
		p = s.sessions.find(c.Client)
	}
	if p == nil {
		if r.Status = s.admit(e, c); r.Status != 0 {
			return
		}
		p = s.sessions.register(c, s.now)
	}
	s.sessions.touch(p, s.now)
	p.acknowledge(c.AckedBelow)
	if c.Seq < p.acked {
		r.Status = TooOld
		return
	}
	if k := p.cached(c.Seq); k != nil {
		r.Status, r.Sub, r.Index, r.Term = k.status, k.sub, k.index, k.term
		return
	}
	if c.Term != 0 && c.Term != e.Term {
		r.Status = WrongTerm
		return
	}
	if c.Seq-p.acked >= Window {
		r.Status = BeyondWindow
		return
	}
	r.Status = s.execute(e, f)
	p.keep(slot{seq: c.Seq, index: e.Index, term: e.Term, sub: sub, status: r.Status})
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

func (s *Store) execute(e *Entry, f *foreseen) Status {
	c := &f.Command
	s.unpacked += c.PlainBytes()
	if c.Unpack() != nil {
		return Malformed // on every server: the bytes are the same
	}
	ref := s.table.find(f.hash, c.Key, &s.records)
	switch c.Op {
	case Put:
		s.set(ref, e, f)
	case Delete:
		if ref == 0 {
			return NotFound
		}
		s.tree.Delete(ref)
		s.table.remove(f.hash, ref)
		s.records.free(ref)
	case CompareAndSwap:
		if c.Flags&FlagOldAbsent != 0 {
			if ref != 0 {
				return Conflict
			}
		} else if ref == 0 || !bytes.Equal(s.records.value(ref), c.Old) {
			return Conflict
		}
		s.set(ref, e, f)
	}
	return OK
}

// set writes the value, into the record of the old one if it fits, else into a new record, which takes its place.
func (s *Store) set(ref uint32, e *Entry, f *foreseen) {
	value := f.Value
	if ref == 0 {
		ref = s.records.add(f.Key, len(value))
		s.table.insert(f.hash, ref)
		s.tree.Set(ref)
	} else if !s.records.fits(ref, len(value)) {
		old := ref
		ref = s.records.add(f.Key, len(value))
		s.table.replace(f.hash, old, ref)
		s.tree.Set(ref)
		s.records.free(old)
	}
	s.records.write(ref, value, e.Index, e.Term)
}

// Cached returns the result of a command that was already applied and not acknowledged: what a leader answers to a
// repeat without logging it.
func (s *Store) Cached(client, seq uint64) (Result, bool) {
	p := s.sessions.find(client)
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
	ref := s.find(key)
	if ref == 0 {
		return nil, 0, 0, false
	}
	index, term = s.records.change(ref)
	return s.records.value(ref), index, term, true
}

// Len is the number of keys, Sessions that of sessions.
func (s *Store) Len() int      { return s.table.count }
func (s *Store) Sessions() int { return len(s.sessions.byClient) }

// Scan visits, in order, the keys that begin with prefix, are at least from, and below to (empty: no bound), until
// visit returns false, limit pairs were visited (0: no limit), or the next pair would pass maxBytes by PairSize (0: no
// limit; the first pair always goes). more says that the range was not visited to its end. Key and value are views.
func (s *Store) Scan(prefix, from, to []byte, limit, maxBytes int, visit func(key, value []byte) bool) (more bool) {
	start := prefix
	if bytes.Compare(from, start) > 0 {
		start = from
	}
	s.from = start
	n, size := 0, 0
	s.tree.Ascend(0, func(ref uint32) bool {
		key := s.records.key(ref)
		if !bytes.HasPrefix(key, prefix) || len(to) > 0 && bytes.Compare(key, to) >= 0 {
			return false
		}
		value := s.records.value(ref)
		size += PairSize(key, value)
		if limit > 0 && n >= limit || maxBytes > 0 && n > 0 && size > maxBytes || !visit(key, value) {
			more = true
			return false
		}
		n++
		return true
	})
	s.from = nil
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
	u64(s.index, s.term, uint64(s.now), uint64(s.table.count))
	s.tree.Scan(func(ref uint32) bool {
		key, value := s.records.key(ref), s.records.value(ref)
		index, term := s.records.change(ref)
		u64(uint64(len(key)), uint64(len(value)), index, term)
		_, _ = d.Write(key)
		_, _ = d.Write(value)
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
