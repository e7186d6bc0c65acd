package raft

import (
	"fmt"
	"slices"
	"strings"
)

// A cluster in memory for tests: each host has a core and a log driver that keeps what is written apart from what is
// synced, and judge watches them all. Nothing moves by itself: the scripts and the random runs decide.

const msec = int64(1e6)

// body is an entry as a log keeps it; value stands for its bytes.
type body struct {
	Entry
	value   int
	damaged bool
}

// batch is what one Effects asked to make durable.
type batch struct {
	serial, last, term uint64
	hard               *HardState
	ops                []LogOp
	after              []Message
}

type host struct {
	id                uint16
	incarnation, boot uint64
	up                bool
	core              *Core
	log               []body // as written; log[i] has index i+1
	disk              []body // as synced
	hard              HardState
	batches           []batch
	commit            uint64
	blank             bool // wiped: it has no founding list
	syncing           bool // of a run with a clock: the end of a sync is on its way
}

type packet struct {
	Message
	values []int
}

type world struct {
	now      int64
	config   Config
	founding Configuration
	hosts    []*host
	net      []packet
	chunk    uint64 // entries in one datagram
	boots    uint64
	value    int
	judge    judge
	tickets  map[[2]uint64]uint64 // (boot, ticket) -> ledger head when asked
	served   int
	leased   uint64 // reads that a lease released, of all boots
	trace    func(string, ...any)
}

func newWorld(seed uint64, config Config, founding Configuration, ids ...uint16) *world {
	w := &world{config: config, founding: founding, chunk: 4, now: 1000 * msec, tickets: map[[2]uint64]uint64{}, trace: func(string, ...any) {}}
	w.config.Seed = seed
	w.judge.init()
	for _, id := range ids {
		h := &host{id: id, incarnation: uint64(id) * 1000}
		w.hosts = append(w.hosts, h)
		w.start(h)
	}
	return w
}

func voters(ids ...uint16) Configuration {
	var k Configuration
	for _, id := range ids {
		k.Members = append(k.Members, Member{id, uint64(id) * 1000, true})
	}
	return k
}

func (w *world) host(id uint16) *host {
	for _, h := range w.hosts {
		if h.id == id {
			return h
		}
	}
	return nil
}

// start boots a host from what its disk has.
func (w *world) start(h *host) {
	w.boots++
	h.boot, h.up, h.batches = 7000+w.boots, true, nil
	h.log = slices.Clone(h.disk)
	s := Start{Hard: h.hard, Last: uint64(len(h.log)), Configs: []IndexedConfiguration{{0, w.founding}}}
	if h.blank && !w.founding.Leases { // what allows leases comes with the founding list, before the first ack
		s.Configs = nil
	}
	for _, e := range h.log {
		if n := len(s.Terms); n == 0 || s.Terms[n-1].Term != e.Term {
			s.Terms = append(s.Terms, TermRun{e.Index, e.Term})
		}
		if e.damaged {
			s.Damaged = append(s.Damaged, Range{e.Index, e.Index})
		} else if e.Kind == Configuring {
			s.Configs = append(s.Configs, IndexedConfiguration{e.Index, *e.Config})
		}
	}
	c := w.config
	c.ID, c.Incarnation, c.Boot, c.Seed = h.id, h.incarnation, h.boot, w.config.Seed*1000003+h.boot
	h.core = New(c, s, w.now)
	h.commit = 0
	w.take(h)
}

// crash loses what was not synced; the first keep batches were synced, though nobody was told.
func (w *world) crash(h *host, keep int) {
	for _, b := range h.batches[:min(keep, len(h.batches))] {
		w.persist(h, b)
	}
	w.leased += h.core.LeaseReads()
	h.up, h.batches, h.core = false, nil, nil
}

