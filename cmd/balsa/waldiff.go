package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"balsa/wal"
	"balsa/wal/vfs"
)

func walDiffCommand(s *streams) *cobra.Command {
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "diff DIR DIR", Short: "compare the logs of two servers", DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("usage: %s", cmd.UseLine())
			}
			for _, name := range args {
				if err := isDir(cmd, name); err != nil {
					return err
				}
			}
			return nil
		},
		Long: `diff compares two servers' logs entry by entry, by the checksum that an entry carries from its leader to every server: so
also where the bytes themselves are damaged. It tells

  diverging     the terms differ: of two such tails one will be truncated, unless it was committed
  contrary      the same index and term, but not the same bytes: never right
  only in A, B  the other log does not reach so far, or begins later
  damaged       the stored bytes are damaged there

It ends with 0 when whatever both have is the same and whole, else with 1.`,
		Example: "balsa wal diff data/1 data/2\nbalsa wal diff -o json data/1 data/3",
		RunE: func(_ *cobra.Command, args []string) error {
			return walDiff(s, args[0], args[1], output.value == "json")
		},
	}
	cmd.Flags().VarP(output, "output", "o", "form of the answers")
	return cmd
}

type diffJSON struct {
	A      sideJSON        `json:"a"`
	B      sideJSON        `json:"b"`
	Same   uint64          `json:"same"` // entries
	First  *firstJSON      `json:"first_difference"`
	Ranges []diffRangeJSON `json:"ranges"`
}

type sideJSON struct {
	Dir     string `json:"dir"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
}

type diffRangeJSON struct {
	Is    string `json:"is"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// firstJSON is the first entry that both have and that is not the same; a checksum in hex.
type firstJSON struct {
	Is    string `json:"is"`
	Index uint64 `json:"index"`
	TermA uint64 `json:"term_a"`
	SumA  string `json:"sum_a"`
	TermB uint64 `json:"term_b"`
	SumB  string `json:"sum_b"`
}

func walDiff(s *streams, dirA, dirB string, asJSON bool) error {
	a, err := readCatalog(s, dirA)
	if err != nil {
		return fmt.Errorf("wal diff: %w", err)
	}
	b, err := readCatalog(s, dirB)
	if err != nil {
		return fmt.Errorf("wal diff: %w", err)
	}
	d := compareLogs(dirA, dirB, a, b)
	if asJSON {
		err = writeJSON(s.out, d)
	} else {
		err = d.text(s)
	}
	if err == nil && d.First != nil {
		err = &fault{exitFailed, fmt.Errorf("wal diff: the logs are not the same from index %d on: %s", d.First.Index, d.First.Is)}
	}
	return err
}

func readCatalog(s *streams, dir string) (*wal.Catalog, error) {
	bar := newProgress(s, dir)
	defer bar.end()
	return wal.ReadCatalog(vfs.OS, dir, wal.ScanOptions{Each: beside, Progress: bar.step})
}

func compareLogs(dirA, dirB string, a, b *wal.Catalog) *diffJSON {
	side := func(dir string, c *wal.Catalog) sideJSON {
		return sideJSON{dir, c.First, c.Last(), c.Verdict.String(), c.Reason}
	}
	d := &diffJSON{A: side(dirA, a), B: side(dirB, b), Ranges: []diffRangeJSON{}}
	for _, r := range wal.Diff(a, b) {
		d.Ranges = append(d.Ranges, diffRangeJSON{r.Comparison.String(), r.First, r.Last})
		switch r.Comparison {
		case wal.Same:
			d.Same += r.Last - r.First + 1
		case wal.OnlyA, wal.OnlyB:
		default:
			if d.First == nil {
				x, y := a.Marks[r.First-a.First], b.Marks[r.First-b.First]
				d.First = &firstJSON{r.Comparison.String(), r.First, x.Term, fmt.Sprintf("%016x", x.Sum), y.Term, fmt.Sprintf("%016x", y.Sum)}
			}
		}
	}
	return d
}

func (d *diffJSON) text(s *streams) error {
	for _, side := range []struct {
		name string
		sideJSON
	}{{"A", d.A}, {"B", d.B}} {
		fmt.Fprintf(s.out, "%s  %s: entries %d to %d, %s\n", side.name, side.Dir, side.First, side.Last, side.Verdict)
	}
	for _, r := range d.Ranges {
		if r.First == r.Last {
			fmt.Fprintf(s.out, "%-16s %d\n", r.Is, r.First)
		} else {
			fmt.Fprintf(s.out, "%-16s %d to %d (%d entries)\n", r.Is, r.First, r.Last, r.Last-r.First+1)
		}
	}
	if f := d.First; f != nil {
		fmt.Fprintf(s.out, "first difference: index %d, A term %d sum %s, B term %d sum %s\n", f.Index, f.TermA, f.SumA, f.TermB, f.SumB)
	}
	return nil
}
