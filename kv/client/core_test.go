package client

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

func put(key, value string) *kv.Command {
	return &kv.Command{Op: kv.Put, Key: []byte(key), Value: []byte(value)}
}

// TestOutcomesHold runs clients against clusters that change leaders, crash, lose, repeat and reorder: what was said to
// be applied is in the ledger once, what was said not to be is not and never will be, and nothing is in it twice.
func TestOutcomesHold(t *testing.T) {
	count := map[Outcome]int{}
	refused := 0
	for seed := range uint64(400) {
		f := newCluster(t, seed, CoreConfig{Timeout: 400 * ms, OneShot: seed%5 == 0})
		f.faults, f.lossy = true, 0.2*f.rng.Float64()
		if f.rng.IntN(3) == 0 {
			f.busy = 0.3
		}
		for i := range 30 {
			at := f.rng.Int64N(3000 * ms)
			value := fmt.Sprint("v", i)
			f.after(at, func() { f.core.Submit(f.now, put(fmt.Sprint("k", i%4), value), 0, uint64(i)) })
		}
		for range 12 {
			f.after(f.rng.Int64N(3000*ms), f.disturb)
		}
		f.run(4000 * ms)
		f.faults = false
		f.lead(f.servers[f.rng.IntN(3)]) // whatever is still on its way or in a tail may land now
		f.run(5000 * ms)
		if len(f.done) != 30 {
			t.Fatalf("seed %d: %d of 30 done", seed, len(f.done))
		}
		for _, d := range f.done {
			count[d.Outcome]++
			n := f.ledger[fmt.Sprint("v", d.Token)]
			if n > 1 || d.Outcome == Applied && n != 1 || d.Outcome == NotApplied && n != 0 {
				t.Errorf("seed %d: put %d: %v, but executed %d times (%v)", seed, d.Token, d.Outcome, n, d.Err)
			}
			if (d.Outcome == NotApplied) != errors.Is(d.Err, ErrNotApplied) || (d.Outcome == Unknown) != errors.Is(d.Err, ErrUnknown) {
				t.Errorf("seed %d: %v with error %v", seed, d.Outcome, d.Err)
			}
		}
		refused += int(f.core.Counters.Refusals)
	}
	t.Log(count, "refusals", refused)
	if count[Applied] == 0 || count[NotApplied] == 0 || count[Unknown] == 0 || refused == 0 {
		t.Errorf("the runs do not reach every outcome: %v, %d refusals", count, refused)
	}
}

// disturb moves, kills or restarts the leadership.
func (f *fakeCluster) disturb() {
	s := f.servers[f.rng.IntN(3)]
	switch f.rng.IntN(4) {
	case 0:
		f.restart(s)
		if f.leader == s {
			f.leader = nil
		}
	case 1: // no leader for a time
		if f.leader != nil {
			f.leader.leads = false
			f.leader = nil
		}
	default:
		if s.up {
			f.lead(s)
		}
	}
}

func TestPutAndGet(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put("a", "7"), 0, 1)
	f.run(100 * ms)
	f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, 2)
	f.run(200 * ms)
	if len(f.done) != 2 || f.done[0].Outcome != Applied || f.done[1].Outcome != Applied || string(f.done[1].Result.Value) != "7" {
		t.Fatalf("got %+v", f.done)
	}
	if index, _ := f.store.Applied(); index != 1 {
		t.Errorf("one put took %d entries, want 1", index)
	}
}

func TestLargeCommandGoesInFragments(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Limit: 1200})
	value := strings.Repeat("x", 300<<10)
	f.core.Submit(f.now, put("a", value), 0, 1)
	f.run(2000 * ms)
	if got, _, _, _ := f.store.Get([]byte("a")); len(f.done) != 1 || f.done[0].Outcome != Applied || string(got) != value {
		t.Fatalf("done %+v, stored %d bytes", f.done, len(got))
	}
}

// TestAnOperationWhoseCallersTimeIsOverSaysWhatWasTried: the caller's clock may be the first to say so.
func TestAnOperationWhoseCallersTimeIsOverSaysWhatWasTried(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 5000 * ms})
	for _, s := range f.servers {
		s.up = false
	}
	h := f.core.Submit(f.now, put("a", "7"), 0, 1)
	f.run(300 * ms)
	f.core.Expire(f.now, h, 1)
	f.run(301 * ms)
	if len(f.done) != 1 || f.done[0].Outcome != NotApplied || !strings.Contains(f.done[0].Err.Error(), "no leader among 3 servers (3 silent)") {
		t.Fatalf("got %+v", f.done)
	}
}

