package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

func key(i int) []byte { return fmt.Appendf(nil, "key-%04d", i) }

func TestThreeServersFoundElectPutAndGet(t *testing.T) {
	l := newLab(t, 5, 3)
	n := l.elect()
	l.request(n.ID(), kv.Command{Op: kv.Put, Seq: 1, Key: []byte("a"), Value: []byte("7")})
	if r := l.result(1); r.Status != kv.OK || r.Index == 0 || r.Term != n.core.Term() {
		t.Fatalf("put: got %+v", r)
	}
	l.request(n.ID(), kv.Command{Op: kv.Get, Seq: kv.ReadSeq | 1, Key: []byte("a")})
	if r := l.result(kv.ReadSeq | 1); r.Status != kv.OK || string(r.Value) != "7" {
		t.Fatalf("get: got %+v", r)
	}
	for id := uint16(4); id <= 5; id++ {
		if !l.nodes[id].Blank() {
			t.Errorf("server %d is no first voter and yet not blank", id)
		}
	}
	l.until(2e9, "all voters applied it", func() bool {
		for id := uint16(1); id <= 3; id++ {
			if v, _, _, _ := l.nodes[id].store.Get([]byte("a")); string(v) != "7" {
				return false
			}
		}
		return true
	})
}

func TestACommandLargerThanAnEntryTakesSeveral(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	value := bytes.Repeat([]byte("balsa"), 20000) // 100 kB
	// Delivered as the reassembler would hand it over: one request frame larger than a datagram.
	ops := kv.AppendCommand(nil, &kv.Command{Op: kv.Put, Client: 77, Seq: 1, AckedBelow: 1, Flags: kv.FlagRegister, Registered: 1, Key: []byte("big"), Value: value})
	r := wire.Request{Count: 1, Ops: ops}
	p := make([]byte, r.Size())
	r.Encode(p)
	before := n.Counters.Entries
	n.frame(l.now, &wire.Header{Src: wire.ClientNode, Incarnation: 77, Cluster: n.tag}, labAddr(labClient), wire.KindRequest, p)
	if got := l.result(1); got.Status != kv.OK {
		t.Fatalf("got %+v", got)
	}
	if n.Counters.Entries-before < 3 {
		t.Errorf("%d entries, want several: no entry is above %d bytes", n.Counters.Entries-before, wire.MaxEntryBody)
	}
	l.until(2e9, "every server has it", func() bool {
		for id := uint16(1); id <= 3; id++ {
			if v, _, _, _ := l.nodes[id].store.Get([]byte("big")); !bytes.Equal(v, value) {
				return false
			}
		}
		return true
	})
}

// SAFETY 16: packed while large datagrams passed, an entry still reaches a server
// that only small ones reach.
func TestAnEntryLargerThanThisPeersDatagramIsFragmented(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	away := n.ID()%3 + 1
	l.kill(away)
	for seq := uint64(1); seq <= 3; seq++ {
		l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: key(int(seq)), Value: bytes.Repeat(key(int(seq)), 2500)}) // 20 kB
		l.result(seq)
	}
	l.datagram = wire.SafeDatagram
	for id := uint16(1); id <= 3; id++ {
		if l.nodes[id] != nil {
			l.kill(id)
		}
		l.start(id)
	}
	l.until(2e9, "the server that was away has what it missed", func() bool {
		v, _, _, _ := l.nodes[away].store.Get(key(3))
		return bytes.Equal(v, bytes.Repeat(key(3), 2500))
	})
}

func TestAFollowerRefusesBySequenceNumber(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect().ID()
	follower := leader%3 + 1
	l.request(follower, kv.Command{Op: kv.Put, Seq: 5, Key: []byte("a")}, kv.Command{Op: kv.Put, Seq: 6, Key: []byte("b")})
	l.until(1e9, "a refusal", func() bool { return len(l.answers) > 0 })
	if a := l.answers[0]; a.kind != wire.KindNotLeader || !slices.Equal(a.seqs, []uint64{5, 6}) {
		t.Fatalf("got %+v, want a refusal of 5 and 6", a)
	}
}

func TestADeadProcessIsNoticedBeforeItsTimeout(t *testing.T) {
	for _, silent := range []bool{false, true} {
		l := newLab(t, 3, 3)
		l.silent = silent
		old := l.elect().ID()
		l.put(1)
		began := l.now
		l.kill(old)
		l.until(5e9, "another leader", func() bool { return l.leader() != nil })
		took := l.now - began
		if !silent && took > 100e6 {
			t.Errorf("with ICMP the next leader came after %d ms", took/1e6)
		}
		if silent && took < sharedLimits.first/2 {
			t.Errorf("without a word of the dead leader it was given up after %d ms, inside the promise", took/1e6)
		}
	}
}

