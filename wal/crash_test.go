package wal

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"balsa/wal/vfs"
)

// snapshot is a log as a reader may see it.
type snapshot struct {
	Terms []uint64 // of entries 1..n
	Sums  []uint64
	Hard  HardState
	Found string
}

func (s snapshot) clone() snapshot {
	s.Terms, s.Sums = slices.Clone(s.Terms), slices.Clone(s.Sums)
	return s
}

// script drives a log and remembers what it came to after each call (a roll may divide a batch anywhere), and after
// which of them all is acknowledged.
type script struct {
	l     *Log
	src   source
	now   snapshot
	after []snapshot // [i] is after call i; [0] before the first
	acked int
}

func (s *script) append(term uint64, size int) {
	e := entry(uint64(len(s.now.Terms)+1), term, s.src.bytes(size))
	if size%2 == 1 {
		clear(e.Body)
	}
	s.l.Append(e)
	s.now.Terms, s.now.Sums = append(s.now.Terms, term), append(s.now.Sums, Sum(e))
	s.after = append(s.after, s.now.clone())
}

func (s *script) truncate(from uint64) {
	s.l.Truncate(from)
	s.now.Terms, s.now.Sums = s.now.Terms[:from-1], s.now.Sums[:from-1]
	s.after = append(s.after, s.now.clone())
}

func (s *script) hard(h HardState) {
	s.l.SetHardState(h)
	s.now.Hard = h
	s.after = append(s.after, s.now.clone())
}

func (s *script) commit() error {
	b := s.l.Take()
	if err := b.Write(); err != nil {
		return err
	}
	if err := b.Sync(); err != nil {
		return err
	}
	s.acked = len(s.after) - 1
	s.l.Release(b)
	return nil
}

// run is the whole script: batches alone and in pairs, hard states, a conflict, a roll, an idle sync record.
func (s *script) run(sizes []int) error {
	s.after = []snapshot{s.now.clone()}
	s.hard(HardState{1, 1})
	s.append(1, sizes[0])
	s.append(1, sizes[1])
	if err := s.commit(); err != nil {
		return err
	}
	s.append(1, sizes[2])
	one := s.l.Take()
	s.append(1, sizes[3])
	s.append(1, sizes[0])
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
	if b := s.l.Take(); b == nil || b.NeedsSync {
		return errors.New("no sync record, or one that wants a sync")
	} else if err := b.Write(); err != nil {
		return err
	} else {
		s.l.Release(b)
	}
	s.hard(HardState{3, 0})
	s.truncate(3)
	s.append(3, sizes[1])
	s.hard(HardState{3, 2})
	if err := s.commit(); err != nil {
		return err
	}
	s.l.SetFounding([]byte("list"))
	s.now.Found = "list"
	s.after = append(s.after, s.now.clone())
	s.append(3, sizes[2])
	return s.commit()
}

// newScript makes a log on m, with what fills it so far that sizes decide whether the script rolls.
func newScript(t testing.TB, m *vfs.Mem, full int) *script {
	t.Helper()
	if err := Create(testOptions(m, 1), []byte("founding")); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, m)
	s := &script{l: l, src: 5}
	s.now.Found = "founding"
	for full > 0 {
		n := min(full, 20000)
		s.append(0, n)
		if err := s.commit(); err != nil {
			t.Fatal(err)
		}
		full -= n
	}
	s.acked = 0
	return s
}

// see reads a whole log back. It fails if anything in it is damaged.
func see(t testing.TB, l *Log, r *Recovery) snapshot {
	t.Helper()
	got := snapshot{Hard: r.Hard, Found: string(r.Founding)}
	var buf []byte
	var err error
	for i := uint64(1); i <= r.Last; i++ {
		var e Entry
		if e, buf, err = l.Read(i, buf); err != nil {
			t.Fatal(err)
		}
		got.Terms, got.Sums = append(got.Terms, e.Term), append(got.Sums, e.Sum)
	}
	return got
}

