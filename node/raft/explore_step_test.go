package raft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// One server's steps. A step depends on that server and the event alone, so each is computed once, however many states
// of the cluster it is met in; servers and packets are interned, and a state of the cluster is a handful of numbers.

// kind of an action. What follows is which server, and what its argument is.
type kind uint8

const (
	deliver  kind = iota // a packet, which is gone then
	repeat               // the same, and it stays on the wires
	campaign             // the election timeout passes; in direct runs it begins a term at once (argument: a term heard of)
	electBy              // a whole election by a set of voters (bits), everyone else hears nothing of it
	pass                 // the promise passes
	synced               // the oldest batch becomes durable
	crash                // and restart; so many batches (argument) were durable, and nobody had been told
	propose              // a command
	poke                 // the leader's deadline for a peer (argument): sends again, or a heartbeat
	deaf                 // the leader's quorum is silent for too long
	reshape              // a change of the membership begins (argument: which of the bounds' targets)
	cancel               // and is taken back
	handOver             // a transfer to a server (argument)
	giveUp               // its time is over
	ask                  // a read
	turn                 // Take
	refuse               // ICMP tells that the leader's process is gone
	kinds
)

func (k kind) String() string {
	return [...]string{"deliver", "repeat", "campaign", "elect", "promise passes", "sync", "crash", "propose", "poke", "deaf",
		"change", "cancel", "transfer", "give up", "read", "turn", "refused"}[k]
}

// driver is what surrounds the core; all but the faithful one break the contract of Effects, as a careless node would.
type driver uint8

const (
	faithful     driver = iota
	tellEarly           // AfterSync goes out before the sync
	believeEarly        // Synced is called before the sync
	loseVote            // the term is written without the vote
	lyingDisk           // a crash takes the last entry that was synced
)

// outcome is what a step of one server came to.
type outcome struct {
	next   uint32
	sent   []uint32
	reads  []uint64 // indexes that reads were served at
	counts []count
	off    bool   // it cannot happen, or is out of bounds
	bad    string // what it broke
}

// count is a commit index, and the configuration that the log had in force when it was reached.
type count struct {
	upTo uint64
	by   *Configuration
}

type memoKey struct {
	node uint32
	kind kind
	arg  uint32
}

// digest is 128 bits of two unlike hashes; equal digests are taken for equal values.
func digest(b []byte) [2]uint64 {
	d := [2]uint64{14695981039346656037, xxhash.Sum64(b)}
	h := &d[0]
	for ; len(b) >= 8; b = b[8:] {
		*h = (*h ^ binary.LittleEndian.Uint64(b)) * 0x9E3779B97F4A7C15
		*h ^= *h >> 29
	}
	for _, c := range b {
		*h = (*h ^ uint64(c)) * 1099511628211
	}
	return d
}

// intern forgets what does not matter of n and gives its number.
func (x *explorer) intern(n *node) uint32 {
	base := n.Core.forget(x.sticky)
	for i := range n.Batches {
		n.Batches[i].serial -= min(n.Batches[i].serial, base)
	}
	if len(n.Batches) == 0 {
		n.Batches = nil
	}
	x.buf = nodeBytes(unsafe.Pointer(n), x.buf[:0])
	d := digest(x.buf)
	if i, ok := x.nodeIndex[d]; ok {
		return i
	}
	i := uint32(len(x.nodes))
	x.nodes, x.nodeIndex[d] = append(x.nodes, n), i
	return i
}

func (x *explorer) internPacket(p packet) uint32 {
	x.buf = packetBytes(unsafe.Pointer(&p), x.buf[:0])
	d := digest(x.buf)
	if i, ok := x.packetIndex[d]; ok {
		return i
	}
	i := uint32(len(x.packets))
	x.packets, x.packetIndex[d] = append(x.packets, p), i
	return i
}

// outcome gives the step of a server, computed at the first time.
func (x *explorer) outcome(at uint32, k kind, arg uint32) *outcome {
	if k == repeat {
		k = deliver
	}
	key := memoKey{at, k, arg}
	o := x.memo[key]
	if o == nil {
		o = x.run(x.nodes[at], k, arg)
		x.memo[key] = o
	}
	return o
}

