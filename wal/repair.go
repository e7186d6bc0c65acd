package wal

import (
	"fmt"
	"io"
	"path"
	"slices"

	"balsa/wal/vfs"
)

// A repair gives back the very bytes that were written, or cuts what is proven never synced; it guesses nothing. A checksum
// of 64 bits says that what it found is what was there:
//
//	one copy of a segment's header     taken from the other
//	a record, a slot, a trailer        the single bit whose flip makes its checksum right; a trailer also made anew
//	filling                            it is always the same byte
//	the body of an entry               from another server's log, by index, term and portable checksum
//	a torn tail                        cut, as the next start would

// Fix is one thing that a repair does.
type Fix struct {
	Segment string
	Offset  int64
	Bytes   int64
	What    string

	patches []patch
}

// patch is bytes for a place of a file; without bytes, zeros.
type patch struct {
	off   int64
	bytes []byte
	zeros int64
}

// RepairPlan is what a repair would do, and what it would leave.
type RepairPlan struct {
	Before, After Report // After: as the next scan would judge
	Fixes         []Fix

	fs   vfs.FS
	dir  string
	lock io.Closer
}

// PlanRepair looks for what can be repaired in a log and takes the directory until Close; it changes nothing. peer is the
// directory of another server's log, or empty.
func PlanRepair(fs vfs.FS, dir, peer string, o ScanOptions) (*RepairPlan, error) {
	lock, err := fs.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: repair: %w", err)
	}
	p := &RepairPlan{fs: fs, dir: dir, lock: lock}
	if err := p.plan(peer, o); err != nil {
		lock.Close()
		return nil, err
	}
	return p, nil
}

// Close gives the directory back.
func (p *RepairPlan) Close() error { return p.lock.Close() }

func (p *RepairPlan) plan(peer string, o ScanOptions) error {
	s := survey{fs: p.fs, dir: p.dir, each: o.Each, progress: o.Progress}
	var hurt []region
	var at region
	s.visit = func(f *segmentFile, g *finding) error {
		at.follow(f, g)
		if g.kind == foundEnd || g.kind == foundHole && g.verdict != Torn {
			hurt = append(hurt, at)
		}
		return nil
	}
	if err := s.run(); err != nil {
		return err
	}
	p.Before.Problems = s.problems
	p.Before.Verdict, p.Before.Reason = s.worst()
	m := mender{plan: p, survey: &s, missing: map[EntryMark][]*lostBody{}}
	for i := range s.files {
		if err := m.page(&s.files[i], i); err != nil {
			return err
		}
	}
	for i := range hurt {
		if r := &hurt[i]; i+1 == len(hurt) || hurt[i+1].f != r.f || hurt[i+1].from != r.from {
			if err := m.region(r); err != nil {
				return err
			}
		}
	}
	if peer != "" && len(m.missing) > 0 {
		if err := m.fetch(peer, o); err != nil {
			return err
		}
	}
	slices.SortStableFunc(p.Fixes, func(a, b Fix) int {
		if a.Segment != b.Segment {
			if a.Segment < b.Segment {
				return -1
			}
			return 1
		}
		return int(a.Offset - b.Offset)
	})
	after, err := Scan(&patched{p.fs, p}, p.dir, nil)
	p.After = after
	return err
}

// region is a damaged batch, or bytes of which no header is readable.
type region struct {
	f        *segmentFile
	from, to int64
}

// follow keeps the region that the findings are in.
func (r *region) follow(f *segmentFile, g *finding) {
	switch {
	case g.kind == foundEnd:
		r.to = g.off
	case g.kind == foundRecord:
		*r = region{f, g.off - g.h.at, g.off - g.h.at + g.h.batch}
	case f != r.f || g.off >= r.to:
		*r = region{f, g.off, g.off + g.size}
	}
}

// mender finds the fixes.
type mender struct {
	plan    *RepairPlan
	survey  *survey
	missing map[EntryMark][]*lostBody
}

// lostBody is a body that only another server has.
type lostBody struct {
	f   *segmentFile
	off int64 // of the record
	h   header
}

func (m *mender) fix(f *segmentFile, off, n int64, what string, patches ...patch) {
	m.plan.Fixes = append(m.plan.Fixes, Fix{f.name, off, n, what, patches})
}

