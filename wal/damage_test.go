package wal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"balsa/wal/vfs"

	"github.com/cespare/xxhash/v2"
)

func segmentPath(seq uint64) string { return testDir + "/" + segmentName(seq) }

// places returns offset and size of every record, by Scan.
func places(t testing.TB, m vfs.FS) []Record {
	t.Helper()
	var all []Record
	_, err := Scan(m, testDir, func(r *Record) error {
		c := *r
		c.Entry.Body = bytes.Clone(r.Entry.Body)
		all = append(all, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// last returns the last record of an entry.
func lastEntry(t testing.TB, m vfs.FS) Record {
	t.Helper()
	var last Record
	for _, r := range places(t, m) {
		if r.Type == TypeEntry {
			last = r
		}
	}
	return last
}

// small makes a log of a few batches of every type of record, some of it proven synced, some not.
func small(t testing.TB) *vfs.Mem {
	m, l := newLog(t)
	src := source(3)
	l.SetHardState(HardState{2, 1})
	l.Append(entry(1, 2, src.bytes(30)))
	l.Append(entry(2, 2, src.bytes(200)))
	commit(t, l)
	l.Append(entry(3, 2, make([]byte, 1200)))
	commit(t, l)
	l.SetHardState(HardState{3, 0})
	l.Truncate(3)
	l.Append(entry(3, 3, src.bytes(90)))
	commit(t, l)
	l.PublishSynced()
	commit(t, l)
	l.SetHardState(HardState{4, 3})
	l.Append(entry(4, 4, src.bytes(70)))
	l.Append(entry(5, 4, src.bytes(700)))
	commit(t, l)
	l.Close()
	return m
}

// Every single bit of a small log is flipped: nothing that was there is gone or another without being told, and the
// vote is never forgotten.
func TestEveryBitFlip(t *testing.T) {
	m := small(t)
	l, r := open(t, m.Clone())
	want := see(t, l, r)
	rep := verdictOf(t, m)
	if rep.Verdict != Clean {
		t.Fatal(rep.Reason)
	}
	written, flips := rep.Segments[0].Written, 0
	for off := int64(0); off < written+2*sectorBytes; off++ {
		for bit := range uint(8) {
			if testing.Short() && bit != uint(off)%8 {
				continue
			}
			flips++
			at := fmt.Sprintf("bit %d at %d", bit, off)
			m.Flip(segmentPath(1), off, bit)
			checkFlipped(t, m.Clone(), at, &want, off >= pageBytes && off < written || off < sectorBytes)
			m.Flip(segmentPath(1), off, bit)
		}
	}
	t.Logf("%d flips", flips)
}

func checkFlipped(t *testing.T, m *vfs.Mem, at string, want *snapshot, mustTell bool) {
	t.Helper()
	l, r, err := Open(testOptions(m, 9))
	if err != nil {
		t.Fatalf("%s: %v", at, err) // no single flip keeps a log from opening
	}
	if mustTell && r.Verdict == Clean {
		t.Fatalf("%s: not noticed", at)
	}
	if r.Voteless || r.Hard != want.Hard || string(r.Founding) != want.Found {
		t.Fatalf("%s: hard state %v, voteless %v, founding %q", at, r.Hard, r.Voteless, r.Founding)
	}
	if int(r.Last) != len(want.Terms) || r.CutBytes > 2*sectorBytes {
		t.Fatalf("%s: last %d, cut %d: %s", at, r.Last, r.CutBytes, r.Reason)
	}
	for i, term := range want.Terms {
		index := uint64(i + 1)
		if l.termAt(index) != term {
			t.Fatalf("%s: entry %d has term %d, want %d", at, index, l.termAt(index), term)
		}
		e, _, err := l.Read(index, nil)
		damaged := slices.ContainsFunc(r.Damaged, func(r Range) bool { return r.First <= index && index <= r.Last })
		if damaged != errors.Is(err, ErrDamaged) || err == nil && e.Sum != want.Sums[i] {
			t.Fatalf("%s: entry %d: %v, damaged %v", at, index, err, damaged)
		}
	}
	l.Close()
}

// Each verdict of `wal verify`, made the way that an operator would.
func TestVerdicts(t *testing.T) {
	long := source(4)
	body := long.bytes(3000)
	cases := []struct {
		name   string
		idle   bool // a sync record follows
		damage func(m *vfs.Mem, r Record) error
		want   Verdict
	}{
		{"clean", false, func(*vfs.Mem, Record) error { return nil }, Clean},
		{"torn by cut", false, func(m *vfs.Mem, r Record) error { return Cut(m, testDir, r.Segment, r.Offset+600) }, Torn},
		{"torn by cut, idle", true, func(m *vfs.Mem, r Record) error { return Cut(m, testDir, r.Segment, r.Offset+600) }, Torn},
		{"torn by zeros", false, func(m *vfs.Mem, r Record) error { return Zero(m, testDir, r.Segment, r.Offset+1024, 512) }, Torn},
		{"header sector lost", false, func(m *vfs.Mem, r Record) error { return Zero(m, testDir, r.Segment, r.Offset, 512) }, Torn},
		{"synced body", true, func(m *vfs.Mem, r Record) error { return Flip(m, testDir, r.Segment, r.Offset+200, 3) }, Corrupt},
		{"synced header", true, func(m *vfs.Mem, r Record) error { return Flip(m, testDir, r.Segment, r.Offset+20, 3) }, Corrupt},
		{"synced sector zeroed", true, func(m *vfs.Mem, r Record) error { return Zero(m, testDir, r.Segment, r.Offset+1024, 512) }, Corrupt},
		{"unproven body", false, func(m *vfs.Mem, r Record) error { return Flip(m, testDir, r.Segment, r.Offset+200, 3) }, Suspect},
		{"unproven header", false, func(m *vfs.Mem, r Record) error { return Flip(m, testDir, r.Segment, r.Offset+20, 3) }, Suspect},
		{"later version", false, func(m *vfs.Mem, r Record) error { return newerHeader(m) }, Newer},
		{"first segment gone", false, func(m *vfs.Mem, r Record) error { return m.Remove(segmentPath(1)) }, Missing},
		{"active segment gone", false, func(m *vfs.Mem, r Record) error { return m.Remove(testDir + "/" + r.Segment) }, Missing},
	}
	codes := map[Verdict]int{Clean: 0, Torn: 10, Corrupt: 11, Missing: 12, Newer: 13, Suspect: 14}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, l := newLog(t)
			for l.seg.seq < 3 {
				add(t, l, 1, body)
			}
			add(t, l, 1, body)
			add(t, l, 1, body)
			if c.idle {
				l.PublishSynced()
				commit(t, l)
			}
			l.Close()
			if err := c.damage(m, lastEntry(t, m)); err != nil {
				t.Fatal(err)
			}
			rep := verdictOf(t, m)
			if rep.Verdict != c.want || rep.Verdict.ExitCode() != codes[c.want] {
				t.Fatalf("verdict %s, want %s: %v", rep.Verdict, c.want, rep.Problems)
			}
			_, r, err := Open(testOptions(m, 9))
			switch c.want {
			case Missing:
				if !errors.Is(err, ErrMissing) {
					t.Fatal(err)
				}
			case Newer:
				if !errors.Is(err, ErrNewer) {
					t.Fatal(err)
				}
			case Torn:
				if err != nil || r.Last != l.Last()-1 || r.CutBytes == 0 || len(r.Damaged) > 0 {
					t.Fatalf("%+v %v", r, err)
				}
				if rep := verdictOf(t, m); rep.Verdict != Clean {
					t.Fatalf("after the cut: %s", rep.Reason)
				}
			case Corrupt, Suspect:
				if err != nil || r.Last != l.Last() || fmt.Sprint(r.Damaged) != fmt.Sprintf("[{%d %d}]", r.Last, r.Last) || r.Voteless || r.Verdict != c.want {
					t.Fatalf("%+v %v", r, err)
				}
			}
		})
	}
}

// newerHeader gives the last segment in use a header of a later format.
func newerHeader(m *vfs.Mem) error {
	f, err := m.Open(segmentPath(3))
	if err != nil {
		return err
	}
	defer f.Close()
	var b [sectorBytes]byte
	f.ReadAt(b[:], 0)
	var h segmentHeader
	decodeSegmentHeader(b[:], &h)
	b[8] = segmentFormat + 1
	le.PutUint64(b[504:], sumOf(b[:504]))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return err
	}
	_, err = f.WriteAt(b[:], headerCopy)
	return err
}

