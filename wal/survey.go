package wal

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"balsa/wal/vfs"
)

// Problem is something wrong with a log.
type Problem struct {
	Verdict Verdict
	Segment string // file name
	Offset  int64  // bytes
	Reason  string

	fatal bool // no start with it
}

func (p *Problem) String() string {
	return fmt.Sprintf("%s at %d: %s: %s", p.Segment, p.Offset, p.Verdict, p.Reason)
}

// pageState says what the first page of a segment's file tells.
type pageState uint8

const (
	pageSpare pageState = iota // no header, all zero: not used yet, or begun and never synced
	pageUsed
	pageLost  // neither copy of the header can be read
	pageNewer // of a later format
	pageGone  // retired, and used again or removed, while a server's log was read
)

// segmentFile is one file of the log while it is looked over.
type segmentFile struct {
	seq   uint64
	name  string
	bytes int64 // of the file
	page  pageState
	h     segmentHeader
	// what the walk found
	end, cutFrom, limit, proof int64
	sealed                     bool
	copies                     [2]headerState // of the header
	slots                      [2]bool        // intact
	marks                      [2]stateMark
}

// survey looks over all segments of a log, in order, and judges them; recovery and the tools both stand on it.
// It only reads.
type survey struct {
	fs       vfs.FS
	dir      string
	visit    func(*segmentFile, *finding) error
	begin    func(index, term uint64) // is told the last entry before the log, if not nil
	stale    []segmentFile            // retired, and not yet used again or removed
	files    []segmentFile
	used     int // the last file in use, as an index; -1 if none
	problems []Problem
	prev     uint64 // checksum of the last good header
	win      window
	walker   walker // its buffers are used again
	each     func(n int, do func(i int))
	progress func(read, total int64) // or nil
	total    int64                   // bytes of all files
	read     int64                   // of those that are done
	beside   bool                    // it reads without the directory's lock: a server may be writing
	asked    bool                    // whether one does
	running  bool
}

func (s *survey) report(v Verdict, f *segmentFile, off int64, fatal bool, format string, args ...any) {
	s.problems = append(s.problems, Problem{v, f.name, off, fmt.Sprintf(format, args...), fatal})
}

// worst is the verdict that counts most, and what was said with it.
func (s *survey) worst() (Verdict, string) {
	v, reason := Clean, ""
	for i := range s.problems {
		if p := &s.problems[i]; p.Verdict > v {
			v, reason = p.Verdict, p.String()
		}
	}
	return v, reason
}

func (s *survey) run() error {
	if err := s.listPages(); err != nil {
		return err
	}
	if s.used < 0 && s.files[0].page == pageSpare {
		s.report(Corrupt, &s.files[0], 0, true, "no segment has a header")
	}
	for i := range s.files {
		if err := s.walk(i); err != nil {
			return err
		}
		s.read += s.files[i].bytes
		s.tell(0)
	}
	s.checkLinks()
	return nil
}

// listPages lists the files and reads their pages: again, if some are missing and a server may have retired them meanwhile.
func (s *survey) listPages() error {
	for n := 0; ; n++ {
		if err := s.list(); err != nil {
			return err
		}
		if err := s.readPages(); err != nil {
			return err
		}
		before := len(s.problems)
		s.checkNumbers()
		if len(s.problems) == before || n == rereads || !s.live() {
			return nil
		}
		s.problems = nil
	}
}

// readPages reads all pages, and sets the files apart that were retired.
func (s *survey) readPages() error {
	here := s.files[:0]
	for _, f := range s.files {
		switch err := s.readPage(&f); {
		case errors.Is(err, errNotExist): // a server that runs has taken it for another segment
		case err != nil:
			return err
		default:
			here = append(here, f)
		}
	}
	s.files, s.used = here, -1
	for i := range s.files {
		if s.files[i].page == pageUsed {
			s.used = i
		}
	}
	if len(s.files) == 0 {
		return fmt.Errorf("%w: %s", ErrNotMade, s.dir)
	}
	if s.used >= 0 {
		live := 0
		for live < s.used && s.files[live].seq < s.files[s.used].h.oldest {
			live++
		}
		s.stale, s.files = s.files[:live], s.files[live:]
		s.used -= live
	}
	for i := range s.files {
		s.total += s.files[i].bytes
	}
	if h := &s.files[0].h; s.begin != nil {
		s.begin(h.base, h.baseT)
	}
	return nil
}

