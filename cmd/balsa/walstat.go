package main

import (
	"cmp"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"balsa/kv"
	"balsa/wal"
)

func walStatCommand(s *streams) *cobra.Command {
	var top int
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "stat DIR", Short: "what fills the log", Args: dirOrFile, DisableFlagsInUseLine: true,
		Long: `stat reads a log and shows what fills it: by type of record, commands by operation and by prefix of the key (up to the
first of / : . - _ |, or to the first digit), sizes of entries, and how many records share a batch, which is one sync.`,
		Example: "balsa wal stat data/1\nbalsa wal stat data/1 -o json",
		RunE: func(_ *cobra.Command, args []string) error {
			if top < 1 {
				return usagef("--top is %d, want 1 or more", top)
			}
			return walStat(s, args[0], top, output.value == "json")
		},
	}
	cmd.Flags().VarP(output, "output", "o", "form of the answers")
	cmd.Flags().IntVar(&top, "top", 10, "so many prefixes of keys")
	return cmd
}

// statJSON is what stat found, and what it counts with.
type statJSON struct {
	Verdict  string        `json:"verdict"`
	Segments int           `json:"segments"`
	Spares   int           `json:"spares"`
	Bytes    int64         `json:"bytes"`   // of all files
	Written  int64         `json:"written"` // of them in use
	Records  int64         `json:"records"`
	First    uint64        `json:"first"`
	Last     uint64        `json:"last"`
	Terms    []uint64      `json:"terms"` // lowest and highest of the entries
	Fills    []fillJSON    `json:"fills"` // the parts of Bytes
	Types    []fillJSON    `json:"types"` // records by type; entries by kind
	Ops      []fillJSON    `json:"ops"`   // commands, bytes of key and value
	Prefixes []fillJSON    `json:"keys"`  // commands by prefix of the key
	Sizes    []bucketJSON  `json:"sizes"` // bodies of entries
	Batches  batchesJSON   `json:"batches"`
	Problems []problemJSON `json:"problems"`
}

type fillJSON struct {
	What  string  `json:"what"`
	Count int64   `json:"count,omitempty"`
	Bytes int64   `json:"bytes"`
	Part  float64 `json:"part"`
}

// bucketJSON is what is above half of To and at most To.
type bucketJSON struct {
	To    int64 `json:"to"`
	Count int64 `json:"count"`
}

type batchesJSON struct {
	Count   int64        `json:"count"`
	Records []bucketJSON `json:"records"`
	Bytes   []bucketJSON `json:"bytes"`
	Largest int64        `json:"largest_bytes"`
}

// maxPrefixes bounds what stat remembers of keys; the rest is counted together.
const maxPrefixes = 10_000

const otherPrefixes = "(others)"

// tallies count while the log is read.
type tallies struct {
	types, ops, prefixes map[string]*fillJSON
	sizes, records       [64]int64
	bytes                [64]int64
	body, filling        int64 // of entries; of every record
	others               int64 // bodies of other records
	headers              int64
	batchBytes, taken    int64 // of batches; of the records in them
	lost                 int64
	batch                wal.BatchInfo
	segment              string
	stat                 statJSON
	parts                partReader
}

func walStat(s *streams, name string, top int, asJSON bool) error {
	t := &tallies{types: map[string]*fillJSON{}, ops: map[string]*fillJSON{}, prefixes: map[string]*fillJSON{}}
	report, err := scanLog(s, name, wal.ScanOptions{}, t.visit)
	if err != nil {
		return fmt.Errorf("wal stat: %w", err)
	}
	t.finish(&report, top)
	if asJSON {
		return writeJSON(s.out, t.stat)
	}
	return t.stat.text(s.out, name)
}