func TestNeverSentIsNotApplied(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 5000 * ms})
	for _, s := range f.servers {
		s.up = false
	}
	f.core.Submit(f.now, put("a", "7"), 0, 1)
	f.run(10 * ms)
	f.core.Refused(f.now, f.servers[1].addr)
	f.run(6000 * ms)
	want := "put: not applied: no leader among 3 servers (1 refused, 2 silent) in 5s; see balsa status"
	if len(f.done) != 1 || f.done[0].Outcome != NotApplied || f.done[0].Err.Error() != want {
		t.Fatalf("got %+v, want %q", f.done, want)
	}
}

// TestSilenceIsUnknown: a leader that takes the command and dies leaves it open (mutant 43).
func TestSilenceIsUnknown(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 1000 * ms})
	f.core.Submit(f.now, put("a", "1"), 0, 1)
	f.run(100 * ms)
	f.servers[0].up = false
	f.core.Submit(f.now, put("a", "2"), 0, 2)
	f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, 3)
	f.run(2000 * ms)
	if len(f.done) != 3 || f.done[1].Outcome != Unknown || f.done[2].Outcome != NotApplied {
		t.Fatalf("got %+v", f.done)
	}
	if text := f.done[1].Err.Error(); !strings.Contains(text, "may or may not be applied") {
		t.Errorf("the error does not say that it may still land: %s", text)
	}
}

// TestRetryKeepsItsNumber: copies of a command are one command (mutant 44).
func TestRetryKeepsItsNumber(t *testing.T) {
	f := newCluster(t, 3, CoreConfig{})
	f.run(ms)
	f.faults, f.lossy = true, 0.6
	f.core.Submit(f.now, put("a", "once"), 5000*ms, 1)
	f.run(5000 * ms)
	if f.taken < 2 || f.ledger["once"] != 1 {
		t.Fatalf("received %d copies, executed %d times; want several copies and one execution", f.taken, f.ledger["once"])
	}
}

// TestAnswersToAnotherProcessMatchNothing: sequence numbers of two cores never meet (mutant 42).
func TestAnswersToAnotherProcessMatchNothing(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	g := newCluster(t, 2, CoreConfig{})
	f.core.Submit(f.now, put("a", "1"), 0, 1)
	g.core.Submit(g.now, put("a", "2"), 0, 1)
	f.run(ms / 2)
	g.run(ms / 2)
	if f.core.seqs.low == f.core.seqs.next || g.core.seqs.low == g.core.seqs.next || f.core.seqs.low == g.core.seqs.low {
		t.Fatalf("seqs %d..%d and %d..%d", f.core.seqs.low, f.core.seqs.next, g.core.seqs.low, g.core.seqs.next)
	}
	f.core.Deliver(f.now, f.servers[0].addr, answerTo(g, kv.Result{Status: kv.OK, Seq: g.core.seqs.low, Index: 9, Term: 1}))
	f.pump()
	if len(f.done) != 0 {
		t.Fatalf("an answer to another process ended %+v", f.done)
	}
	f.run(100 * ms)
	if len(f.done) != 1 || f.done[0].Result.Index != 1 {
		t.Fatalf("got %+v", f.done)
	}
}

// answerTo is a reply datagram of g's leader.
func answerTo(g *fakeCluster, r kv.Result) []byte {
	s := g.servers[0]
	s.packer.Limit = 1200
	h := &s.packer.Header
	h.Src, h.Dst, h.Boot, h.Packet = s.id, 0xFFFF, s.boot, 1000
	b := kv.AppendResult(nil, &r)
	q := s.packer.Frame(35, 8+len(b))
	clear(q[:8])
	q[0] = 1
	copy(q[8:], b)
	return s.packer.Flush(s.addr, nil)[0].Bytes
}