// A damaged entry is written again, without a truncation, and is whole from then on, whatever stands behind it.
func TestDamagedEntryIsWrittenAgain(t *testing.T) {
	m, l := newLog(t)
	for i := range 6 {
		add(t, l, uint64(1+i/3), []byte(fmt.Sprint("body ", i+1)))
	}
	l.Close()
	for _, r := range places(t, m) {
		if r.Type == TypeEntry && (r.Index == 2 || r.Index == 4) {
			m.Flip(testDir+"/"+r.Segment, r.Offset+headerBytes, 1)
		}
	}
	l, r := open(t, m)
	if fmt.Sprint(r.Damaged) != "[{2 2} {4 4}]" || r.Last != 6 || r.Verdict != Corrupt {
		t.Fatalf("%+v", r)
	}
	l.Append(entry(4, 2, []byte("body 4")))
	l.Append(entry(7, 2, []byte("body 7")))
	commit(t, l)
	l.Close()
	l, r = open(t, m)
	if fmt.Sprint(r.Damaged) != "[{2 2}]" || r.Last != 7 {
		t.Fatalf("%+v", r)
	}
	wantEntry(t, l, 4, 2, []byte("body 4"))
	l.Append(entry(2, 1, []byte("body 2")))
	commit(t, l)
	l.Close()
	l, r = open(t, m)
	if len(r.Damaged) > 0 || r.Last != 7 || fmt.Sprint(r.Terms) != "[{1 1} {4 2}]" {
		t.Fatalf("%+v", r)
	}
	wantEntry(t, l, 2, 1, []byte("body 2"))
	mustPanic(t, "an entry that is whole", func() { l.Append(entry(3, 1, nil)) })
	mustPanic(t, "a hole", func() { l.Append(entry(9, 2, nil)) })
}

