package wal

import (
	"fmt"
	"math/bits"
)

// findingKind says what a finding is.
type findingKind uint8

const (
	foundRecord findingKind = iota // header whole; its body is, too, unless bad is set
	foundHole                      // bytes in which some records may have been
	foundEnd                       // the end of a damaged batch: h.last and h.lastTerm tell what it came to
	foundGap                       // only filling or a trailer is damaged: no record is hurt
)

// finding is one thing that walking over a segment meets, in order.
type finding struct {
	kind      findingKind
	off, size int64
	h         header
	body      []byte // not whitened any more; a view, nil if bad
	bad       bool
	lost      int  // foundHole: how many records were in it; 0 if that is not known
	marked    bool // foundEnd: h.stateMark was read from a trailer
	synced    bool // something later proves it durable
	verdict   Verdict
	reason    string
}

// walker goes over the batches of one segment and tells whole, torn, damaged and unprovable ones apart. The rules, for
// a batch at offset x that is not whole (SAFETY 12 and 13):
//
//	proven   a later record of the segment tells a watermark above x, or a later segment was begun:
//	         corrupt, never cut
//	torn     not proven, and a sector within the batch is all zero: it was never synced, nor was anything
//	         after it; cut from x
//	suspect  neither: kept, and what is after it is looked at in its own right
type walker struct {
	win    *window
	salt   uint64
	proven bool // all of it, by a later segment
	each   func(n int, do func(i int))
	step   func(x int64) // is told now and then how far it is, if not nil
	visit  func(*finding) error
	moving func() (bool, error) // says whether a server writes beside the reader; nil: none does

	proof   int64  // highest watermark that any batch tells
	limit   int64  // after the last sector that is not all zero; below 0 while nobody needs it
	prev    uint64 // checksum of the last good header
	broken  bool   // prev is not what the next header names: something between is lost
	end     int64  // where the next batch goes
	cutFrom int64  // 0: nothing to cut; else the torn tail is [cutFrom, limit)
	sealed  bool
	newer   bool
	parsed  []finding
	scratch []byte
	crews   []crew
	again   struct { // the batch that was read again last, and how often
		x     int64
		times int
	}
}

func (w *walker) run() error {
	w.limit, w.proof = -1, 1<<62
	if !w.proven {
		w.survey(pageBytes)
	}
	x := int64(pageBytes)
	for !w.sealed {
		var err error
		if x, err = w.wholeBatches(x); err != nil {
			return err
		}
		if w.sealed || w.win.err != nil {
			break
		}
		if w.limit < 0 {
			w.survey(x)
		}
		if x >= w.limit {
			break
		}
		again, err := w.readAgain(x)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		n, err := w.batch(x)
		if err != nil {
			return err
		}
		if w.cutFrom != 0 {
			break
		}
		x += n
	}
	w.end = x
	if w.limit < 0 {
		w.limit = w.win.end(x)
	}
	if w.win.err == nil && w.sealed && x < w.limit {
		return w.visit(&finding{kind: foundGap, off: x, size: w.limit - x, verdict: Corrupt, reason: "bytes after the seal"})
	}
	return w.win.err
}

// rereads is how often a batch that is not whole is read again beside a server. Once is enough unless the reader was in the
// middle of a write each time.
const rereads = 4

// readAgain drops what was read of the batch at x, if it may have been read while it was written: what was read after it,
// in the same go, may prove it synced. The proof is older than what is read now, so a batch that still is not whole is damaged.
func (w *walker) readAgain(x int64) (bool, error) {
	if w.again.x != x {
		w.again.x, w.again.times = x, 0
	}
	if w.moving == nil || w.again.times > rereads {
		return false, nil
	}
	moving, err := w.moving() // asked once more after the last reading: then what is judged is of this life of the file
	if w.again.times++; !moving || err != nil || w.again.times > rereads {
		return false, err
	}
	w.win.forget()
	return true, nil
}

// survey finds the end of what was written from x on, and the highest watermark that any batch there tells.
func (w *walker) survey(from int64) {
	w.limit = from
	proof := int64(0)
	if page := w.win.view(0, pageBytes); len(page) == pageBytes {
		proof = decodeNote(page[noteOffset:], w.salt)
	}
	var h header
	var t trailer
	inside := from // up to here it is a batch whose first header was read
	for x := from; x < w.win.size; x += sectorBytes {
		b := w.win.view(x, sectorBytes)
		if isZero(b) {
			continue
		}
		w.limit = x + sectorBytes
		if x < inside {
			continue
		}
		switch decodeHeader(b, w.salt, &h) {
		case headerGood:
			proof = max(proof, h.synced)
			if h.at == 0 {
				inside = x + h.batch
				continue
			}
		case headerNewer:
			w.newer = true
		}
		if decodeTrailer(b[sectorBytes-trailerBytes:], w.salt, &t) {
			proof = max(proof, t.synced)
		}
	}
	if !w.proven {
		w.proof = proof
	}
}