func TestEveryServerServesLinearizableReads(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect().ID()
	for seq := uint64(1); seq <= 5; seq++ {
		l.put(seq)
		for id := uint16(1); id <= 3; id++ {
			read := kv.ReadSeq | seq<<8 | uint64(id)
			l.request(id, kv.Command{Op: kv.Get, Seq: read, Key: key(int(seq))})
			if r := l.result(read); r.Status != kv.OK || string(r.Value) != string(key(int(seq))) {
				t.Errorf("server %d (leader %d): got %+v", id, leader, r)
			}
		}
	}
}

// A follower that the leader cannot be heard by must not serve what it has.
func TestAFollowerCutOffServesNoRead(t *testing.T) {
	l := newLab(t, 3, 3)
	follower := l.elect().ID()%3 + 1
	l.put(1)
	l.drop = func(from, to uint16, _ wire.Kind) bool { return from == follower && to != labClient || to == follower }
	l.put(2)
	l.request(follower, kv.Command{Op: kv.Get, Seq: kv.ReadSeq | 9, Key: key(2)})
	end := l.now + 2e9
	l.until(3e9, "time passes", func() bool { return l.now > end })
	for _, a := range l.answers {
		if a.kind == wire.KindReply && a.result.Seq == kv.ReadSeq|9 {
			t.Errorf("a follower that is cut off answered %+v", a.result)
		}
	}
}

func TestEveryAcknowledgedPutSurvivesKillsAndRestarts(t *testing.T) {
	l := newLab(t, 3, 3)
	seq := uint64(0)
	for round := range 6 {
		n := l.elect()
		for range 20 {
			seq++
			l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: key(int(seq)), Value: key(round)})
		}
		l.result(seq)
		l.kill(n.ID())
		if round%2 == 1 { // all of them at once
			for id := uint16(1); id <= 3; id++ {
				if l.nodes[id] != nil {
					l.kill(id)
				}
				l.start(id)
			}
		} else {
			l.elect()
			l.start(n.ID())
		}
	}
	n := l.elect()
	for i := uint64(1); i <= seq; i++ {
		if _, _, _, ok := n.store.Get(key(int(i))); !ok {
			t.Errorf("acknowledged put %d is gone", i)
		}
	}
	l.until(3e9, "equal states", func() bool {
		return l.nodes[1].applied == n.applied && l.nodes[2].applied == n.applied && l.nodes[3].applied == n.applied
	})
	if l.nodes[1].store.Hash() != l.nodes[2].store.Hash() || l.nodes[2].store.Hash() != l.nodes[3].store.Hash() {
		t.Error("the servers' states differ at the same index")
	}
}

func TestARepeatIsAnsweredOnceApplied(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	put := kv.Command{Op: kv.CompareAndSwap, Seq: 1, Key: []byte("n"), Value: []byte("1"), Flags: kv.FlagOldAbsent}
	l.request(n.ID(), put)
	first := l.result(1)
	l.answers = nil
	last := n.tail.last
	l.request(n.ID(), put)
	if again := l.result(1); again.Status != first.Status || again.Index != first.Index || again.Status != kv.OK {
		t.Errorf("the repeat got %+v, the first %+v", again, first)
	}
	if n.tail.last != last {
		t.Error("a repeat of an applied command was logged again")
	}
}

func TestALeaderWithoutAMajorityNeitherPutsNorReads(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	for id := uint16(1); id <= 3; id++ {
		if id != n.ID() {
			l.kill(id)
		}
	}
	l.request(n.ID(), kv.Command{Op: kv.Put, Seq: 1, Key: []byte("a")}, kv.Command{Op: kv.Get, Seq: kv.ReadSeq | 1, Key: []byte("a")})
	l.until(3e9, "it steps down", func() bool { return !n.Leading() })
	for _, a := range l.answers {
		if a.kind == wire.KindReply {
			t.Errorf("answered without a majority: %+v", a.result)
		}
	}
}

func TestASyncThatHangsDoesNotSilenceTheLeader(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	term := n.core.Term()
	l.stuck[n.ID()], l.stuck[n.ID()%3+1] = true, true // so that there is nobody to hand over to
	l.request(n.ID(), kv.Command{Op: kv.Put, Seq: 1, Key: []byte("a"), Value: []byte("1")})
	turns := n.Counters.Turns
	l.until(3e9, "time passes", func() bool { return l.now > 2e9 })
	if !n.Leading() || n.core.Term() != term {
		t.Error("a leader whose sync hangs lost its followers: it did not heartbeat")
	}
	if turns = n.Counters.Turns - turns; turns > 5000 {
		t.Errorf("%d turns in two seconds with nothing to do: a deadline in the past does not move", turns)
	}
}

