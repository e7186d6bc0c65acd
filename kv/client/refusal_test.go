package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// outstanding is a cluster whose client has sent a put n times into the void.
func outstanding(t *testing.T, n int) (f *fakeCluster, seq uint64) {
	f = newCluster(t, 1, CoreConfig{Timeout: 3000 * ms})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(50 * ms)
	f.done = nil
	f.core.Submit(f.now, put("a", "1"), 0, 1)
	f.core.Out(nil)
	for want := f.core.Counters.Sent + uint64(n) - 1; f.core.Counters.Sent < want; {
		f.now = f.core.Deadline()
		f.core.Tick(f.now)
		f.core.Out(nil)
	}
	return f, f.core.seqs.low
}

func TestTooOldIsUnknown(t *testing.T) {
	f, seq := outstanding(t, 1)
	f.reply(f.servers[0], []kv.Result{{Status: kv.TooOld, Seq: seq, Index: 9, Term: 1}})
	f.run(f.now + 10*ms)
	if len(f.done) != 1 || f.done[0].Outcome != Unknown {
		t.Fatalf("got %+v", f.done)
	}
}

// TestUnknownSessionOfManyCopiesIsUnknown: of the only copy it is a refusal, and the put begins again.
func TestUnknownSessionOfManyCopiesIsUnknown(t *testing.T) {
	for sent, want := range map[int]Outcome{1: Applied, 2: Unknown} {
		f, seq := outstanding(t, sent)
		f.reply(f.servers[0], []kv.Result{{Status: kv.UnknownSession, Seq: seq, Index: 9, Term: 1}})
		f.run(f.now + 500*ms)
		if len(f.done) != 1 || f.done[0].Outcome != want {
			t.Errorf("%d copies: got %+v, want %v", sent, f.done, want)
		}
	}
}

// TestBusyRefusesTheCopyItIsOf: a leader without room has not taken that copy, and says nothing of another one.
func TestBusyRefusesTheCopyItIsOf(t *testing.T) {
	for sent, want := range map[int]Outcome{1: NotApplied, 2: Unknown} {
		f, seq := outstanding(t, sent)
		f.reply(f.servers[0], []kv.Result{{Status: kv.Busy, Seq: seq}})
		f.servers[0].up = false
		f.run(f.now + 5*ms)
		f.core.Cancel(f.now, Handle(f.core.find(seq)), 1)
		f.run(f.now + 10*ms)
		if len(f.done) != 1 || f.done[0].Outcome != want {
			t.Errorf("%d copies: got %+v, want %v", sent, f.done, want)
		}
	}
}

// TestBusyOfPiecesSaysNothing: they may be put together again.
func TestBusyOfPiecesSaysNothing(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 3000 * ms})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(50 * ms)
	f.done = nil
	f.core.Submit(f.now, put("a", strings.Repeat("x", 200<<10)), 0, 1)
	f.core.Out(nil)
	seq := f.core.seqs.low
	f.reply(f.servers[0], []kv.Result{{Status: kv.Busy, Seq: seq}})
	f.servers[0].up = false
	f.run(f.now + 5*ms)
	f.core.Cancel(f.now, Handle(f.core.find(seq)), 1)
	f.run(f.now + 10*ms)
	if len(f.done) != 1 || f.done[0].Outcome != Unknown {
		t.Errorf("got %+v", f.done)
	}
}

// TestARepeatedRefusalCountsOnce: two copies, one refusal that the network delivers twice.
func TestARepeatedRefusalCountsOnce(t *testing.T) {
	f, seq := outstanding(t, 2)
	s := f.servers[0]
	s.leads, f.leader = false, nil
	n := wire.NotLeader{Term: 1, Count: 1, Seqs: make([]byte, 8)}
	n.PutSeq(0, seq)
	n.Encode(s.packer.Frame(wire.KindNotLeader, n.Size()))
	b := slices.Clone(s.packer.Flush(s.addr, nil)[0].Bytes)
	f.core.Deliver(f.now, s.addr, b)
	f.core.Deliver(f.now, s.addr, b)
	if h := f.core.find(seq); h == none || f.core.ops[h].copies.none() || f.core.Counters.Duplicates != 1 {
		t.Fatalf("cleared by a repeated refusal; %+v", f.core.Counters)
	}
	f.run(f.now + 4000*ms)
	if len(f.done) != 1 || f.done[0].Outcome != Unknown {
		t.Fatalf("got %+v", f.done)
	}
}

// TestALaterCommandAcknowledgesNoneBefore: the first put is lost, the second is not; both are applied.
func TestALaterCommandAcknowledgesNoneBefore(t *testing.T) {
	f, _ := outstanding(t, 1)
	f.core.Submit(f.now, put("b", "2"), 0, 2)
	f.run(f.now + 1000*ms)
	if len(f.done) != 2 || f.done[0].Outcome != Applied || f.done[1].Outcome != Applied {
		t.Fatalf("got %+v", f.done)
	}
}

// TestALateAnswerMakesTheClientAskOnceWhoLeads: long before the operation is sent again.
func TestALateAnswerMakesTheClientAskOnceWhoLeads(t *testing.T) {
	f, _ := outstanding(t, 1)
	sent, hellos := f.core.Counters.Sent, f.core.Counters.Hellos
	began := f.now
	f.now = f.core.wonderAt()
	if f.core.Deadline() > f.now {
		t.Fatal("it would sleep for longer")
	}
	f.core.Tick(f.now)
	f.core.Out(nil)
	if f.core.Counters.Hellos != hellos+uint64(len(f.servers)) || f.core.Counters.Sent != sent || f.now-began >= retryMin {
		t.Fatalf("after %d ms: %d hellos and %d copies, want one to each server and no copy yet", (f.now-began)/ms, f.core.Counters.Hellos-hellos, f.core.Counters.Sent-sent)
	}
	if f.core.wonderAt() != never {
		t.Error("it would wonder about the same operation again")
	}
}

// TestWhatAnAnswerOvertookIsSentAgainAtOnce: the first put is lost, one sent well after it is answered, and the first goes
// again before its own pause is over. What was sent together with the answered one is left alone.
func TestWhatAnAnswerOvertookIsSentAgainAtOnce(t *testing.T) {
	f, _ := outstanding(t, 1)
	sent := f.core.Counters.Sent
	f.run(f.now + 5*ms)
	began := f.now
	for i := range 3 {
		f.core.Submit(f.now, put("b", fmt.Sprint(i)), 0, uint64(2+i))
	}
	f.run(f.now + 8*ms)
	if len(f.done) != 4 || f.now-began >= retryMin {
		t.Fatalf("got %+v", f.done)
	}
	if got := f.core.Counters.Sent - sent; got != 4 {
		t.Errorf("%d copies, want 4", got)
	}
}

// TestALongRoundTripIsFoundOutThoughAllIsSentTwice: answers take longer than the first pause, so none is of a command
// that was sent once; the pause grows all the same.
func TestALongRoundTripIsFoundOutThoughAllIsSentTwice(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{})
	f.servers[0].slow = 200 * ms
	for i := range 10 {
		f.core.Submit(f.now, put("a", fmt.Sprint(i)), 0, uint64(i))
		f.run(f.now + 300*ms)
	}
	before := f.core.Counters.Sent
	for i := range 10 {
		f.core.Submit(f.now, put("a", fmt.Sprint(i)), 0, uint64(10+i))
		f.run(f.now + 300*ms)
	}
	if got := f.core.Counters.Sent - before; len(f.done) != 20 || got > 12 {
		t.Errorf("%d copies of 10 commands, %d done", got, len(f.done))
	}
}
