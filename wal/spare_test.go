package wal

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"balsa/wal/vfs"
)

// fillTo appends entries of 9,000 bytes until the log is in segment seq.
func fillTo(t testing.TB, l *Log, seq uint64) {
	t.Helper()
	src := source(seq)
	for l.seg.seq < seq {
		add(t, l, max(l.LastTerm(), 1), src.bytes(9000))
	}
}

// A retired segment's file comes back as a later segment, and only when a durable header has said that it is retired.
func TestRetiredSegmentIsUsedAgain(t *testing.T) {
	m, l := newLog(t)
	l.SetHardState(HardState{1, 2})
	fillTo(t, l, 4)
	first := l.bases[2].index + 1
	l.Retire(l.bases[2].index + 1)
	if l.First() != first || len(l.bases) != 2 {
		t.Fatalf("first %d, want %d", l.First(), first)
	}
	if _, _, err := l.Read(first-1, nil); !errors.Is(err, ErrAbsent) {
		t.Fatalf("a retired entry: %v", err)
	}
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 5; seq++ {
		if f, err := m.OpenRead(segmentPath(seq)); err != nil {
			t.Fatalf("segment %d is gone before anything durable says that it may be: %v", seq, err)
		} else {
			f.Close()
		}
	}
	fillTo(t, l, 5)
	created := 0
	m.Fail(func(op vfs.Op, name string, off int64, n int) error {
		if op == vfs.OpCreate {
			created++
		}
		return nil
	})
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	if created > 0 || l.NeedsSpare() {
		t.Fatalf("%d files were made, needs more: %v", created, l.NeedsSpare())
	}
	names, _ := m.List(testDir)
	if got := strings.Join(names, " "); got != "000000000003.wal 000000000004.wal 000000000005.wal 000000000006.wal" {
		t.Fatal(got)
	}
	fillTo(t, l, 7)
	last, term := l.Last(), l.LastTerm()
	l.Close()
	l, r := open(t, m)
	if r.Verdict != Clean || r.First != first || r.Last != last || r.BaseTerm != 1 || r.Hard != (HardState{1, 2}) || l.LastTerm() != term || len(r.Terms) != 1 || r.Terms[0].First != first {
		t.Fatalf("%+v", r)
	}
	for i := first; i <= last; i++ {
		if _, _, err := l.Read(i, nil); err != nil {
			t.Fatal(err)
		}
	}
	l.Truncate(first)
	if l.LastTerm() != 1 || l.Last() != first-1 {
		t.Fatalf("after a truncation to the beginning: (%d, term %d)", l.Last(), l.LastTerm())
	}
	add(t, l, 2, []byte("again"))
	l.Close()
	if _, r := open(t, m); r.Verdict != Clean || r.Last != first || len(r.Terms) != 1 || r.Terms[0].Term != 2 {
		t.Fatalf("%+v", r)
	}
}

// A segment whose first record is of entries that were truncated after it began never becomes the oldest: the log could
// not tell any more what they were.
func TestNoLogBeginsWhereItWasTruncated(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		m, l := newLog(t)
		l.SetHardState(HardState{1, 1})
		fillTo(t, l, 2)
		void := l.bases[1].index
		l.SetHardState(HardState{2, 0})
		l.Truncate(void - 1)
		l.Append(entry(void-1, 2, []byte("other")))
		commit(t, l)
		fillTo(t, l, 3)
		keep := l.Last()
		if reopened {
			l.Close()
			l, _ = open(t, m)
		}
		l.Retire(void)
		if l.First() != 1 {
			t.Fatalf("retired up to %d, which segment 2 voided: the log begins at %d", void, l.First())
		}
		fillTo(t, l, 4)
		l.Close()
		l, r := open(t, m)
		if r.Verdict != Clean || r.Voteless || r.First != 1 {
			t.Fatalf("%+v", r)
		}
		l.Retire(keep)
		if want := l.bases[0].index + 1; l.First() != want || want < void-1 {
			t.Fatalf("first %d, want %d", l.First(), want)
		}
		fillTo(t, l, 5)
		last := l.Last()
		l.Close()
		if _, r := open(t, m); r.Verdict != Clean || r.Voteless || r.Last != last || r.First != l.First() {
			t.Fatalf("%+v", r)
		}
	}
}

