package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wal/vfs"
	"balsa/wire"
)

// change asks the leader for a change, again and again as a client does, and
// gives the answer that ends it.
func (l *lab) change(operation uint64, verb uint8, ids ...uint16) wire.MemberChangeReply {
	l.t.Helper()
	return l.ask(wire.MemberChange{Operation: operation, Verb: verb, Servers: wire.AppendServers(nil, servers(ids))})
}

func servers(ids []uint16) (s []wire.Server) {
	for _, id := range ids {
		s = append(s, wire.Server{ID: id})
	}
	return s
}

func (l *lab) ask(c wire.MemberChange) wire.MemberChangeReply {
	l.t.Helper()
	for end := l.now + 20e9; l.now < end; {
		n := l.leader()
		if n == nil {
			l.turn(5e6)
			continue
		}
		l.changes = nil
		l.tell(n.ID(), n.tag, wire.KindMember, c.Size(), c.Encode)
		for wait := l.now + 50e6; l.now < wait && len(l.changes) == 0; {
			l.turn(5e6)
		}
		for _, r := range l.changes {
			if r.Outcome == wire.OutcomeDone || r.Outcome == wire.OutcomeRefused || r.Outcome == wire.OutcomePlan {
				return r
			}
		}
		for wait := l.now + 20e6; l.now < wait; {
			l.turn(5e6)
		}
	}
	l.t.Fatalf("operation %d does not end", c.Operation)
	return wire.MemberChangeReply{}
}

func (l *lab) voters() []uint16 {
	var ids []uint16
	c := l.elect().inForce()
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// put writes through whoever leads and waits until it is acknowledged.
func (l *lab) put(seq uint64) {
	l.t.Helper()
	acknowledged := func() bool {
		return slices.ContainsFunc(l.answers, func(a answer) bool {
			return a.kind == wire.KindReply && a.result.Seq == seq && a.result.Status == kv.OK
		})
	}
	for end := l.now + 10e9; !acknowledged(); {
		if l.now > end {
			l.t.Fatalf("put %d is not acknowledged", seq)
		}
		if n := l.leader(); n != nil {
			l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: key(int(seq)), Value: key(int(seq))})
		}
		for wait := l.now + 30e6; l.now < wait && !acknowledged(); {
			l.turn(5e6)
		}
	}
}

func (l *lab) has(id uint16, seq uint64) bool {
	v, _, _, _ := l.nodes[id].store.Get(key(int(seq)))
	return string(v) == string(key(int(seq)))
}

func TestServersAreAddedRemovedAndSet(t *testing.T) {
	l := newLab(t, 5, 3)
	l.elect()
	l.put(1)
	if r := l.change(11, wire.VerbAdd, 4, 5); r.Outcome != wire.OutcomeDone {
		t.Fatalf("add 4 5: %d %s", r.Outcome, r.Text)
	}
	if got := l.voters(); !slices.Equal(got, []uint16{1, 2, 3, 4, 5}) {
		t.Fatalf("voters %v", got)
	}
	l.put(2)
	l.until(2e9, "the new servers have all of it", func() bool { return l.has(4, 1) && l.has(4, 2) && l.has(5, 2) })
	if r := l.change(12, wire.VerbRemove, 1, 2); r.Outcome != wire.OutcomeDone {
		t.Fatalf("remove 1 2: %d %s", r.Outcome, r.Text)
	}
	if r := l.change(13, wire.VerbSet, 3, 4, 1); r.Outcome != wire.OutcomeDone {
		t.Fatalf("set 1 3 4: %d %s", r.Outcome, r.Text)
	}
	if got := l.voters(); !slices.Equal(got, []uint16{1, 3, 4}) {
		t.Fatalf("voters %v", got)
	}
	l.put(3)
	l.until(2e9, "all voters have it", func() bool { return l.has(1, 3) && l.has(3, 3) && l.has(4, 3) })
}