func mustPanic(t *testing.T, what string, do func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	do()
}

// A tail of which nothing can be read forbids the vote, and goes on forbidding it when new records have covered it.
func TestTailOfUnknownIdentityNeverVotesAgain(t *testing.T) {
	m, l := newLog(t)
	l.SetHardState(HardState{5, 1})
	commit(t, l)
	l.SetHardState(HardState{6, 2})
	add(t, l, 6, []byte("x"))
	l.Close()
	r := lastEntry(t, m)
	start := r.Offset &^ (sectorBytes - 1)
	for off := start; off < start+sectorBytes; off += 40 {
		m.Flip(segmentPath(1), off, 2)
	}
	before := m.Clone()
	l, rec := open(t, m)
	if !rec.Voteless || rec.Verdict != Suspect || rec.Hard.Term != 6 {
		t.Fatalf("%+v", rec)
	}
	l.SetHardState(HardState{7, 0})
	commit(t, l)
	l.Append(entry(l.Last()+1, 7, []byte("y")))
	commit(t, l)
	l.Close()
	for range 2 {
		l, rec = open(t, m)
		if !rec.Voteless || rec.Hard.Term != 7 {
			t.Fatalf("after going on: %+v", rec)
		}
		l.Close()
	}
	// With both slots gone, too, not even the term is whole.
	before.Flip(segmentPath(1), slotOffset0+20, 1)
	before.Flip(segmentPath(1), slotOffset1+20, 1)
	if _, rec = open(t, before); !rec.Voteless {
		t.Fatalf("%+v", rec)
	}
}

// The newest hard state's record rots: the slot has it. The slot rots: the record has it. (SAFETY 6)
func TestHardStateSurvivesEitherCopy(t *testing.T) {
	for _, slot := range []bool{false, true} {
		m, l := newLog(t)
		l.SetHardState(HardState{5, 1})
		commit(t, l)
		l.SetHardState(HardState{6, 2})
		commit(t, l)
		generation := l.generation
		l.Close()
		if slot {
			m.Flip(segmentPath(1), slotOffset(generation)+17, 1)
		} else {
			at := int64(0)
			for _, r := range places(t, m) {
				at = r.Offset
			}
			for off := at; off < at+sectorBytes; off += 50 {
				m.Flip(segmentPath(1), off, 1)
			}
		}
		_, r := open(t, m)
		if r.Hard != (HardState{6, 2}) {
			t.Fatalf("slot damaged %v: %+v", slot, r)
		}
		if r.Voteless == slot {
			t.Fatalf("slot damaged %v: voteless %v", slot, r.Voteless)
		}
	}
}

// A damaged batch that ends beyond what any intact copy tells of the hard state: the term stands, the vote is spent.
func TestTermWithoutItsVoteIsSpent(t *testing.T) {
	r := recovery{}
	r.first, r.hardSure = 1, true
	r.generation, r.current, r.vote = 3, 5, 1
	r.reached = 6
	r.settle(&segmentFile{})
	if r.current != 6 || r.vote != VoteSpent || r.voteless {
		t.Fatalf("%+v", r.stateMark)
	}
}

// A value of zeros leaves no sector of zeros, so that one means what it says. (SAFETY 12)
func TestNoSectorOfABatchIsZero(t *testing.T) {
	m, l := newLog(t)
	src := source(8)
	for i := range 60 {
		body := make([]byte, src.choose(5000))
		if i%3 == 0 { // sectors of every value, so that no fixed one would do
			for k := range body {
				body[k] = byte(k / sectorBytes * 0xA5)
			}
		}
		l.Append(entry(l.Last()+1, 1, body))
		if i%2 == 0 {
			commit(t, l)
		}
		for _, b := range l.out {
			for x := 0; x < len(b.buf); x += sectorBytes {
				if isZero(b.buf[x : x+sectorBytes]) {
					t.Fatal("zero sector in a batch")
				}
			}
		}
	}
	commit(t, l)
	l.Close()
	rep := verdictOf(t, m)
	for _, s := range rep.Segments {
		if s.State == "spare" {
			continue
		}
		f, _ := m.OpenRead(testDir + "/" + s.Name)
		b := make([]byte, s.Written)
		f.ReadAt(b, 0)
		for x := pageBytes; x < len(b); x += sectorBytes {
			if isZero(b[x : x+sectorBytes]) {
				t.Fatalf("zero sector at %d of %s, %d written", x, s.Name, s.Written)
			}
		}
	}
	l, r := open(t, m)
	if see(t, l, r); r.Last != 60 {
		t.Fatalf("%+v", r)
	}
}