// hearAlone has a server take what was asked of it, and nothing else happen: no follower hears, no batch is written.
func (l *lab) hearAlone(n *Node) {
	for _, f := range l.queue {
		if l.id(f.to) == n.ID() {
			n.Deliver(l.now, f.from, f.bytes)
		}
	}
	l.queue = nil
	n.Turn(l.now, true)
	n.Out()
}

func TestALeaderSyncsInsideItsLoopWhatItWouldOnlyWaitFor(t *testing.T) {
	puts := func(from, n uint64) (p []kv.Command) {
		for i := range n {
			p = append(p, kv.Command{Op: kv.Put, Seq: from + i, Key: []byte("a"), Value: []byte("1")})
		}
		return p
	}
	for _, c := range []struct {
		commands uint64
		want     bool
	}{{1, true}, {inlineCommands, true}, {inlineCommands + 1, false}} {
		l := newLab(t, 3, 3)
		n := l.elect()
		l.until(3e9, "all is committed", func() bool { return n.commit == n.tail.last && n.log.PendingBytes() == 0 && n.persist.inflight == nil })
		l.queue = nil
		l.request(n.ID(), puts(1, c.commands)...)
		l.hearAlone(n)
		if n.tail.last != n.commit+1 || n.Inline() != c.want {
			t.Errorf("%d commands in %d entries: inline %v, want %v", c.commands, n.tail.last-n.commit, n.Inline(), c.want)
		}
		if n.Patience() > n.pace.heartbeat() {
			t.Errorf("a leader may be silent for %d ns by its sync, its heartbeat is %d", n.Patience(), n.pace.heartbeat())
		}
		l.request(n.ID(), puts(1+c.commands, 1)...)
		l.hearAlone(n)
		if n.Inline() {
			t.Error("with two entries to commit a leader syncs inside its loop")
		}
		if n.Batch() == nil || n.Inline() {
			t.Error("with a batch out a leader syncs another inside its loop")
		}
	}
}

// SAFETY 7: --voters 1, grown or not: wiped, the first voter must not found a
// second cluster while a server of the pool holds the list.
func TestAWipedServerFoundsNoSecondCluster(t *testing.T) {
	l := newLab(t, 3, 3)
	l.elect()
	cluster := l.nodes[2].founding.cluster
	l.kill(1)
	l.wipe(1, []uint16{1})
	n := l.start(1)
	l.until(10e9, "it heard of the cluster", func() bool { return n.founding.refused })
	end := l.now + 3e9
	l.until(5e9, "time passes", func() bool { return l.now > end })
	if !n.Blank() {
		t.Fatal("a wiped server is no longer blank")
	}
	if l.nodes[2].founding.cluster != cluster || l.leader() == nil {
		t.Error("the cluster did not go on")
	}
}

// The same while nobody who knows the cluster can be reached: then it waits,
// however long that takes.
func TestAWipedServerThatFoundsAloneWaitsForThePool(t *testing.T) {
	l := newLab(t, 3, 3)
	l.elect()
	for id := uint16(1); id <= 3; id++ {
		l.kill(id)
	}
	l.wipe(1, []uint16{1})
	n := l.start(1)
	end := l.now + 5e9
	l.until(6e9, "time passes", func() bool { return l.now > end })
	if !n.Blank() {
		t.Fatal("a wiped server founded a second cluster while those that know the first were down")
	}
	l.start(2)
	l.until(5e9, "it heard of the cluster", func() bool { return n.founding.refused })
}

// SAFETY 7: the list is durable before it is sent.
func TestTheFoundingListIsPersistedBeforeItIsSent(t *testing.T) {
	l := newLab(t, 3, 3)
	l.stuck[1] = true
	sent := false
	l.drop = func(from, _ uint16, kind wire.Kind) bool {
		sent = sent || from == 1 && kind == wire.KindFoundList
		return false
	}
	l.until(5e9, "the list is with the disk", func() bool { return l.nodes[1].founding.persisting })
	end := l.now + 2e9
	l.until(5e9, "time passes", func() bool { return l.now > end })
	if sent {
		t.Error("the founder sent a list that it might forget")
	}
}

func TestAFounderWaitsForEveryFirstVoter(t *testing.T) {
	l := newLab(t, 3, 3)
	l.kill(3)
	l.until(5e9, "time passes", func() bool { return l.now > 4e9 })
	if !l.nodes[1].Blank() {
		t.Fatal("founded though a first voter had not answered")
	}
	l.start(3)
	l.elect()
}