// verify checks what recovery found on m after a power cut: no less than acknowledged, no more than was begun, and
// nothing called damaged; then that a second recovery finds the same, and that the log goes on.
func (s *script) verify(t testing.TB, m *vfs.Mem, what string) {
	t.Helper()
	l, r, err := Open(testOptions(m, 99))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if r.Verdict > Torn || r.Voteless || len(r.Damaged) > 0 {
		t.Fatalf("%s: %s, %d damaged, voteless %v: %s", what, r.Verdict, len(r.Damaged), r.Voteless, r.Reason)
	}
	got := see(t, l, r)
	found := false
	for _, want := range s.after[s.acked:] {
		found = found || slices.Equal(got.Sums, want.Sums) && slices.Equal(got.Terms, want.Terms) && got.Found == want.Found
	}
	if !found {
		t.Fatalf("%s: entries %v with %q are no state from call %d on", what, got.Terms, got.Found, s.acked)
	}
	found = false
	for _, want := range s.after[s.acked:] {
		found = found || got.Hard == want.Hard
	}
	if !found {
		t.Fatalf("%s: hard state %v is of no batch from %d on", what, got.Hard, s.acked)
	}
	l.Close()
	// A power cut now must not take back anything that Open reported.
	after := m.Crash(func(int) int { return 0 })
	l, r2, err := Open(testOptions(after, 98))
	if err != nil {
		t.Fatalf("%s: second recovery: %v", what, err)
	}
	again := see(t, l, r2)
	if r2.Verdict != Clean || !slices.Equal(again.Sums, got.Sums) || again.Hard != got.Hard || again.Found != got.Found {
		t.Fatalf("%s: second recovery: %+v %s, first %+v", what, again, r2.Reason, got)
	}
	l.Append(entry(l.Last()+1, 9, []byte("more")))
	commit(t, l)
	l.Close()
	if _, r3 := open(t, after); r3.Last != r2.Last+1 || r3.Verdict != Clean {
		t.Fatalf("%s: not gone on with: %+v", what, r3)
	}
}

// everyChoice calls do with choosers that between them take every way through at most 1<<max; beyond that, a sample.
func everyChoice(max int, do func(choose func(int) int)) {
	asked := 0
	do(func(int) int { asked++; return 0 })
	if asked <= max {
		for bits := uint64(1); bits < 1<<asked; bits++ {
			i := -1
			do(func(int) int { i++; return int(bits >> i & 1) })
		}
		return
	}
	do(func(int) int { return 1 })
	src := source(asked)
	for range 1 << max {
		do(src.choose)
	}
}

var errCut = errors.New("power cut")

// cutAt makes call number k and all after it fail; -1 counts.
func cutAt(m *vfs.Mem, k int, calls *int) {
	m.Fail(func(op vfs.Op, name string, off int64, n int) error {
		if op == vfs.OpRead || op == vfs.OpOpen || op == vfs.OpList {
			return nil
		}
		*calls++
		if k >= 0 && *calls > k {
			return errCut
		}
		return nil
	})
}

// The script is cut at every write, sync and change of the directory, in the middle of a segment and around a roll.
func TestPowerCutAnywhereKeepsWhatWasAcknowledged(t *testing.T) {
	points, states, sampled := 0, 0, 0
	limit := 11
	if testing.Short() {
		limit = 7
	}
	if *deep {
		limit = 16
	}
	for _, full := range []int{0, 53000, 55000, 57000, 58000} {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			calls := 0
			m := vfs.NewMem()
			s := newScript(t, m, full)
			cutAt(m, -1, &calls)
			if err := s.run([]int{300, 701, 40, 1500}); err != nil {
				t.Fatal(err)
			}
			if rolled := s.l.seg.seq > 1; rolled != (full > 0) {
				t.Fatalf("rolled: %v", rolled)
			}
			for k := range calls + 1 {
				m := vfs.NewMem()
				s := newScript(t, m, full)
				n := 0
				cutAt(m, k, &n)
				if err := s.run([]int{300, 701, 40, 1500}); (err == nil) != (k == calls) {
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
		})
	}
	t.Logf("%d crash points, %d states; %d of the points sampled, the others with every subset", points, states, sampled)
}

// unsynced counts the sectors, sizes and names of which a power cut would leave the one or the other.
func unsynced(m *vfs.Mem) int {
	asked := 0
	m.Crash(func(int) int { asked++; return 0 })
	return asked
}