// A power cut while a retired file is zeroed, at each call: what is retired is never missed, what is not stays.
func TestPowerCutWhileASegmentIsUsedAgain(t *testing.T) {
	build := func(m *vfs.Mem) (*Log, uint64) {
		if err := Create(testOptions(m, 1), []byte("founding")); err != nil {
			t.Fatal(err)
		}
		l, _ := open(t, m)
		fillTo(t, l, 3)
		l.Retire(l.Last())
		fillTo(t, l, 4)
		return l, l.Last()
	}
	calls := 0
	m := vfs.NewMem()
	l, _ := build(m)
	cutAt(m, -1, &calls)
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	states := 0
	for k := range calls + 1 {
		m := vfs.NewMem()
		l, last := build(m)
		first := l.First()
		n := 0
		cutAt(m, k, &n)
		if err := l.Prepare(); (err == nil) != (k == calls) {
			t.Fatalf("call %d: %v", k, err)
		}
		everyChoice(7, func(choose func(int) int) {
			states++
			after := m.Crash(choose)
			l, r := open(t, after)
			if r.Verdict != Clean || r.First != first || r.Last != last {
				t.Fatalf("call %d: %+v", k, r)
			}
			fillTo(t, l, 6)
			l.Close()
			if _, r := open(t, after); r.Verdict != Clean || r.First != first {
				t.Fatalf("call %d, gone on: %+v", k, r)
			}
		})
	}
	t.Logf("%d crash states", states)
}

// A disk that forgot to zero a file that is used again: records of the segment's earlier life are whole but for their
// salt, and are never taken for entries of this one.
func TestBytesOfAnEarlierLifeAreNotOurs(t *testing.T) {
	m, l := newLog(t)
	src := source(9)
	for l.seg.seq < 2 {
		add(t, l, 1, src.bytes(3000))
	}
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	old, _ := m.OpenRead(segmentPath(1))
	spare, _ := m.Open(segmentPath(3))
	b := make([]byte, MinSegmentBytes)
	old.ReadAt(b, 0)
	spare.WriteAt(b[pageBytes:], pageBytes) // the page is written anew in any case
	spare.Sync()
	for l.seg.seq < 3 {
		add(t, l, 1, src.bytes(3000))
	}
	add(t, l, 1, []byte("the last of this life"))
	last := l.Last()
	l.Close()
	l, r := open(t, m)
	if r.Verdict == Clean {
		t.Fatal("bytes that nobody wrote are not told")
	}
	if r.Last != last {
		t.Fatalf("last %d, want %d: %s", r.Last, last, r.Reason)
	}
	wantEntry(t, l, last, 1, []byte("the last of this life"))
}

// full makes every attempt to get space fail as a full disk does.
func full(m *vfs.Mem, on *bool) {
	m.Fail(func(op vfs.Op, name string, off int64, n int) error {
		if *on && filepath.Base(name) == unfinishedName && (op == vfs.OpCreate || op == vfs.OpWrite) {
			return syscall.ENOSPC
		}
		return nil
	})
}