// span is what is known of the extent of the batch that begins at x.
type span struct {
	size  int64   // 0: not known
	next  int64   // where the next batch begins, as far as headers tell; the limit if none does
	whole bool    // h was read from a header, else from a trailer
	h     header  // of some record of the batch, if whole
	t     trailer // if tail
	tail  bool
}

// measure looks for anything that tells how long the batch at x is: its first header, another one, its trailer.
func (w *walker) measure(x int64) span {
	s := span{next: w.limit}
	end := w.win.size
	for p := x; p < w.limit; p += recordAlign {
		var h header
		if p > x && p%sectorBytes == 0 && w.trailerAt(x, p, &s) {
			return s
		}
		if decodeHeader(w.win.view(p, headerBytes), w.salt, &h) != headerGood || (p-h.at)%sectorBytes != 0 {
			continue
		}
		switch start := p - h.at; {
		case start == x && x+h.batch <= end && h.at < h.batch:
			s.size, s.next, s.whole, s.h = h.batch, x+h.batch, true, h
			s.tail = w.trailer(x, s.next, &s.t)
			return s
		case start > x:
			s.next = start
			return s
		}
	}
	w.trailerAt(x, w.limit, &s)
	return s
}

func (w *walker) trailer(x, end int64, t *trailer) bool {
	return end-x <= maxBatchBytes && decodeTrailer(w.win.view(end-trailerBytes, trailerBytes), w.salt, t) && t.start == x
}

func (w *walker) trailerAt(x, end int64, s *span) bool {
	if s.tail = w.trailer(x, end, &s.t); s.tail {
		s.size, s.next = end-x, end
	}
	return s.tail
}

// batch judges what begins at x, visits it, and returns how far it goes.
func (w *walker) batch(x int64) (int64, error) {
	s := w.measure(x)
	if s.size == 0 && w.proof <= x && w.strayBits(x) {
		w.cutFrom = x
		return 0, w.visit(&finding{kind: foundHole, off: x, size: w.limit - x, verdict: Torn, reason: "stray bits in space never written to"})
	}
	prev, broken, whole := w.prev, w.broken, false
	if s.size > 0 {
		whole = w.parse(x, &s)
	}
	if whole {
		return s.size, w.show(Clean, "")
	}
	proven := w.proof > x
	region := s.size
	if region == 0 {
		region = s.next - x
		if !proven {
			region = w.untilZero(x, s.next) - x
		}
	}
	if !proven && (region == 0 || w.hasZeroSector(x, x+region)) {
		w.prev, w.broken = prev, broken
		return 0, w.torn(x, s.size)
	}
	if s.size == 0 {
		w.parsed = append(w.parsed[:0], finding{kind: foundHole, off: x, size: region, reason: "no header is readable"})
		w.broken = true
	}
	if proven {
		return region, w.show(Corrupt, "in synced bytes")
	}
	return region, w.show(Suspect, "nothing proves whether it was synced")
}

// maxStrayBits is far below the bits set in the smallest batch, whose salts and checksums alone have about 300.
const maxStrayBits = 16

// strayBits says whether what is set from x on is too little to be what is left of a batch.
func (w *walker) strayBits(x int64) bool {
	n := 0
	for ; x < w.limit && n <= maxStrayBits; x += sectorBytes {
		for _, b := range w.win.view(x, sectorBytes) {
			n += bits.OnesCount8(b)
		}
	}
	return n <= maxStrayBits
}

func (w *walker) untilZero(x, end int64) int64 {
	for ; x < end; x += sectorBytes {
		if isZero(w.win.view(x, sectorBytes)) {
			break
		}
	}
	return x
}

func (w *walker) hasZeroSector(x, end int64) bool { return w.untilZero(x, end) < end }

// torn shows what is left of a tail that is to be cut.
func (w *walker) torn(x, size int64) error {
	w.cutFrom = x
	reason := "a sector of its batch is all zero and nothing later was synced"
	if size == 0 {
		size = w.limit - x
		w.parsed = append(w.parsed[:0], finding{kind: foundHole, off: x, size: size})
	}
	for i := range w.parsed {
		f := &w.parsed[i]
		if f.kind == foundEnd || f.kind == foundGap {
			continue
		}
		f.verdict, f.reason, f.body = Torn, reason, nil
		if err := w.visit(f); err != nil {
			return err
		}
	}
	if x+size >= w.limit {
		return nil
	}
	return w.visit(&finding{kind: foundHole, off: x + size, size: w.limit - x - size, verdict: Torn, reason: "after a torn batch"})
}

