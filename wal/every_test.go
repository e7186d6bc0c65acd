package wal

import (
	"errors"
	"flag"
	"fmt"
	"syscall"
	"testing"

	"balsa/wal/vfs"
)

// deep makes the enumerations take every subset where they otherwise sample.
var deep = flag.Bool("deep", false, "enumerate more crash states")

// tiny is a script whose every batch is so small that each subset of its unsynced sectors can be tried: a hard state with an
// entry, two batches under way at once, a conflict, an idle record.
func (s *script) tiny() error {
	s.after = []snapshot{s.now.clone()}
	s.hard(HardState{1, 1})
	s.append(1, 40)
	if err := s.commit(); err != nil {
		return err
	}
	s.append(1, 1100)
	one := s.l.Take()
	s.append(1, 900)
	two := s.l.Take()
	for _, b := range []*Batch{one, two} {
		if err := b.Write(); err != nil {
			return err
		}
	}
	if err := two.Sync(); err != nil {
		return err
	}
	s.acked = len(s.after) - 1
	s.l.Release(one)
	s.l.Release(two)
	s.l.PublishSynced()
	b := s.l.Take()
	if err := b.Write(); err != nil {
		return err
	}
	s.l.Release(b)
	s.hard(HardState{2, 0})
	s.truncate(3)
	s.append(2, 700)
	if err := s.commit(); err != nil {
		return err
	}
	s.append(2, 2700)
	return s.commit()
}

// A power cut at every call of a small log, with every subset of the sectors, sizes and names that were not synced.
func TestEveryCrashState(t *testing.T) {
	limit := 12
	if testing.Short() {
		limit = 7
	}
	if *deep {
		limit = 14
	}
	points, states, sampled := 0, 0, 0
	for i, full := range []int{0, 59300, 0, 59300} {
		fresh := vfs.NewMem
		if i >= 2 { // and with a sync in each write, and a filler that syncs only at its end
			fresh = func() *vfs.Mem { return vfs.NewMem().WithDSync() }
		}
		calls := 0
		m := fresh()
		s := newScript(t, m, full)
		cutAt(m, -1, &calls)
		if err := s.tiny(); err != nil {
			t.Fatal(err)
		}
		if rolled := s.l.seg.seq > 1; rolled != (full > 0) {
			t.Fatalf("rolled: %v, %d of %d", rolled, s.l.off, s.l.seg.size)
		}
		for k := range calls + 1 {
			m := fresh()
			s := newScript(t, m, full)
			n := 0
			cutAt(m, k, &n)
			if err := s.tiny(); (err == nil) != (k == calls) {
				t.Fatalf("call %d of %d: %v", k, calls, err)
			}
			points++
			if unsynced(m) > limit {
				sampled++
			}
			everyChoice(limit, func(choose func(int) int) {
				states++
				s.verify(t, m.Crash(choose), fmt.Sprintf("call %d", k))
			})
		}
	}
	t.Logf("%d crash points, %d states; %d of the points sampled, the others with every subset", points, states, sampled)
}

// failing makes call number k fail, once or from then on, with err.
func failing(m *vfs.Mem, k int, sticky bool, err error, calls *int) {
	m.Fail(func(vfs.Op, string, int64, int) error {
		*calls++
		if *calls == k+1 || sticky && *calls > k {
			return err
		}
		return nil
	})
}

// reopened opens a log, writes the small script and reads it back: every call that a log makes is in it.
func (s *script) reopened(m *vfs.Mem) error {
	s.l.Close()
	l, r, err := Open(testOptions(m, 77))
	if err != nil {
		return err
	}
	s.l = l
	if err := l.Prepare(); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	if err := s.tiny(); err != nil {
		return err
	}
	var buf []byte
	for i := r.First; i <= l.Last(); i++ {
		if _, buf, err = l.Read(i, buf); err != nil {
			return err
		}
	}
	return l.Close()
}

// EIO and ENOSPC at every call, once and for good: it is told, or it made no difference; what was acknowledged is there
// when the disk is well again, and also if the power fails at that moment.
func TestEveryCallFails(t *testing.T) {
	points := 0
	for _, full := range []int{0, 59300} {
		calls := 0
		m := vfs.NewMem()
		s := newScript(t, m, full)
		failing(m, -1, false, nil, &calls)
		if err := s.reopened(m); err != nil {
			t.Fatal(err)
		}
		total := calls
		for k := range total {
			for _, bad := range []error{syscall.EIO, syscall.ENOSPC} {
				for _, sticky := range []bool{false, true} {
					points++
					m := vfs.NewMem()
					s := newScript(t, m, full)
					s.after = []snapshot{s.now.clone()}
					n := 0
					failing(m, k, sticky, bad, &n)
					at := fmt.Sprintf("call %d of %d, %v, sticky %v", k, total, bad, sticky)
					if err := s.reopened(m); err != nil && !errors.Is(err, bad) {
						t.Fatalf("%s: %v", at, err)
					} else if err == nil && sticky && k < total-3 {
						t.Fatalf("%s: nothing is told", at)
					}
					m.Fail(nil)
					m.ReleaseLocks()
					s.verify(t, m.Crash(func(int) int { return 0 }), at+", then a power cut")
					s.verify(t, m, at)
				}
			}
		}
	}
	t.Logf("%d failures tried", points)
}

// A log of today opens with tomorrow's code: this directory was written by format 1.
func TestGoldenDirectoryOpens(t *testing.T) {
	m := goldenDirectory(t)
	rep := verdictOf(t, m)
	if rep.Verdict != Clean || len(rep.Segments) != 1 {
		t.Fatalf("%+v", rep)
	}
	l, r := open(t, m)
	if r.Hard != (HardState{7, 2}) || r.Last != 2 || r.LastTime != 13 || string(r.Founding) != "founding record" {
		t.Fatalf("%+v", r)
	}
	e, _, err := l.Read(2, nil)
	if err != nil || e.RawBytes != 600 || len(e.Body) != 1100 || !isZero(e.Body) || e.Sum != Sum(&e) {
		t.Fatalf("%+v %v", e, err)
	}
}
