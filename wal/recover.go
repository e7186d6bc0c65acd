package wal

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Recovery is what Open found.
type Recovery struct {
	Founding    []byte
	Hard        HardState // Vote is VoteSpent when the term is known and the vote is not
	First, Last uint64    // Last counts damaged entries whose identity survives; 0 is an empty log
	BaseTerm    uint64    // of the entry before First
	Terms       []TermRun
	Damaged     []Range // identity survives, the stored bytes do not
	Voteless    bool    // a vote may be forgotten, or entries of unknown identity: never votes, never leads
	Kept        []Entry // for which Options.Keep, ascending
	LastTime    int64   // log time of the last entry
	Verdict     Verdict
	Reason      string // every problem, one a line
	CutBytes    int64  // of a torn tail, zeroed
}

// recovery builds the state of a log from the findings of a survey.
type recovery struct {
	state
	keep     func(uint8) bool
	kept     []Entry
	founding []byte
	founded  uint16 // count that the founding record carried
	maxFound uint16 // highest count that anything carried
	gap      bool   // something is lost here, and nothing yet tells what the log is after it
	gapLost  int    // how many records are lost there; 0 if that is not known
	hardSure bool   // a mark was read behind everything that is lost
	reached  uint64 // highest term that anything carried
	time     int64
	bases    []base                   // of the segments so far
	lost     func(index, term uint64) // reports entries that are missing without a hole
}

func (r *recovery) visit(f *segmentFile, g *finding) error {
	if g.verdict == Torn {
		return nil
	}
	if n := len(r.bases); n == 0 || r.bases[n-1].seq != f.seq {
		r.bases = append(r.bases, base{seq: f.seq, index: f.h.base, term: f.h.baseT})
	}
	switch g.kind {
	case foundHole:
		if r.gap {
			g.lost = 0 // two holes and nothing between
		}
		r.gap, r.gapLost, r.hardSure = true, g.lost, false
	case foundEnd:
		if g.marked {
			r.mark(&g.h.stateMark)
		}
		if r.gap {
			r.resolve(g.h.last, g.h.lastTerm)
		}
		r.gap = false
	case foundRecord:
		r.mark(&g.h.stateMark)
		r.record(f, g)
	}
	return nil
}

// mark takes in what every record repeats.
func (r *recovery) mark(m *stateMark) {
	r.hardSure = true
	r.reached = max(r.reached, m.current)
	r.maxFound = max(r.maxFound, m.foundings)
	r.voteless = r.voteless || m.voteless
	if m.generation >= r.generation {
		r.generation, r.current, r.vote = m.generation, m.current, m.vote
	}
}

func (r *recovery) record(f *segmentFile, g *finding) {
	h := &g.h
	at := loc{uint32(f.seq), uint32(g.off / recordAlign), uint32(g.size / recordAlign)}
	switch h.typ {
	case TypeEntry:
		r.entry(g, at)
		return
	case TypeTruncate:
		if !r.gap {
			r.gap, r.gapLost = true, 0 // what is void is not missing
		}
		r.resolve(h.index-1, h.prevTerm)
	case TypeFounding:
		if !g.bad && h.foundings >= r.founded {
			r.founding, r.founded = slices.Clone(g.body), h.foundings
		}
		fallthrough
	default:
		r.resolve(h.index, h.prevTerm)
	}
	r.gap = false
}

func (r *recovery) entry(g *finding, at loc) {
	h := &g.h
	r.reached = max(r.reached, h.term)
	r.time = max(r.time, h.time)
	switch {
	case h.flags&flagRewrite != 0:
		if h.index < r.first || h.index > r.last || r.termAt(h.index) != h.term || g.bad {
			return
		}
		r.repaired(h.index, at)
	default:
		r.resolve(h.index-1, h.prevTerm)
		r.gap = false
		r.push(h.index, h.term, at)
		if g.bad {
			r.spoil(h.index)
			return
		}
	}
	if r.keep != nil && r.keep(h.kind) {
		e := h.entry(slices.Clone(g.body))
		i, _ := slices.BinarySearchFunc(r.kept, e.Index, func(k Entry, x uint64) int { return int(int64(k.Index - x)) })
		r.kept = slices.Insert(r.kept, i, e)
	}
}

// cutTo voids the entries after last.
func (r *recovery) cutTo(last uint64) {
	r.cut(last + 1)
	voidBases(r.bases, last+1)
	for n := len(r.kept); n > 0 && r.kept[n-1].Index > last; n-- {
		r.kept = r.kept[:n-1]
	}
}

