package wal

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"balsa/wal/vfs"
)

// content is every byte of every segment of a log.
func content(t testing.TB, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		f, err := fs.OpenRead(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		b := make([]byte, size)
		if err == nil && size > 0 {
			_, err = f.ReadAt(b, 0)
		}
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

// mend plans and carries out a repair, and returns what it did.
func mend(t testing.TB, fs vfs.FS, peer string) *RepairPlan {
	t.Helper()
	p, err := PlanRepair(fs, testDir, peer, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Apply("/copies"); err != nil {
		t.Fatal(err)
	}
	return p
}

// Bits all over a small log are flipped, one at a time: the repair gives the very same bytes back, and did nothing to others.
func TestARepairUndoesAFlippedBit(t *testing.T) {
	m := small(t)
	want := content(t, m, testDir)[segmentName(1)]
	written := verdictOf(t, m).Segments[0].Written
	repaired := 0
	const step = 41 // with 1, every bit; coprime to the sizes of everything
	for n := int64(0); n < written*8; n += step {
		off, bit := n/8, uint(n%8)
		c := m.Clone()
		c.Flip(segmentPath(1), off, bit)
		before := verdictOf(t, c)
		p := mend(t, c, "")
		if p.Before.Verdict != before.Verdict || p.After.Verdict != Clean || len(p.Fixes) == 0 != (before.Verdict == Clean) {
			t.Fatalf("bit %d of %d: %v, then %v by %d fixes: %s", bit, off, before.Verdict, p.After.Verdict, len(p.Fixes), p.After.Reason)
		}
		if got := verdictOf(t, c); got.Verdict != Clean {
			t.Fatalf("bit %d of %d: planned clean, it is %s", bit, off, got.Reason)
		}
		if len(p.Fixes) == 0 {
			continue // a byte of the page that nothing uses
		}
		repaired++
		if got := content(t, c, testDir)[segmentName(1)]; !bytes.Equal(got, want) {
			t.Fatalf("bit %d of %d: repaired, and other bytes than before: %+v", bit, off, p.Fixes)
		}
		kept := content(t, c, "/copies")[segmentName(1)]
		if kept[off] != want[off]^1<<bit || !bytes.Equal(kept[off+1:], want[off+1:]) {
			t.Fatalf("bit %d of %d: the copy is not what was there", bit, off)
		}
	}
	t.Logf("%d flips repaired", repaired)
}

func TestAPlanChangesNothing(t *testing.T) {
	m := small(t)
	m.Flip(segmentPath(1), lastEntry(t, m).Offset+200, 1)
	want := content(t, m, testDir)
	p, err := PlanRepair(m, testDir, "", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PlanRepair(m, testDir, "", ScanOptions{}); err == nil {
		t.Fatal("two plans at once")
	}
	p.Close()
	if len(p.Fixes) != 1 || p.Before.Verdict != Suspect {
		t.Fatalf("got %+v", p.Fixes)
	}
	for name, b := range content(t, m, testDir) {
		if !bytes.Equal(b, want[name]) {
			t.Fatalf("%s was changed", name)
		}
	}
}

// A body with more than one bit wrong comes from another server, whose segments have other salts and other places.
func TestABodyComesFromAnotherServersLog(t *testing.T) {
	m := small(t)
	want := content(t, m, testDir)[segmentName(1)]
	o := testOptions(m, 5)
	o.Dir = "/srv/peer"
	if err := Create(o, []byte("founding")); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range places(t, m) {
		if r.Type == TypeEntry && r.Index == 1 {
			e := r.Entry
			l.SetHardState(HardState{e.Term, 0})
			l.Append(&e)
		}
	}
	commit(t, l)
	l.Close()
	first := places(t, m)[slices.IndexFunc(places(t, m), func(r Record) bool { return r.Type == TypeEntry })]
	if err := Zero(m, testDir, first.Segment, first.Offset+headerBytes+3, 20); err != nil {
		t.Fatal(err)
	}
	alone, err := PlanRepair(m, testDir, "", ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alone.Close()
	if len(alone.Fixes) != 0 || alone.After.Verdict != Corrupt {
		t.Fatalf("without a peer: %+v, %v", alone.Fixes, alone.After.Verdict)
	}
	p := mend(t, m, "/srv/peer")
	if len(p.Fixes) != 1 || p.After.Verdict != Clean {
		t.Fatalf("with a peer: %+v, %v", p.Fixes, p.After.Reason)
	}
	if !bytes.Equal(content(t, m, testDir)[segmentName(1)], want) {
		t.Fatal("other bytes than were written")
	}
}

func TestATornTailIsCutAsTheNextStartWould(t *testing.T) {
	m := small(t)
	at := lastEntry(t, m)
	if err := Cut(m, testDir, at.Segment, at.Offset+512); err != nil {
		t.Fatal(err)
	}
	c := m.Clone()
	p := mend(t, c, "")
	if p.Before.Verdict != Torn || len(p.Fixes) != 1 || p.After.Verdict != Clean {
		t.Fatalf("%v: %+v, then %v", p.Before.Verdict, p.Fixes, p.After.Reason)
	}
	for _, fs := range []vfs.FS{m, c} {
		l, r := open(t, fs)
		l.Close()
		if r.Last != 3 || r.CutBytes > 0 != (fs == vfs.FS(m)) {
			t.Fatalf("the log ends at %d, %d bytes cut at the start", r.Last, r.CutBytes)
		}
	}
}

// A segment's file alone, under another name, with its page gone, is read all the same.
func TestACopiedSegmentIsReadWithoutItsDirectory(t *testing.T) {
	m := small(t)
	all := places(t, m)
	m.MkdirAll("/elsewhere")
	if err := copyFile(m, segmentPath(1), "/elsewhere/piece"); err != nil {
		t.Fatal(err)
	}
	for _, pageGone := range []bool{false, true} {
		if pageGone {
			f, err := m.Open("/elsewhere/piece")
			if err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{7}, pageBytes), 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		n := 0
		rep, err := ScanWith(m, "/elsewhere", ScanOptions{File: "piece"}, func(r *Record) error {
			if r.Type != TypeNone {
				if want := all[n]; r.Offset != want.Offset || r.Index != want.Index || !bytes.Equal(r.Entry.Body, want.Entry.Body) {
					t.Errorf("record %d: got %+v, want %+v", n, r, want)
				}
				n++
			}
			return nil
		})
		if err != nil || n != len(all) {
			t.Fatalf("page gone %v: %v, %d records of %d", pageGone, err, n, len(all))
		}
		if (rep.Verdict == Clean) == pageGone {
			t.Fatalf("page gone %v: %v: %s", pageGone, rep.Verdict, rep.Reason)
		}
	}
}

// What is appended is shown once, in order, over changes of the segment; what is not whole yet is not.
func TestAFollowerShowsWhatIsAppended(t *testing.T) {
	m, l := newLog(t)
	l.SetHardState(HardState{1, 1})
	commit(t, l)
	rep := verdictOf(t, m)
	f := Follow(m, testDir, &rep)
	defer f.Close()
	next := uint64(1)
	see := func(r *Record) error {
		if r.Type == TypeEntry {
			if r.Index != next || !bytes.Equal(r.Entry.Body, bytes.Repeat([]byte{byte(next)}, 3000)) {
				return fmt.Errorf("got entry %d, want %d", r.Index, next)
			}
			next++
		}
		return nil
	}
	for i := uint64(1); i <= 100; i++ { // four segments and more
		l.Append(entry(i, 1, bytes.Repeat([]byte{byte(i)}, 3000)))
		b := l.Take()
		if stuck, err := f.Next(see); err != nil || stuck || next != i {
			t.Fatalf("before entry %d: stuck %v, %v, next is %d", i, stuck, err, next)
		}
		if err := b.Write(); err != nil {
			t.Fatal(err)
		}
		if err := b.Sync(); err != nil {
			t.Fatal(err)
		}
		l.Release(b)
		if stuck, err := f.Next(see); err != nil || stuck || next != i+1 {
			t.Fatalf("after entry %d: stuck %v, %v, next is %d", i, stuck, err, next)
		}
	}
	l.Close()
	m.Flip(segmentPath(f.seq), f.off+5, 0)
	if stuck, err := f.Next(see); err != nil || !stuck {
		t.Fatalf("something that is no batch: stuck %v, %v", stuck, err)
	}
}

func TestTwoLogsAreComparedByTheirChecksums(t *testing.T) {
	make := func(terms string, damage func(m *vfs.Mem, all []Record)) *Catalog {
		m, l := newLog(t)
		for i, c := range []byte(terms) {
			l.SetHardState(HardState{uint64(c - '0'), 0})
			e := entry(uint64(i+1), uint64(c-'0'), []byte{byte(i), 1, 2})
			l.Append(e)
			commit(t, l)
		}
		l.PublishSynced()
		commit(t, l)
		l.Close()
		if damage != nil {
			var entries []Record
			for _, r := range places(t, m) {
				if r.Type == TypeEntry {
					entries = append(entries, r)
				}
			}
			damage(m, entries)
		}
		c, err := ReadCatalog(m, testDir, ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	body := func(i int) func(*vfs.Mem, []Record) {
		return func(m *vfs.Mem, all []Record) { m.Flip(segmentPath(1), all[i].Offset+headerBytes, 3) }
	}
	contrary := make("1112", nil)
	contrary.Marks[1].Sum++
	for _, c := range []struct {
		name string
		a, b *Catalog
		want string
	}{
		{"the same", make("1122", nil), make("1122", nil), "1-4 same"},
		{"one is behind", make("112", nil), make("11222", nil), "1-3 same, 4-5 only in B"},
		{"tails of two terms", make("1133", nil), make("112", nil), "1-2 same, 3-3 diverging, 4-4 only in A"},
		{"bytes that are not the same", contrary, make("1112", nil), "1-1 same, 2-2 contrary, 3-4 same"},
		{"a damaged body", make("111", body(1)), make("111", nil), "1-1 same, 2-2 damaged in A, 3-3 same"},
		{"a header lost", make("111", nil), make("111", func(m *vfs.Mem, all []Record) { m.Flip(segmentPath(1), all[1].Offset, 0) }), "1-1 same, 2-2 damaged in B, 3-3 same"},
		{"both damaged", make("11", body(0)), make("11", body(0)), "1-1 damaged in both, 2-2 same"},
		{"a damaged body of another term", make("111", body(2)), make("112", nil), "1-2 same, 3-3 diverging"},
	} {
		got := ""
		for i, r := range Diff(c.a, c.b) {
			if i > 0 {
				got += ", "
			}
			got += fmt.Sprintf("%d-%d %s", r.First, r.Last, r.Comparison)
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