// parse lists the records of the batch at x in w.parsed; true if all of it is as it was written.
func (w *walker) parse(x int64, s *span) bool {
	w.parsed = w.parsed[:0]
	whole, last := true, false
	data := w.win.view(x, s.size)
	p, end, number := x, x+s.size-trailerBytes, 0
	prev, broken := w.prev, w.broken
	for p < end && !last {
		f := finding{off: p}
		if !w.header(p, x, s.size, &f.h) {
			q := p + recordAlign
			for ; q < end && !w.header(q, x, s.size, &f.h); q += recordAlign {
			}
			w.parsed = append(w.parsed, finding{kind: foundHole, off: p, size: min(q, end) - p, reason: "header damaged"})
			whole, broken = false, true
			p = q
			continue
		}
		w.fillHole(f.h.number - number)
		number = f.h.number + 1
		f.size = f.h.size()
		f.body = data[p-x+headerBytes : p-x+headerBytes+int64(f.h.body)]
		if !w.bodyFits(&f) {
			f.bad, f.reason, whole = true, "checksum of the body is wrong", false
		}
		if f.h.prev != prev && !broken {
			f.reason, whole = "the chain of headers is broken before it", false
		}
		prev, broken = f.h.sum, false
		last = f.h.flags&flagLast != 0
		rest := data[p-x+headerBytes+int64(f.h.body) : p-x+f.size]
		p += f.size
		w.parsed = append(w.parsed, f)
		if !isAll(rest, padByte) {
			w.parsed = append(w.parsed, finding{kind: foundGap, off: p, reason: "filling damaged"})
			whole = false
		}
	}
	switch {
	case s.whole:
		w.fillHole(s.h.records - number)
	case s.tail:
		w.fillHole(s.t.records - number)
	}
	if p < end && !isAll(data[p-x:end-x], padByte) || !s.tail {
		w.parsed = append(w.parsed, finding{kind: foundGap, off: min(p, end), size: x + s.size - min(p, end), reason: "filling or trailer damaged"})
		whole = false
	}
	if !whole {
		w.parsed = append(w.parsed, s.ending(x))
	}
	w.prev, w.broken = prev, broken
	return whole
}

// fillHole tells a hole that was listed last how many records were in it.
func (w *walker) fillHole(lost int) {
	if n := len(w.parsed); n > 0 && w.parsed[n-1].kind == foundHole {
		w.parsed[n-1].lost = max(lost, 0)
	}
}

// ending is the finding that tells what a damaged batch came to.
func (s *span) ending(x int64) finding {
	f := finding{kind: foundEnd, off: x + s.size, h: s.h, marked: s.tail}
	if s.tail {
		f.h.last, f.h.lastTerm, f.h.stateMark = s.t.last, s.t.lastTerm, s.t.stateMark
	}
	return f
}

// header decodes a header at p that belongs to the batch at x and lies, with its body, within it.
func (w *walker) header(p, x, size int64, h *header) bool {
	return decodeHeader(w.win.view(p, headerBytes), w.salt, h) == headerGood && p-h.at == x && h.batch == size && p+h.size() <= x+size-trailerBytes
}

func (w *walker) bodyFits(f *finding) bool {
	if f.h.whiten == 0 {
		return f.h.bodyFits(f.body)
	}
	w.scratch = append(w.scratch[:0], f.body...) // the bytes stay as they are until zero sectors were looked for
	whiten(w.scratch, f.h.whiten)
	return f.h.bodyFits(w.scratch)
}

// show visits what parse or batch listed. where says why damage is called what it is called.
func (w *walker) show(v Verdict, where string) error {
	for i := range w.parsed {
		f := &w.parsed[i]
		f.synced = w.proof >= f.off+max(f.size, 1)
		if f.reason != "" {
			f.verdict, f.reason = v, fmt.Sprintf("%s, %s", f.reason, where)
		}
		if f.bad {
			f.body = nil
		} else {
			whiten(f.body, f.h.whiten)
		}
		if f.kind == foundRecord && f.h.typ == TypeSeal {
			w.sealed = true
		}
		if err := w.visit(f); err != nil {
			return err
		}
	}
	return nil
}
