package sim

import (
	"cmp"
	"math"
	"slices"
)

// An order is a witness: one order of a key's operations that a register allows and that no client could tell from what it saw:
// the proof that the history is linearizable, found in the time of a sort. The ledger proposes where the writes stand
// and each read stands as early as it may; whether that order holds is then judged from the operations alone, so a wrong
// ledger can hide nothing: its order fails, and the search over all orders decides.
//
//	gap 0   write 1   gap 1   write 2   gap 2  ...
//	reads             reads             reads
type order struct {
	writes []*operation
	states []register     // states[g] is what a read in gap g sees
	reads  [][]*operation // by gap
}

// witnessed tells whether the ledger's order of the writes proves the history linearizable. False says nothing.
func witnessed(operations []*operation) bool {
	var w order
	var reads []*operation
	for _, o := range operations {
		switch {
		case o.Verb == get && o.Outcome == applied:
			reads = append(reads, o)
		case o.Verb != get && o.Ledger.Index != 0 && o.Outcome != notApplied:
			w.writes = append(w.writes, o)
		case o.Verb != get && o.Outcome == applied:
			return false // the ledger does not know it
		}
	}
	return w.orderWrites() && w.placeReads(reads) && w.keepsTime()
}

// orderWrites stands them in the ledger's order and runs the register through them.
func (w *order) orderWrites() bool {
	slices.SortFunc(w.writes, func(a, b *operation) int {
		return cmp.Or(cmp.Compare(a.Ledger.Index, b.Ledger.Index), cmp.Compare(a.Ledger.Sub, b.Ledger.Sub))
	})
	w.reads = make([][]*operation, len(w.writes)+1)
	w.states = append(w.states, register{})
	for _, o := range w.writes {
		fits, next := step(w.states[len(w.states)-1], o.input(), o.output())
		if !fits {
			return false
		}
		w.states = append(w.states, next.(register))
	}
	return true
}

// placeReads gives each read the first gap that shows what it saw, not before any operation that had returned when it
// was called. Taken in the order of their calls, the earliest is the best for all that follow.
func (w *order) placeReads(reads []*operation) bool {
	slices.SortFunc(reads, func(a, b *operation) int { return cmp.Compare(a.Call, b.Call) })
	type returned struct {
		at  int64
		gap int
	}
	var earlier []returned
	for i, o := range w.writes {
		earlier = append(earlier, returned{o.returned(), i + 1})
	}
	for _, o := range reads {
		gap := 0
		for _, e := range earlier {
			if e.at < o.Call {
				gap = max(gap, e.gap)
			}
		}
		for gap < len(w.states) && w.states[gap] != (register{o.Found, o.Got}) {
			gap++
		}
		if gap == len(w.states) {
			return false
		}
		w.reads[gap] = append(w.reads[gap], o)
		earlier = append(earlier, returned{o.Return, gap})
	}
	return true
}

// keepsTime holds if no operation stands behind one that was called only after it had returned.
func (w *order) keepsTime() bool {
	called := int64(math.MinInt64)
	stands := func(o *operation) bool {
		called = max(called, o.Call)
		return called <= o.returned()
	}
	for gap, reads := range w.reads {
		if gap > 0 && !stands(w.writes[gap-1]) {
			return false
		}
		for _, o := range reads { // in the order of their calls
			if !stands(o) {
				return false
			}
		}
	}
	return true
}