func TestALeaderThatRemovesItselfServesAndHandsOver(t *testing.T) {
	l := newLab(t, 3, 3)
	old := l.elect().ID()
	l.put(1)
	if r := l.change(21, wire.VerbRemove, old); r.Outcome != wire.OutcomeDone {
		t.Fatalf("remove the leader: %d %s", r.Outcome, r.Text)
	}
	l.until(5e9, "another leader", func() bool { n := l.leader(); return n != nil && n.ID() != old })
	l.put(2)
	if slices.Contains(l.voters(), old) {
		t.Error("the removed leader is still a voter")
	}
}

func TestAWipedServerIsRefusedUntilItIsReplaced(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect().ID()
	l.put(1)
	id := leader%3 + 1
	l.kill(id)
	l.wipe(id, []uint16{1, 2, 3})
	n := l.start(id)
	end := l.now + 3e9
	l.until(4e9, "time passes", func() bool { return l.now > end })
	if !n.Blank() {
		t.Fatal("a wiped server under an old id was taken in")
	}
	if l.leader().Counters.DroppedIncarnation == 0 {
		t.Error("the leader did not count the wiped server's words")
	}
	if r := l.change(31, wire.VerbReplace, id); r.Outcome != wire.OutcomeDone {
		t.Fatalf("replace %d: %d %s", id, r.Outcome, r.Text)
	}
	l.put(2)
	l.until(3e9, "the replaced server has it", func() bool { return l.has(id, 1) && l.has(id, 2) })
	if got := l.voters(); !slices.Equal(got, []uint16{1, 2, 3}) {
		t.Errorf("voters %v", got)
	}
}

// Also one that no founding list names learns why it is refused, and under which incarnation it is known.
func TestAWipedServerThatWasAddedIsToldWhy(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	if r := l.change(32, wire.VerbAdd, 4); r.Outcome != wire.OutcomeDone {
		t.Fatalf("add 4: %s", r.Text)
	}
	was := l.nodes[4].Incarnation()
	l.kill(4)
	l.wipe(4, []uint16{1, 2, 3})
	n := l.start(4)
	l.until(3e9, "it is told", func() bool { return n.founding.wanted != 0 })
	if n.founding.wanted != was || n.Incarnation() == was {
		t.Errorf("wanted %d, is %d, want it told the old %d", n.founding.wanted, n.Incarnation(), was)
	}
	if r := l.change(33, wire.VerbReplace, 4); r.Outcome != wire.OutcomeDone || n.Blank() {
		t.Fatalf("replace 4: %d %s", r.Outcome, r.Text)
	}
}

// SAFETY 7, where the pool that init was told is the founder alone and its cluster was grown by addresses: it hears
// its cluster before it founds another.
func TestAFounderThatKnowsNobodyIsWipedAndFoundsNoSecondCluster(t *testing.T) {
	l := newLab(t, 3, 1)
	alone := func() {
		l.kill(1)
		l.disks[1] = vfs.NewMem()
		if err := Init(InitOptions{FS: l.disks[1], Dir: "d", ID: 1, Pool: []wire.Server{{ID: 1, Addr: labAddr(1).String()}}, Random: l.next, SegmentBytes: 256 << 10}); err != nil {
			t.Fatal(err)
		}
	}
	alone()
	l.start(1)
	l.elect()
	named := []wire.Server{{ID: 2, Addr: labAddr(2).String()}, {ID: 3, Addr: labAddr(3).String()}}
	if r := l.ask(wire.MemberChange{Operation: 34, Verb: wire.VerbAdd, Servers: wire.AppendServers(nil, named)}); r.Outcome != wire.OutcomeDone {
		t.Fatalf("add 2 3: %s", r.Text)
	}
	l.put(1)
	alone()
	l.until(5e9, "another leader", func() bool { return l.leader() != nil })
	quiet := l.now + 200e6 // nothing of its cluster is on its way to it when it starts
	l.drop = func(_, to uint16, _ wire.Kind) bool { return to == 1 && l.now < quiet }
	for l.now < quiet-100e6 {
		l.turn(5e6)
	}
	n := l.start(1)
	for end := l.now + 5e9; l.now < end; l.turn(5e6) {
		if !n.Blank() {
			t.Fatal("it founded a second cluster")
		}
	}
	if n.founding.wanted == 0 {
		t.Error("it was not told why it is refused")
	}
	if r := l.change(35, wire.VerbReplace, 1); r.Outcome != wire.OutcomeDone || n.Blank() {
		t.Fatalf("replace 1: %d %s", r.Outcome, r.Text)
	}
}