// What a server is writing is not called torn by a scan beside it.
func TestScanBesideALiveServer(t *testing.T) {
	m, l := newLog(t)
	add(t, l, 1, make([]byte, 3000))
	r := lastEntry(t, m)
	f, _ := m.Open(testDir + "/" + r.Segment)
	f.WriteAt(zeros[:512], r.Offset+1024)
	rep := verdictOf(t, m)
	if rep.Verdict != Clean || !rep.Live {
		t.Fatalf("live: %+v", rep)
	}
	l.Close()
	if rep := verdictOf(t, m); rep.Verdict != Torn || rep.Live {
		t.Fatalf("stopped: %+v", rep)
	}
}

func sumOf(b []byte) uint64 { return xxhash.Sum64(b) }

// Flips in a log of several segments, headers and seals with it: the same promises.
func TestBitFlipsAcrossSegments(t *testing.T) {
	m, l := newLog(t)
	src := source(12)
	l.SetHardState(HardState{3, 2})
	for l.seg.seq < 3 {
		add(t, l, 3, src.bytes(9000))
	}
	l.Close()
	fresh, r := open(t, m.Clone())
	want := see(t, fresh, r)
	for seq := uint64(1); seq <= 3; seq++ {
		info := verdictOf(t, m).Segments[seq-1]
		for off := int64(0); off < info.Written; off += 61 {
			if off == 61*9 {
				off = 3584 // the rest of the page is zeros and slots
			}
			bit := uint(src.choose(8))
			m.Flip(segmentPath(seq), off, bit)
			mustTell := off >= pageBytes || off < sectorBytes || off >= headerCopy
			checkFlipped(t, m.Clone(), fmt.Sprintf("segment %d, bit %d at %d", seq, bit, off), &want, mustTell)
			m.Flip(segmentPath(seq), off, bit)
		}
	}
}

// Damage that only a read finds is told, and the entry can be written again at once.
func TestReadFindsDamage(t *testing.T) {
	m, l := newLog(t)
	add(t, l, 1, []byte("one"))
	add(t, l, 1, []byte("two"))
	m.Flip(segmentPath(1), int64(l.locs.get(0).at)*recordAlign+headerBytes, 0)
	if _, _, err := l.Read(1, nil); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	wantEntry(t, l, 2, 1, []byte("two"))
	l.Append(entry(1, 1, []byte("one")))
	commit(t, l)
	wantEntry(t, l, 1, 1, []byte("one"))
	if _, _, err := l.Read(3, nil); !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
}

// Any mess at all: the log opens or says why not, hands out no entry that was never written, and finds the same when
// it is opened again.
func TestAnyMessIsToldAndSettles(t *testing.T) {
	m := small(t)
	l, r := open(t, m.Clone())
	want := see(t, l, r)
	written := map[[2]uint64]bool{}
	for _, p := range places(t, m) {
		if p.Type == TypeEntry {
			written[[2]uint64{p.Entry.Index, p.Entry.Sum}] = true
		}
	}
	size := verdictOf(t, m).Segments[0].Written
	for seed := range source(1500) {
		src := seed
		c := m.Clone()
		for range 1 + src.choose(4) {
			off := int64(src.choose(int(size)))
			switch src.choose(4) {
			case 0:
				Zero(c, testDir, segmentName(1), off, int64(1+src.choose(900)))
			case 1:
				Cut(c, testDir, segmentName(1), off)
			default:
				c.Flip(segmentPath(1), off, uint(src.choose(8)))
			}
		}
		l, r, err := Open(testOptions(c, 9))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			continue
		}
		for i := uint64(1); i <= r.Last; i++ {
			e, _, err := l.Read(i, nil)
			if err == nil && !written[[2]uint64{i, e.Sum}] || err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("seed %d: entry %d: %+v %v", seed, i, e, err)
			}
		}
		if r.Hard.Term > want.Hard.Term {
			t.Fatalf("seed %d: %+v", seed, r.Hard)
		}
		l.Close()
		_, again := open(t, c)
		if again.Last != r.Last || again.Hard != r.Hard || again.Voteless != r.Voteless || fmt.Sprint(again.Damaged, again.Terms) != fmt.Sprint(r.Damaged, r.Terms) {
			t.Fatalf("seed %d: second recovery %+v, first %+v", seed, again, r)
		}
	}
}
