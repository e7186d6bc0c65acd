package kv

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// twin is the store as plainly as it can be said.
type twin struct {
	keys     map[string]string
	sessions map[uint64]*twinSession
	now      int64
}

type twinSession struct {
	acked     uint64
	results   map[uint64]Result
	forgetAt  int64
	byLastUse bool
}

func (w *twin) apply(e *Entry, c *Command, sub uint16) Result {
	r := Result{Client: c.Client, Seq: c.Seq, Index: e.Index, Term: e.Term, Sub: sub}
	s := w.sessions[c.Client]
	if s == nil {
		switch {
		case c.Flags&FlagRegister == 0:
			r.Status = UnknownSession
		case c.Term != 0 && c.Term != e.Term:
			r.Status = WrongTerm
		case c.Registered < w.now-Horizon:
			r.Status = StaleRegistration
		case c.Registered > w.now+Horizon:
			r.Status = EarlyRegistration
		case c.Seq-c.AckedBelow >= Window:
			r.Status = BeyondWindow
		}
		if r.Status != 0 {
			return r
		}
		s = &twinSession{results: map[uint64]Result{}, byLastUse: c.Flags&FlagOneShot == 0, forgetAt: w.now + Horizon}
		if c.Registered > w.now {
			s.forgetAt += Horizon
		}
		w.sessions[c.Client] = s
	}
	if s.byLastUse {
		s.forgetAt = w.now + SessionIdle
	}
	s.acked = max(s.acked, c.AckedBelow)
	if c.Seq < s.acked {
		r.Status = TooOld
		return r
	}
	if old, ok := s.results[c.Seq]; ok {
		return old
	}
	switch {
	case c.Term != 0 && c.Term != e.Term:
		r.Status = WrongTerm
		return r
	case c.Seq-s.acked >= Window:
		r.Status = BeyondWindow
		return r
	}
	r.Status = w.execute(c)
	s.results[c.Seq] = r
	return r
}

func (w *twin) execute(c *Command) Status {
	key := string(c.Key)
	old, ok := w.keys[key]
	switch {
	case c.Op == Delete && !ok:
		return NotFound
	case c.Op == Delete:
		delete(w.keys, key)
		return OK
	case c.Op == CompareAndSwap && c.Flags&FlagOldAbsent != 0 && ok:
		return Conflict
	case c.Op == CompareAndSwap && c.Flags&FlagOldAbsent == 0 && (!ok || old != string(c.Old)):
		return Conflict
	}
	w.keys[key] = string(c.Value)
	return OK
}

// values of sizes that share a record, need another one, or lie outside.
var values = []string{"", "1", "22", strings.Repeat("3", 200), strings.Repeat("4", insideMost), strings.Repeat("5", insideMost+1), strings.Repeat("6", 8*insideMost)}