// move asks for a change that names a member with another address.
func (l *lab) move(operation uint64, dry bool, id uint16, addr string) wire.MemberChangeReply {
	l.t.Helper()
	return l.ask(wire.MemberChange{Operation: operation, Verb: wire.VerbAdd, DryRun: dry, Servers: wire.AppendServers(nil, []wire.Server{{ID: id, Addr: addr}})})
}

func TestAMemberIsGivenAnotherAddress(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	id := leader.ID()%3 + 1
	l.put(1)
	addr := netip.AddrPortFrom(labAddr(id).Addr(), 7500).String()
	at := func(n *Node) string { return string(n.out.addressOf(id)) }
	if r := l.move(81, true, id, addr); r.Outcome != wire.OutcomePlan || at(leader) == addr {
		t.Errorf("a dry run: outcome %d, and the leader sends to %s", r.Outcome, at(leader))
	}
	other := leader.ID()%3 + 2
	if other > 3 {
		other -= 3
	}
	if r := l.move(82, false, id, labAddr(other).String()); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), "is the address of") {
		t.Errorf("the address of another: outcome %d %s", r.Outcome, r.Text)
	}
	joint := false
	before := leader.core.Status().ConfigurationIndex
	if r := l.move(83, false, id, addr); r.Outcome != wire.OutcomeDone || r.Index <= before {
		t.Fatalf("outcome %d %s at %d", r.Outcome, r.Text, r.Index)
	}
	for _, c := range leader.configurations.list {
		k, err := wire.DecodeConfiguration(c.bytes)
		joint = joint || err != nil || len(k.Old) > 0
	}
	if joint || len(l.voters()) != 3 {
		t.Errorf("joint %v, voters %v: want neither touched", joint, l.voters())
	}
	third := l.nodes[other]
	l.until(3e9, "all know", func() bool { return at(leader) == addr && at(third) == addr })
	l.kill(other)
	if n := l.start(other); at(n) != addr {
		t.Errorf("after a restart it sends to %s", at(n))
	}
	if r := l.move(84, false, id, addr); r.Outcome != wire.OutcomeDone || r.Index > leader.core.Status().ConfigurationIndex {
		t.Errorf("again: outcome %d %s", r.Outcome, r.Text)
	}
}

// A server that was away while the others moved does not know where to answer: it is told by its leader or, if there is
// none, by whoever wants its vote.
func TestAServerThatWasAwayWhileOthersMovedIsToldWhere(t *testing.T) {
	for name, more := range map[string][]uint16{"by the leader": nil, "by a candidate": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 5, 5)
			l.elect()
			l.put(1)
			l.kill(5)
			for id := uint16(1); id <= 4; id++ {
				l.kill(id)
				l.moved[id] = netip.AddrPortFrom(labAddr(id).Addr(), 7500+id)
				l.start(id)
				l.elect()
				if r := l.move(uint64(90+id), false, id, l.moved[id].String()); r.Outcome != wire.OutcomeDone {
					t.Fatalf("move %d: %s", id, r.Text)
				}
				l.put(10 + uint64(id))
			}
			l.kill(1)
			if n := l.start(1); n.Address() != l.moved[1].String() { // what it listens on, unless told otherwise
				t.Errorf("after a restart it is at %s", n.Address())
			}
			for _, id := range more {
				l.kill(id)
			}
			l.until(9e9, "those that are left have a leader or cannot have one", func() bool { return (l.leader() != nil) == (more == nil) })
			n := l.start(5)
			l.until(9e9, "it follows and has everything", func() bool {
				k := l.leader()
				return k != nil && k != n && n.core.Leader() == k.ID() && n.applied == k.applied && k.applied > 0
			})
			l.put(20)
		})
	}
}

