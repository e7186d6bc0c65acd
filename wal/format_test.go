package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"balsa/wal/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is a log with one record of each type, as docs/wal-format.md describes it.
func golden(t testing.TB) []byte {
	m := vfs.NewMem()
	o := testOptions(m, 42)
	if err := Create(o, []byte("founding record")); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l.SetHardState(HardState{7, 2})
	l.Append(&Entry{Index: 1, Term: 7, Kind: 1, Time: 11})
	l.Append(&Entry{Index: 2, Term: 7, Kind: 2, Codec: 1, Group: 3, Count: 4, RawBytes: 99, Time: 12, Body: []byte("body of entry 2")})
	commit(t, l)
	l.Truncate(2)
	l.Append(&Entry{Index: 2, Term: 7, Kind: 2, Count: 1, RawBytes: 600, Time: 13, Body: make([]byte, 1100)})
	commit(t, l)
	l.PublishSynced()
	commit(t, l)
	l.Close()
	written := verdictOf(t, m).Segments[0].Written
	f, err := m.OpenRead(segmentPath(1))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, written)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes on disk are these, to the last one. A change here is a new format: see docs/wal-format.md.
func TestGoldenBytes(t *testing.T) {
	got := hexDump(golden(t))
	name := filepath.Join("testdata", "golden.hex")
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		gl, wl := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(gl), len(wl)) {
			if gl[i] != wl[i] {
				t.Fatalf("line %d: got\n%s\nwant\n%s", i+1, gl[i], wl[i])
			}
		}
		t.Fatalf("%d lines, want %d", len(gl), len(wl))
	}
}

func hexDump(b []byte) string {
	var s strings.Builder
	for x := 0; x < len(b); x += 32 {
		if line := b[x : x+32]; !isZero(line) {
			fmt.Fprintf(&s, "%06x %s\n", x, hex.EncodeToString(line))
		}
	}
	return s.String()
}

// A header tells all that it was given.
func TestHeaderRoundTrip(t *testing.T) {
	src := source(6)
	var b [headerBytes]byte
	for range 1000 {
		in := header{salt: src.next() | 1, typ: Type(1 + src.choose(7)), flags: flagRewrite, whiten: byte(src.next()), body: uint32(src.choose(MaxBody)),
			at: int64(src.choose(1<<16)) * recordAlign, index: src.next() | 1, term: src.next(), bodySum: src.next(), time: int64(src.next()),
			kind: byte(src.next()), codec: byte(src.next()), group: uint16(src.next()), count: uint32(src.next()), raw: uint32(src.next()), number: src.choose(1 << 16)}
		in.current, in.generation, in.vote, in.foundings = src.next()|1<<40, uint32(src.next()), uint16(src.next()), uint16(src.next())
		in.prevTerm = in.current - uint64(src.choose(1<<20))
		if in.voteless = src.choose(2) == 0; in.voteless {
			in.flags |= flagVoteless
		}
		in.encode(b[:])
		in.flags |= flagFirst | flagLast
		in.batch, in.prev, in.synced, in.last, in.lastTerm, in.records = int64(1+src.choose(maxBatchBytes/sectorBytes))*sectorBytes, src.next(), int64(src.next()>>1), src.next(), src.next(), src.choose(1<<16)
		in.sum = finishHeader(b[:], flagFirst|flagLast, in.batch, in.records, in.prev, in.synced, in.last, in.lastTerm)
		var out header
		if decodeHeader(b[:], in.salt, &out) != headerGood || out != in {
			t.Fatalf("got  %+v\nwant %+v", out, in)
		}
	}
}

