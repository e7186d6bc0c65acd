package wal

import (
	"testing"

	"balsa/wal/vfs"
)

// Where a write can sync by itself it must not pass for the sync of what was written before it by another call: here the
// first batch has a hard state's slot, the second is a write with a sync, and only the second is asked to be durable.
func TestASyncCoversWhatOtherCallsWrote(t *testing.T) {
	m := vfs.NewMem().WithDSync()
	s := newScript(t, m, 0)
	s.hard(HardState{4, 2})
	s.append(4, 900)
	one := s.l.Take()
	s.append(4, 901)
	two := s.l.Take()
	for _, b := range []*Batch{one, two} {
		if err := b.Write(); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.Sync(); err != nil {
		t.Fatal(err)
	}
	l, r := open(t, m.Crash(func(int) int { return 0 }))
	if got := see(t, l, r); got.Hard != s.now.Hard || len(got.Terms) != 2 {
		t.Fatalf("after the cut: hard state %+v and %d entries, want %+v and 2", got.Hard, len(got.Terms), s.now.Hard)
	}
}

// Two pasts of one segment, alike up to a first batch of the same size: a second batch of the one stands whole behind the
// first of the other, at its place, of its life of the segment. Only the chain tells that it does not follow.
func TestABatchOfAnotherPastIsTold(t *testing.T) {
	m := vfs.NewMem()
	l := newScript(t, m, 0).l
	l.Close()
	write := func(m *vfs.Mem, fill byte, batches int) (ends []int64) {
		l, _ := open(t, m)
		for i := range batches {
			body := make([]byte, 700)
			for k := range body {
				body[k] = fill + byte(k)
			}
			l.Append(entry(uint64(i+1), 1, body))
			commit(t, l)
			ends = append(ends, l.off)
		}
		l.Close()
		return ends
	}
	one, other := m.Clone(), m.Clone()
	from, to := write(one, 1, 2), write(other, 101, 1)
	if from[0] != to[0] {
		t.Fatalf("the first batches end at %d and %d", from[0], to[0])
	}
	second := make([]byte, from[1]-from[0])
	a, err := one.OpenRead(segmentPath(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ReadAt(second, from[0]); err != nil {
		t.Fatal(err)
	}
	b, err := other.Open(segmentPath(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteAt(second, from[0]); err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, r := range places(t, other) {
		if r.Verdict == Clean && r.Offset >= from[0] {
			records++
		}
	}
	if records > 0 {
		t.Errorf("%d records of another past read as clean", records)
	}
	l, r := open(t, other)
	defer l.Close()
	if r.Verdict != Suspect {
		t.Errorf("recovery: %d entries, %v (%s); want the second told as suspect", r.Last, r.Verdict, r.Reason)
	}
}
