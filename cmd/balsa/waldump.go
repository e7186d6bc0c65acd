package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
)

// The kinds of entries, as every part numbers them.
const (
	kindCommands = 2
	kindPart     = 5
)

var kindNames = map[uint8]string{1: "no-op", kindCommands: "commands", 3: "configuration", 4: "base mark", kindPart: "part"}

// recordTypes are the words --type takes.
var recordTypes = []string{"founding", "entry", "hardstate", "truncate", "sync", "seal", "base"}

// dumpFilter says which records are shown.
type dumpFilter struct {
	from, to, term   uint64
	typ, key, prefix string
	limit            int
	set              func(flag string) bool
}

func walDumpCommand(s *streams) *cobra.Command {
	var f dumpFilter
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "dump DIR", Short: "print every record", Args: dirOrFile, DisableFlagsInUseLine: true,
		Long: `dump prints the records of a log, oldest first, also beside a live server. Damage is shown where it is, and passed.
Instead of a directory it takes one segment's file, also a copy under another name.`,
		Example: "balsa wal dump data/1\nbalsa wal dump data/1 -o json --type entry --key colour\nbalsa wal dump copied-segment --from 100 --to 120",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return walDump(s, args[0], &f, output.value == "json")
		},
	}
	flags := cmd.Flags()
	flags.VarP(output, "output", "o", "form of the answers")
	f.register(flags)
	flags.IntVar(&f.limit, "limit", 0, "stop after so many records")
	return cmd
}

// register adds the flags that dump and tail share.
func (f *dumpFilter) register(flags *pflag.FlagSet) {
	flags.Uint64Var(&f.from, "from", 0, "from this index on")
	flags.Uint64Var(&f.to, "to", 0, "up to this index")
	flags.StringVar(&f.typ, "type", "", "only records of this type: "+strings.Join(recordTypes, ", "))
	flags.Uint64Var(&f.term, "term", 0, "only records of this term")
	flags.StringVar(&f.key, "key", "", "only entries with a command on this key")
	flags.StringVar(&f.prefix, "prefix", "", "only entries with a command on a key that begins so")
}

func (f *dumpFilter) check(cmd *cobra.Command) error {
	f.set = cmd.Flags().Changed
	if f.set("type") && !contains(recordTypes, f.typ) {
		return usagef("--type %q: want one of %s", f.typ, strings.Join(recordTypes, ", "))
	}
	if f.set("from") && f.set("to") && f.from > f.to {
		return usagef("--from %d is above --to %d", f.from, f.to)
	}
	if f.set("limit") && f.limit < 1 {
		return usagef("--limit is %d, want 1 or more", f.limit)
	}
	return nil
}