// resolve is told that at this place the last entry of the log is (index, term), and makes it so. With nothing lost
// it is so already. An index and a term name one entry with all that is before it, so where the term is the one we
// have, whatever was lost added entries of that term, or voided some, and nothing else. Where it is another, entries
// are lost whose terms nobody knows.
func (r *recovery) resolve(index, term uint64) {
	if index == r.last && (term == r.lastTerm || term == unknownTerm) {
		return
	}
	if !r.gap && r.lost != nil {
		r.lost(index, term)
	}
	switch {
	case index > r.last && term == r.lastTerm:
	case index == r.first && r.last < r.first && term != unknownTerm: // the first of all has nothing to void
	case index == r.last+1 && r.gap && r.gapLost == 1 && term != unknownTerm: // one record cannot void and add
	case index < r.last && index+1 >= r.first && term == r.termAt(index):
		r.cutTo(index)
		return
	default:
		r.voteless = true
		if term == unknownTerm {
			term = r.lastTerm
		}
		if index <= r.last {
			r.cutTo(max(index, r.first) - 1)
		}
	}
	for r.last < index {
		r.push(r.last+1, term, loc{})
		r.spoil(r.last)
	}
}

// settle decides on the hard state when all is read.
func (r *recovery) settle(f *segmentFile) {
	for k := range f.marks {
		if f.slots[k] && f.marks[k].generation > r.generation {
			m := f.marks[k]
			r.generation, r.current, r.vote = m.generation, m.current, m.vote
		}
		r.voteless = r.voteless || f.slots[k] && f.marks[k].voteless
	}
	if !r.hardSure && !(f.slots[0] && f.slots[1]) {
		r.voteless = true
	}
	if r.gap {
		r.voteless = true
	}
	if r.reached = max(r.reached, r.lastTerm); r.reached > r.current {
		r.current, r.vote = r.reached, VoteSpent
	}
	r.foundings = r.maxFound
}

// Open opens the log in o.Dir, recovers it, and syncs what it read, so that nothing which it reports can vanish.
// It cuts a tail only if that is proven never synced. The log is the caller's until Close.
func Open(o Options) (*Log, *Recovery, error) {
	o = o.withDefaults()
	lock, err := o.FS.Lock(o.Dir)
	if errors.Is(err, errNotExist) {
		return nil, nil, fmt.Errorf("%w: %s does not exist", ErrNotMade, o.Dir)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("wal: open: %w", err)
	}
	l := &Log{o: o, lock: lock}
	rec, err := l.recover()
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, rec, nil
}

func (l *Log) recover() (*Recovery, error) {
	s := survey{fs: l.o.FS, dir: l.o.Dir, each: l.o.Each}
	r := recovery{keep: l.o.Keep}
	s.follow(&r)
	s.visit = r.visit
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.fatal(); err != nil {
		return nil, err
	}
	f := &s.files[s.used]
	r.settle(f)
	if r.founding == nil || r.founded != r.maxFound {
		return nil, fmt.Errorf("%w: %s: the founding record is lost", ErrCorrupt, l.o.Dir)
	}
	cut, err := l.mend(&s, &r)
	if err != nil {
		return nil, err
	}
	l.state, l.founding = r.state, r.founding
	l.seg, l.off, l.sealed, l.prev = f.h, f.end, f.sealed, s.prev
	l.bases = r.bases
	if n := len(l.bases); n == 0 || l.bases[n-1].seq != f.seq { // all that it had was torn
		l.bases = append(l.bases, base{seq: f.seq, index: f.h.base, term: f.h.baseT})
	}
	l.active.Store(f.seq)
	l.durable.Store(place(f.seq, f.end))
	rec := &Recovery{Founding: slices.Clone(r.founding), Hard: HardState{r.current, r.vote}, First: r.first, Last: r.last, BaseTerm: r.baseTerm,
		Terms: slices.Clone(r.terms), Damaged: slices.Clone(r.damaged), Voteless: r.voteless, Kept: r.kept, CutBytes: cut}
	rec.Verdict, _ = s.worst()
	var lines []string
	for i := range s.problems {
		lines = append(lines, s.problems[i].String())
	}
	rec.Reason = strings.Join(lines, "\n")
	rec.LastTime, err = l.lastTime(r.time)
	return rec, err
}

// follow has r begin where the log does, and report what it misses.
func (s *survey) follow(r *recovery) {
	s.begin = func(index, term uint64) {
		r.state = state{}
		r.startAfter(index, term)
	}
	r.lost = func(index, term uint64) {
		s.report(Corrupt, &s.files[s.used], 0, false, "records are missing: the log had (%d, term %d) where (%d, term %d) is read", index, term, r.last, r.lastTerm)
	}
}

// fatal is the error for problems with which the log cannot be opened.
func (s *survey) fatal() error {
	var worst *Problem
	for i := range s.problems {
		if p := &s.problems[i]; p.fatal && (worst == nil || p.Verdict > worst.Verdict) {
			worst = p
		}
	}
	if worst == nil {
		return nil
	}
	kind := ErrCorrupt
	switch worst.Verdict {
	case Newer:
		kind = ErrNewer
	case Missing:
		kind = ErrMissing
	}
	return fmt.Errorf("%w: %s: %s: %s", kind, s.dir, worst.Segment, worst.Reason)
}