// take does the work of the core: writes its operations, queues a batch, sends.
func (w *world) take(h *host) {
	e := h.core.Take()
	if err := h.core.Check(); err != nil {
		panic(err)
	}
	b := batch{serial: e.Serial}
	for _, op := range e.Ops {
		b.ops = append(b.ops, op)
		h.log = applyOp(h.log, op, op.Entry.Ref)
	}
	if e.Hard != nil {
		hard := *e.Hard
		b.hard = &hard
	}
	b.after = slices.Clone(e.AfterSync)
	b.last = uint64(len(h.log))
	if b.last > 0 {
		b.term = h.log[b.last-1].Term
	}
	if e.NeedsSync() {
		h.batches = append(h.batches, b)
	} else if len(e.AfterSync) > 0 {
		panic("messages after a sync, and nothing to sync")
	}
	for _, m := range e.Send {
		w.send(h, m)
	}
	w.judge.took(w, h, e)
	for _, r := range e.Reads {
		w.served++
		if head := w.tickets[[2]uint64{h.boot, r.Ticket}]; r.Index < head {
			panic(fmt.Sprintf("S13: read %d of server %d at index %d, but %d was committed when it was asked", r.Ticket, h.id, r.Index, head))
		}
	}
	if e.RoleChanged {
		w.trace("%d: %s of term %d, leader %d", h.id, e.Role, e.Term, e.Leader)
	}
	if e.Commit > h.commit {
		w.trace("%d: commit %d", h.id, e.Commit)
		h.commit = e.Commit
	}
	for _, r := range e.Reads {
		w.trace("%d: read %d at %d", h.id, r.Ticket, r.Index)
	}
	if e.ReadsLost {
		w.trace("%d: reads lost", h.id)
	}
}

func applyOp(log []body, op LogOp, value int) []body {
	if op.Kind == OpTruncate {
		return slices.Clone(log[:op.From-1])
	}
	e := body{Entry: op.Entry, value: value}
	if op.Rewrite {
		if old := log[e.Index-1]; !old.damaged || old.Term != e.Term {
			panic(fmt.Sprintf("rewrite of %d, which is not damaged", e.Index))
		}
		log = slices.Clone(log)
		log[e.Index-1] = e
		return log
	}
	if e.Index != uint64(len(log))+1 {
		panic(fmt.Sprintf("append of %d after %d", e.Index, len(log)))
	}
	return append(log, e)
}

// send puts m on the network as the node would: bodies read from the log, split into datagrams.
func (w *world) send(h *host, m Message) {
	w.judge.sent(w, h, &m)
	if m.Kind != Append || m.First > m.Last {
		w.net = append(w.net, packet{Message: m})
		return
	}
	for first := m.First; first <= m.Last; first += w.chunk {
		p := packet{Message: m}
		p.PrevIndex = first - 1
		if first > 1 {
			p.PrevTerm = h.log[first-2].Term
		}
		for i := first; i <= min(m.Last, first+w.chunk-1); i++ {
			e := h.log[i-1]
			p.Entries = append(p.Entries, e.Entry)
			p.values = append(p.values, e.value)
		}
		w.net = append(w.net, p)
	}
}

// sync makes the oldest batch durable and tells the core; false when there is none.
func (w *world) sync(h *host) bool {
	if len(h.batches) == 0 {
		return false
	}
	b := h.batches[0]
	h.batches = slices.Delete(h.batches, 0, 1)
	w.persist(h, b)
	for _, m := range b.after {
		w.send(h, m)
	}
	h.core.Synced(w.now, b.serial, b.last, b.term)
	w.take(h)
	return true
}

func (w *world) persist(h *host, b batch) {
	for _, op := range b.ops {
		h.disk = applyOp(h.disk, op, op.Entry.Ref)
	}
	if b.hard != nil {
		w.judge.persisted(h, *b.hard)
		h.hard = *b.hard
	}
}

// deliver gives a packet to whom it is for.
func (w *world) deliver(p packet) {
	h := w.host(p.To)
	if h == nil || !h.up {
		return
	}
	m := p.Message
	m.Entries = slices.Clone(m.Entries)
	for i := range m.Entries {
		m.Entries[i].Ref = p.values[i]
	}
	h.core.Step(w.now, &m)
	w.take(h)
}

func (w *world) propose(h *host, e Entry) error {
	w.value++
	e.Ref = w.value
	if e.Size == 0 {
		e.Size = 100
	}
	err := h.core.Propose(w.now, &e)
	w.take(h)
	return err
}

func (w *world) read(h *host) error {
	t, err := h.core.Read(w.now)
	if err == nil {
		w.tickets[[2]uint64{h.boot, t}] = uint64(len(w.judge.ledger))
	}
	w.take(h)
	return err
}

func (w *world) leader() *host {
	var best *host
	for _, h := range w.hosts {
		if h.up && h.core.Role() == Leader && (best == nil || h.core.Term() > best.core.Term()) {
			best = h
		}
	}
	return best
}

// judge holds what must be true of all servers together (S1 to S10 of the plan of tests).
type judge struct {
	leaders map[uint64]uint64    // term -> incarnation
	ledger  []body               // committed
	votes   map[[2]uint64]uint16 // (incarnation, term) -> vote made durable
	terms   map[uint64]uint64    // boot -> term last told
	commits map[uint64]uint64
	held    map[uint64]uint64 // incarnation -> what it had synced when it was wiped
	led     map[uint64]uint64 // boot -> term it led at the last Take
}