// FuzzRecord gives the decoder of records anything at all, with checksums made to fit so that it gets far: it must not
// panic, nor go over the same bytes twice, nor reach beyond them.
func FuzzRecord(f *testing.F) {
	whole := golden(f)
	f.Add(whole[pageBytes:], uint16(0), byte(0))
	f.Add(whole[pageBytes:], uint16(600), byte(1))
	f.Add(make([]byte, 1024), uint16(3), byte(255))
	salt := le.Uint64(whole[16+8:])
	f.Fuzz(func(t *testing.T, b []byte, at uint16, v byte) {
		data := make([]byte, pageBytes+align(int64(len(b)), sectorBytes))
		copy(data[pageBytes:], b)
		if n := len(data) - pageBytes; n > 0 {
			data[pageBytes+int(at)%n] ^= v
		}
		for x := pageBytes; x+headerBytes <= len(data); x += recordAlign {
			if le.Uint64(data[x+8:]) == salt {
				le.PutUint64(data[x:], sumOf(data[x+8:x+headerBytes]))
			}
		}
		for _, proven := range []bool{false, true} {
			at := int64(pageBytes)
			var r recovery
			r.first = 1
			d := bytes.Clone(data)
			w := walker{win: overBytes(d), salt: salt, proven: proven, visit: func(g *finding) error {
				if g.off < at || g.off+g.size > int64(len(d)) {
					t.Fatalf("finding at %d of %d bytes, after %d, of %d", g.off, g.size, at, len(d))
				}
				at = g.off
				if g.h.index < 1<<10 && g.h.last < 1<<10 { // a forged index is not the decoder's care
					r.visit(&segmentFile{seq: 1}, g)
				}
				return nil
			}}
			if err := w.run(); err != nil {
				t.Fatal(err)
			}
			r.settle(&segmentFile{})
		}
	})
}

