package kv

import (
	"fmt"
	"testing"
)

// What a put and a get do in the store, a stage each: `.ci/hot` fails when one of them allocates.

func hot(b *testing.B, once func()) {
	b.Helper()
	for range 100 {
		once()
	}
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

func hotCommand(op Op) Command {
	c := Command{Op: op, Client: 1, Seq: 1, AckedBelow: 1, Key: []byte("0123456789abcdef")}
	if op.IsRead() {
		c.Seq |= ReadSeq
	} else {
		c.Value = make([]byte, 100)
	}
	return c
}

func BenchmarkHotCommandOut(b *testing.B) {
	c := hotCommand(Put)
	var buf []byte
	hot(b, func() { buf = AppendCommand(buf[:0], &c) })
}

func BenchmarkHotCommandIn(b *testing.B) {
	c := hotCommand(Put)
	encoded := AppendCommand(nil, &c)
	hot(b, func() {
		if _, _, err := DecodeCommand(encoded); err != nil {
			b.Fatal(err)
		}
	})
}

// hotStore holds 100,000 keys.
func hotStore() (*Store, *Entry, *Command) {
	s := New()
	c := hotCommand(Put)
	c.Flags, c.Registered = FlagRegister, 1
	e := &Entry{Term: 1, Kind: KindCommands, Time: 2, Count: 1}
	for i := range 100_000 {
		c.Key = fmt.Appendf(c.Key[:0], "key-%012d", i)
		hotApply(s, e, &c)
		c.Flags, c.Registered = 0, 0
	}
	return s, e, &c
}

func hotApply(s *Store, e *Entry, c *Command) {
	e.Index++
	c.Seq++
	c.AckedBelow = c.Seq
	e.Body = AppendCommand(e.Body[:0], c)
	if r := s.Apply(e); r[0].Status != OK {
		panic(fmt.Sprint("hot apply: ", r[0].Status))
	}
}

func BenchmarkHotApply(b *testing.B) {
	s, e, c := hotStore()
	hot(b, func() { hotApply(s, e, c) })
}

func BenchmarkHotGet(b *testing.B) {
	s, _, c := hotStore()
	hot(b, func() {
		if _, _, _, ok := s.Get(c.Key); !ok {
			b.Fatal("no such key")
		}
	})
}

func BenchmarkHotCached(b *testing.B) {
	s, _, c := hotStore()
	hot(b, func() {
		if _, ok := s.Cached(c.Client, c.Seq); !ok {
			b.Fatal("not cached")
		}
	})
}

func BenchmarkHotResult(b *testing.B) {
	r := Result{Status: OK, Client: 1, Seq: 7, Index: 9, Term: 1}
	var buf []byte
	hot(b, func() {
		buf = AppendResult(buf[:0], &r)
		if _, _, err := DecodeResult(buf); err != nil {
			b.Fatal(err)
		}
	})
}