func (j *judge) init() {
	j.leaders, j.votes = map[uint64]uint64{}, map[[2]uint64]uint16{}
	j.held = map[uint64]uint64{}
	j.terms, j.commits, j.led = map[uint64]uint64{}, map[uint64]uint64{}, map[uint64]uint64{}
}

func fail(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (j *judge) persisted(h *host, hard HardState) {
	if hard.Term < h.hard.Term {
		fail("S8: durable term of %d falls from %d to %d", h.id, h.hard.Term, hard.Term)
	}
	k := [2]uint64{h.incarnation, hard.Term}
	if v := j.votes[k]; v != 0 && hard.Vote != v {
		fail("S7: %d voted for %d and for %d in term %d", h.id, v, hard.Vote, hard.Term)
	}
	if hard.Vote != 0 {
		j.votes[k] = hard.Vote
	}
}

func (j *judge) took(w *world, h *host, e *Effects) {
	if e.Term < j.terms[h.boot] {
		fail("S8: term of %d falls from %d to %d", h.id, j.terms[h.boot], e.Term)
	}
	j.terms[h.boot] = e.Term
	if e.Commit < j.commits[h.boot] {
		fail("S8: commit of %d falls from %d to %d", h.id, j.commits[h.boot], e.Commit)
	}
	j.commits[h.boot] = e.Commit
	if e.Role == Leader {
		if l, ok := j.leaders[e.Term]; ok && l != h.incarnation {
			fail("S1: %d and %d lead term %d", l, h.incarnation, e.Term)
		} else if !ok {
			j.leaders[e.Term] = h.incarnation
			j.complete(h)
			j.alone(w, h)
		}
		for _, op := range e.Ops {
			if op.Kind == OpTruncate && j.led[h.boot] == e.Term {
				fail("S5: leader %d cuts its log", h.id)
			}
		}
		j.led[h.boot] = e.Term
		for _, op := range e.Ops {
			if op.Kind == OpAppend && op.Entry.Kind == Configuring && op.Entry.Term == e.Term {
				j.configured(h, op.Entry.Index)
			}
		}
	}
	for i := h.commit + 1; i <= e.Commit; i++ {
		b := h.log[i-1]
		if b.damaged {
			fail("S14: %d commits the damaged entry %d", h.id, i)
		}
		if i > uint64(len(j.ledger)) {
			j.durable(w, h, e, i)
			j.ledger = append(j.ledger, b)
		} else if l := j.ledger[i-1]; l.Term != b.Term || l.value != b.value {
			fail("S3: %d commits (%d, term %d, value %d) where (term %d, value %d) was", h.id, i, b.Term, b.value, l.Term, l.value)
		}
	}
}

// complete: a leader's log has everything that was committed.
func (j *judge) complete(h *host) {
	for i, l := range j.ledger {
		if i >= len(h.log) || h.log[i].Term != l.Term || h.log[i].value != l.value {
			fail("S4: %d leads without the committed entry %d", h.id, i+1)
		}
	}
}

// alone: as long as a server holds a lease, nobody else comes to lead a later term.
func (j *judge) alone(w *world, h *host) {
	for _, g := range w.hosts {
		if g != h && g.up && g.core.Term() < h.core.Term() && g.core.Leased(w.now) {
			fail("lease: %d leads term %d while %d holds a lease of term %d", h.id, h.core.Term(), g.id, g.core.Term())
		}
	}
}

// counted is the configuration that the commit of these Effects was counted by: a leader appends the next one, if it
// does, after it has counted.
func counted(h *host, e *Effects) *IndexedConfiguration {
	ks := h.core.configs
	for i := len(ks) - 1; i > 0; i-- {
		if e.Role != Leader || !slices.ContainsFunc(e.Ops, func(op LogOp) bool { return op.Kind == OpAppend && op.Entry.Index == ks[i].Index }) {
			return &ks[i]
		}
	}
	return &ks[0]
}

// durable: what is committed is synced at a quorum of the configuration that its committer goes by.
func (j *judge) durable(w *world, h *host, e *Effects, index uint64) {
	k := counted(h, e).Configuration
	has := func(id uint16) bool {
		g := w.host(id)
		if m := k.member(id); g != nil && m.Incarnation != g.incarnation { // wiped since; what it had acknowledged was true then
			return j.held[m.Incarnation] >= index
		}
		return g != nil && uint64(len(g.disk)) >= index && g.disk[index-1].Term == h.log[index-1].Term // rot after the sync is not the committer's fault
	}
	count := func(ids []uint16) bool {
		n := 0
		for _, id := range ids {
			if has(id) {
				n++
			}
		}
		return n > len(ids)/2
	}
	var ids []uint16
	for _, m := range k.Members {
		if m.Voter {
			ids = append(ids, m.ID)
		}
	}
	if !count(ids) || len(k.Old) > 0 && !count(k.Old) {
		fail("S6: %d commits %d, which no quorum of %+v has synced", h.id, index, k)
	}
}

func (j *judge) sent(w *world, h *host, m *Message) {
	if m.Term > h.hard.Term {
		fail("S7/S8: %d sends %s of term %d, durable is %d", h.id, m.Kind, m.Term, h.hard.Term)
	}
	switch {
	case m.Kind == VoteReply && m.Granted && !m.Pre:
		if v := j.votes[[2]uint64{h.incarnation, m.Term}]; v != m.To {
			fail("S7: %d tells %d of a vote in term %d that is not durable (%d)", h.id, m.To, m.Term, v)
		}
	case m.Kind == Vote && !m.Pre:
		if v := j.votes[[2]uint64{h.incarnation, m.Term}]; v != h.id {
			fail("S7: %d asks for votes in term %d before its own is durable", h.id, m.Term)
		}
	case m.Kind == Ack:
		if uint64(len(h.disk)) < m.Match {
			fail("S9: %d acknowledges %d, synced is %d", h.id, m.Match, len(h.disk))
		}
		l := w.host(m.To)
		if m.Match == 0 || l == nil || !l.up || l.core.Role() != Leader || l.core.Term() != m.Term {
			return
		}
		for i := uint64(1); i <= m.Match; i++ {
			a, b := h.disk[i-1], l.log[i-1]
			if a.damaged || a.Term != b.Term || a.value != b.value {
				fail("S9: %d acknowledges %d to %d, but differs at %d", h.id, m.Match, m.To, i)
			}
		}
	}
}

// describe prints a message for goldens.
func describe(p *packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d->%d %s t%d", p.From, p.To, p.Kind, p.Term)
	switch p.Kind {
	case Append:
		fmt.Fprintf(&b, " prev (%d,t%d) commit %d", p.PrevIndex, p.PrevTerm, p.Commit)
		if p.Round > 0 {
			fmt.Fprintf(&b, " round %d", p.Round)
		}
		if n := len(p.Entries); n > 0 {
			fmt.Fprintf(&b, " entries %d..%d", p.Entries[0].Index, p.Entries[n-1].Index)
		}
	case Ack:
		fmt.Fprintf(&b, " match %d held %d", p.Match, p.LastIndex)
		for i := p.LastIndex + 2; i < p.LastIndex+2+HeldMost; i++ {
			if p.holds(i) {
				fmt.Fprintf(&b, " +%d", i)
			}
		}
		if p.EchoRound > 0 {
			fmt.Fprintf(&b, " round %d", p.EchoRound)
		}
		if p.Reject {
			fmt.Fprintf(&b, " reject %d hint (%d,t%d)", p.RejectPrev, p.Hint, p.HintTerm)
		}
	case Probe, ReadAsk:
		fmt.Fprintf(&b, " %d", p.Seq)
	case ProbeReply:
		fmt.Fprintf(&b, " %d leads %v", p.EchoSeq, p.Leads)
	case ReadAnswer:
		fmt.Fprintf(&b, " %d index %d", p.EchoSeq, p.Index)
	case Vote, VoteReply:
		if p.Transfer {
			b.WriteString(" transfer")
		}
		if p.Probe == probeRefused {
			b.WriteString(" (leader refused)")
		}
		if p.Pre {
			b.WriteString(" pre")
		}
		fmt.Fprintf(&b, " last (%d,t%d)", p.LastIndex, p.LastTerm)
		if p.Kind == VoteReply {
			if p.Granted {
				b.WriteString(" granted")
			} else {
				fmt.Fprintf(&b, " refused: %s", [...]string{"", "term", "promised", "voted", "log", "voteless", "yield", "removed"}[p.Reason])
			}
		}
	}
	return b.String()
}

// describeLog prints a log as runs of terms.
func describeLog(log []body) string {
	var b strings.Builder
	for i, e := range log {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d", e.Term)
		if e.damaged {
			b.WriteByte('!')
		}
		if e.Kind == Configuring {
			b.WriteByte('c')
		}
	}
	if len(log) == 0 {
		return "empty"
	}
	return b.String()
}