// An address that came with a configuration goes with it.
func TestAnAddressIsRolledBackWithItsConfiguration(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	id := leader.ID()%3 + 1
	l.put(1)
	addr := netip.AddrPortFrom(labAddr(id).Addr(), 7500).String()
	l.drop = func(from, to uint16, _ wire.Kind) bool { return from == leader.ID() || to == leader.ID() }
	q := wire.MemberChange{Operation: 85, Verb: wire.VerbAdd, Servers: wire.AppendServers(nil, []wire.Server{{ID: id, Addr: addr}})}
	l.tell(leader.ID(), leader.tag, wire.KindMember, q.Size(), q.Encode)
	at := func() string { return string(leader.out.addressOf(id)) }
	l.until(1e9, "it is in the leader's log", func() bool { return at() == addr })
	l.until(9e9, "another leads", func() bool { n := l.leader(); return n != nil && n != leader && n.applied > 0 })
	l.drop = nil
	l.until(9e9, "the old leader's configuration is cut", func() bool { return at() == labAddr(id).String() })
}

// SAFETY 8: the joiner's list and incarnation are durable before its first ack.
func TestAJoinerPersistsBeforeItAcknowledges(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	acked := false
	l.drop = func(from, _ uint16, kind wire.Kind) bool {
		acked = acked || from == 4 && kind == wire.KindAck
		return false
	}
	l.stuck[4] = true
	c := wire.MemberChange{Operation: 41, Verb: wire.VerbAdd, Servers: wire.AppendServers(nil, servers([]uint16{4}))}
	for range 40 {
		n := l.elect()
		l.tell(n.ID(), n.tag, wire.KindMember, c.Size(), c.Encode)
		for wait := l.now + 50e6; l.now < wait; {
			l.turn(5e6)
		}
	}
	if !l.nodes[4].founding.persisting {
		t.Fatal("the joiner was never asked in")
	}
	if acked {
		t.Error("a joiner whose disk hangs acknowledged")
	}
	l.stuck[4] = false
	if r := l.change(41, wire.VerbAdd, 4); r.Outcome != wire.OutcomeDone {
		t.Fatalf("%d %s", r.Outcome, r.Text)
	}
}

func TestAChangeThatCannotBeginSaysWhy(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	l.kill(4)
	for name, c := range map[string]struct {
		verb uint8
		id   uint16
		want string
	}{
		"dead":        {wire.VerbAdd, 4, "does not answer"},
		"unknown":     {wire.VerbAdd, 9, "not in the pool"},
		"not a voter": {wire.VerbReplace, 4, "no voter"},
	} {
		if r := l.change(l.next()|1, c.verb, c.id); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), c.want) {
			t.Errorf("%s: got outcome %d %q, want it refused for %q", name, r.Outcome, r.Text, c.want)
		}
	}
	if r := l.change(5, wire.VerbSet); r.Outcome != wire.OutcomeRefused {
		t.Errorf("an empty set: got %d %q", r.Outcome, r.Text)
	}
	l.start(4)
	if r := l.ask(wire.MemberChange{Operation: 51, Verb: wire.VerbAdd, DryRun: true, Servers: wire.AppendServers(nil, servers([]uint16{4}))}); r.Outcome != wire.OutcomePlan || len(r.Text) == 0 {
		t.Errorf("a dry run: got %d %q", r.Outcome, r.Text)
	}
	if got := l.voters(); len(got) != 3 {
		t.Errorf("a dry run changed the voters to %v", got)
	}
}

func TestAServerOfAnotherClusterIsNotTakenIn(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	// Server 4 founds a cluster of its own while it cannot be heard.
	l.kill(4)
	l.disks[4] = vfs.NewMem()
	if err := Init(InitOptions{FS: l.disks[4], Dir: "d", ID: 4, Pool: []wire.Server{{ID: 4, Addr: labAddr(4).String()}}, Random: l.next, SegmentBytes: 256 << 10}); err != nil {
		t.Fatal(err)
	}
	n := l.start(4)
	l.until(5e9, "4 leads itself", n.Leading)
	if r := l.change(61, wire.VerbAdd, 4); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), "another cluster") {
		t.Errorf("got %d %q, want it refused as of another cluster", r.Outcome, r.Text)
	}
}