// mend zeroes a torn tail, writes what was read but not proven synced once more (a page that a failed sync left clean
// is on no disk), repairs the page, and syncs it all. It ends with the active segment open for writing.
func (l *Log) mend(s *survey, r *recovery) (int64, error) {
	f := &s.files[s.used]
	cut, err := l.mendTail(f, r)
	if err != nil {
		return 0, fmt.Errorf("wal: open: %s: %w", f.name, err)
	}
	l.spares.prepared.Store(f.seq)
	l.spares.lowest.Store(s.files[0].seq)
	l.spares.unused.Store(s.files[0].seq)
	if len(s.stale) > 0 {
		l.spares.lowest.Store(s.stale[0].seq)
	}
	for i := s.used + 1; i < len(s.files); i++ {
		n, err := l.takeSpare(&s.files[i])
		if err != nil {
			return 0, fmt.Errorf("wal: open: %s: %w", s.files[i].name, err)
		}
		cut += n
	}
	if err := l.o.FS.Remove(path.Join(l.o.Dir, unfinishedName)); err != nil && !errors.Is(err, errNotExist) {
		return 0, fmt.Errorf("wal: open: %w", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return 0, fmt.Errorf("wal: open: %w", err)
	}
	return cut, nil
}

func (l *Log) mendTail(f *segmentFile, r *recovery) (int64, error) {
	file, err := l.o.FS.Open(path.Join(l.o.Dir, f.name))
	if err != nil {
		return 0, err
	}
	l.file = file
	if f.cutFrom > 0 {
		if err := l.keepProof(f); err != nil {
			return 0, err
		}
		if err := writeZeros(file, f.cutFrom, f.limit); err != nil {
			return 0, err
		}
	}
	for x := max(f.proof, pageBytes); x < f.end; {
		b := make([]byte, min(f.end-x, 1<<20))
		if _, err := file.ReadAt(b, x); err != nil {
			return 0, err
		}
		if _, err := file.WriteAt(b, x); err != nil {
			return 0, err
		}
		x += int64(len(b))
	}
	if err := l.mendPage(f, r); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	if f.cutFrom == 0 {
		return 0, nil
	}
	return f.limit - f.cutFrom, nil
}

// keepProof makes the watermark durable in the page before the records that may tell it are cut: what they prove
// synced must not look torn afterwards.
func (l *Log) keepProof(f *segmentFile) error {
	var b [sectorBytes]byte
	encodeNote(b[:], f.h.salt, f.proof)
	if _, err := l.file.WriteAt(b[:], noteOffset); err != nil {
		return err
	}
	return l.file.Sync()
}

// mendPage writes the page again. A damaged slot is made new only when the hard state is known without it.
func (l *Log) mendPage(f *segmentFile, r *recovery) error {
	var page [pageBytes]byte
	if _, err := l.file.ReadAt(page[:], 0); err != nil {
		return err
	}
	f.h.encode(page[:])
	f.h.encode(page[headerCopy:])
	if !r.voteless && r.vote != VoteSpent {
		for k, off := range [2]int64{slotOffset0, slotOffset1} {
			switch own := slotOffset(r.generation) == off; {
			case own && (!f.slots[k] || f.marks[k].generation != r.generation):
				encodeSlot(page[off:], f.h.salt, &r.stateMark)
			case !own && !f.slots[k]:
				encodeSlot(page[off:], f.h.salt, &stateMark{})
			}
		}
	}
	_, err := l.file.WriteAt(page[:], 0)
	return err
}

// takeSpare keeps a file that goes on after the active segment and its spares as one more, zeroed if a torn beginning is
// in it, and removes others: they were made after a segment that never came to be.
func (l *Log) takeSpare(f *segmentFile) (int64, error) {
	name := path.Join(l.o.Dir, f.name)
	if f.seq != l.spares.prepared.Load()+1 || f.bytes < MinSegmentBytes || f.bytes%sectorBytes != 0 {
		return 0, l.o.FS.Remove(name)
	}
	file, err := l.o.FS.Open(name)
	if err != nil {
		return 0, err
	}
	if f.limit > 0 {
		if err := writeZeros(file, 0, f.limit); err != nil {
			file.Close()
			return 0, err
		}
	}
	if err := file.Sync(); err != nil {
		file.Close()
		return 0, err
	}
	l.spares.ready = append(l.spares.ready, file)
	l.spares.prepared.Store(f.seq)
	l.spares.found = append(l.spares.found, sized{f.seq, f.bytes})
	return f.limit, nil
}

// lastTime reads the log time of the last entry; atLeast if its header is lost.
func (l *Log) lastTime(atLeast int64) (int64, error) {
	if l.last < l.first {
		return 0, nil
	}
	at := l.locs.get(int(l.last - l.first))
	if at.seg == 0 {
		return atLeast, nil
	}
	file, err := l.readers.open(l, uint64(at.seg))
	if err != nil {
		return 0, err
	}
	var b [headerBytes]byte
	if _, err := file.ReadAt(b[:], int64(at.at)*recordAlign); err != nil {
		return 0, fmt.Errorf("wal: open: %w", err)
	}
	var h header
	h.decodeFields(b[:])
	return h.time, nil
}