// A call that fails is told, latches, and takes back nothing that was acknowledged: neither for the next process, nor
// when the power fails after that.
func TestFailingCallLatchesAndLosesNothing(t *testing.T) {
	for _, full := range []int{0, 57000} {
		calls := 0
		m := vfs.NewMem()
		s := newScript(t, m, full)
		cutAt(m, -1, &calls)
		if err := s.run([]int{300, 701, 40, 1500}); err != nil {
			t.Fatal(err)
		}
		for k := range calls {
			m := vfs.NewMem()
			s := newScript(t, m, full)
			n := 0
			m.Fail(func(op vfs.Op, name string, off int64, _ int) error {
				if op == vfs.OpRead || op == vfs.OpOpen || op == vfs.OpList {
					return nil
				}
				if n++; n == k+1 {
					return errCut
				}
				return nil
			})
			err := s.run([]int{300, 701, 40, 1500})
			if err == nil {
				continue // the removal of an unfinished segment that is not there
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("call %d: %v", k, err)
			}
			s.l.Append(entry(s.l.Last()+1, 9, nil))
			b := s.l.Take()
			if err := b.Write(); !errors.Is(err, errCut) {
				t.Fatalf("call %d: write after a failure: %v", k, err)
			}
			if err := b.Sync(); !errors.Is(err, errCut) {
				t.Fatalf("call %d: sync after a failure: %v", k, err)
			}
			m.Fail(nil)
			m.ReleaseLocks()
			s.verify(t, m, fmt.Sprintf("call %d", k))
		}
	}
}

// Recovery itself is cut at every call, and what comes after it finds the same as an undisturbed one.
func TestPowerCutDuringRecovery(t *testing.T) {
	points, states := 0, 0
	for _, full := range []int{0, 57000} {
		for _, seed := range []source{1, 2, 3, 4} {
			m := vfs.NewMem()
			s := newScript(t, m, full)
			n := 0
			cutAt(m, 9+int(seed), &n)
			s.run([]int{300, 701, 40, 1500})
			src := seed
			torn := m.Crash(src.choose)
			calls := 0
			undisturbed := torn.Clone()
			cutAt(undisturbed, -1, &calls)
			l, r := open(t, undisturbed)
			want := see(t, l, r)
			for k := range calls {
				half := torn.Clone()
				n := 0
				cutAt(half, k, &n)
				if l, _, err := Open(testOptions(half, 99)); err == nil {
					l.Close()
					continue // the calls after the last one that matters
				}
				points++
				everyChoice(8, func(choose func(int) int) {
					states++
					l, r := open(t, half.Crash(choose))
					got := see(t, l, r)
					if !slices.Equal(got.Sums, want.Sums) || got.Hard != want.Hard || r.Verdict > Torn || r.Voteless {
						t.Fatalf("cut at call %d of recovery: %+v %s, want %+v", k, got, r.Reason, want)
					}
				})
			}
		}
	}
	t.Logf("%d crash points in recovery, %d states", points, states)
}

// A spare whose name was not durable when its maker died is made so by the next start, before anything goes into it.
func TestSpareFoundAtOpenIsDurable(t *testing.T) {
	m, l := newLog(t)
	m.Fail(func(op vfs.Op, name string, off int64, n int) error {
		if op == vfs.OpSyncDir {
			return errCut
		}
		return nil
	})
	if err := l.Prepare(); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if l.Err() != nil {
		t.Fatal("a spare that cannot be made latches")
	}
	m.Fail(nil)
	m.ReleaseLocks()
	l, _ = open(t, m)
	if l.NeedsSpare() {
		t.Fatal("the spare was not found")
	}
	for l.seg.seq < 2 {
		add(t, l, 0, make([]byte, 9000))
	}
	if _, r := open(t, m.Crash(func(int) int { return 0 })); r.Last != l.Last() || r.Verdict != Clean {
		t.Fatalf("last %d, want %d: %s", r.Last, l.Last(), r.Reason)
	}
}

// A disk that is full when the spare is made does not stop the log while the active segment has room.
func TestFullDiskForASpareIsNoEnd(t *testing.T) {
	m, l := newLog(t)
	m.Fail(func(op vfs.Op, name string, off int64, n int) error {
		if op == vfs.OpWrite && off == 0 && n > 60000 {
			return errCut
		}
		return nil
	})
	if err := l.Prepare(); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	add(t, l, 1, []byte("x"))
	m.Fail(nil)
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	if l.NeedsSpare() {
		t.Fatal("no spare")
	}
}