func drawCommand(t *rapid.T, now int64) Command {
	c := Command{
		Op:     rapid.SampledFrom([]Op{Put, Put, Delete, CompareAndSwap}).Draw(t, "op"),
		Client: rapid.Uint64Range(1, 4).Draw(t, "client"),
		Seq:    rapid.SampledFrom([]uint64{1, 2, 3, 4, 5, 9, 17, 40, Window, Window + 1, Window + 20}).Draw(t, "seq"),
		Term:   rapid.SampledFrom([]uint64{0, 0, 1, 2}).Draw(t, "term"),
		Key:    []byte(rapid.SampledFrom([]string{"a", "b", "ab"}).Draw(t, "key")),
	}
	c.AckedBelow = 1 + rapid.Uint64Range(0, min(c.Seq-1, 12)).Draw(t, "acked")
	value := []byte(rapid.SampledFrom(values).Draw(t, "value"))
	if c.Op != Delete {
		c.Value = value
	}
	if c.Op == CompareAndSwap {
		if rapid.Bool().Draw(t, "absent") {
			c.Flags |= FlagOldAbsent
		} else {
			c.Old = []byte(rapid.SampledFrom(values).Draw(t, "old"))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "register") > 0 {
		c.Flags |= FlagRegister
		c.Registered = now + rapid.SampledFrom([]int64{0, 0, -Horizon, -Horizon - 1, Horizon, Horizon + 1}).Draw(t, "registered")
		if rapid.Bool().Draw(t, "one shot") {
			c.Flags |= FlagOneShot
		}
	}
	return c
}

// TestStoreEqualsItsDumbTwin: same answers, same keys, same sessions, after each entry; and two stores hash alike.
func TestStoreEqualsItsDumbTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{keys: map[string]string{}, sessions: map[uint64]*twinSession{}, now: 1}
		a, b := New(), New()
		term := uint64(1)
		for index := uint64(1); index < 60; index++ {
			w.now += rapid.SampledFrom([]int64{0, 1, Horizon / 2, Horizon, Horizon + 1, SessionIdle}).Draw(t, "pause")
			term += rapid.SampledFrom([]uint64{0, 0, 0, 1}).Draw(t, "elections")
			for id, s := range w.sessions {
				if s.forgetAt < w.now {
					delete(w.sessions, id)
				}
			}
			e := Entry{Index: index, Term: term, Kind: KindCommands, Time: w.now}
			var want []Result
			commands := rapid.IntRange(0, 4).Draw(t, "commands")
			if rapid.IntRange(0, 19).Draw(t, "many") == 0 { // more than are warmed up together
				commands += rapid.SampledFrom([]int{aheadMost - 3, aheadMost, 2*aheadMost - 1}).Draw(t, "of them")
			}
			for range commands {
				c := drawCommand(t, w.now)
				e.Body = AppendCommand(e.Body, &c)
				want = append(want, w.apply(&e, &c, uint16(e.Count)))
				e.Count++
			}
			got := a.Apply(&e)
			for i := range want {
				if got[i].Status != want[i].Status || got[i].Index != want[i].Index || got[i].Sub != want[i].Sub || got[i].Seq != want[i].Seq || got[i].Term != want[i].Term {
					t.Fatalf("index %d, command %d: got %+v, want %+v", index, i, got[i], want[i])
				}
			}
			compare(t, a, w)
			b.Apply(&e)
			if a.Hash() != b.Hash() {
				t.Fatalf("index %d: two stores differ", index)
			}
		}
	})
}

func compare(t *rapid.T, s *Store, w *twin) {
	var keys []string
	s.Scan(nil, nil, nil, 0, 0, func(k, v []byte) bool {
		if w.keys[string(k)] != string(v) {
			t.Fatalf("%s is %q, want %q", k, v, w.keys[string(k)])
		}
		keys = append(keys, string(k))
		return true
	})
	if len(keys) != len(w.keys) || s.Len() != len(w.keys) || !slices.IsSorted(keys) {
		t.Fatalf("keys %v, want %v", keys, w.keys)
	}
	if s.Sessions() != len(w.sessions) {
		t.Fatalf("%d sessions, want %d", s.Sessions(), len(w.sessions))
	}
	for id, ws := range w.sessions {
		for seq, want := range ws.results {
			got, ok := s.Cached(id, seq)
			if ok != (seq >= ws.acked) || ok && (got.Status != want.Status || got.Index != want.Index || got.Sub != want.Sub) {
				t.Fatalf("cached %d of client %d: %+v, %v; want %+v, acked below %d", seq, id, got, ok, want, ws.acked)
			}
		}
	}
}

func entry(index uint64, time int64, commands ...Command) *Entry {
	e := &Entry{Index: index, Term: 1, Kind: KindCommands, Time: time}
	for i := range commands {
		e.Body = AppendCommand(e.Body, &commands[i])
		e.Count++
	}
	return e
}

func write(client, seq uint64, flags uint8, registered int64, value string) Command {
	return Command{Op: Put, Flags: flags, Client: client, Seq: seq, AckedBelow: 1, Registered: registered, Key: []byte("k"), Value: []byte(value)}
}