// tell reports how far the reading is, in a file and before it.
func (s *survey) tell(in int64) {
	if s.progress != nil {
		s.progress(s.read+in, s.total)
	}
}

func (s *survey) list() error {
	s.files, s.total = nil, 0
	names, err := s.fs.List(s.dir)
	if errors.Is(err, errNotExist) {
		return fmt.Errorf("%w: %s does not exist", ErrNotMade, s.dir)
	}
	if err != nil {
		return fmt.Errorf("wal: list %s: %w", s.dir, err)
	}
	for _, name := range names {
		if seq, ok := parseSegmentName(name); ok {
			s.files = append(s.files, segmentFile{seq: seq, name: name})
		}
	}
	if len(s.files) == 0 {
		return fmt.Errorf("%w: %s", ErrNotMade, s.dir)
	}
	return nil
}

// open slides the window to the file's beginning.
func (s *survey) open(f *segmentFile) (vfs.File, error) {
	file, err := s.fs.OpenRead(path.Join(s.dir, f.name))
	if err != nil {
		return nil, fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	if f.bytes, err = s.win.open(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	return file, nil
}

func (s *survey) readPage(f *segmentFile) error {
	file, err := s.fs.OpenRead(path.Join(s.dir, f.name))
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	defer file.Close()
	if f.bytes, err = file.Size(); err != nil {
		return fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	if f.bytes < pageBytes {
		f.page = pageLost
		s.report(Corrupt, f, 0, true, "the file has %d bytes, at least %d are needed", f.bytes, pageBytes)
		return nil
	}
	var page [pageBytes]byte
	b := page[:]
	if _, err := file.ReadAt(b, 0); err != nil && err != io.EOF {
		return fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	var h [2]segmentHeader
	for i, off := range [2]int64{0, headerCopy} {
		f.copies[i] = decodeSegmentHeader(b[off:], &h[i])
		if f.copies[i] == headerGood && h[i].seq != f.seq {
			f.copies[i] = headerBad
		}
		if f.copies[i] == headerGood && f.page != pageUsed {
			f.page, f.h = pageUsed, h[i]
		}
	}
	switch {
	case f.copies[0] == headerNewer || f.copies[1] == headerNewer:
		f.page = pageNewer
		s.report(Newer, f, 0, true, "the segment's header has a format above %d", segmentFormat)
	case f.page == pageUsed:
		for i, off := range [2]int64{slotOffset0, slotOffset1} {
			f.slots[i] = decodeSlot(b[off:], f.h.salt, &f.marks[i])
		}
	case !isZero(b[:sectorBytes]) || !isZero(b[headerCopy:]):
		f.page = pageLost
	}
	return nil
}

// checkNumbers finds what is missing between the files, and before them.
func (s *survey) checkNumbers() {
	for i := 1; i < len(s.files); i++ {
		if a, b := &s.files[i-1], &s.files[i]; b.seq != a.seq+1 {
			s.report(Missing, b, 0, true, "segments %d to %d are not there", a.seq+1, b.seq-1)
		}
	}
	if s.used >= 0 {
		f := &s.files[s.used]
		if first := s.files[0].seq; first > f.h.oldest {
			s.report(Missing, &s.files[0], 0, true, "segments %d to %d are not there", f.h.oldest, first-1)
		}
	}
}

func (s *survey) walk(i int) error {
	f := &s.files[i]
	if f.page == pageNewer || f.page == pageGone || f.bytes < pageBytes {
		return nil
	}
	file, err := s.open(f)
	if errors.Is(err, errNotExist) && s.live() {
		s.goOnAfter(i)
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if f.page == pageUsed && f.bytes < f.h.size {
		s.report(Corrupt, f, f.bytes, true, "the file has %d bytes, its header says %d", f.bytes, f.h.size)
	}
	w := &s.walker
	*w = walker{moving: func() (bool, error) { return s.moving(f) }, win: &s.win, salt: f.h.salt, proven: i < s.used, prev: f.h.before.sum, each: s.each, step: s.tell, parsed: w.parsed, scratch: w.scratch, crews: w.crews}
	if f.page != pageUsed {
		if s.unused(i) {
			return s.readError(f)
		}
		w.salt, w.broken = s.anySalt(), true
	}
	w.visit = func(g *finding) error {
		if g.verdict != Clean {
			s.report(g.verdict, f, g.off, false, "%s", g.describe())
		}
		return s.visit(f, g)
	}
	err = w.run()
	if err == nil && !w.sealed { // it may have been zeroed behind what was read
		_, err = s.moving(f)
	}
	if errors.Is(err, errGone) {
		s.goOnAfter(i)
		return nil
	}
	if s.win.err != nil {
		return s.readError(f)
	}
	f.end, f.cutFrom, f.limit, f.proof, f.sealed = w.end, w.cutFrom, w.limit, w.proof, w.sealed
	s.prev = w.prev
	if w.newer {
		s.report(Newer, f, 0, true, "a record has a format above %d", recordFormat)
	}
	if f.page == pageUsed {
		s.checkPage(f, i)
	}
	return err
}

func (s *survey) readError(f *segmentFile) error {
	if s.win.err == nil {
		return nil
	}
	return fmt.Errorf("wal: %s: %w", f.name, s.win.err)
}

// unused judges a file without a readable header; false if its records should be shown all the same.
func (s *survey) unused(i int) bool {
	f := &s.files[i]
	if i > s.used && (s.win.end(0) == 0 || s.begun()) {
		return true // a spare, or one that was a spare when the pages were read
	}
	f.limit = s.win.size
	proven := i < s.used || s.anyWatermark()
	switch {
	case proven:
		s.report(Corrupt, f, 0, true, "neither copy of the segment's header can be read")
	case f.page == pageSpare:
		s.report(Torn, f, 0, false, "the segment was begun and its header never synced")
		return true
	default:
		s.report(Suspect, f, 0, true, "neither copy of the segment's header can be read, and nothing proves that it was synced")
	}
	return false
}

// live says whether a server has the directory. Who reads all the same does not take for damage what is only being written:
// it looks again, and what it then finds is later than what it was judged by.
func (s *survey) live() bool {
	if !s.beside || s.asked {
		return s.running
	}
	s.asked = true
	lock, err := s.fs.Lock(s.dir)
	if err == nil {
		lock.Close()
	}
	s.running = errors.Is(err, vfs.ErrLocked)
	return s.running
}

// errGone says that a segment was retired and its file used again, or removed, while it was read.
var errGone = errors.New("retired while it was read")

// moving is asked where a batch is not whole: whether it may just be written, or errGone.
func (s *survey) moving(f *segmentFile) (bool, error) {
	if !s.live() || f.page != pageUsed {
		return false, nil
	}
	file, err := s.fs.OpenRead(path.Join(s.dir, f.name))
	if errors.Is(err, errNotExist) {
		return true, errGone
	}
	if err != nil {
		return true, fmt.Errorf("wal: read %s: %w", f.name, err)
	}
	return true, file.Close() // a file that is used again gives its name up before anything is written to it
}

// goOnAfter leaves segment i out, with all that were retired meanwhile, and begins with the one after them.
func (s *survey) goOnAfter(i int) {
	oldest := s.oldestNow()
	for ; i < len(s.files); i++ {
		f := &s.files[i]
		if f.page == pageUsed && f.seq >= oldest {
			if s.begin != nil {
				s.begin(f.h.base, f.h.baseT)
			}
			return
		}
		f.page = pageGone
	}
}

// oldestNow is the oldest segment of a server's log, as its newest header names it by now.
func (s *survey) oldestNow() uint64 {
	names, err := s.fs.List(s.dir)
	for i := len(names) - 1; i >= 0 && err == nil; i-- {
		seq, ok := parseSegmentName(names[i])
		f := segmentFile{seq: seq, name: names[i]}
		if ok && s.readPage(&f) == nil && f.page == pageUsed {
			return f.h.oldest
		}
	}
	return 0
}

// begun says whether the segment in the window has a header by now.
func (s *survey) begun() bool {
	if !s.live() {
		return false
	}
	s.win.forget()
	var h segmentHeader
	return decodeSegmentHeader(s.win.view(0, sectorBytes), &h) == headerGood
}

// pageAgain reads again what of a page could not be read while it was written.
func (s *survey) pageAgain(f *segmentFile) {
	s.win.forget()
	page := s.win.view(0, pageBytes)
	for k, off := range [2]int64{0, headerCopy} {
		if h := f.h; f.copies[k] != headerGood {
			f.copies[k] = decodeSegmentHeader(page[off:], &h)
		}
	}
	for k, off := range [2]int64{slotOffset0, slotOffset1} {
		f.slots[k] = f.slots[k] || decodeSlot(page[off:], f.h.salt, &f.marks[k])
	}
}

// anySalt finds the salt of a segment whose header is lost.
func (s *survey) anySalt() uint64 {
	var h header
	for x := int64(pageBytes); x < s.win.size; x += sectorBytes {
		if decodeHeader(s.win.view(x, headerBytes), 0, &h) == headerGood {
			return h.salt
		}
	}
	return 1
}

// anyWatermark says whether some record tells that this segment's beginning was synced.
func (s *survey) anyWatermark() bool {
	var h header
	for x := int64(pageBytes); x < s.win.size; x += sectorBytes {
		if decodeHeader(s.win.view(x, headerBytes), 0, &h) == headerGood && h.synced > 0 {
			return true
		}
	}
	return false
}

func (f *segmentFile) pageWhole() bool {
	return f.copies == [2]headerState{headerGood, headerGood} && f.slots == [2]bool{true, true}
}

// checkPage judges what is damaged of a page whose header can be read in one copy at least.
func (s *survey) checkPage(f *segmentFile, i int) {
	v, why := Suspect, "nothing proves whether it was synced"
	if i < s.used || f.proof > 0 {
		v, why = Corrupt, "in synced bytes"
	}
	for n := 0; n < rereads && !f.pageWhole() && s.live(); n++ {
		s.pageAgain(f)
	}
	if _, err := s.moving(f); !f.pageWhole() && errors.Is(err, errGone) {
		s.goOnAfter(i)
		return
	}
	for k, off := range [2]int64{0, headerCopy} {
		if f.copies[k] != headerGood && !s.neverWritten(f, off) {
			s.report(v, f, off, false, "one copy of the segment's header is damaged, %s", why)
		}
	}
	for k, off := range [2]int64{slotOffset0, slotOffset1} {
		if !f.slots[k] && !s.neverWritten(f, off) {
			s.report(v, f, off, false, "a slot of the hard state is damaged, %s", why)
		}
	}
}

// neverWritten says whether a sector of the page may be zeros because a power cut came between.
func (s *survey) neverWritten(f *segmentFile, off int64) bool {
	return f.proof == 0 && &s.files[s.used] == f && isZero(s.win.view(off, sectorBytes))
}

// checkLinks sees to it that each segment goes on where the one before it ends.
func (s *survey) checkLinks() {
	for i := 0; i <= s.used; i++ {
		f := &s.files[i]
		if i < s.used && f.page == pageUsed && !f.sealed {
			s.report(Corrupt, f, f.end, false, "a later segment was begun, but this one has no seal")
		}
		if i == s.used && f.sealed && i+1 == len(s.files) && !s.made(f.seq+1) {
			s.report(Missing, f, f.end, true, "it is sealed, and segment %d is not there", f.seq+1)
		}
		if i > 0 && f.page == pageUsed && s.files[i-1].page == pageUsed && f.h.before.salt != s.files[i-1].h.salt {
			s.report(Corrupt, f, 0, true, "it does not belong after segment %d", s.files[i-1].seq)
		}
	}
}

// made says whether a server has made segments after this one since the directory was listed.
func (s *survey) made(seq uint64) bool {
	if !s.live() {
		return false
	}
	names, err := s.fs.List(s.dir)
	return err == nil && slices.ContainsFunc(names, func(name string) bool {
		n, ok := parseSegmentName(name)
		return ok && n >= seq
	})
}

// describe names what a finding is about, for people.
func (g *finding) describe() string {
	if g.kind != foundRecord {
		return fmt.Sprintf("%d bytes: %s", g.size, g.reason)
	}
	if g.h.typ == TypeEntry {
		return fmt.Sprintf("entry (%d, term %d): %s", g.h.index, g.h.term, g.reason)
	}
	return fmt.Sprintf("%s record: %s", g.h.typ, g.reason)
}