func (x *explorer) run(from *node, k kind, arg uint32) (o *outcome) {
	o = &outcome{}
	defer func() {
		if r := recover(); r != nil {
			o.bad = fmt.Sprint(r)
		}
	}()
	n := from.clone()
	if !x.event(n, k, arg, o) {
		o.off = true
		return o
	}
	if n.Open = x.turns && k == deliver; !n.Open {
		x.take(n, o)
	}
	if n.Core.hard.Term < from.Core.hard.Term && k != crash {
		fail("S8: the term falls from %d to %d", from.Core.hard.Term, n.Core.hard.Term)
	}
	if v := n.Core.violations; v > 0 {
		fail("%d messages contradict what Raft guarantees", v)
	}
	if n.Core.hard.Term > x.terms {
		o.off = true
		return o
	}
	o.next = x.intern(n)
	slices.Sort(o.sent)
	o.sent = slices.Compact(o.sent)
	return o
}

// event does k to n; false if it cannot happen now.
func (x *explorer) event(n *node, k kind, arg uint32, o *outcome) bool {
	c := n.Core
	switch k {
	case deliver:
		m := x.packets[arg].Message
		m.Entries = slices.Clone(m.Entries)
		for i := range m.Entries {
			m.Entries[i].Ref = x.packets[arg].values[i]
		}
		c.Step(noon, &m)
	case campaign:
		return x.campaign(c, uint64(arg))
	case pass:
		if !c.promise.holds(noon) && c.hint.grantUntil == 0 {
			return false
		}
		c.promise, c.hint.grantUntil = promise{}, 0
	case synced:
		if len(n.Batches) == 0 {
			return false
		}
		x.sync(n, o)
	case crash:
		if int(arg) > len(n.Batches) {
			return false
		}
		x.crash(n, int(arg))
	case turn:
		return n.Open
	case ask:
		n.Asked++
		_, err := c.Read(noon)
		return err == nil && n.Asked == 1
	case refuse:
		if c.hint.leader == 0 || c.role != Follower {
			return false
		}
		c.Refused(noon, c.hint.leader)
	default:
		return c.role == Leader && x.lead(c, k, arg)
	}
	return true
}

// campaign fires the election timeout. In a direct run the pre-vote is taken to have succeeded, and to have told of the
// term heard.
func (x *explorer) campaign(c *Core, heard uint64) bool {
	if c.role == Leader || !c.mayCampaign() || c.promise.holds(noon) {
		return false
	}
	if x.preVote {
		c.electionAt = noon
		c.Tick(noon)
		return true
	}
	c.preTerm = heard
	c.campaign(false)
	return true
}

// lead does what only happens to leaders.
func (x *explorer) lead(c *Core, k kind, arg uint32) bool {
	switch k {
	case propose:
		return c.Propose(noon, &Entry{Kind: Commands, Size: 1, Ref: int(arg)}) == nil
	case poke:
		for i := 0; c.other(i) != nil; i++ {
			if p := c.other(i); p.id == uint16(arg) {
				p.heartbeatAt, p.resendAt = noon, noon
				c.Tick(noon)
				return true
			}
		}
		return false
	case deaf:
		for i := range c.peers {
			c.peers[i].contact = 0
		}
		c.Tick(noon)
		return c.role == Follower
	case reshape:
		return c.Change(noon, Change{Operation: uint64(arg) + 1, Target: x.targets[arg], Force: true}) == nil
	case cancel:
		return c.Cancel(noon) == nil
	case handOver:
		p := c.peer(uint16(arg))
		return p != nil && p.boot != 0 && c.Transfer(noon, p.id) == nil
	case giveUp:
		c.transfer.until = noon
		return c.transfer.to != 0
	}
	panic(fmt.Sprintf("no such action: %d", k))
}