func TestDatagramsThatAreNotForUsAreCountedAndDropped(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	term := n.core.Term()
	n.Deliver(l.now, labAddr(2), []byte("not a datagram"))
	if n.Counters.DroppedMalformed == 0 {
		t.Error("junk was not counted")
	}
	send := func(h wire.Header, kind wire.Kind, size int, encode func([]byte)) {
		p := wire.Packer{Header: h, Limit: wire.MaxDatagram}
		encode(p.Frame(kind, size))
		for _, d := range p.Flush(labAddr(n.ID()), nil) {
			n.Deliver(l.now, labAddr(2), d.Bytes)
		}
	}
	vote := wire.Vote{Term: 99, LastIndex: 99, LastTerm: 98}
	other := n.ID()%3 + 1
	send(wire.Header{Src: other, Dst: n.ID(), Cluster: n.tag + 1, Incarnation: l.nodes[other].Incarnation()}, wire.KindVote, vote.Size(), vote.Encode)
	send(wire.Header{Src: other, Dst: other, Cluster: n.tag, Incarnation: l.nodes[other].Incarnation()}, wire.KindVote, vote.Size(), vote.Encode)
	send(wire.Header{Src: other, Dst: n.ID(), Cluster: n.tag, Incarnation: 1}, wire.KindVote, vote.Size(), vote.Encode)
	n.Turn(l.now, true)
	if n.Counters.DroppedCluster == 0 || n.Counters.DroppedDestination == 0 {
		t.Errorf("got %+v, want a drop for the cluster and one for the destination", n.Counters)
	}
	if !slices.Equal(n.foreign, []uint16{other}) {
		t.Errorf("told of members of another cluster: %v, want %d once", n.foreign, other)
	}
	if n.core.Term() != term || !n.Leading() {
		t.Error("a vote of another cluster, destination or incarnation had an effect")
	}
}

func TestInitRefusesWhatDoesNotFit(t *testing.T) {
	pool := []wire.Server{{ID: 1, Addr: "127.0.0.1:1"}, {ID: 2, Addr: "127.0.0.1:2"}}
	random := func() uint64 { return 42 }
	for name, o := range map[string]InitOptions{
		"no pool":              {ID: 1},
		"not in the pool":      {ID: 3, Pool: pool},
		"voter not in pool":    {ID: 1, Pool: pool, Voters: []uint16{1, 9}},
		"an id twice":          {ID: 1, Pool: append([]wire.Server{{ID: 1, Addr: "x:1"}}, pool...)},
		"a bad address":        {ID: 1, Pool: []wire.Server{{ID: 1, Addr: "a b\n:1"}}},
		"too many voters":      {ID: 1, Pool: manyServers(40)},
		"the client's node id": {ID: 1, Pool: append([]wire.Server{{ID: wire.ClientNode, Addr: "x:1"}}, pool...)},
	} {
		o.FS, o.Dir, o.Random = vfs.NewMem(), "d", random
		if err := Init(o); !errors.Is(err, ErrPool) {
			t.Errorf("%s: got %v, want ErrPool", name, err)
		}
	}
	o := InitOptions{FS: vfs.NewMem(), Dir: "d", ID: 1, Pool: pool, Random: random, SegmentBytes: 64 << 10}
	if err := Init(o); err != nil {
		t.Fatal(err)
	}
	if err := Init(o); !errors.Is(err, wal.ErrExists) {
		t.Errorf("a second init: got %v, want ErrExists", err)
	}
}

func manyServers(count int) []wire.Server {
	var pool []wire.Server
	for i := range count {
		pool = append(pool, wire.Server{ID: uint16(i + 1), Addr: fmt.Sprintf("server-%d.example.org:7101", i)})
	}
	return pool
}

func TestIdentityDecodesWhatItEncodesAndRefusesEveryCut(t *testing.T) {
	d := identity{ID: 7, Incarnation: 12, Name: "seven", Voters: []uint16{1, 7},
		Pool: []wire.Server{{ID: 1, Addr: "a:1"}, {ID: 7, Addr: "b:2"}}, List: []byte("a list"), Left: 99}
	b := d.encode()
	var got identity
	if err := got.decode(b); err != nil {
		t.Fatal(err)
	}
	if got.ID != 7 || got.Incarnation != 12 || got.Name != "seven" || !slices.Equal(got.Voters, d.Voters) || !slices.Equal(got.Pool, d.Pool) || string(got.List) != "a list" || got.Left != 99 {
		t.Errorf("got %+v, want %+v", got, d)
	}
	for n := range b {
		if new(identity).decode(b[:n]) == nil {
			t.Errorf("a record cut to %d of %d bytes was taken", n, len(b))
		}
	}
}
