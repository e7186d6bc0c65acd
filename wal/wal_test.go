package wal

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"balsa/wal/vfs"
)

// source is a small deterministic generator; salts and bodies come from it.
type source uint64

func (s *source) next() uint64 {
	*s += 0x9E3779B97F4A7C15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (s *source) choose(n int) int { return int(s.next() % uint64(n)) }

func (s *source) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.next())
	}
	return b
}

const testDir = "/srv/data"

func testOptions(fs vfs.FS, seed uint64) Options {
	src := source(seed)
	return Options{FS: fs, Dir: testDir, SegmentBytes: MinSegmentBytes, Random: src.next, Keep: func(k uint8) bool { return k == 3 }}
}

func newLog(t testing.TB) (*vfs.Mem, *Log) {
	t.Helper()
	m := vfs.NewMem()
	if err := Create(testOptions(m, 1), []byte("founding")); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, m)
	return m, l
}

func open(t testing.TB, m vfs.FS) (*Log, *Recovery) {
	t.Helper()
	l, r, err := Open(testOptions(m, 99))
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func entry(index, term uint64, body []byte) *Entry {
	return &Entry{Index: index, Term: term, Kind: 2, Count: 1, RawBytes: uint32(len(body)), Time: int64(1000 + index), Body: body}
}

// commit takes, writes, syncs and releases what is pending.
func commit(t testing.TB, l *Log) {
	t.Helper()
	b := l.Take()
	if b == nil {
		return
	}
	if err := b.Write(); err != nil {
		t.Fatal(err)
	}
	if b.NeedsSync {
		if err := b.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	l.Release(b)
}

func add(t testing.TB, l *Log, term uint64, body []byte) {
	t.Helper()
	l.Append(entry(l.Last()+1, term, body))
	commit(t, l)
}

func wantEntry(t testing.TB, l *Log, index, term uint64, body []byte) {
	t.Helper()
	e, _, err := l.Read(index, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := entry(index, term, body)
	want.Sum = Sum(want)
	if e.Index != index || e.Term != term || e.Sum != want.Sum || e.Time != want.Time || !bytes.Equal(e.Body, body) {
		t.Fatalf("entry %d: got %+v, want %+v", index, e, want)
	}
}

func verdictOf(t testing.TB, m vfs.FS) Report {
	t.Helper()
	rep, err := Scan(m, testDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestEntriesComeBack(t *testing.T) {
	m, l := newLog(t)
	src := source(7)
	var bodies [][]byte
	l.SetHardState(HardState{1, 2})
	for i := range 200 {
		size := src.choose(2000)
		if i%40 == 0 {
			size = MaxBody
		}
		body := src.bytes(size)
		if i%7 == 0 {
			clear(body) // whole sectors of zeros
		}
		bodies = append(bodies, body)
		l.Append(entry(uint64(i+1), 1, body))
		if i%3 != 0 {
			commit(t, l)
		}
		if i%11 == 0 && l.NeedsSpare() {
			if err := l.Prepare(); err != nil {
				t.Fatal(err)
			}
		}
	}
	commit(t, l)
	check := func(l *Log) {
		t.Helper()
		for i, body := range bodies {
			wantEntry(t, l, uint64(i+1), 1, body)
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, r := open(t, m)
		if r.Verdict != Clean || r.Last != 200 || r.First != 1 || r.Hard != (HardState{1, 2}) || r.Voteless || r.LastTime != 1200 ||
			string(r.Founding) != "founding" || fmt.Sprint(r.Terms) != "[{1 1}]" || len(r.Damaged) != 0 {
			t.Fatalf("recovered %+v", r)
		}
		check(l)
		l.Close()
	}
	if rep := verdictOf(t, m); rep.Verdict != Clean || len(rep.Segments) < 5 {
		t.Fatalf("scan: %+v", rep)
	}
}

func TestLogsOfOtherStatesAreRefused(t *testing.T) {
	m := vfs.NewMem()
	o := testOptions(m, 1)
	if _, _, err := Open(o); !errors.Is(err, ErrNotMade) {
		t.Fatalf("no directory: %v", err)
	}
	m.MkdirAll(testDir)
	if _, _, err := Open(o); !errors.Is(err, ErrNotMade) {
		t.Fatalf("empty directory: %v", err)
	}
	if err := Create(o, nil); err != nil {
		t.Fatal(err)
	}
	if err := Create(o, nil); !errors.Is(err, ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	l, _ := open(t, m)
	if _, _, err := Open(o); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("in use: %v", err)
	}
	if err := Flip(m, testDir, segmentName(1), 0, 0); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("damage beside a server: %v", err)
	}
	l.Close()
	m.Remove(testDir + "/" + segmentName(1))
	if _, _, err := Open(o); !errors.Is(err, ErrNotMade) {
		t.Fatalf("nothing left: %v", err)
	}
}