// take does the core's work: the log as written, a batch, what is to be sent.
func (x *explorer) take(n *node, o *outcome) {
	led := n.Core.role == Leader && uint64(len(n.Log)) >= n.Core.firstOfTerm
	if n.Core.commit > n.Commit {
		k, _ := n.inForce(x.founding)
		o.counts = append(o.counts, count{n.Core.commit, k})
	}
	e := n.Core.Take()
	if err := n.Core.Check(); err != nil {
		panic(err)
	}
	b := batch{serial: e.Serial}
	for _, op := range e.Ops {
		if op.Kind == OpTruncate && led && n.Core.role == Leader {
			fail("S5: leader %d cuts its log", n.ID)
		}
		if op.Entry.Config = cloneConfig(op.Entry.Config); op.Entry.Config != nil {
			if k, at := n.inForce(x.founding); !overlap(k, op.Entry.Config) {
				fail("S10: quorums of the configurations at %d and %d of server %d need not overlap: %+v, %+v", at, op.Entry.Index, n.ID, *k, *op.Entry.Config)
			}
		}
		b.ops = append(b.ops, op)
		n.Log = applyOp(n.Log, op, op.Entry.Ref)
	}
	if e.Hard != nil {
		hard := *e.Hard
		b.hard = &hard
	}
	b.after = cloneMessages(e.AfterSync)
	if b.last = uint64(len(n.Log)); b.last > 0 {
		b.term = n.Log[b.last-1].Term
	}
	if e.Commit < n.Commit || e.Commit > b.last {
		fail("S8: commit of %d goes from %d to %d, last is %d", n.ID, n.Commit, e.Commit, b.last)
	}
	n.Commit = e.Commit
	if k, at := n.inForce(x.founding); n.Core.inForce().Index != at || !slices.Equal(k.Members, n.Core.inForce().Members) || !slices.Equal(k.Old, n.Core.inForce().Old) {
		fail("S10: %d goes by the configuration at %d, its log has one at %d", n.ID, n.Core.inForce().Index, at)
	}
	for _, m := range e.Send {
		x.send(n, m, o)
	}
	for _, r := range e.Reads {
		o.reads = append(o.reads, r.Index)
	}
	if e.NeedsSync() {
		x.queue(n, b, o)
	} else if len(e.AfterSync) > 0 {
		panic("messages after a sync, and nothing to sync")
	}
}

// queue hands a batch to the disk. Here the careless drivers cut corners.
func (x *explorer) queue(n *node, b batch, o *outcome) {
	after := b.after
	if x.driver == tellEarly {
		b.after = nil
	}
	n.Batches = append(n.Batches, b)
	if x.driver == tellEarly {
		for _, m := range after {
			x.send(n, m, o)
		}
	}
	if x.driver == believeEarly {
		n.Core.Synced(noon, b.serial, b.last, b.term)
		x.take(n, o)
	} else if x.syncAtOnce {
		x.sync(n, o)
		x.take(n, o)
	}
}

func (x *explorer) sync(n *node, o *outcome) {
	b := n.Batches[0]
	n.Batches = slices.Delete(n.Batches, 0, 1)
	x.persist(n, b)
	for _, m := range b.after {
		x.send(n, m, o)
	}
	if x.driver != believeEarly {
		n.Core.Synced(noon, b.serial, b.last, b.term)
	}
}

// persist writes b to the disk of n, whose votes are kept apart: a server never forgets what it was asked to remember.
func (x *explorer) persist(n *node, b batch) {
	for _, op := range b.ops {
		n.Disk = applyOp(n.Disk, op, op.Entry.Ref)
	}
	if b.hard == nil {
		return
	}
	if b.hard.Term < n.Hard.Term {
		fail("S8: durable term of %d falls from %d to %d", n.ID, n.Hard.Term, b.hard.Term)
	}
	if v := n.Votes[b.hard.Term]; !x.lenient && v != 0 && b.hard.Vote != v {
		fail("S7: %d voted for %d and for %d in term %d", n.ID, v, b.hard.Vote, b.hard.Term)
	}
	if n.Hard = *b.hard; n.Hard.Vote != 0 {
		n.Votes[n.Hard.Term] = n.Hard.Vote
	}
	if x.driver == loseVote {
		n.Hard.Vote = 0
	}
}

