package kv

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Whatever else an entry does to the table while its commands are looked at ahead: a key is found exactly if a map has it,
// with its value.
func TestLookingAheadNeverChangesWhatIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s, e := New(), &Entry{Term: 1, Kind: KindCommands}
	model := map[string]string{}
	c := Command{Client: 7, Flags: FlagRegister, Registered: 1}
	for round := range 3000 {
		e.Index, e.Count, e.Body = e.Index+1, 0, e.Body[:0]
		keys := 10 + round*2 // so that the table grows while it is used
		for range 1 + r.IntN(2*aheadMost+5) {
			c.Seq++
			c.AckedBelow = c.Seq
			c.Key, c.Op, c.Value = fmt.Appendf(nil, "k%d", r.IntN(keys)), Put, fmt.Appendf(nil, "v%d", c.Seq)
			if r.IntN(4) == 0 {
				c.Op, c.Value = Delete, nil
				delete(model, string(c.Key))
			} else {
				model[string(c.Key)] = string(c.Value)
			}
			e.Body = AppendCommand(e.Body, &c)
			e.Count++
			c.Flags, c.Registered = 0, 0
		}
		if got := s.Apply(e); len(got) != int(e.Count) {
			t.Fatalf("%d results, want %d", len(got), e.Count)
		}
	}
	if s.Len() != len(model) {
		t.Fatalf("%d keys, want %d", s.Len(), len(model))
	}
	for i := range 6100 {
		key := fmt.Appendf(nil, "k%d", i)
		value, _, _, ok := s.Get(key)
		if want, there := model[string(key)]; ok != there || string(value) != want {
			t.Fatalf("%s: got %q %v, want %q %v", key, value, ok, want, there)
		}
	}
}

// An entry may hold what no leader logs: a command without a key, and one that does not decode behind others.
func TestLookingAheadStopsWhereNothingCanBeRead(t *testing.T) {
	s, e := New(), &Entry{Index: 1, Term: 1, Kind: KindCommands}
	put := Command{Op: Put, Client: 7, Flags: FlagRegister, Registered: 1, Key: []byte("a"), Value: []byte("1")}
	add := func(c Command) {
		e.Body = AppendCommand(e.Body, &c)
		e.Count++
	}
	for i := range uint64(3 * aheadMost) {
		put.Seq, put.AckedBelow = i+1, i+1
		add(put)
		add(Command{Op: Scan, Client: 7, Seq: ReadSeq})
	}
	e.Count += 2
	e.Body = append(e.Body, 0xff, 0xff)
	results := s.Apply(e)
	if len(results) != 6*aheadMost {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		if want := []Status{OK, Malformed}[i%2]; r.Status != want {
			t.Fatalf("result %d: %v, want %v", i, r.Status, want)
		}
	}
	if v, _, _, ok := s.Get([]byte("a")); !ok || string(v) != "1" {
		t.Fatalf("got %q %v", v, ok)
	}
}

// BenchmarkApply applies entries of puts to random keys, as a leader packs them for a path of 1,500 bytes and for loopback.
func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		for _, commands := range []int{7, 300} {
			b.Run(fmt.Sprintf("keys=%d/commands=%d", keys, commands), func(b *testing.B) { benchmarkApply(b, keys, commands) })
		}
	}
}

func benchmarkApply(b *testing.B, keys, commands int) {
	r := rand.New(rand.NewPCG(3, 4))
	s, e := New(), &Entry{Term: 1, Kind: KindCommands}
	c := Command{Op: Put, Client: 7, Flags: FlagRegister, Registered: 1, Value: make([]byte, 100)}
	apply := func(n int, key func() int) {
		e.Index, e.Count, e.Body = e.Index+1, uint32(n), e.Body[:0]
		for range n {
			c.Seq++
			c.AckedBelow = c.Seq
			c.Key = fmt.Appendf(c.Key[:0], "key-%012d", key())
			e.Body = AppendCommand(e.Body, &c)
			c.Flags, c.Registered = 0, 0
		}
	}
	next := 0
	for next < keys {
		apply(100, func() int { next++; return next - 1 })
		s.Apply(e)
	}
	entries := make([]Entry, 4096/commands+1)
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		for i := range entries {
			apply(commands, func() int { return r.IntN(keys) })
			entries[i] = *e
			entries[i].Body = append([]byte(nil), e.Body...)
		}
		b.StartTimer()
		for i := range entries {
			s.Apply(&entries[i])
			done += commands
		}
	}
}