// TestLateRegistrationEvictsNothing: trap 20.
func TestLateRegistrationEvictsNothing(t *testing.T) {
	s := New()
	first := s.Apply(entry(1, 10, write(7, 1, FlagRegister, 10, "1")))[0]
	s.Apply(entry(2, 20, write(7, 2, 0, 0, "2")))
	late := s.Apply(entry(3, 10+Horizon, write(7, 1, FlagRegister, 10, "1")))[0]
	if late.Status != first.Status || late.Index != first.Index {
		t.Errorf("a late copy got %+v, want the first answer %+v", late, first)
	}
	if v, _, _, _ := s.Get([]byte("k")); string(v) != "2" {
		t.Errorf("the late copy was executed: %q", v)
	}
	s.Apply(&Entry{Index: 4, Term: 1, Kind: KindNoOp, Time: 10 + Horizon + SessionIdle + 1})
	if r := s.Apply(entry(5, 0, write(7, 1, FlagRegister, 10, "1")))[0]; r.Status != StaleRegistration {
		t.Errorf("after the session expired the late copy got %v", r.Status)
	}
	if r := s.Apply(entry(6, 0, write(7, 3, 0, 0, "3")))[0]; r.Status != UnknownSession || s.Sessions() != 0 {
		t.Errorf("an unknown session got %v, %d sessions", r.Status, s.Sessions())
	}
}

// TestPartsMakeOneCommand: only an unbroken run of one term is executed.
func TestPartsMakeOneCommand(t *testing.T) {
	c := write(7, 1, FlagRegister, 1, string(bytes.Repeat([]byte("x"), 1000)))
	whole := AppendCommand(nil, &c)
	part := func(index, term uint64, from, to int) *Entry {
		return &Entry{Index: index, Term: term, Kind: KindPart, Time: 1, Count: 1, Body: AppendPart(nil, uint32(len(whole)), uint32(from), whole[from:to])}
	}
	end := len(whole)
	check := func(name string, want int, entries ...*Entry) {
		s := New()
		results := 0
		for i, e := range entries {
			e.Index = uint64(i + 1)
			results += len(s.Apply(e))
		}
		if results != want {
			t.Errorf("%s: %d results, want %d", name, results, want)
		}
	}
	check("two", 1, part(1, 1, 0, 400), part(2, 1, 400, end))
	check("one", 1, part(1, 1, 0, end))
	check("begun twice", 1, part(1, 1, 0, 400), part(2, 1, 0, 400), part(3, 1, 400, end))
	check("a no-op between", 0, part(1, 1, 0, 400), &Entry{Term: 1, Kind: KindNoOp}, part(3, 1, 400, end))
	check("another term", 0, part(1, 1, 0, 400), part(2, 2, 400, end))
	check("a gap", 0, part(1, 1, 0, 400), part(2, 1, 408, end))
	check("no beginning", 0, part(1, 1, 400, end))
	check("cut short", 0, part(1, 1, 0, 400), &Entry{Term: 1, Kind: KindPart, Body: []byte{1, 2, 3}}, part(3, 1, 400, end))
}

func TestScanRespectsItsBounds(t *testing.T) {
	s := New()
	for i := range 10 {
		c := write(1, uint64(i+1), FlagRegister, 1, "0123456789")
		c.Key = fmt.Appendf(nil, "k%d", i)
		s.Apply(entry(uint64(i+1), 1, c))
	}
	check := func(name, prefix, from, to string, limit, maxBytes int, want string, wantMore bool) {
		got := ""
		more := s.Scan([]byte(prefix), []byte(from), []byte(to), limit, maxBytes, func(k, v []byte) bool {
			got += string(k[1:])
			return true
		})
		if got != want || more != wantMore {
			t.Errorf("%s: %s, more %v; want %s, %v", name, got, more, want, wantMore)
		}
	}
	check("all", "", "", "", 0, 0, "0123456789", false)
	check("prefix of none", "x", "", "", 0, 0, "", false)
	check("from", "k", "k7", "", 0, 0, "789", false)
	check("to is not in it", "k", "", "k2", 0, 0, "01", false)
	check("limit", "k", "k3", "", 2, 0, "34", true)
	check("limit at the end", "k", "k8", "", 2, 0, "89", false)
	check("bytes", "k", "", "", 0, 45, "01", true)
	check("one pair always", "k", "", "", 0, 1, "0", true)
}