// The last configuration of an operation is in the log and not committed yet: that is no refusal.
func TestAChangeInItsLastStepIsNotRefused(t *testing.T) {
	l := newLab(t, 4, 3)
	l.elect()
	last := func(n *Node) bool {
		c := n.inForce()
		return c.Operation == 65 && len(c.Old) == 0 && len(c.Target) == 0
	}
	l.drop = func(_, to uint16, kind wire.Kind) bool {
		return kind == wire.KindAck && l.nodes[to] != nil && last(l.nodes[to])
	}
	c := wire.MemberChange{Operation: 65, Verb: wire.VerbAdd, Servers: wire.AppendServers(nil, servers([]uint16{4}))}
	n := l.leader()
	for end := l.now + 3e9; !last(n); l.turn(1e6) {
		if l.now > end {
			t.Fatal("it did not get so far")
		}
		l.tell(n.ID(), n.tag, wire.KindMember, c.Size(), c.Encode)
	}
	l.changes = nil
	l.tell(n.ID(), n.tag, wire.KindMember, c.Size(), c.Encode)
	l.until(50e6, "an answer", func() bool { return len(l.changes) > 0 })
	for _, r := range l.changes {
		if r.Outcome != wire.OutcomeBegun {
			t.Errorf("got outcome %d %s, want begun", r.Outcome, r.Text)
		}
	}
	l.drop = nil
	if r := l.change(65, wire.VerbAdd, 4); r.Outcome != wire.OutcomeDone {
		t.Errorf("got outcome %d %s, want done", r.Outcome, r.Text)
	}
}

// A transfer fails no request: what arrives meanwhile is held, then sent on.
func TestATransferFailsNoRequest(t *testing.T) {
	l := newLab(t, 3, 3)
	seq := uint64(0)
	for range 6 {
		n := l.elect()
		seq++
		l.put(seq)
		to := n.ID()%3 + 1
		if err := n.core.Transfer(l.now, to); err != nil {
			t.Fatal(err)
		}
		n.absorb(l.now)
		seq++
		l.answers = nil
		l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: key(int(seq)), Value: key(int(seq))})
		l.until(1e9, "the new leader", func() bool { m := l.leader(); return m != nil && m.ID() == to })
		for _, a := range l.answers {
			if a.kind == wire.KindReply && a.result.Status != kv.OK {
				t.Errorf("a request met %v", a.result.Status)
			}
		}
		l.put(seq)
	}
}

func TestHandOverEndsWhenTheNextLeaderAnswersForEverything(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	for seq := uint64(1); seq <= 20; seq++ {
		l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: key(int(seq)), Value: key(int(seq))})
	}
	l.turn(1e6)
	if !n.HandOver(l.now) {
		t.Fatal("nobody to hand over to")
	}
	l.until(1e9, "it is handed over", n.HandedOver)
	answered := map[uint64]bool{}
	l.turn(1e6)
	l.turn(1e6)
	for _, a := range l.answers {
		if a.kind == wire.KindReply && a.result.Status == kv.OK {
			answered[a.result.Seq] = true
		}
		for _, s := range a.seqs {
			answered[s] = true // told to ask the next leader
		}
	}
	if len(answered) != 20 {
		t.Errorf("%d of 20 requests were answered before the old leader may stop", len(answered))
	}
	if l.leader() == nil || l.leader().ID() == n.ID() {
		t.Error("no other leader")
	}
}

// Who stops tells the clients that it heard lately who leads and where.
func TestAServerThatStopsTellsItsClientsWhoLeads(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	l.put(1)
	if !n.HandOver(l.now) {
		t.Fatal("nobody to hand over to")
	}
	l.until(1e9, "it is handed over", n.HandedOver)
	l.turn(1e6)
	l.answers = nil
	n.Farewell(l.now)
	l.collect(n.ID(), n)
	l.turn(1e6)
	told := slices.ContainsFunc(l.answers, func(a answer) bool { return a.kind == wire.KindNotLeader && len(a.seqs) == 0 && a.from == n.ID() })
	if !told {
		t.Errorf("the client heard %+v", l.answers)
	}
}