func (t *tallies) visit(r *wal.Record) error {
	t.stat.Records++
	what := r.Type.String()
	if what == "entry" {
		what += " " + cmp.Or(kindNames[r.Entry.Kind], fmt.Sprintf("kind %d", r.Entry.Kind))
		t.entry(r)
	}
	if r.Type == wal.TypeNone || r.Verdict == wal.Torn {
		t.lost += r.Size
		enter(t.types, "damaged", r.Size)
		return nil
	}
	enter(t.types, what, r.Size)
	t.headers += wal.HeaderBytes
	t.filling += r.Size - wal.HeaderBytes - int64(r.Stored)
	if r.Type == wal.TypeEntry {
		t.body += int64(r.Stored)
	} else {
		t.others += int64(r.Stored)
	}
	t.taken += r.Size
	if r.Segment != t.segment || r.Batch.Offset != t.batch.Offset {
		t.segment, t.batch = r.Segment, r.Batch
		b := &t.stat.Batches
		b.Count++
		b.Largest = max(b.Largest, r.Batch.Bytes)
		t.batchBytes += r.Batch.Bytes
		t.records[bits.Len64(uint64(max(r.Batch.Records-1, 0)))]++
		t.bytes[bits.Len64(uint64(r.Batch.Bytes-1))]++
	}
	return nil
}

func (t *tallies) entry(r *wal.Record) {
	if t.stat.First == 0 {
		t.stat.First, t.stat.Terms = r.Index, []uint64{r.Term, r.Term}
	}
	t.stat.Last = r.Index
	t.stat.Terms[0], t.stat.Terms[1] = min(t.stat.Terms[0], r.Term), max(t.stat.Terms[1], r.Term)
	t.sizes[bits.Len64(uint64(max(r.Stored-1, 0)))]++
	for _, c := range t.parts.commands(r) {
		size := int64(len(c.Key) + len(c.Value) + len(c.Old))
		enter(t.ops, c.Op.String(), size)
		if c.Op == kv.Put || c.Op == kv.CompareAndSwap || len(c.Key) > 0 {
			prefix := keyPrefix(c.Key)
			if t.prefixes[prefix] == nil && len(t.prefixes) >= maxPrefixes {
				prefix = otherPrefixes
			}
			enter(t.prefixes, prefix, size)
		}
	}
}

func enter(m map[string]*fillJSON, what string, size int64) {
	f := m[what]
	if f == nil {
		f = &fillJSON{What: what}
		m[what] = f
	}
	f.Count++
	f.Bytes += size
}

// keyPrefix is a key up to its first separator, or to its first digit.
func keyPrefix(key []byte) string {
	for i, c := range key {
		switch {
		case strings.IndexByte("/:.-_|", c) >= 0:
			return string(key[:i+1])
		case c >= '0' && c <= '9':
			return string(key[:i])
		}
	}
	return string(key)
}

func (t *tallies) finish(report *wal.Report, top int) {
	s := &t.stat
	s.Verdict, s.Problems = report.Verdict.String(), []problemJSON{}
	for _, p := range report.Problems {
		s.Problems = append(s.Problems, problemJSON{p.Segment, p.Offset, p.Verdict.String(), p.Reason})
	}
	pages := int64(0)
	for _, g := range report.Segments {
		s.Segments++
		s.Bytes += g.Bytes
		if g.State == "spare" {
			s.Spares++
			continue
		}
		pages += wal.PageBytes
		s.Written += g.Written
	}
	for _, f := range []fillJSON{
		{What: "bodies of entries", Bytes: t.body}, {What: "bodies of other records", Bytes: t.others}, {What: "record headers", Bytes: t.headers},
		{What: "filling of records", Bytes: t.filling}, {What: "ends of batches", Bytes: t.batchBytes - t.taken}, {What: "pages of segments", Bytes: pages},
		{What: "damaged", Bytes: t.lost},
	} {
		if f.Bytes != 0 {
			s.Fills = append(s.Fills, f)
		}
	}
	s.Fills = append(s.Fills, fillJSON{What: "prepared, not used yet", Bytes: max(s.Bytes-s.Written, 0)})
	parts(s.Fills, s.Bytes)
	s.Types, s.Ops = ranked(t.types, len(t.types)), ranked(t.ops, len(t.ops))
	s.Prefixes = ranked(t.prefixes, top)
	s.Sizes, s.Batches.Records, s.Batches.Bytes = buckets(&t.sizes), buckets(&t.records), buckets(&t.bytes)
}