// TestNoAllocations: what every put costs in steady state.
func TestNoAllocations(t *testing.T) {
	s := New()
	s.Apply(entry(1, 1, write(1, 1, FlagRegister, 1, "0123456789")))
	c := write(1, 1, 0, 0, "9876543210")
	encoded := AppendCommand(nil, &c)
	result := Result{Status: OK, Seq: 1, Value: []byte("0123456789")}
	buf := make([]byte, 0, 256)
	large := make([]byte, 2*insideMost)
	e := entry(2, 1, c)
	for _, test := range []struct {
		name string
		f    func()
	}{
		{"apply of an existing key", func() {
			e.Index++
			c.Seq++
			c.AckedBelow = c.Seq
			e.Body = AppendCommand(e.Body[:0], &c)
			if s.index = e.Index - 1; s.Apply(e)[0].Status != OK {
				t.Fatal("not applied")
			}
		}},
		{"apply of many existing keys", func() {
			e.Index++
			e.Body, e.Count = e.Body[:0], 0
			for i := range 2*aheadMost + 3 {
				c.Seq++
				c.AckedBelow = c.Seq
				c.Key, c.Value = c.Key[:1], large[:i*48]
				c.Key[0] = byte('a' + i)
				e.Body = AppendCommand(e.Body, &c)
				e.Count++
			}
			if s.index = e.Index - 1; s.Apply(e)[0].Status != OK {
				t.Fatal("not applied")
			}
		}},
		{"apply of a repeat", func() { e.Index++; s.index = e.Index - 1; s.Apply(e) }},
		{"get", func() { s.Get(c.Key) }},
		{"cached", func() { s.Cached(1, c.Seq) }},
		{"append command", func() { buf = AppendCommand(buf[:0], &c) }},
		{"decode command", func() { _, _, _ = DecodeCommand(encoded) }},
		{"append and decode result", func() { buf = AppendResult(buf[:0], &result); _, _, _ = DecodeResult(buf) }},
	} {
		if n := testing.AllocsPerRun(100, test.f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", test.name, n)
		}
	}
}

// TestFormats: the bytes that clients, logs and servers of all versions share.
func TestFormats(t *testing.T) {
	c := Command{Op: CompareAndSwap, Flags: FlagRegister, Client: 0x0102030405060708, Seq: 9, AckedBelow: 7, Registered: 5, Term: 3,
		Key: []byte("k"), Value: []byte("new"), Old: []byte("old")}
	r := Result{Status: Conflict, Sub: 2, Seq: 9, Index: 4, Term: 3, Value: []byte("v")}
	for _, test := range []struct {
		name, want string
		got        []byte
	}{
		{"command", "40000000" + "0301" + "0100" + "0807060504030201" + "0900000000000000" + "03000000" + "03000000" + "02000000" + "00000000" +
			"0300000000000000" + "0500000000000000" + "6b6e65776f6c64" + "00", AppendCommand(nil, &c)},
		{"result", "01000000" + "0300" + "0200" + "0900000000000000" + "0400000000000000" + "0300000000000000" + "7600000000000000", AppendResult(nil, &r)},
		{"part", "08000000" + "04000000" + "61", AppendPart(nil, 8, 4, []byte("a"))},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestLimitsAreNamed(t *testing.T) {
	check := func(want string, c Command) {
		c.Client, c.Seq, c.AckedBelow = 1, 1, 1
		if err := c.Check(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check("key is 4097 bytes, limit 4096", Command{Op: Get, Key: make([]byte, MaxKey+1)})
	check("value is 8388609 bytes, limit 8388608", Command{Op: Put, Key: []byte("k"), Value: make([]byte, MaxValue+1)})
	check("key is empty", Command{Op: Delete})
	check("old and new value together", Command{Op: CompareAndSwap, Key: []byte("k"), Value: make([]byte, MaxValue), Old: make([]byte, MaxValue)})
	check("unknown operation", Command{Op: 9, Key: []byte("k")})
}