// recordJSON is a record of a dump. A command of several entries stands at the last of them.
type recordJSON struct {
	Segment string   `json:"segment"`
	Offset  int64    `json:"offset"`
	Size    int64    `json:"size"`
	Type    string   `json:"type"`
	Index   uint64   `json:"index"`
	Term    uint64   `json:"term"`
	Synced  bool     `json:"synced"`
	Kind    string   `json:"kind,omitempty"` // of an entry
	Time    int64    `json:"time,omitempty"` // log time of an entry, ns
	Sum     string   `json:"sum,omitempty"`  // portable checksum of an entry, in hex: the same on every server
	Vote    uint16   `json:"vote,omitempty"` // of a hard state
	From    uint64   `json:"from,omitempty"` // of a truncation: entries from here on are void
	Rewrite bool     `json:"rewrite,omitempty"`
	Ops     []opJSON `json:"ops,omitempty"`
	Verdict string   `json:"verdict,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// opJSON is one command of an entry. A field that is not UTF-8 is in base64 and named in "encoded".
type opJSON struct {
	Op      string   `json:"op"`
	Key     string   `json:"key"`
	Value   *string  `json:"value,omitempty"`
	Old     *string  `json:"old,omitempty"`
	Client  uint64   `json:"client"`
	Seq     uint64   `json:"seq"`
	Encoded []string `json:"encoded,omitempty"`
}

// errEnough ends a scan early.
var errEnough = errors.New("enough")

func walDump(s *streams, name string, f *dumpFilter, asJSON bool) error {
	out := bufio.NewWriterSize(s.out, 64<<10)
	defer out.Flush()
	var parts partReader
	shown := 0
	_, err := scanLog(s, name, wal.ScanOptions{}, func(r *wal.Record) error {
		commands := parts.commands(r)
		if !f.shows(r, commands) {
			return nil
		}
		if err := writeRecord(out, r, commands, asJSON); err != nil {
			return err
		}
		if shown++; shown == f.limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("wal dump: %w", err)
	}
	return out.Flush()
}

func writeRecord(out io.Writer, r *wal.Record, commands []kv.Command, asJSON bool) error {
	if asJSON {
		return writeJSON(out, recordAsJSON(r, commands))
	}
	_, err := fmt.Fprintln(out, recordAsText(r, commands))
	return err
}

func (f *dumpFilter) shows(r *wal.Record, commands []kv.Command) bool {
	switch {
	case f.set("from") && r.Index < f.from, f.set("to") && r.Index > f.to, f.set("term") && r.Term != f.term:
		return false
	case f.set("type") && r.Type.String() != f.typ:
		return false
	}
	key, prefix := []byte(unmarkWord(f.key)), []byte(unmarkWord(f.prefix))
	if f.set("key") && !slices.ContainsFunc(commands, func(c kv.Command) bool { return bytes.Equal(c.Key, key) }) {
		return false
	}
	return !f.set("prefix") || slices.ContainsFunc(commands, func(c kv.Command) bool { return bytes.HasPrefix(c.Key, prefix) })
}

// partReader finds the commands of entries, also of one that spans several.
type partReader struct {
	buffer []byte
	index  uint64 // of the last part taken
	term   uint64
}

func (p *partReader) commands(r *wal.Record) []kv.Command {
	if r.Type.String() != "entry" || r.Entry.Body == nil {
		return nil
	}
	e := &r.Entry
	if e.Kind == kindCommands {
		return decodeCommands(e.Body)
	}
	if e.Kind != kindPart {
		return nil
	}
	total, offset, piece, ok := kv.DecodePart(e.Body)
	follows := p.index+1 == e.Index && p.term == e.Term && len(p.buffer) == int(offset)
	if offset == 0 {
		p.buffer, follows = p.buffer[:0], true
	}
	if !ok || !follows {
		p.buffer, p.index = p.buffer[:0], 0
		return nil
	}
	p.buffer, p.index, p.term = append(p.buffer, piece...), e.Index, e.Term
	if len(p.buffer) != int(total) {
		return nil
	}
	return decodeCommands(p.buffer)
}

func decodeCommands(body []byte) []kv.Command {
	var commands []kv.Command
	for len(body) > 0 {
		c, size, err := kv.DecodeCommand(body)
		if err != nil {
			return commands
		}
		if err := c.Unpack(); err != nil {
			c.Value = nil // applied to nothing, on every server
		}
		commands = append(commands, c)
		body = body[size:]
	}
	return commands
}

func recordAsJSON(r *wal.Record, commands []kv.Command) recordJSON {
	j := recordJSON{
		Segment: r.Segment, Offset: r.Offset, Size: r.Size, Type: r.Type.String(), Index: r.Index, Term: r.Term, Synced: r.Synced,
		Kind: kindNames[r.Entry.Kind], Time: r.Entry.Time, Vote: r.Hard.Vote, From: r.From, Rewrite: r.Rewrite,
	}
	if r.Type == wal.TypeEntry {
		j.Sum = fmt.Sprintf("%016x", r.Entry.Sum)
	}
	if r.Verdict != wal.Clean {
		j.Verdict, j.Reason = r.Verdict.String(), r.Reason
	}
	for _, c := range commands {
		o := opJSON{Op: c.Op.String(), Client: c.Client, Seq: c.Seq}
		text := func(name string, b []byte) string {
			text, encoding := jsonText(b)
			if encoding != "" {
				o.Encoded = append(o.Encoded, name)
			}
			return text
		}
		o.Key = text("key", c.Key)
		if c.Op == kv.Put || c.Op == kv.CompareAndSwap {
			value := text("value", c.Value)
			o.Value = &value
		}
		if c.Op == kv.CompareAndSwap && c.Flags&kv.FlagOldAbsent == 0 {
			old := text("old", c.Old)
			o.Old = &old
		}
		j.Ops = append(j.Ops, o)
	}
	return j
}

func recordAsText(r *wal.Record, commands []kv.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %10d %8d  %-9s index %d term %d", r.Segment, r.Offset, r.Size, r.Type, r.Index, r.Term)
	switch r.Type.String() {
	case "hardstate":
		fmt.Fprintf(&b, " vote %d", r.Hard.Vote)
	case "truncate":
		fmt.Fprintf(&b, " void from %d", r.From)
	case "entry":
		fmt.Fprintf(&b, " %s", kindNames[r.Entry.Kind])
	}
	if r.Rewrite {
		b.WriteString(" rewritten")
	}
	if r.Synced {
		b.WriteString(" synced")
	}
	if r.Verdict != wal.Clean {
		fmt.Fprintf(&b, "  %s: %s", strings.ToUpper(r.Verdict.String()), r.Reason)
	}
	for _, c := range commands {
		fmt.Fprintf(&b, "\n    %s %s", c.Op, strconv.Quote(clip(string(c.Key))))
		switch {
		case c.Op == kv.CompareAndSwap && c.Flags&kv.FlagOldAbsent != 0:
			fmt.Fprintf(&b, " absent -> %s", strconv.Quote(clip(string(c.Value))))
		case c.Op == kv.CompareAndSwap:
			fmt.Fprintf(&b, " %s -> %s", strconv.Quote(clip(string(c.Old))), strconv.Quote(clip(string(c.Value))))
		case c.Op == kv.Put:
			fmt.Fprintf(&b, " = %s", strconv.Quote(clip(string(c.Value))))
		}
		fmt.Fprintf(&b, "  (client %x, seq %d)", c.Client, c.Seq)
	}
	return b.String()
}

// segmentJSON is a line of wal ls.
type segmentJSON struct {
	Segment string `json:"segment"`
	State   string `json:"state"`
	Bytes   int64  `json:"bytes"`
	Written int64  `json:"written"`
	Entries int    `json:"entries"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
}