// crash and restart.
func (x *explorer) crash(n *node, keep int) {
	for _, b := range n.Batches[:keep] {
		x.persist(n, b)
	}
	if last := len(n.Disk) - 1; x.driver == lyingDisk && last >= 0 {
		n.Disk = slices.Clone(n.Disk[:last])
	}
	n.Batches, n.Commit, n.Asked, n.Open = nil, 0, 0, false
	n.Crashes++
	x.boot(n)
}

// boot starts n from its disk.
func (x *explorer) boot(n *node) {
	n.Log = slices.Clone(n.Disk)
	s := Start{Hard: n.Hard, Last: uint64(len(n.Log)), Configs: []IndexedConfiguration{{0, x.founding}}}
	for _, e := range n.Log {
		if k := len(s.Terms); k == 0 || s.Terms[k-1].Term != e.Term {
			s.Terms = append(s.Terms, TermRun{e.Index, e.Term})
		}
		if e.Kind == Configuring {
			s.Configs = append(s.Configs, IndexedConfiguration{e.Index, *e.Config})
		}
	}
	c := Config{ID: n.ID, Incarnation: uint64(n.ID) * 1000, Boot: n.boot(), Seed: 1, Timeout: 100 * msec, Heartbeat: 10 * msec, Resend: 20 * msec, ProbeAfter: -1, HeldEntries: 4}
	if x.hints {
		c.ProbeAfter = 25 * msec
	}
	n.Core = New(c, s, noon)
}

// inForce finds the configuration by the log alone.
func (n *node) inForce(founding Configuration) (*Configuration, uint64) {
	for i := len(n.Log) - 1; i >= 0; i-- {
		if n.Log[i].Kind == Configuring {
			return n.Log[i].Config, n.Log[i].Index
		}
	}
	return &founding, 0
}

// send puts m on the wires as a node would: with bodies from the log, in datagrams of so many entries.
func (x *explorer) send(n *node, m Message, o *outcome) {
	if !x.lenient {
		n.mayTell(&m)
	}
	if int(m.To) > x.servers || m.To == 0 {
		return
	}
	switch m.Kind {
	case Append:
		m.Seq = 1
	case Ack:
		m.EchoSeq = 1
	}
	first, last := m.First, m.Last
	m.First, m.Last = 0, 0
	if m.Kind != Append || first > last {
		o.sent = append(o.sent, x.internPacket(packet{Message: m}))
		return
	}
	for ; first <= last; first += x.chunk {
		p := packet{Message: m}
		if p.PrevIndex, p.PrevTerm = first-1, 0; first > 1 {
			p.PrevTerm = n.Log[first-2].Term
		}
		for _, e := range n.Log[first-1 : min(last, first+x.chunk-1)] {
			p.Entries, p.values = append(p.Entries, e.Entry), append(p.values, e.value)
		}
		o.sent = append(o.sent, x.internPacket(p))
	}
}

// mayTell: what a message says is durable (S7, S8, S9).
func (n *node) mayTell(m *Message) {
	if m.Term > n.Hard.Term {
		fail("S8: %d sends %s of term %d, durable is %d", n.ID, m.Kind, m.Term, n.Hard.Term)
	}
	switch {
	case m.Kind == VoteReply && m.Granted && !m.Pre && n.Votes[m.Term] != m.To:
		fail("S7: %d tells %d of a vote in term %d that is not durable (%d)", n.ID, m.To, m.Term, n.Votes[m.Term])
	case m.Kind == Vote && !m.Pre && n.Votes[m.Term] != n.ID:
		fail("S7: %d asks for votes in term %d before its own is durable", n.ID, m.Term)
	case m.Kind == Ack && m.Match > uint64(len(n.Disk)):
		fail("S9: %d acknowledges %d, synced is %d", n.ID, m.Match, len(n.Disk))
	}
}
