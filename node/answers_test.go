package node

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// lateLab is a lab whose processes are older than any time to give up, with a client that takes fragments.
func lateLab(t testing.TB) *lab {
	l := emptyLab(t)
	l.now, l.datagram = 3600e9, wire.SafeDatagram
	l.parts = wire.NewReassembler(64<<20, 64)
	return l.make(3, 3)
}

// getAll asks for the keys of putLarge with these numbers in one request, and gives what came of it within the time.
func (l *lab) getAll(within int64, seqs ...uint64) map[uint64]kv.Result {
	ops := make([]kv.Command, len(seqs))
	for i, seq := range seqs {
		ops[i] = kv.Command{Op: kv.Get, Seq: seq | kv.ReadSeq, Key: fmt.Appendf(nil, "key-%d", seq)}
	}
	l.answers = nil
	l.request(l.leader().ID(), ops...)
	got := map[uint64]kv.Result{}
	for end := l.now + within; l.now < end && len(got) < len(seqs); {
		l.turn(5e6)
		for _, a := range l.answers {
			got[a.result.Seq&^kv.ReadSeq] = a.result
		}
		l.answers = nil
	}
	return got
}

// Several answers of one turn to one client, each larger than a datagram, all leave, however old the process is.
func TestLargeAnswersOfOneTurnAllLeave(t *testing.T) {
	for _, count := range []int{2, 8} {
		l := lateLab(t)
		l.elect()
		var seqs []uint64
		for seq := range uint64(count) {
			l.putLarge(1+seq, 50_000)
			seqs = append(seqs, 1+seq)
		}
		got := l.getAll(1e9, seqs...)
		for _, seq := range seqs {
			if r, ok := got[seq]; !ok || !bytes.Equal(r.Value, bytes.Repeat([]byte{byte(seq)}, 50_000)) {
				t.Errorf("%d gets: %d was answered: %v, %d bytes", count, seq, ok, len(r.Value))
			}
		}
	}
}

// clientAt is the address of the i-th of many clients, eight of them to a host.
func clientAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i&0xf8 | 1)}), uint16(5000+i))
}

// What a client was answered with is not kept for it.
func TestTheBuffersOfAnswersAreLentForATurn(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	r := kv.Result{Status: kv.OK, Value: make([]byte, 30_000)}
	for id := range uint64(1000) {
		n.reply(n.clients.touch(l.now, 100+id, labAddr(labClient)), &r)
		if id%10 == 9 {
			n.Turn(l.now, false)
			n.Out()
		}
	}
	kept := 0
	for _, c := range n.clients.byID {
		kept += cap(c.results)
	}
	if kept != 0 {
		t.Errorf("%d bytes are kept for clients", kept)
	}
}

// A turn copies so much to answer reads, and is due at once to go on with the rest, in order.
func TestReadsOfATurnAreBoundedInBytes(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	l.putLarge(1, 50_000)
	const gets = 64
	ops := make([]kv.Command, gets)
	for i := range ops {
		ops[i] = kv.Command{Op: kv.Get, Seq: uint64(1+i) | kv.ReadSeq, Key: []byte("key-1")}
	}
	l.answers, l.queue = nil, nil
	l.request(n.ID(), ops...)
	for _, f := range l.queue {
		n.Deliver(l.now, f.from, f.bytes)
	}
	turns := 0
	for len(l.answers) < gets && turns < 2*gets {
		n.Turn(l.now, true)
		turns++
		sent := 0
		for _, p := range n.Out() {
			if sent += len(p.Bytes); labID(p.To) == labClient {
				l.hear(flight{labAddr(n.ID()), p.To, p.Bytes})
			}
		}
		if sent > 256<<10+55_000 {
			t.Fatalf("turn %d sent %d bytes", turns, sent)
		}
		if due := n.Deadline(); len(l.answers) < gets && due > l.now {
			t.Fatalf("after turn %d reads wait for %d ms", turns, (due-l.now)/1e6)
		}
	}
	for i, a := range l.answers {
		if want := uint64(1+i) | kv.ReadSeq; a.result.Seq != want || len(a.result.Value) != 50_000 {
			t.Fatalf("answer %d is to %d, %d bytes", i, a.result.Seq&^kv.ReadSeq, len(a.result.Value))
		}
	}
	if len(l.answers) != gets || n.reads.bytes != 0 || turns < gets*50_000/(256<<10+50_000) {
		t.Errorf("%d answers in %d turns, %d bytes of reads wait", len(l.answers), turns, n.reads.bytes)
	}
}

