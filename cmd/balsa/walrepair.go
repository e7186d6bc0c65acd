package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"balsa/wal"
	"balsa/wal/vfs"
)

func walRepairCommand(s *streams) *cobra.Command {
	var peer, copies string
	var yes, dry bool
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "repair DIR", Short: "show what can be repaired, and repair it", Args: oneDir, DisableFlagsInUseLine: true,
		Long: `repair shows what it would do, and does it only with --yes, after it has put a copy of every file that it changes beside the
directory. It gives back the very bytes that were written, as their checksums prove, or cuts a tail that is proven never
synced; it guesses nothing:

  one copy of a segment's header   from the other copy
  a single flipped bit             of a record, a trailer, a slot of the hard state
  the body of an entry             from the log of another server (--from), by index, term and checksum
  a torn tail                      is cut, as the next start would

What is left is told, with what to do. It refuses a directory in use.`,
		Example: "balsa wal repair data/1\nbalsa wal repair data/1 --from data/2 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if yes && dry {
				return usagef("wal repair: --yes and --dry-run exclude each other")
			}
			if peer != "" {
				if err := isDir(cmd, peer); err != nil {
					return err
				}
			}
			r := repair{s: s, dir: filepath.Clean(args[0]), peer: peer, copies: copies, json: output.value == "json"}
			if err := r.run(yes); err != nil {
				return fmt.Errorf("wal repair: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&peer, "from", "", "the log of another server, from which damaged entries are taken")
	f.StringVar(&copies, "copy", "", "where the copies go (default: DIR.before-repair-N)")
	f.BoolVar(&dry, "dry-run", false, "only show the plan, as without --yes")
	f.BoolVar(&yes, "yes", false, "carry the plan out")
	f.VarP(output, "output", "o", "form of the answers")
	return cmd
}

type repair struct {
	s                 *streams
	dir, peer, copies string
	json              bool
}

type repairJSON struct {
	Before  string        `json:"before"`
	Fixes   []fixJSON     `json:"fixes"`
	After   string        `json:"after"`
	Left    []problemJSON `json:"left"`
	Applied bool          `json:"applied"`
	Copies  string        `json:"copies,omitempty"`
}

type fixJSON struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Bytes   int64  `json:"bytes"`
	What    string `json:"what"`
}

func (r *repair) run(yes bool) error {
	bar := newProgress(r.s, "reading")
	plan, err := wal.PlanRepair(vfs.OS, r.dir, r.peer, wal.ScanOptions{Each: beside, Progress: bar.step})
	bar.end()
	if err != nil {
		return err
	}
	defer plan.Close()
	j := repairJSON{Before: plan.Before.Verdict.String(), Fixes: []fixJSON{}, After: plan.After.Verdict.String(), Left: []problemJSON{}}
	for _, f := range plan.Fixes {
		j.Fixes = append(j.Fixes, fixJSON{f.Segment, f.Offset, f.Bytes, f.What})
	}
	for _, p := range plan.After.Problems {
		j.Left = append(j.Left, problemJSON{p.Segment, p.Offset, p.Verdict.String(), p.Reason})
	}
	if !r.json {
		r.show(&j)
	}
	if yes && len(plan.Fixes) > 0 {
		if err := r.apply(plan, &j); err != nil {
			return err
		}
	}
	if r.json {
		err = writeJSON(r.s.out, j)
	} else {
		r.tell(&j)
	}
	if err == nil && j.Applied && plan.After.Verdict != wal.Clean {
		err = fmt.Errorf("%s is still %s", r.dir, j.After)
	}
	return err
}

func (r *repair) apply(plan *wal.RepairPlan, j *repairJSON) error {
	j.Copies = r.copies
	for n := 1; j.Copies == ""; n++ {
		name := fmt.Sprintf("%s.before-repair-%d", r.dir, n)
		if _, err := os.Lstat(name); os.IsNotExist(err) {
			j.Copies = name
		} else if err != nil {
			return err
		}
	}
	j.Applied = true
	return plan.Apply(j.Copies)
}

func (r *repair) show(j *repairJSON) {
	fmt.Fprintf(r.s.out, "%s is %s\n", r.dir, j.Before)
	for i, f := range j.Fixes {
		fmt.Fprintf(r.s.out, "%d. %s at %d, %s: %s\n", i+1, f.Segment, f.Offset, count(int(f.Bytes), "byte"), f.What)
	}
	if len(j.Fixes) == 0 {
		fmt.Fprintln(r.s.out, "nothing to repair here")
	} else {
		fmt.Fprintf(r.s.out, "afterwards it is %s\n", j.After)
	}
	for _, p := range j.Left {
		fmt.Fprintf(r.s.out, "left: %s at %d: %s: %s\n", p.Segment, p.Offset, p.Verdict, p.Reason)
	}
	if len(j.Left) > 0 {
		fmt.Fprintln(r.s.out, "What is left: a server that starts with it fetches damaged entries from its peers; --from DIR takes them from another\n"+
			"server's log; where the server refuses to start, wipe it and use balsa member replace.")
	}
}

func (r *repair) tell(j *repairJSON) {
	switch {
	case j.Applied:
		fmt.Fprintf(r.s.out, "done; what was there before is in %s\n", j.Copies)
	case len(j.Fixes) > 0:
		fmt.Fprintln(r.s.out, "nothing was changed; --yes does it")
	}
}