// page mends the first page of a segment, and cuts its tail if that is torn.
func (m *mender) page(f *segmentFile, i int) error {
	if f.page == pageNewer || f.bytes < pageBytes {
		return nil
	}
	file, err := m.plan.fs.OpenRead(path.Join(m.plan.dir, f.name))
	if err != nil {
		return fmt.Errorf("wal: repair: %w", err)
	}
	defer file.Close()
	page, err := readHead(file)
	if err != nil {
		return fmt.Errorf("wal: repair: %w", err)
	}
	if f.page != pageUsed {
		if i > m.survey.used && f.limit > 0 && f.page == pageSpare {
			m.fix(f, 0, f.limit, "zero what was begun and never synced", patch{off: 0, zeros: f.limit})
		}
		return nil
	}
	places := [2]int64{0, headerCopy}
	for k, off := range places {
		if f.copies[k] != headerGood {
			m.fix(f, off, sectorBytes, "take the segment's header from its other copy", patch{off: off, bytes: page[places[1-k]:][:sectorBytes]})
		}
	}
	for k, off := range [2]int64{slotOffset0, slotOffset1} {
		var mark stateMark
		if slot := page[off:][:sectorBytes]; !f.slots[k] {
			if at, ok := flipped(slot, func() bool { return decodeSlot(slot, f.h.salt, &mark) }); ok {
				m.fix(f, off+at, 1, "flip one bit of a slot of the hard state back", patch{off: off + at, bytes: slot[at:][:1]})
			}
		}
	}
	if f.cutFrom > 0 {
		note := make([]byte, sectorBytes)
		encodeNote(note, f.h.salt, f.proof)
		m.fix(f, f.cutFrom, f.limit-f.cutFrom, "cut the torn tail: it was never synced", patch{off: noteOffset, bytes: note},
			patch{off: f.cutFrom, zeros: f.limit - f.cutFrom})
	}
	return nil
}

// flipped flips each bit of b in turn until whole says that it is as it was written, and leaves it so.
func flipped(b []byte, whole func() bool) (at int64, ok bool) {
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if whole() {
				return int64(i), true
			}
			b[i] ^= 1 << bit
		}
	}
	return 0, false
}

// region mends a damaged batch as far as it can be.
func (m *mender) region(r *region) error {
	if r.f.page != pageUsed || r.to <= r.from {
		return nil
	}
	file, err := m.plan.fs.OpenRead(path.Join(m.plan.dir, r.f.name))
	if err != nil {
		return fmt.Errorf("wal: repair: %w", err)
	}
	defer file.Close()
	b := make([]byte, min(r.to-r.from, maxBatchBytes))
	if _, err := file.ReadAt(b, r.from); err != nil {
		return fmt.Errorf("wal: repair: read %d bytes at %d of %s: %w", len(b), r.from, r.f.name, err)
	}
	m.batch(r.f, r.from, b)
	return nil
}

// batch goes from record to record. It ends where a header cannot be given back: what follows it begins nobody knows where.
func (m *mender) batch(f *segmentFile, x int64, b []byte) {
	var h header
	end, last := int64(len(b))-trailerBytes, false
	at := int64(0)
	for number := 0; !last && at+headerBytes <= end; number++ {
		head := b[at:][:headerBytes]
		right := func() bool {
			return decodeHeader(head, f.h.salt, &h) == headerGood && h.at == at && h.number == number && at+h.size() <= int64(len(b)) && h.batch <= int64(len(b))
		}
		if !right() {
			k, ok := flipped(head, right)
			if !ok {
				return
			}
			m.fix(f, x+at+k, 1, fmt.Sprintf("flip one bit of the header of %s back", h.title()), patch{off: x + at + k, bytes: head[k:][:1]})
			right()
		}
		if h.batch < int64(len(b)) { // nothing told where the batch ends until now
			b, end = b[:h.batch], h.batch-trailerBytes
		}
		m.body(f, x+at, b[at:][:h.size()], h)
		at, last = at+h.size(), h.flags&flagLast != 0
	}
	if last {
		m.ending(f, x, at, b, &h)
	}
}

// title names a record for people.
func (h *header) title() string {
	if h.typ == TypeEntry {
		return fmt.Sprintf("entry %d (term %d)", h.index, h.term)
	}
	return fmt.Sprintf("a %s record", h.typ)
}

// body mends what follows a header: the body and the filling.
func (m *mender) body(f *segmentFile, off int64, rec []byte, h header) {
	body, rest := rec[headerBytes:][:h.body], rec[headerBytes+int64(h.body):]
	if !isAll(rest, padByte) {
		m.filling(f, off+headerBytes+int64(h.body), rest)
	}
	whiten(body, h.whiten)
	if h.bodyFits(body) {
		return
	}
	k, ok := flipped(body, func() bool { return h.bodyFits(body) })
	if !ok {
		if h.typ == TypeEntry {
			mark := EntryMark{Term: h.term, Sum: h.bodySum}
			m.missing[mark] = append(m.missing[mark], &lostBody{f, off, h})
		}
		return
	}
	m.fix(f, off+headerBytes+k, 1, fmt.Sprintf("flip one bit of the body of %s back", h.title()),
		patch{off: off + headerBytes + k, bytes: []byte{body[k] ^ h.whiten}})
}

func (m *mender) filling(f *segmentFile, off int64, rest []byte) {
	b := make([]byte, len(rest))
	fill(b, padByte)
	m.fix(f, off, int64(len(b)), "write the filling again", patch{off: off, bytes: b})
}