// parts fills in what part of the whole each is.
func parts(fills []fillJSON, whole int64) {
	for i := range fills {
		if whole > 0 {
			fills[i].Part = float64(fills[i].Bytes) / float64(whole)
		}
	}
}

// ranked orders by bytes, and puts what is beyond the first n together.
func ranked(m map[string]*fillJSON, n int) []fillJSON {
	all := []fillJSON{}
	whole := int64(0)
	for _, f := range m {
		all = append(all, *f)
		whole += f.Bytes
	}
	slices.SortFunc(all, func(a, b fillJSON) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Count, a.Count), cmp.Compare(a.What, b.What))
	})
	if len(all) > n {
		rest := fillJSON{What: otherPrefixes}
		for _, f := range all[n:] {
			rest.Count += f.Count
			rest.Bytes += f.Bytes
		}
		all = append(all[:n], rest)
	}
	parts(all, whole)
	return all
}

// buckets are the powers of two from the first that is used to the last.
func buckets(counts *[64]int64) []bucketJSON {
	out := []bucketJSON{}
	for i, n := range counts {
		if n > 0 || len(out) > 0 {
			out = append(out, bucketJSON{1 << i, n})
		}
	}
	for len(out) > 0 && out[len(out)-1].Count == 0 {
		out = out[:len(out)-1]
	}
	return out
}

const barWidth = 30

func bar(part float64) string { return strings.Repeat("█", int(part*barWidth+0.5)) }

func (s *statJSON) text(out io.Writer, name string) error {
	fmt.Fprintf(out, "%s: %s, %s in %s and %s, %.1f of %.1f MiB written\n", name, s.Verdict, count(int(s.Records), "record"), count(s.Segments-s.Spares, "segment"),
		count(s.Spares, "spare"), float64(s.Written)/(1<<20), float64(s.Bytes)/(1<<20))
	if s.Terms != nil {
		fmt.Fprintf(out, "entries %d to %d, terms %d to %d\n", s.First, s.Last, s.Terms[0], s.Terms[1])
	}
	for _, p := range s.Problems {
		fmt.Fprintf(out, "%s at %d: %s: %s\n", p.Segment, p.Offset, p.Verdict, p.Reason)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, section := range []struct {
		title string
		fills []fillJSON
	}{{"WHAT FILLS THE FILES", s.Fills}, {"RECORDS", s.Types}, {"COMMANDS", s.Ops}, {"KEYS", s.Prefixes}} {
		if len(section.fills) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\tCOUNT\tBYTES\t%%\t\n", section.title)
		for _, f := range section.fills {
			n := ""
			if f.Count > 0 {
				n = fmt.Sprint(f.Count)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%.1f\t%s\n", string(forTerminal([]byte(f.What), true)), n, f.Bytes, f.Part*100, bar(f.Part))
		}
	}
	for _, section := range []struct {
		title   string
		buckets []bucketJSON
	}{{"BYTES OF AN ENTRY", s.Sizes}, {"RECORDS OF A BATCH", s.Batches.Records}, {"BYTES OF A BATCH", s.Batches.Bytes}} {
		if len(section.buckets) == 0 {
			continue
		}
		whole := int64(0)
		for _, b := range section.buckets {
			whole += b.Count
		}
		fmt.Fprintf(w, "\n%s\tCOUNT\t\t%%\t\n", section.title)
		for _, b := range section.buckets {
			part := float64(b.Count) / float64(whole)
			fmt.Fprintf(w, "up to %d\t%d\t\t%.1f\t%s\n", b.To, b.Count, part*100, bar(part))
		}
	}
	return w.Flush()
}