// What the hot path does allocates nothing once its buffers have grown.
func TestHotPathAllocatesNothing(t *testing.T) {
	dir := t.TempDir()
	src := source(1)
	o := Options{FS: vfs.OS, Dir: dir, SegmentBytes: 4 << 20, Random: src.next}
	if err := Create(o, nil); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := entry(0, 1, src.bytes(700))
	e.Kind = 2
	var buf []byte
	write := func(sync bool) {
		for range 3 {
			e.Index, e.Sum = l.Last()+1, 0
			l.Append(e)
		}
		b := l.Take()
		if err := b.Write(); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := b.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		l.Release(b)
	}
	write(true)
	cases := []struct {
		name string
		do   func()
	}{
		{"append, take, write", func() { write(false) }},
		{"append, take, write, sync", func() { write(true) }},
		{"hard state", func() { l.SetHardState(HardState{2, 1}); write(false) }},
		{"read", func() {
			if _, buf, err = l.Read(2, buf); err != nil {
				t.Fatal(err)
			}
		}},
		{"truncate", func() { l.Truncate(l.Last()); write(false) }},
	}
	e.Term = 2
	l.SetHardState(HardState{2, 1})
	for _, c := range cases {
		c.do()
		if n := testing.AllocsPerRun(100, c.do); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkAppendWriteMem(b *testing.B) {
	_, l := newLog(b)
	e := entry(0, 1, make([]byte, 1000))
	for b.Loop() {
		e.Index, e.Sum = l.Last()+1, 0
		l.Append(e)
		commit(b, l)
	}
}

func BenchmarkRecoverMem(b *testing.B) {
	m, l := newLog(b)
	src := source(1)
	for range 1000 {
		add(b, l, 1, src.bytes(1000))
	}
	l.Close()
	for b.Loop() {
		l, _ := open(b, m)
		l.Close()
	}
}

// goldenDirectory is a log as testdata/golden.hex has it.
func goldenDirectory(t testing.TB) *vfs.Mem {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden.hex"))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, MinSegmentBytes)
	for line := range strings.Lines(string(text)) {
		var at int
		var row string
		if _, err := fmt.Sscanf(line, "%x %s", &at, &row); err != nil {
			t.Fatal(err)
		}
		if _, err := hex.Decode(b[at:], []byte(row)); err != nil {
			t.Fatal(err)
		}
	}
	return directoryOf(t, b)
}

// directoryOf is a log of one segment with these bytes.
func directoryOf(t testing.TB, b []byte) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	m.MkdirAll(testDir)
	f, err := m.Create(segmentPath(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	return m
}

// FuzzOpen takes a file that may be anything for a log, with the sums of its page made to fit: it opens or says why not,
// a scan judges as the start does, and what was opened opens again with the same in it.
func FuzzOpen(f *testing.F) {
	whole := golden(f)
	f.Add(whole, uint32(8), byte(1))
	f.Add(whole, uint32(slotOffset0+30), byte(1))
	f.Add(whole, uint32(pageBytes+600), byte(0x40))
	f.Add(whole[:pageBytes], uint32(0), byte(0))
	f.Add([]byte{}, uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint32, v byte) {
		if len(b) > MinSegmentBytes {
			return
		}
		data := make([]byte, MinSegmentBytes)
		copy(data, b)
		data[int(at)%len(data)] ^= v
		for x := 0; x < pageBytes; x += sectorBytes {
			if !isZero(data[x : x+sectorBytes]) {
				le.PutUint64(data[x+504:], sumOf(data[x:x+504]))
			}
		}
		m := directoryOf(t, data)
		rep, err := Scan(m, testDir, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, r, err := Open(testOptions(m, 3))
		if err != nil {
			if rep.Verdict < Suspect && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the scan says %s, the start %v", rep.Verdict, err)
			}
			return
		}
		if r.Verdict != rep.Verdict {
			t.Fatalf("the start says %s (%s), the scan %s (%s)", r.Verdict, r.Reason, rep.Verdict, rep.Reason)
		}
		l.Close()
		l, again, err := Open(testOptions(m, 3))
		if err != nil || again.Last != r.Last || again.Hard != r.Hard || again.Voteless != r.Voteless || fmt.Sprint(again.Damaged) != fmt.Sprint(r.Damaged) {
			t.Fatalf("first %+v, then %+v %v", r, again, err)
		}
		l.Close()
	})
}

// FuzzDecoders gives each decoder of a fixed piece anything at all: what it takes, it writes again to the same bytes.
func FuzzDecoders(f *testing.F) {
	whole := golden(f)
	for _, x := range []int{0, slotOffset0, slotOffset1, pageBytes, pageBytes + sectorBytes} {
		f.Add(whole[x : x+sectorBytes])
	}
	var note [sectorBytes]byte
	encodeNote(note[:], 5, 4096)
	f.Add(note[:])
	f.Add(make([]byte, sectorBytes))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := make([]byte, sectorBytes)
		copy(b, in)
		salt := le.Uint64(b[8:])
		sector := bytes.Clone(b)
		le.PutUint64(sector[504:], sumOf(sector[:504]))
		var s segmentHeader
		if decodeSegmentHeader(sector, &s) == headerGood {
			var again [sectorBytes]byte
			s.encode(again[:])
			var s2 segmentHeader
			if decodeSegmentHeader(again[:], &s2) != headerGood || s2 != s {
				t.Fatalf("segment header %+v, again %+v", s, s2)
			}
		}
		var m, m2 stateMark
		if decodeSlot(sector, salt, &m) {
			var again [sectorBytes]byte
			encodeSlot(again[:], salt, &m)
			if !decodeSlot(again[:], salt, &m2) || m2 != m {
				t.Fatalf("slot %+v, again %+v", m, m2)
			}
		}
		if n := decodeNote(sector, salt); n < 0 {
			t.Fatalf("note %d", n)
		}
		le.PutUint64(b[sectorBytes-trailerBytes:], sumOf(b[sectorBytes-trailerBytes+8:]))
		var tr, tr2 trailer
		tail := b[sectorBytes-trailerBytes:]
		if salt := le.Uint64(tail[8:]); decodeTrailer(tail, salt, &tr) {
			var again [trailerBytes]byte
			tr.encode(again[:], salt)
			if !decodeTrailer(again[:], salt, &tr2) || tr2 != tr {
				t.Fatalf("trailer %+v, again %+v", tr, tr2)
			}
		}
		le.PutUint64(b, sumOf(b[8:headerBytes]))
		var h, h2 header
		if decodeHeader(b, 0, &h) == headerGood {
			var again [headerBytes]byte
			h.encode(again[:])
			finishHeader(again[:], h.flags, h.batch, h.records, h.prev, h.synced, h.last, h.lastTerm)
			state := decodeHeader(again[:], h.salt, &h2)
			if h2.sum = h.sum; state != headerGood || h2 != h {
				t.Fatalf("header %+v, again %+v", h, h2)
			}
		}
		if isZero(in) && decodeHeader(make([]byte, headerBytes), 0, &h) != headerBad {
			t.Fatal("zeros are a record")
		}
	})
}
