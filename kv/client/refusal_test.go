package client

import (
	"container/heap"
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

// TestARefusalOfAnotherTermsCopyCountsOnce: a server led, lost the lead and leads again. A copy of each term is on its
// way to it; the first arrives late and is refused, the second is taken.
func TestARefusalOfAnotherTermsCopyCountsOnce(t *testing.T) {
	f, seq := outstanding(t, 1)
	s := f.servers[0]
	f.lead(s) // term 2
	f.hello(s, helloTo(f.core.servers[0].nonce))
	for f.core.Counters.Sent < 3 {
		f.now += ms
		for len(f.events) > 0 && f.events[0].at <= f.now {
			f.step()
		}
		f.core.Tick(f.now)
		f.core.Out(nil)
	}
	f.reply(s, []kv.Result{{Status: kv.WrongTerm, Seq: seq}})
	f.step()
	h := f.core.find(seq)
	if h == none {
		t.Fatal("it is over")
	}
	f.core.Expire(f.now, Handle(h), 1)
	if d := f.core.Done(); len(d) != 1 || d[0].Outcome != Unknown {
		t.Fatalf("one of two copies was refused: got %+v, want unknown", d)
	}
}

// TestARefusalOfAnEarlierBootCountsOnce: the network delivers it once more after the server's next process has spoken.
func TestARefusalOfAnEarlierBootCountsOnce(t *testing.T) {
	f, seq := outstanding(t, 2)
	s := f.servers[0]
	n := wire.NotLeader{Term: 1, Count: 1, Seqs: make([]byte, 8)}
	n.PutSeq(0, seq)
	n.Encode(s.packer.Frame(wire.KindNotLeader, n.Size()))
	refusal := slices.Clone(s.packer.Flush(s.addr, nil)[0].Bytes)
	f.core.Deliver(f.now, s.addr, refusal)
	f.restart(s)
	f.lead(s)
	f.hello(s, helloTo(f.core.servers[0].nonce))
	f.step()
	f.core.Deliver(f.now, s.addr, refusal)
	if h := f.core.find(seq); h == none || f.core.ops[h].copies.none() {
		t.Fatal("cleared by a repeated refusal")
	}
}

// helloTo is a question with this nonce.
func helloTo(nonce uint64) []byte {
	q := wire.Hello{Nonce: nonce}
	b := make([]byte, q.Size())
	q.Encode(b)
	return b
}

// step lets the next event happen.
func (f *fakeCluster) step() {
	e := heap.Pop(&f.events).(event)
	f.now = max(f.now, e.at)
	e.what()
}

// TestLogTimeIsThePresentLeaders: a leader that nobody writes to tells a log time that no entry has, and the next one
// does not know it. A client of both registers by the present one's.
func TestLogTimeIsThePresentLeaders(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 2000 * ms})
	f.clock = func() int64 { return f.now + 10*kv.Horizon }
	f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, 1)
	f.run(100 * ms)
	f.clock = nil
	f.restart(f.servers[0])
	f.lead(f.servers[1])
	f.core.Submit(f.now, put("a", "1"), 0, 2)
	f.run(f.now + 3000*ms)
	if len(f.done) != 2 || f.done[1].Outcome != Applied {
		t.Fatalf("got %+v, want both applied", f.done)
	}
}

// TestASleeperDoesNotWriteTwice: a machine that is suspended right after its put was sent finds its session forgotten,
// though by its own clock next to no time has passed.
func TestASleeperDoesNotWriteTwice(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 2000 * ms, OneShot: true})
	slept := int64(0)
	f.clock = func() int64 { return f.now + slept }
	f.core.Submit(f.now, put("a", "twice"), 0, 1)
	for f.taken == 0 {
		f.pump()
		f.step()
	}
	f.commit()
	f.events = nil // the answer is lost
	slept = 2 * kv.Horizon
	f.store.Apply(&kv.Entry{Index: 2, Term: 1, Kind: kv.KindNoOp, Time: f.logTime()}) // of somebody who is awake
	f.run(f.now + 3000*ms)
	if f.ledger["twice"] != 1 || len(f.done) != 1 || f.done[0].Outcome != Unknown {
		t.Fatalf("executed %d times, and the client said %+v", f.ledger["twice"], f.done)
	}
}

// TestARegistrationAheadMayBeTakenLater: of two copies the first is refused because its registration is too far ahead of
// log time, and when the second is applied it is so no more.
func TestARegistrationAheadMayBeTakenLater(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Timeout: 2000 * ms})
	ahead := kv.Horizon + 30*ms
	f.clock = func() int64 { return f.now + ahead }
	f.core.Submit(f.now, &kv.Command{Op: kv.Get, Key: []byte("a")}, 0, 1)
	f.run(5 * ms)
	f.done, ahead = nil, 0
	f.core.Submit(f.now, put("a", "once"), 0, 2)
	for len(f.tail) == 0 {
		f.pump()
		f.step()
	}
	f.events = nil
	for f.core.Counters.Sent < 3 { // the read, and two copies of the put
		f.now = f.core.Deadline()
		f.core.Tick(f.now)
		f.core.Out(nil)
	}
	second := slices.Clone(f.tail)
	f.commit()
	f.run(f.now + ms)
	f.now += 40 * ms
	f.tail = append(second, f.tail...)
	f.commit()
	f.run(f.now + 3000*ms)
	if f.ledger["once"] != 1 || len(f.done) != 1 || f.done[0].Outcome == NotApplied {
		t.Fatalf("executed %d times, and the client said %+v", f.ledger["once"], f.done)
	}
}

// TestAMessageInPiecesIsTakenOnce: the answers to its pieces are lost, and the client begins another session before it
// sends them again. The server must know them again, or it would refuse a copy that it took.
func TestAMessageInPiecesIsTakenOnce(t *testing.T) {
	f := newCluster(t, 1, CoreConfig{Limit: 1200, Timeout: 10_000 * ms})
	f.core.Submit(f.now, put("a", "0"), 0, 0)
	f.run(50 * ms)
	f.core.Submit(f.now, put("a", string(make([]byte, 5000))), 0, 1)
	for f.pump(); f.taken < 2; f.pump() {
		f.step()
	}
	taken := f.taken
	f.events = nil // the answers to the pieces, and the commit
	f.core.session = &session{client: 77, proven: true}
	f.run(f.now + 60*ms)
	if f.taken != taken {
		t.Errorf("%d commands were taken, %d before: a message was taken twice", f.taken, taken)
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