// ending mends what follows the last record: filling and trailer. h is that record's header.
func (m *mender) ending(f *segmentFile, x, at int64, b []byte, h *header) {
	end := int64(len(b)) - trailerBytes
	if rest := b[at:end]; !isAll(rest, padByte) {
		m.filling(f, x+at, rest)
	}
	var t trailer
	if decodeTrailer(b[end:], f.h.salt, &t) && t.start == x {
		return
	}
	t = trailer{start: x, last: h.last, lastTerm: h.lastTerm, synced: h.synced, records: h.records, stateMark: h.stateMark}
	again := make([]byte, trailerBytes)
	t.encode(again, f.h.salt)
	m.fix(f, x+end, trailerBytes, "write the batch's trailer again", patch{off: x + end, bytes: again})
}

// fetch looks for lost bodies in another server's log.
func (m *mender) fetch(peer string, o ScanOptions) error {
	_, err := ScanWith(m.plan.fs, peer, o, func(r *Record) error {
		if r.Type != TypeEntry || r.Entry.Body == nil {
			return nil
		}
		mark := EntryMark{Term: r.Entry.Term, Sum: r.Entry.Sum}
		for _, l := range m.missing[mark] {
			if l.h.index != r.Index || !l.h.bodyFits(r.Entry.Body) {
				continue
			}
			body := slices.Clone(r.Entry.Body)
			whiten(body, l.h.whiten)
			m.fix(l.f, l.off+headerBytes, int64(len(body)), fmt.Sprintf("take the body of %s from %s", l.h.title(), peer),
				patch{off: l.off + headerBytes, bytes: body})
		}
		delete(m.missing, mark)
		return nil
	})
	if err != nil {
		return fmt.Errorf("wal: repair from %s: %w", peer, err)
	}
	return nil
}

// Apply keeps a copy of every file that it changes in the directory copies, which it makes, and then does what was planned.
// Each fix is durable before the next one begins.
func (p *RepairPlan) Apply(copies string) error {
	if err := p.keep(copies); err != nil {
		return fmt.Errorf("wal: repair: nothing was changed: %w", err)
	}
	for i := range p.Fixes {
		x := &p.Fixes[i]
		file, err := p.fs.Open(path.Join(p.dir, x.Segment))
		if err != nil {
			return fmt.Errorf("wal: repair: %w", err)
		}
		for k := range x.patches {
			if err = x.patches[k].write(file); err == nil {
				err = file.Sync()
			}
			if err != nil {
				break
			}
		}
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("wal: repair %s at %d: %w; the copies are in %s", x.Segment, x.Offset, err, copies)
		}
	}
	return nil
}

func (c *patch) write(file vfs.File) error {
	if c.bytes == nil {
		return writeZeros(file, c.off, c.off+c.zeros)
	}
	_, err := file.WriteAt(c.bytes, c.off)
	return err
}

// keep copies what will be changed.
func (p *RepairPlan) keep(copies string) error {
	if err := p.fs.MkdirAll(copies); err != nil {
		return err
	}
	done := map[string]bool{}
	for i := range p.Fixes {
		name := p.Fixes[i].Segment
		if done[name] {
			continue
		}
		done[name] = true
		if err := copyFile(p.fs, path.Join(p.dir, name), path.Join(copies, name)); err != nil {
			return fmt.Errorf("copy of %s: %w", name, err)
		}
	}
	return p.fs.SyncDir(copies)
}

func copyFile(fs vfs.FS, from, to string) error {
	in, err := fs.OpenRead(from)
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := in.Size()
	if err != nil {
		return err
	}
	out, err := fs.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	b := make([]byte, stepBytes)
	for off := int64(0); off < size; {
		n := min(size-off, stepBytes)
		if got, err := in.ReadAt(b[:n], off); int64(got) < n {
			return err
		}
		if _, err := out.WriteAt(b[:n], off); err != nil {
			return err
		}
		off += n
	}
	return out.Sync()
}

// patched shows a file system as it would be after a repair.
type patched struct {
	vfs.FS
	plan *RepairPlan
}

// Lock gives nothing: the plan has the directory, and no server has.
func (p *patched) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

type patchedFile struct {
	vfs.File
	patches []patch
}

func (p *patched) OpenRead(name string) (vfs.File, error) {
	file, err := p.FS.OpenRead(name)
	if err != nil {
		return nil, err
	}
	f := &patchedFile{File: file}
	for i := range p.plan.Fixes {
		if x := &p.plan.Fixes[i]; x.Segment == path.Base(name) {
			f.patches = append(f.patches, x.patches...)
		}
	}
	return f, nil
}

func (f *patchedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	for i := range f.patches {
		c := &f.patches[i]
		size := max(int64(len(c.bytes)), c.zeros)
		from, to := max(c.off, off), min(c.off+size, off+int64(n))
		if from >= to {
			continue
		}
		if dst := b[from-off : to-off]; c.bytes == nil {
			clear(dst)
		} else {
			copy(dst, c.bytes[from-c.off:])
		}
	}
	return n, err
}
