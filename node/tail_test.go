package node

import (
	"bytes"
	"testing"

	"balsa/wire"
)

func put(tl *tail, index, term uint64) {
	tl.put(&wire.Entry{Index: index, Term: term, Body: bytes.Repeat([]byte{byte(index)}, 10)})
}

func TestTailGivesBackWhatWasPutUntilReleased(t *testing.T) {
	var tl tail
	tl.reset(0)
	for i := uint64(1); i <= 3000; i++ {
		put(&tl, i, 1)
	}
	for i := uint64(1); i <= 3000; i++ {
		e := tl.get(i)
		if e == nil || e.Index != i || !bytes.Equal(e.Body, bytes.Repeat([]byte{byte(i)}, 10)) {
			t.Fatalf("entry %d: got %v", i, e)
		}
	}
	tl.release(2000)
	if tl.get(2000-tailKept) != nil {
		t.Error("an entry released long ago is still held")
	}
	if tl.get(2001) == nil || tl.get(2000-tailKept+1) == nil {
		t.Error("an entry that must be held is gone")
	}
}

func TestTailTruncatesAndGoesOn(t *testing.T) {
	var tl tail
	tl.reset(10)
	for i := uint64(11); i <= 20; i++ {
		put(&tl, i, 1)
	}
	tl.truncate(15)
	if tl.get(15) != nil || tl.get(14) == nil {
		t.Fatal("truncate(15) did not end the tail at 14")
	}
	put(&tl, 15, 2)
	if e := tl.get(15); e == nil || e.Term != 2 {
		t.Fatalf("got %v, want entry 15 of term 2", e)
	}
	tl.truncate(5)
	put(&tl, 5, 3)
	if e := tl.get(5); e == nil || e.Term != 3 || tl.get(6) != nil || tl.get(4) != nil {
		t.Fatalf("after truncation below its beginning the tail does not begin anew: %+v", tl)
	}
}

func TestTailRewritesAnEntryInPlace(t *testing.T) {
	var tl tail
	tl.reset(3)
	put(&tl, 4, 1)
	put(&tl, 5, 1)
	put(&tl, 4, 1)
	put(&tl, 2, 1) // older than the tail: the log has it
	if tl.last != 5 || tl.get(4) == nil || tl.get(2) != nil {
		t.Fatalf("got %+v", tl)
	}
}

func TestTailAllocatesNothingInSteadyState(t *testing.T) {
	var tl tail
	tl.reset(0)
	e := wire.Entry{Term: 1, Body: make([]byte, 100)}
	next := uint64(1)
	step := func() {
		e.Index = next
		tl.put(&e)
		tl.release(next)
		next++
	}
	for range 5000 {
		step()
	}
	if got := testing.AllocsPerRun(1000, step); got != 0 {
		t.Errorf("%v allocations a put, want 0", got)
	}
}