// TestOnlyCountedRefusalsClear: too old and unknown session say nothing of earlier copies (SAFETY 18).
func TestOnlyCountedRefusalsClear(t *testing.T) {
	s := &server{place: 1, claim: 5, boot: 77}
	restarted := &server{place: 1, claim: 5, boot: 78}
	other := &server{place: 2, claim: 5, boot: 77}
	check := func(name string, want bool, steps func(k *copies)) {
		var k copies
		steps(&k)
		if k.none() != want {
			t.Errorf("%s: none() = %v, want %v (%+v)", name, !want, want, k)
		}
	}
	check("never sent", true, func(k *copies) {})
	check("sent", false, func(k *copies) { k.add(s) })
	check("refused", true, func(k *copies) { k.add(s); k.refuse(s, 5) })
	check("two sent, one refused", false, func(k *copies) { k.add(s); k.add(s); k.refuse(s, 5) })
	check("two sent, two refused", true, func(k *copies) { k.add(s); k.add(s); k.refuse(s, 5); k.refuse(s, 6) })
	check("refused by another", false, func(k *copies) { k.add(s); k.refuse(other, 5) })
	check("refused by another boot", false, func(k *copies) { k.add(s); k.refuse(restarted, 9) })
	check("refused in an earlier term", false, func(k *copies) { k.add(s); k.refuse(s, 4) })
	later := &server{place: 1, claim: 7, boot: 77}
	check("sent in two terms, refused once", false, func(k *copies) { k.add(s); k.add(later); k.refuse(s, 7) })
	check("sent in two terms, refused twice", true, func(k *copies) { k.add(s); k.add(later); k.refuse(s, 7); k.refuse(s, 8) })
	check("sent in two terms, the earlier leader applied none", false, func(k *copies) { k.add(s); k.add(later); k.refuse(s, 7); k.clearBefore(7) })
	check("a later term was applied", true, func(k *copies) { k.add(s); k.add(other); k.clearBefore(6) })
	check("the same term was applied", false, func(k *copies) { k.add(s); k.clearBefore(5) })
	check("a refusal is of one copy, whatever its term", false, func(k *copies) {
		k.add(s)
		k.add(&server{place: 1, claim: 7, boot: 77})
		k.refuse(s, 7)
	})
	check("as many refusals as copies of two terms", true, func(k *copies) {
		k.add(&server{place: 1, claim: 7, boot: 77})
		k.add(s)
		k.refuse(s, 7)
		k.refuse(s, 7)
	})
	check("a refusal that may be of what is cleared counts for nothing more", false, func(k *copies) {
		k.add(s)
		k.add(&server{place: 1, claim: 7, boot: 77})
		k.refuse(s, 7)
		k.clearBefore(6)
	})
	check("more places than fit", false, func(k *copies) {
		for i := range 6 {
			k.add(&server{place: i, claim: 1})
		}
		k.clearBefore(9)
	})
}

func TestOversizedIsRefusedAtTheEdge(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put(strings.Repeat("k", kv.MaxKey+1), "v"), 0, 1)
	f.core.Submit(f.now, put("k", strings.Repeat("v", kv.MaxValue+1)), 0, 2)
	f.core.Submit(f.now, put("", "v"), 0, 3)
	f.pump()
	for i, want := range []string{"key is 4097 bytes, limit 4096", "value is 8388609 bytes, limit 8388608", "key is empty"} {
		if i >= len(f.done) || f.done[i].Outcome != NotApplied || !strings.Contains(f.done[i].Err.Error(), want) {
			t.Errorf("got %+v, want %q", f.done, want)
		}
	}
}

// TestIdleClientBeginsAnotherSession: after 30 s without a write the next one registers under a new id.
func TestIdleClientBeginsAnotherSession(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	for i := range 3 {
		f.core.Submit(f.now, put("a", fmt.Sprint(i)), 0, uint64(i))
		f.run(f.now + 20_000*ms)
	}
	if n := f.store.Sessions(); n != 1 {
		t.Errorf("pauses of 20 s: %d sessions, want 1", n)
	}
	f.run(f.now + 31_000*ms)
	f.core.Submit(f.now, put("a", "last"), 0, 9)
	f.run(f.now + 1000*ms)
	if n := f.store.Sessions(); n != 2 || f.done[len(f.done)-1].Outcome != Applied {
		t.Errorf("after 31 s: %d sessions, %+v", n, f.done)
	}
}