// When clients' paths are forgotten, a large answer cut for one of them must not be in the way.
func TestLargeMessagesEndWhenClientsPathsAreForgotten(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	to := clientAt(0)
	n.out.tellPath(to, 9000)
	n.out.recycle()
	n.out.sendLarge(l.now, to, wire.ClientNode, wire.KindReply, make([]byte, 100_000))
	for i := range maxTold {
		n.out.tellPath(clientAt(1+i), 9000)
	}
	n.Out()
	n.Turn(l.now, false)
	for _, p := range n.Out() {
		if p.To == to && len(p.Bytes) > wire.SafeDatagram {
			t.Fatalf("%d bytes for a path of which nothing is known", len(p.Bytes))
		}
	}
	n.out.sendLarge(l.now, to, wire.ClientNode, wire.KindReply, make([]byte, 100_000))
	n.Turn(l.now, false)
	if len(n.Out()) == 0 {
		t.Error("the next message to it is not sent")
	}
}

// The same of a server that moved: what was cut for the path to its old address ends with that.
func TestLargeMessagesEndWhenAServerMoves(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	o := &n.out
	id := n.ID()%3 + 1
	o.place(id, "10.0.0.3:7000")
	for i := range o.peers {
		if p := &o.peers[i]; p.id == id {
			p.path = wire.NewPath(wire.PathOptions{Boot: n.boot, Start: 8952, Most: 8952})
			p.limit = p.path.Size()
		}
	}
	o.sendLarge(l.now, o.peerAt(l.now, id), id, wire.KindAppend, make([]byte, 100_000))
	o.place(id, "10.0.0.4:7000")
	o.resendLarge(l.now)
	n.Out()
	if len(o.large) != 0 {
		t.Errorf("%d messages are on their way to where nobody is", len(o.large))
	}
}

func (o *outbound) sends(to netip.AddrPort) bool {
	for i := range o.large {
		if o.large[i].to == to {
			return true
		}
	}
	return false
}

// Clients that take large answers and acknowledge nothing keep neither servers nor, for long, other clients out.
func TestSilentClientsKeepNobodyOut(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	o := &n.out
	ask := func(to netip.AddrPort) {
		o.sendLarge(l.now, to, wire.ClientNode, wire.KindReply, make([]byte, 100_000))
	}
	for i := range 400 {
		ask(clientAt(8 * i)) // a host each
	}
	id := n.ID()%3 + 1
	peer := o.peerAt(l.now, id)
	o.sendLarge(l.now, peer, id, wire.KindAppend, make([]byte, 100_000))
	if !o.sends(peer) {
		t.Error("a server's append finds no room")
	}
	speaks := clientAt(0)
	message := func() uint64 { // of the one that speaks
		for i := range o.large {
			if to := o.large[i].to; to == speaks {
				var f wire.Fragment
				o.resendLarge(l.now)
				for _, p := range n.Out() {
					if p.To != speaks {
						continue
					}
					_, frames, _ := wire.Open(p.Bytes)
					for k, b, ok := frames.Next(); ok; k, b, ok = frames.Next() {
						if k == wire.KindFragment && f.Decode(b) == nil {
							return f.Message
						}
					}
				}
			}
		}
		t.Fatal("nothing is sent to the client that speaks")
		return 0
	}()
	stride := (wire.MaxFrame(o.datagramLimit(speaks)) - wire.FragmentHeaderBytes) &^ 7
	for step := range 8 {
		l.now += 250e6
		s := wire.FragmentStatus{Message: message, EchoBoot: n.boot, Have: uint32((1 + step) * stride)}
		b := make([]byte, s.Size())
		s.Encode(b)
		o.fragmentStatus(l.now, &wire.Header{Src: wire.ClientNode}, speaks, b)
	}
	for i := range 400 {
		ask(clientAt(8 * (1000 + i)))
	}
	if newcomer := clientAt(8 * 1000); !o.sends(newcomer) {
		t.Error("a client finds no room behind silent ones")
	}
	if !o.sends(speaks) || !o.sends(peer) {
		t.Error("one that acknowledges lost its place, or a server did")
	}
	if len(o.large) > maxLargeClients+1 {
		t.Errorf("%d destinations", len(o.large))
	}
}

// The clients of one address don't take the places of all.
func TestClientsOfOneAddressKeepNobodyOut(t *testing.T) {
	l := newLab(t, 1, 1)
	o := &l.elect().out
	for port := range uint16(400) {
		o.sendLarge(l.now, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, 9}), 5000+port), wire.ClientNode, wire.KindReply, make([]byte, 100_000))
	}
	if o.sendLarge(l.now, clientAt(0), wire.ClientNode, wire.KindReply, make([]byte, 100_000)); !o.sends(clientAt(0)) {
		t.Error("another address finds no room")
	}
}

