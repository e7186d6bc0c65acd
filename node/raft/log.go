package raft

import (
	"slices"
	"sort"
)

// The log as the core sees it: which term each index has, as runs, and the sizes of the recent entries. Index 0 has
// term 0 and is always there.

// TermRun says that entries from First on have Term, until the next run.
type TermRun struct{ First, Term uint64 }

// Range is First..Last, both included.
type Range struct{ First, Last uint64 }

// sizesKept is how many of the last entries have their exact size remembered, at least.
const sizesKept = 1 << 13

type history struct {
	runs []TermRun // First and Term both ascend strictly
	last uint64

	// totals[i] is the size of all entries up to base+i, counted from some start. Below base an entry has unknown bytes.
	totals  []int64
	base    uint64
	unknown int64
}

func (h *history) init(runs []TermRun, last uint64, unknown int) {
	h.runs = slices.Clone(runs)
	h.last, h.base, h.unknown = last, last, int64(unknown)
	h.totals = append(make([]int64, 0, 64), 0)
}

// term gives the term of the entry at index; false when there is none.
func (h *history) term(index uint64) (uint64, bool) {
	if index == 0 {
		return 0, true
	}
	if index > h.last {
		return 0, false
	}
	i := h.run(index)
	if i < 0 {
		return 0, false
	}
	return h.runs[i].Term, true
}

// run gives the position of the run that index is in, looking at the newest first.
func (h *history) run(index uint64) int {
	n := len(h.runs)
	if n > 0 && h.runs[n-1].First <= index {
		return n - 1
	}
	return sort.Search(n, func(i int) bool { return h.runs[i].First > index }) - 1
}

func (h *history) lastTerm() uint64 {
	t, _ := h.term(h.last)
	return t
}

// atMost gives the largest index <= limit whose term is <= term, and its term: the best guess where two logs meet.
func (h *history) atMost(limit, term uint64) (uint64, uint64) {
	limit = min(limit, h.last)
	for i := h.run(limit); i >= 0 && limit > 0; i-- {
		if h.runs[i].Term <= term {
			return limit, h.runs[i].Term
		}
		limit = h.runs[i].First - 1
	}
	return 0, 0
}

func (h *history) append(term uint64, size int) {
	h.last++
	if n := len(h.runs); n == 0 || h.runs[n-1].Term != term {
		h.runs = append(h.runs, TermRun{h.last, term})
	}
	if len(h.totals) > 2*sizesKept {
		n := copy(h.totals, h.totals[len(h.totals)-sizesKept-1:])
		h.base += uint64(len(h.totals) - n)
		h.totals = h.totals[:n]
	}
	h.totals = append(h.totals, h.totals[len(h.totals)-1]+int64(size))
}

func (h *history) truncate(from uint64) {
	h.last = from - 1
	n := len(h.runs)
	for n > 0 && h.runs[n-1].First >= from {
		n--
	}
	h.runs = h.runs[:n]
	if h.last >= h.base {
		h.totals = h.totals[:h.last-h.base+1]
	} else {
		h.totals, h.base = append(h.totals[:0], 0), h.last
	}
}

func (h *history) total(index uint64) int64 {
	if index < h.base {
		return h.totals[0] - int64(h.base-index)*h.unknown
	}
	return h.totals[index-h.base]
}

// bytes is the size of the entries after..upTo, without the first.
func (h *history) bytes(after, upTo uint64) int64 {
	if upTo <= after {
		return 0
	}
	return h.total(upTo) - h.total(after)
}

// fit gives the last index such that first..index has at most budget bytes, but at least first.
func (h *history) fit(first uint64, budget int64) uint64 {
	low, high := first, h.last
	for low < high {
		mid := low + (high-low+1)/2
		if h.bytes(first-1, mid) <= budget {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// appendEntry puts e at the end of the log, whoever made it, and its configuration in force.
func (c *Core) appendEntry(e Entry) {
	c.log.append(e.Term, e.Size)
	e.Index = c.log.last
	if e.Kind == Configuring {
		config := e.Config.clone()
		e.Config = &config
		c.configs = append(c.configs, IndexedConfiguration{e.Index, config})
		c.enforce()
	} else {
		e.Config = nil
	}
	c.eff.Ops = append(c.eff.Ops, LogOp{Kind: OpAppend, Entry: e})
}

// truncate voids the entries from index on, with the configurations and the damage among them.
func (c *Core) truncate(from uint64) {
	c.log.truncate(from)
	c.durable = min(c.durable, from-1)
	c.damage.truncate(from)
	c.ring.clear()
	c.truncSerial = c.serial()
	c.eff.Ops = append(c.eff.Ops, LogOp{Kind: OpTruncate, From: from})
	c.rollBack(from)
}

// damage lists entries whose identity is in the log but whose body is not. They count as present when votes and logs
// are compared, and as absent when something is acknowledged or applied.
type damage struct {
	ranges   []Range // ascending, disjoint
	rewrites []rewrite
}

// rewrite is a damaged entry that was received again and becomes whole when serial is durable.
type rewrite struct{ index, serial uint64 }

func (d *damage) init(ranges []Range, last uint64) {
	for _, r := range ranges {
		if r.Last = min(r.Last, last); r.First <= r.Last {
			d.ranges = append(d.ranges, r)
		}
	}
	slices.SortFunc(d.ranges, func(a, b Range) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
}

func (d *damage) any() bool { return len(d.ranges) > 0 }

// first is the first entry that may not be acknowledged or applied; beyond every index when there is none.
func (d *damage) first() uint64 {
	if len(d.ranges) == 0 {
		return maxIndex + 1
	}
	return d.ranges[0].First
}

// wanted is the first entry that must be received again.
func (d *damage) wanted() uint64 {
	for _, r := range d.ranges {
		for i := r.First; i <= r.Last; i++ {
			if !d.rewriting(i) {
				return i
			}
		}
	}
	return maxIndex + 1
}

func (d *damage) rewriting(index uint64) bool {
	return slices.ContainsFunc(d.rewrites, func(w rewrite) bool { return w.index == index })
}

// needs tells whether index is damaged and was not received again yet.
func (d *damage) needs(index uint64) bool {
	for _, r := range d.ranges {
		if r.First <= index && index <= r.Last {
			return !d.rewriting(index)
		}
	}
	return false
}

// synced makes whole what serial wrote again.
func (d *damage) synced(serial uint64) {
	n := 0
	for _, w := range d.rewrites {
		if w.serial > serial {
			d.rewrites[n] = w
			n++
			continue
		}
		d.remove(w.index)
	}
	d.rewrites = d.rewrites[:n]
}

func (d *damage) remove(index uint64) {
	for i, r := range d.ranges {
		if index < r.First || index > r.Last {
			continue
		}
		switch {
		case r.First == r.Last:
			d.ranges = slices.Delete(d.ranges, i, i+1)
		case index == r.First:
			d.ranges[i].First++
		case index == r.Last:
			d.ranges[i].Last--
		default:
			d.ranges[i].Last = index - 1
			d.ranges = slices.Insert(d.ranges, i+1, Range{index + 1, r.Last})
		}
		return
	}
}

func (d *damage) truncate(from uint64) {
	n := len(d.ranges)
	for n > 0 && d.ranges[n-1].First >= from {
		n--
	}
	d.ranges = d.ranges[:n]
	if n > 0 {
		d.ranges[n-1].Last = min(d.ranges[n-1].Last, from-1)
	}
	d.rewrites = slices.DeleteFunc(d.rewrites, func(w rewrite) bool { return w.index >= from })
}
