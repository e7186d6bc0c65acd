package wal

import (
	"slices"

	"balsa/wal/vfs"
)

// EntryMark is what tells an entry of one server from that of another: the term, and the portable checksum, which survives
// damage to the body.
type EntryMark struct {
	Term, Sum uint64
	State     EntryState
}

// EntryState says how much of an entry is there.
type EntryState uint8

// The states of an entry of a Catalog.
const (
	EntryWhole   EntryState = iota
	EntryDamaged            // its header is whole, its body is not
	EntryLost               // its header is gone, too
)

// Catalog is the entries of a log as it stands, without what was truncated.
type Catalog struct {
	First   uint64 // index of the first mark
	Marks   []EntryMark
	Verdict Verdict
	Reason  string
}

// Last is the index of the last entry, First-1 if there is none.
func (c *Catalog) Last() uint64 { return c.First + uint64(len(c.Marks)) - 1 }

// ReadCatalog reads the marks of all entries of a log, past any damage, beside a server or not.
func ReadCatalog(fs vfs.FS, dir string, o ScanOptions) (*Catalog, error) {
	c := &Catalog{First: 1}
	rep, err := ScanWith(fs, dir, o, func(r *Record) error {
		switch {
		case r.Verdict == Torn:
		case r.Type == TypeTruncate:
			c.cut(r.From)
		case r.Type == TypeEntry:
			c.add(r)
		}
		return nil
	})
	c.Verdict, c.Reason = rep.Verdict, rep.Reason
	return c, err
}

func (c *Catalog) cut(from uint64) {
	if from <= c.Last() {
		c.Marks = c.Marks[:max(from, c.First)-c.First]
	}
}

func (c *Catalog) add(r *Record) {
	m := EntryMark{Term: r.Term, Sum: r.Entry.Sum}
	if r.Stored > 0 && r.Entry.Body == nil {
		m.State = EntryDamaged
	}
	if r.Rewrite {
		if r.Index >= c.First && r.Index <= c.Last() && m.State == EntryWhole {
			c.Marks[r.Index-c.First] = m
		}
		return
	}
	if len(c.Marks) == 0 {
		c.First = r.Index
	}
	c.cut(r.Index) // where the record that truncated is lost
	for c.Last()+1 < r.Index {
		c.Marks = append(c.Marks, EntryMark{State: EntryLost})
	}
	c.Marks = append(c.Marks, m)
}

// Comparison is what two logs have at an index.
type Comparison uint8

// What Diff tells apart.
const (
	Same        Comparison = iota
	Diverging              // the terms differ: of two such tails one will be truncated
	Contrary               // the same index and term, but not the same bytes: never right
	OnlyA                  // B has no such entry
	OnlyB                  // A has none
	UnreadableA            // the body is damaged in A; its checksum agrees, or nothing tells
	UnreadableB
	UnreadableBoth
)

var comparisonNames = [...]string{"same", "diverging", "contrary", "only in A", "only in B", "damaged in A", "damaged in B", "damaged in both"}

func (c Comparison) String() string { return comparisonNames[c] }

// DiffRange is a run of entries that compare alike.
type DiffRange struct {
	Range
	Comparison
}

// Diff compares two logs, index by index.
func Diff(a, b *Catalog) []DiffRange {
	var out []DiffRange
	first, last := min(a.First, b.First), max(a.Last(), b.Last())
	for i := first; i <= last; i++ {
		c, ok := a.against(b, i)
		if !ok {
			continue // neither has it
		}
		if n := len(out); n > 0 && out[n-1].Comparison == c && out[n-1].Last+1 == i {
			out[n-1].Last = i
			continue
		}
		out = append(out, DiffRange{Range{i, i}, c})
	}
	return slices.Clip(out)
}

func (c *Catalog) at(i uint64) *EntryMark {
	if i < c.First || i > c.Last() {
		return nil
	}
	return &c.Marks[i-c.First]
}

func (c *Catalog) against(b *Catalog, i uint64) (Comparison, bool) {
	x, y := c.at(i), b.at(i)
	switch {
	case x == nil && y == nil:
		return 0, false
	case y == nil:
		return OnlyA, true
	case x == nil:
		return OnlyB, true
	}
	known := x.State != EntryLost && y.State != EntryLost
	switch {
	case known && x.Term != y.Term:
		return Diverging, true
	case known && x.Sum != y.Sum:
		return Contrary, true
	case x.State != EntryWhole && y.State != EntryWhole:
		return UnreadableBoth, true
	case x.State != EntryWhole:
		return UnreadableA, true
	case y.State != EntryWhole:
		return UnreadableB, true
	}
	return Same, true
}