func writeSegments(s *streams, segments []wal.SegmentInfo, asJSON bool) error {
	if asJSON {
		for _, g := range segments {
			if err := writeJSON(s.out, segmentJSON{g.Name, g.State, g.Bytes, g.Written, g.Entries, g.First, g.Last}); err != nil {
				return err
			}
		}
		return nil
	}
	return table(s, func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "SEGMENT\tSTATE\tBYTES\tWRITTEN\tENTRIES\tFIRST\tLAST")
		for _, g := range segments {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", g.Name, g.State, g.Bytes, g.Written, g.Entries, g.First, g.Last)
		}
	})
}

// verifyJSON is the answer of wal verify.
type verifyJSON struct {
	Verdict  string        `json:"verdict"`
	Reason   string        `json:"reason,omitempty"`
	Code     int           `json:"code"`
	Records  int           `json:"records"`
	Segments int           `json:"segments"`
	Live     bool          `json:"live"`
	Problems []problemJSON `json:"problems"`
}

type problemJSON struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

func walVerify(s *streams, dir string, asJSON bool) error {
	report, err := scanLog(s, dir, wal.ScanOptions{}, nil)
	if err != nil {
		return fmt.Errorf("wal verify: %w", err)
	}
	code := report.Verdict.ExitCode()
	if asJSON {
		v := verifyJSON{
			Verdict: report.Verdict.String(), Reason: report.Reason, Code: code, Records: report.Records,
			Segments: len(report.Segments), Live: report.Live, Problems: []problemJSON{},
		}
		for _, p := range report.Problems {
			v.Problems = append(v.Problems, problemJSON{p.Segment, p.Offset, p.Verdict.String(), p.Reason})
		}
		err = writeJSON(s.out, v)
	} else {
		for _, p := range report.Problems {
			fmt.Fprintln(s.out, p.String())
		}
		beside := ""
		if report.Live {
			beside = ", beside a live server"
		}
		_, err = fmt.Fprintf(s.out, "%s: %s in %s%s\n", report.Verdict, count(report.Records, "record"), count(len(report.Segments), "segment"), beside)
	}
	if err != nil || code == exitDone {
		return err
	}
	return &fault{code: code}
}

func walDamage(s *streams, dir string, d *damage) error {
	var err error
	switch {
	case d.cut:
		err = wal.Cut(vfs.OS, dir, d.segment, d.offset)
	case d.zero > 0:
		err = wal.Zero(vfs.OS, dir, d.segment, d.offset, d.zero)
	default:
		err = wal.Flip(vfs.OS, dir, d.segment, d.offset, d.flip)
	}
	if err != nil {
		return fmt.Errorf("wal damage: %w", err)
	}
	_, err = fmt.Fprintf(s.err, "damaged %s at %d\n", d.segment, d.offset)
	return err
}