// TestSubmitCostsNoMemory: a put from Submit to Done, in steady state.
func TestSubmitCostsNoMemory(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put("a", "7"), 0, 1)
	f.run(100 * ms)
	cmd := put("a", "7")
	s := f.servers[0]
	var results []byte
	scratch := make([]wire.Packet, 0, 16)
	s.packer.Limit = 1200
	now := f.now
	n := testing.AllocsPerRun(200, func() {
		now += ms
		f.core.Submit(now, cmd, 0, 1)
		f.core.Out(scratch[:0])
		results = kv.AppendResult(results[:0], &kv.Result{Status: kv.OK, Seq: f.core.seqs.low, Index: 3, Term: 1})
		p := s.packer.Frame(35, 8+len(results))
		clear(p[:8])
		p[0] = 1
		copy(p[8:], results)
		for _, d := range s.packer.Flush(s.addr, scratch[:0]) {
			f.core.Deliver(now, s.addr, d.Bytes)
		}
		s.packer.Reset()
		if len(f.core.Done()) != 1 {
			t.Fatal("not done")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a put, want 0", n)
	}
}

// TestAFullWindowLetsTheOldestThrough: an operation whose copies were lost is sent again although those that were never
// sent wait for the window that it holds open.
func TestAFullWindowLetsTheOldestThrough(t *testing.T) {
	for name, cmd := range map[string]func(i int) *kv.Command{
		"puts": func(i int) *kv.Command { return put(fmt.Sprint("k", i%100), "v") },
		"gets": func(i int) *kv.Command { return &kv.Command{Op: kv.Get, Key: []byte("k")} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newCluster(t, 1, CoreConfig{Timeout: 5000 * ms})
			f.core.Submit(f.now, put("warm", "1"), 0, 0)
			f.run(100 * ms)
			f.there = 1 // nothing passes
			f.core.Submit(f.now, cmd(0), 0, 1)
			f.pump()
			f.there = 0
			const rest = kv.Window + 500
			for i := range rest {
				f.core.Submit(f.now, cmd(1+i), 0, uint64(2+i))
			}
			f.run(f.now + 6000*ms)
			f.allApplied(rest + 2)
		})
	}
}

// A value lies where its pieces were put together: those of another answer in the same datagram must not be put there,
// as its caller looks at it only when the datagram is done with.
func TestAValueOutlivesThePiecesBehindItInItsDatagram(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.core.Submit(f.now, put("a", "0"), 0, 1)
	f.run(50 * ms)
	f.done = nil
	first := f.core.readSeqs.low
	for i, key := range []string{"a", "b"} {
		f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte(key)}, 0, uint64(2+i))
	}
	f.core.Out(nil) // into the void
	s := f.leader
	var pieces [2][]wire.Fragment
	for i := range pieces {
		r := kv.Result{Status: kv.OK, Seq: (first + uint64(i)) | kv.ReadSeq, Value: []byte(strings.Repeat(string(rune('a'+i)), 3000))}
		reply := wire.Reply{Count: 1, Results: kv.AppendResult(nil, &r)}
		body := make([]byte, reply.Size())
		reply.Encode(body)
		for at := 0; at < len(body); at += 1024 {
			pieces[i] = append(pieces[i], wire.Fragment{Message: uint64(100 + i), Kind: wire.KindReply, Total: uint32(len(body)),
				Offset: uint32(at), Stride: 1024, Body: body[at:min(len(body), at+1024)]})
		}
	}
	s.packer.Limit = wire.MaxDatagram
	send := func(all ...wire.Fragment) {
		for i := range all {
			all[i].Encode(s.packer.Frame(wire.KindFragment, all[i].Size()))
		}
		for _, p := range s.packer.Flush(netip.AddrPort{}, nil) {
			f.core.Deliver(f.now, s.addr, p.Bytes)
		}
		s.packer.Reset()
	}
	last := len(pieces[0]) - 1
	send(pieces[0][:last]...)
	send(pieces[0][last], pieces[1][0], pieces[1][1])
	done := f.core.Done()
	if len(done) != 1 || done[0].Token != 2 || string(done[0].Result.Value) != strings.Repeat("a", 3000) {
		t.Fatalf("%d done, the first is %.20q...", len(done), done[0].Result.Value)
	}
	send(pieces[1][2:]...)
	if done = f.core.Done(); len(done) != 1 || string(done[0].Result.Value) != strings.Repeat("b", 3000) {
		t.Fatalf("%d done", len(done))
	}
}