// A full disk is told before the active segment is full; a batch that wants the next segment waits for it, nothing
// latches, nothing is lost, and it goes on when there is space.
func TestFullDiskRefusesInTimeAndRecovers(t *testing.T) {
	m, l := newLog(t)
	on := true
	full(m, &on)
	if err := l.Prepare(); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if l.Low() {
		t.Fatal("low with a whole segment left")
	}
	body := make([]byte, 4000)
	for !l.Low() {
		if l.Room() < 8000 {
			t.Fatalf("%d bytes left, and still not low", l.Room())
		}
		add(t, l, 1, body)
	}
	told := l.Last()
	for l.seg.seq < 2 {
		l.Append(entry(l.Last()+1, 1, body))
	}
	b := l.Take()
	for range 3 {
		if err := b.Write(); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	if l.Err() != nil {
		t.Fatal("a full disk latches")
	}
	before := m.Crash(func(int) int { return 1 })
	if _, r := open(t, before); r.Verdict > Torn || r.Last < told || r.Voteless {
		t.Fatalf("%+v", r)
	}
	on = false
	if err := b.Write(); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	l.Release(b)
	if l.Low() || l.NeedsSpare() != true {
		t.Fatal("still low")
	}
	last := l.Last()
	if _, r := open(t, m.Crash(func(int) int { return 0 })); r.Verdict != Clean || r.Last != last {
		t.Fatalf("%+v", r)
	}
}

// Spares are counted in bytes, and found again by the next start.
func TestSparesAreCountedInBytes(t *testing.T) {
	m := vfs.NewMem()
	o := testOptions(m, 1)
	o.SpareBytes = 3*MinSegmentBytes - 1
	if err := Create(o, nil); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Prepare(); err != nil {
			t.Fatal(err)
		}
		if l.spares.prepared.Load() != 4 || l.NeedsSpare() || l.Room() < 3*MinSegmentBytes {
			t.Fatalf("ready up to %d, room %d", l.spares.prepared.Load(), l.Room())
		}
		l.Close()
		if l, _, err = Open(o); err != nil {
			t.Fatal(err)
		}
	}
	fillTo(t, l, 4)
	if !l.NeedsSpare() {
		t.Fatal("no spare is wanted")
	}
	last := l.Last()
	l.Close()
	if _, r := open(t, m); r.Last != last || r.Verdict != Clean {
		t.Fatalf("%+v", r)
	}
}

// Each mode of writing leaves the same bytes, and reads them back.
func TestModesWriteTheSame(t *testing.T) {
	var want []byte
	for _, mode := range vfs.Modes {
		fs, err := vfs.OSWith(mode)
		if errors.Is(err, vfs.ErrUnsupported) {
			t.Logf("%s: %v", mode, err)
			continue
		}
		dir := filepath.Join(t.TempDir(), "log")
		src := source(4)
		o := Options{FS: fs, Dir: dir, SegmentBytes: MinSegmentBytes, Random: src.next}
		if err = Create(o, []byte("founding")); errors.Is(err, vfs.ErrUnsupported) {
			t.Logf("%s: %v", mode, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l, _, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			if i%5 == 0 {
				l.SetHardState(HardState{1, uint16(i)})
			}
			add(t, l, 1, src.bytes(100+i*150))
			l.PublishSynced()
			commit(t, l)
		}
		if l.seg.seq < 3 {
			t.Fatal("no roll")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, r, err := Open(o)
		if err != nil || r.Last != 40 || r.Verdict != Clean {
			t.Fatalf("%s: %+v %v", mode, r, err)
		}
		see(t, l, r)
		l.Close()
		var got []byte
		for seq := range uint64(3) {
			f, err := vfs.OS.OpenRead(filepath.Join(dir, segmentName(seq+1)))
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, MinSegmentBytes)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
			f.Close()
		}
		if want == nil {
			want = got
		} else if !bytes.Equal(got, want) {
			t.Fatalf("%s writes other bytes", mode)
		}
	}
}

// A spare has its name only when its zeros are durable, in a new file and in a retired one: a power cut leaves zeros to its end.
func TestASparesZerosAreDurableBeforeItsName(t *testing.T) {
	for _, m := range []*vfs.Mem{vfs.NewMem(), vfs.NewMem().WithDSync()} {
		src := source(3)
		o := Options{FS: m, Dir: "log", SegmentBytes: MinSegmentBytes, Random: src.next}
		if err := Create(o, []byte("f")); err != nil {
			t.Fatal(err)
		}
		l, _, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		reused := 0
		for i := range 60 {
			add(t, l, 1, src.bytes(9000))
			commit(t, l)
			if i%8 == 7 {
				l.Retire(l.Last() - 8)
			}
			before := l.spares.lowest.Load()
			if err := l.Prepare(); err != nil {
				t.Fatal(err)
			}
			if l.spares.lowest.Load() > before {
				reused++
			}
			name := "log/" + segmentName(l.spares.prepared.Load())
			f, err := m.Crash(func(int) int { return 0 }).OpenRead(name)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, l.sizeOf(l.spares.prepared.Load()))
			if n, err := f.ReadAt(b, 0); n < len(b) || !isZero(b) {
				t.Fatalf("%s after a power cut: %d of %d bytes, %v, zeros: %v", name, n, len(b), err, isZero(b))
			}
		}
		if reused == 0 {
			t.Fatal("no retired file was used again")
		}
		l.Close()
	}
}
