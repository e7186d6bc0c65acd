package wal

import "slices"

// TermRun says that entries from First on have Term, until the next run.
type TermRun struct{ First, Term uint64 }

// Range is the entries from First to Last, both included.
type Range struct{ First, Last uint64 }

// state is what a log comes to, record by record: kept by the owner while it writes, and built anew by recovery.
type state struct {
	stateMark
	first, last, lastTerm uint64
	baseTerm              uint64 // of the entry before first
	terms                 []TermRun
	damaged               []Range // ascending, apart; identity known, body not
	locs                  locations
}

// termAt returns the term of an entry of the log, and of the one before its first; 0 for what is before that.
func (s *state) termAt(index uint64) uint64 {
	if index == s.last {
		return s.lastTerm
	}
	if index+1 == s.first {
		return s.baseTerm
	}
	for i := len(s.terms) - 1; i >= 0; i-- {
		if s.terms[i].First <= index {
			return s.terms[i].Term
		}
	}
	return 0
}

// push adds entry last+1.
func (s *state) push(index, term uint64, at loc) {
	if n := len(s.terms); n == 0 || s.terms[n-1].Term != term {
		s.terms = append(s.terms, TermRun{index, term})
	}
	s.last, s.lastTerm = index, term
	s.locs.push(at)
}

// cut voids the entries from index from on.
func (s *state) cut(from uint64) {
	if from > s.last {
		return
	}
	for n := len(s.terms); n > 0 && s.terms[n-1].First >= from; n-- {
		s.terms = s.terms[:n-1]
	}
	s.locs.cut(int(from - s.first))
	s.last = from - 1
	s.lastTerm = s.baseTerm
	if n := len(s.terms); n > 0 {
		s.lastTerm = s.terms[n-1].Term
	}
	for n := len(s.damaged); n > 0 && s.damaged[n-1].Last >= from; n-- {
		if s.damaged[n-1].First < from {
			s.damaged[n-1].Last = from - 1
			break
		}
		s.damaged = s.damaged[:n-1]
	}
}

// startAfter makes an empty log that goes on after an entry.
func (s *state) startAfter(index, term uint64) {
	s.first, s.last, s.lastTerm, s.baseTerm = index+1, index, term, term
}

// drop forgets the entries up to index, whose term it is.
func (s *state) drop(index, term uint64) {
	n := int(index + 1 - s.first)
	s.first, s.baseTerm = index+1, term
	s.locs.drop(n)
	for len(s.terms) > 1 && s.terms[1].First <= s.first {
		s.terms = slices.Delete(s.terms, 0, 1)
	}
	if len(s.terms) > 0 {
		s.terms[0].First = max(s.terms[0].First, s.first)
	}
	if s.last < s.first {
		s.terms = s.terms[:0]
	}
	for len(s.damaged) > 0 && s.damaged[0].Last < s.first {
		s.damaged = slices.Delete(s.damaged, 0, 1)
	}
	if len(s.damaged) > 0 {
		s.damaged[0].First = max(s.damaged[0].First, s.first)
	}
}

func (s *state) isDamaged(index uint64) bool {
	for _, r := range s.damaged {
		if r.First <= index && index <= r.Last {
			return true
		}
	}
	return false
}

// spoil marks an entry as damaged.
func (s *state) spoil(index uint64) {
	if s.isDamaged(index) {
		return
	}
	i, _ := slices.BinarySearchFunc(s.damaged, index, func(r Range, x uint64) int {
		if r.First < x {
			return -1
		}
		return 1
	})
	s.damaged = slices.Insert(s.damaged, i, Range{index, index})
	if i+1 < len(s.damaged) && s.damaged[i+1].First == index+1 {
		s.damaged[i].Last = s.damaged[i+1].Last
		s.damaged = slices.Delete(s.damaged, i+1, i+2)
	}
	if i > 0 && s.damaged[i-1].Last == index-1 {
		s.damaged[i-1].Last = s.damaged[i].Last
		s.damaged = slices.Delete(s.damaged, i, i+1)
	}
}

// repaired takes an entry out of the damaged ones: it was written again, at another place.
func (s *state) repaired(index uint64, at loc) {
	s.locs.set(int(index-s.first), at)
	for i, r := range s.damaged {
		if index < r.First || index > r.Last {
			continue
		}
		switch {
		case r.First == r.Last:
			s.damaged = slices.Delete(s.damaged, i, i+1)
		case index == r.First:
			s.damaged[i].First++
		case index == r.Last:
			s.damaged[i].Last--
		default:
			s.damaged[i].Last = index - 1
			s.damaged = slices.Insert(s.damaged, i+1, Range{index + 1, r.Last})
		}
		return
	}
}

// loc is where a record is: segment, offset and size, these two in units of 128 bytes.
type loc struct{ seg, at, size uint32 }

const chunkLocs = 4096

// locations are the places of the entries from the first on. In chunks, so that growing never copies.
type locations struct {
	chunks []*[chunkLocs]loc
	gone   int // of the first chunk, dropped
	n      int
}

func (s *locations) push(at loc) {
	if s.gone+s.n == len(s.chunks)*chunkLocs {
		s.chunks = append(s.chunks, new([chunkLocs]loc))
	}
	s.n++
	s.set(s.n-1, at)
}

func (s *locations) set(i int, at loc) { i += s.gone; s.chunks[i/chunkLocs][i%chunkLocs] = at }

func (s *locations) get(i int) loc { i += s.gone; return s.chunks[i/chunkLocs][i%chunkLocs] }

// cut keeps the first n; the chunk after the last one in use stays, for the entries to come.
func (s *locations) cut(n int) {
	s.n = n
	if keep := (s.gone+n)/chunkLocs + 2; keep < len(s.chunks) {
		clear(s.chunks[keep:])
		s.chunks = s.chunks[:keep]
	}
}

// drop forgets the first n.
func (s *locations) drop(n int) {
	s.gone += n
	s.n -= n
	whole := s.gone / chunkLocs
	s.chunks = slices.Delete(s.chunks, 0, min(whole, len(s.chunks)))
	s.gone -= whole * chunkLocs
}