// Answers of one turn to very many clients take memory by their size, for no longer than needed.
func TestManyClientsAnsweredAtOnceTakeLittleMemory(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	r := kv.Result{Status: kv.OK, Value: make([]byte, 100)}
	const count = 5000
	answer := func(count int) {
		for id := range count {
			n.reply(n.clients.touch(l.now, uint64(100+id), labAddr(uint16(100+id))), &r)
		}
		n.Turn(l.now, false)
		n.Out()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	answer(count)
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / count; each > 8<<10 {
		t.Errorf("%d bytes for each of %d clients", each, count)
	}
	answer(count)
	if got := testing.AllocsPerRun(5, func() { answer(count) }); got > 2 {
		t.Errorf("%v allocations a turn", got)
	}
}

// What servers wait for leaves first, then clients' answers, then fragments.
func TestFragmentsLeaveLast(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	n.Out()
	o := &n.out
	second, third := n.ID()%3+1, (n.ID()+1)%3+1
	r := kv.Result{Status: kv.OK, Value: make([]byte, 100)}
	n.reply(n.clients.touch(l.now, 100, clientAt(0)), &r)
	n.flushReply(n.clients.find(100))
	ack := wire.Ack{Term: 1}
	ack.Encode(o.must(o.peerAt(l.now, second), second, wire.KindAck, ack.Size()))
	o.sendLarge(l.now, o.peerAt(l.now, second), second, wire.KindAppend, make([]byte, 400_000))
	o.resendLarge(l.now)
	ack.Encode(o.must(o.peerAt(l.now, third), third, wire.KindAck, ack.Size()))
	var order []string
	for _, p := range n.Out() {
		h, frames, err := wire.Open(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		k, _, _ := frames.Next()
		if s := fmt.Sprint(k, " to ", h.Dst); len(order) == 0 || order[len(order)-1] != s {
			order = append(order, s)
		}
	}
	want := []string{fmt.Sprint("ack to ", second), fmt.Sprint("ack to ", third), fmt.Sprint("reply to ", wire.ClientNode), fmt.Sprint("fragment to ", second)}
	if fmt.Sprint(order) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", order, want)
	}
}

// An answer for which there is no room is not copied.
func TestAnAnswerWithoutRoomIsNotCopied(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	c := n.clients.touch(l.now, 100, clientAt(0))
	r := kv.Result{Status: kv.OK, Value: make([]byte, 8<<20)}
	copied := 0
	for range 512 {
		copied += n.reply(c, &r)
	}
	if copied == 0 || copied > maxLargeOwnBytes || n.Counters.DroppedLarge == 0 {
		t.Errorf("%d bytes copied, %d answers dropped", copied, n.Counters.DroppedLarge)
	}
	if got := testing.AllocsPerRun(10, func() { n.reply(c, &r) }); got != 0 {
		t.Errorf("%v allocations for an answer that is dropped", got)
	}
}

// The table of open destinations finds what looking at all of them one by one does, turn after turn.
func TestOpenDestinationsAreFound(t *testing.T) {
	ds := destinations{seed: 7}
	for turn, count := range []int{3, 40, 2000, 12, 9, 300, 0, 5000} {
		var open []*destination
		for i := range count {
			to, dst, bulk := clientAt(i/3), uint16(i%3), i%2 == 0
			if ds.find(open, to, dst, bulk) != nil {
				t.Fatalf("turn %d: destination %d is there before it is added", turn, i)
			}
			open = append(open, &destination{to: to, dst: dst, bulk: bulk, alone: i%7 == 0})
			ds.add(open)
			for _, at := range []int{i, i / 2, 0} {
				d := open[at]
				got := ds.find(open, d.to, d.dst, d.bulk)
				if d.alone && got != nil || !d.alone && got != d {
					t.Fatalf("turn %d: destination %d of %d, alone %v: found %+v", turn, at, len(open), d.alone, got)
				}
			}
		}
		ds.forget()
	}
}

// A server that leads no more refuses the reads that its turn left, and none that it has answered.
func TestReadsLeftByATurnAreRefusedWithTheOthers(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	l.putLarge(1, 50_000)
	const gets = 40
	ops := make([]kv.Command, gets)
	for i := range ops {
		ops[i] = kv.Command{Op: kv.Get, Seq: uint64(1+i) | kv.ReadSeq, Key: []byte("key-1")}
	}
	l.answers, l.queue = nil, nil
	l.request(n.ID(), ops...)
	for _, f := range l.queue {
		n.Deliver(l.now, f.from, f.bytes)
	}
	n.Turn(l.now, true)
	n.refuseReads()
	for _, p := range n.Out() {
		if labID(p.To) == labClient {
			l.hear(flight{labAddr(n.ID()), p.To, p.Bytes})
		}
	}
	answered, next := 0, uint64(1)
	for _, a := range l.answers {
		seqs := a.seqs
		if a.kind == wire.KindReply {
			answered++
			seqs = []uint64{a.result.Seq}
		}
		for _, seq := range seqs {
			if seq != next|kv.ReadSeq {
				t.Fatalf("%v to %d, want %d", a.kind, seq&^kv.ReadSeq, next)
			}
			next++
		}
	}
	if answered == 0 || answered == gets || next != gets+1 || n.reads.bytes != 0 || len(n.reads.groups) != 0 {
		t.Errorf("%d answered, %d in all, %d bytes wait", answered, next-1, n.reads.bytes)
	}
}
