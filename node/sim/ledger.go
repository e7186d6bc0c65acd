package sim

import (
	"fmt"
	"slices"

	"balsa/kv"
	"balsa/node/raft"
)

// identity names an entry: two of one index with the same identity are the same entry.
type identity struct{ term, sum uint64 }

// logMirror is what one life of a server holds: in memory, as the node says,
// and on its disk, as the simulator saw it synced. Index i is at i-1.
type logMirror struct {
	memory []identity
	disk   []identity
	ops    []logOp // in memory, in no batch yet
}

// logOp is one change of a log: an append, or a truncation when from is not 0.
type logOp struct {
	from  uint64
	index uint64
	id    identity
}

func (o logOp) onto(log []identity) []identity {
	if o.from != 0 {
		return log[:min(uint64(len(log)), o.from-1)]
	}
	if o.index <= uint64(len(log)) {
		log[o.index-1] = o.id
		return log
	}
	return append(log, o.id)
}

func at(log []identity, index uint64) (identity, bool) {
	if index == 0 || index > uint64(len(log)) {
		return identity{}, index == 0
	}
	return log[index-1], true
}

// voterState is what the checker remembers of one life of a server. A wiped
// server begins another; what the lost one had synced still counts for commits
// that it helped, never for new ones.
type voterState struct {
	life        int
	incarnation uint64
	logMirror
	hardTerm uint64 // durable, as the node says; recovery must agree
	hardVote uint16
	term     uint64              // in memory; never falls in one process
	votes    map[uint64]uint16   // term -> candidate granted
	damaged  []uint64            // entries on its disk that rot has hurt; few
	acked    uint64              // the last entry that any answer of this life has acknowledged
	rotted   map[uint64]identity // by index: acknowledged while they were whole, hurt since; an answer may be on its way still
	voteless bool
	list     uint64     // hash of the founding list it offered
	founding *setting   // the list it holds
	settings []*setting // configurations of its log, the last in force

	committed uint64 // in this process, by the node's word
	leading   uint64 // the term it leads in this process, 0 none
}

// committedEntry is one entry of the global ledger.
type committedEntry struct {
	identity
	in uint64 // the durable term of the server that committed it first
}

type clientSeq struct{ client, seq uint64 }

// place is one identity seen at an index, with the term before it.
type place struct {
	identity
	before uint64
}

// leadership is who led a term.
type leadership struct {
	server uint16
	life   int
}

// ledger is the omniscient checker. Each method costs the same however long
// the run: it compares with what it remembers, it never searches.
type ledger struct {
	violate func(rule, format string, args ...any)
	servers []voterState // by id; 0 unused
	leaders map[uint64]leadership
	seen    [][]place // by index-1: every identity that ever stood there
	entries []committedEntry
	configurations
	past    map[serverLife]*voterState // lives that ended: what they had synced and voted still counts for what it helped
	asked   map[voteAsked]raft.Message
	answers map[clientSeq]kv.Result // the first of each, without its value
	states  map[uint64]uint64       // hash by applied index, at some
	// changed is told of the first result of each (client, seq).
	changed func(client, seq uint64, r *kv.Result)
}

type voteAsked struct {
	from uint16
	term uint64
}

func newLedger(servers int, violate func(rule, format string, args ...any)) *ledger {
	l := &ledger{violate: violate, servers: make([]voterState, servers+1),
		configurations: newConfigurations(), past: map[serverLife]*voterState{},
		leaders: map[uint64]leadership{}, asked: map[voteAsked]raft.Message{}, answers: map[clientSeq]kv.Result{}, states: map[uint64]uint64{}}
	for i := range l.servers {
		l.servers[i].votes = map[uint64]uint16{}
	}
	return l
}

// head is the last committed index.
func (l *ledger) head() uint64 { return uint64(len(l.entries)) }

// wiped begins another life of a server: its memory, its disk and its
// incarnation are gone.
func (l *ledger) wiped(id uint16) {
	old := l.servers[id]
	l.past[serverLife{id, old.incarnation}] = &old
	l.servers[id] = voterState{life: old.life + 1, votes: map[uint64]uint16{}}
}

// offered: SAFETY 7, one life of a server offers one founding list.
func (l *ledger) offered(id uint16, list uint64) {
	s := &l.servers[id]
	if s.list != 0 && s.list != list {
		l.violate("R7", "server %d offers another founding list than before", id)
	}
	s.list = list
}

// leader: S1, one leader per term ever; S4, it holds the ledger of earlier terms.
func (l *ledger) leader(id uint16, term uint64) {
	s := &l.servers[id]
	if before, ok := l.leaders[term]; ok && (before.server != id || before.life != s.life) {
		l.violate("S1", "term %d is led by server %d, and by server %d before", term, id, before.server)
	}
	l.leaders[term] = leadership{id, s.life}
	s.leading = term
	if s.voteless || len(s.damaged) > 0 {
		l.violate("R13", "server %d leads term %d with a damaged log (%d), voteless %v", id, term, s.damaged, s.voteless)
	}
	l.founded(id, s.founding)
	l.elected(id, term)
	head := l.head()
	for head > 0 && l.entries[head-1].in >= term {
		head--
	}
	if got, ok := at(s.memory, head); head > 0 && (!ok || got != l.entries[head-1].identity) {
		l.violate("S4", "server %d leads term %d without entry %d of term %d that was committed in term %d", id, term, head, l.entries[head-1].term, l.entries[head-1].in)
	}
}

// appended: S2, an identity at an index has one predecessor; S5, a leader's
// own entries are made once.
func (l *ledger) appended(id uint16, index, term, sum uint64) {
	s := &l.servers[id]
	entry := identity{term, sum}
	if index > uint64(len(s.memory))+1 {
		l.violate("S2", "server %d appends entry %d behind %d", id, index, len(s.memory))
		return
	}
	if old, ok := at(s.memory, index); ok && old != entry {
		l.violate("S2", "server %d rewrites entry %d of term %d in place by one of term %d", id, index, old.term, term)
	}
	before, _ := at(s.memory, index-1)
	if index > uint64(len(l.seen)) {
		l.seen = append(l.seen, nil)
	}
	known := false
	for _, p := range l.seen[index-1] {
		if p.term != term {
			continue
		}
		if p.identity != entry || p.before != before.term {
			l.violate("S2", "entry %d of term %d at server %d is not the one seen before (sum %x, was %x; after term %d, was %d)", index, term, id, sum, p.sum, before.term, p.before)
		}
		known = true
	}
	if !known {
		l.seen[index-1] = append(l.seen[index-1], place{entry, before.term})
	}
	op := logOp{index: index, id: entry}
	s.memory = op.onto(s.memory)
	s.ops = append(s.ops, op)
}

// truncated: S3, S6: what is in the ledger is never cut; S5: a leader never cuts.
func (l *ledger) truncated(id uint16, from uint64, leading bool) {
	s := &l.servers[id]
	if leading {
		l.violate("S5", "server %d leads and cuts its own log from %d", id, from)
	}
	if got, ok := at(s.memory, from); ok && from > 0 && from <= l.head() && got == l.entries[from-1].identity {
		l.violate("S3", "server %d cuts entry %d of term %d, which is committed", id, from, got.term)
	}
	s.leading = 0 // its log is no longer that of the term it led
	for n := len(s.settings); n > 0 && s.settings[n-1].index >= from; n-- {
		s.settings = s.settings[:n-1]
	}
	op := logOp{from: from}
	s.memory = op.onto(s.memory)
	s.ops = append(s.ops, op)
}

// takeOps gives what changed in memory since the last batch.
func (l *ledger) takeOps(id uint16) []logOp {
	ops := l.servers[id].ops
	l.servers[id].ops = nil
	return ops
}

// synced: the simulator made ops durable.
func (l *ledger) synced(id uint16, ops []logOp) {
	s := &l.servers[id]
	for _, op := range ops {
		s.disk = op.onto(s.disk)
		s.damaged = slices.DeleteFunc(s.damaged, func(index uint64) bool { return index == op.index || op.from != 0 && index >= op.from })
	}
}

// claimedSynced: what a node takes for durable is (S6).
func (l *ledger) claimedSynced(id uint16, index, term uint64) {
	if got, ok := at(l.servers[id].disk, index); !ok || got.term != term {
		l.violate("S6", "server %d takes (%d, term %d) for durable; its disk has %d entries, there of term %d", id, index, term, len(l.servers[id].disk), got.term)
	}
}

// hard: S7, S8: terms rise, a vote is given once.
func (l *ledger) hard(id uint16, term uint64, vote uint16) {
	s := &l.servers[id]
	if term < s.hardTerm {
		l.violate("S8", "server %d: durable term falls from %d to %d", id, s.hardTerm, term)
	}
	if term == s.hardTerm && s.hardVote != 0 && vote != s.hardVote {
		l.violate("S7", "server %d: vote of term %d changes from %d to %d", id, term, s.hardVote, vote)
	}
	s.hardTerm, s.hardVote = term, vote
}

// sent: S7, S8, S9 for each Raft message that leaves.
func (l *ledger) sent(id uint16, term uint64, m *raft.Message) {
	s := &l.servers[id]
	if !l.named[serverLife{id, m.FromIncarnation}] {
		l.violate("S7", "server %d takes part as incarnation %x, which no configuration names", id, m.FromIncarnation)
	}
	if m.Term > term {
		l.violate("S8", "server %d of term %d sends %v of term %d", id, term, m.Kind, m.Term)
	}
	if term < s.term {
		l.violate("S8", "server %d: term falls from %d to %d", id, s.term, term)
	}
	s.term = term
	if !m.Pre && m.Kind != raft.VoteReply && m.Term > s.hardTerm {
		l.violate("S7", "server %d sends %v of term %d, durable is term %d", id, m.Kind, m.Term, s.hardTerm)
	}
	switch {
	case m.Kind == raft.Append:
		if l.leaders[m.Term] != (leadership{id, s.life}) {
			l.violate("S1", "server %d sends entries of term %d, which it does not lead", id, m.Term)
		}
	case m.Kind == raft.Vote && !m.Pre:
		l.asks(s, id, m)
	case m.Kind == raft.VoteReply && !m.Pre && m.Granted:
		l.grants(s, id, m)
	case m.Kind == raft.Ack && !m.Reject:
		l.acks(s, id, m)
	}
}

// asks and grants: a vote rests on a durable one, or on a later durable term,
// in which none of this term can be given any more.
func (l *ledger) asks(s *voterState, id uint16, m *raft.Message) {
	if s.hardTerm == m.Term && s.hardVote != id {
		l.violate("S7", "server %d asks for votes of term %d; its durable vote is for %d", id, m.Term, s.hardVote)
	}
	l.vote(s, id, m.Term, id)
	l.asked[voteAsked{id, m.Term}] = raft.Message{LastIndex: m.LastIndex, LastTerm: m.LastTerm}
}

func (l *ledger) grants(s *voterState, id uint16, m *raft.Message) {
	if s.hardTerm < m.Term || s.hardTerm == m.Term && s.hardVote != m.To {
		l.violate("S7", "server %d grants term %d to %d; durable are term %d, vote %d", id, m.Term, m.To, s.hardTerm, s.hardVote)
	}
	l.vote(s, id, m.Term, m.To)
	asked, ok := l.asked[voteAsked{m.To, m.Term}]
	if !ok {
		l.violate("S7", "server %d grants term %d to %d, which did not ask", id, m.Term, m.To)
		return
	}
	last := uint64(len(s.memory))
	for last > 0 && s.memory[last-1].term >= m.Term {
		last-- // of the leader it helped to elect
	}
	own, _ := at(s.memory, last)
	if asked.LastTerm < own.term || asked.LastTerm == own.term && asked.LastIndex < last {
		l.violate("S4", "server %d with log to (%d, term %d) grants term %d to %d with log to (%d, term %d)", id, last, own.term, m.Term, m.To, asked.LastIndex, asked.LastTerm)
	}
}

func (l *ledger) vote(s *voterState, id uint16, term uint64, candidate uint16) {
	if s.voteless {
		l.violate("R6", "server %d may have forgotten its votes, and votes in term %d", id, term)
	}
	if before, ok := s.votes[term]; ok && before != candidate {
		l.violate("S7", "server %d votes for %d and for %d in term %d", id, before, candidate, term)
	}
	s.votes[term] = candidate
}

// acks: S9, an ack names only bytes synced there and equal to the leader's.
func (l *ledger) acks(s *voterState, id uint16, m *raft.Message) {
	if s.voteless || len(s.damaged) > 0 && m.Match >= s.damaged[0] {
		l.violate("R13", "server %d acknowledges %d; damaged are %d, voteless %v", id, m.Match, s.damaged, s.voteless)
	}
	own, ok := at(s.disk, m.Match)
	s.acked = max(s.acked, m.Match)
	if !ok {
		l.violate("S9", "server %d acknowledges %d; its disk ends at %d", id, m.Match, len(s.disk))
		return
	}
	who, known := l.leaders[m.Term]
	if !known || who.server != m.To {
		return
	}
	leader := &l.servers[m.To]
	if leader.leading != m.Term || leader.life != who.life {
		return // it no longer leads: its log may be another by now
	}
	if theirs, ok := at(leader.memory, m.Match); !ok || theirs != own {
		l.violate("S9", "server %d acknowledges entry %d of term %d; the leader's there is of term %d (log to %d)", id, m.Match, own.term, theirs.term, len(leader.memory))
	}
}

// commits: S3, one global ledger; S6, an index enters it only when synced at a
// quorum; S8, in order.
func (l *ledger) commits(id uint16, index uint64, entry identity) {
	s := &l.servers[id]
	if index != s.committed+1 {
		l.violate("S8", "server %d commits %d after %d", id, index, s.committed)
	}
	s.committed = index
	if index <= l.head() {
		if had := l.entries[index-1].identity; had != entry {
			l.violate("S3", "server %d commits entry %d of term %d, the ledger has one of term %d", id, index, entry.term, had.term)
		}
		return
	}
	if index != l.head()+1 {
		l.violate("S3", "server %d commits %d, the ledger ends at %d", id, index, l.head())
		return
	}
	if why := l.unheld(s, index, entry); why != "" {
		l.violate("S6", "server %d commits entry %d of term %d: %s", id, index, entry.term, why)
	}
	l.settled(index, entry)
	l.entries = append(l.entries, committedEntry{identity: entry, in: s.hardTerm})
}

// applies: S11, a (client, seq) is applied once and its repeats get the same
// bytes, on every server.
func (l *ledger) applies(id uint16, index, client, seq uint64, r *kv.Result) {
	if !r.Status.Applied() {
		return
	}
	key := clientSeq{client, seq}
	first, ok := l.answers[key]
	if !ok {
		if r.Index != index {
			l.violate("S11", "server %d: the first result of client %x seq %d at entry %d is of entry %d", id, client, seq, index, r.Index)
		}
		l.answers[key] = kv.Result{Status: r.Status, Sub: r.Sub, Index: r.Index, Term: r.Term}
		l.changed(client, seq, r)
		return
	}
	if f := &first; r.Status != f.Status || r.Index != f.Index || r.Term != f.Term || r.Sub != f.Sub {
		l.violate("S11", "server %d: client %x seq %d applied at entry %d: %v (%d, %d), was %v (%d, %d)", id, client, seq, index, r.Status, r.Index, r.Sub, f.Status, f.Index, f.Sub)
	}
}

// stateEvery is how many entries lie between two looks at the whole state.
const stateEvery = 64

// sameState: S12, all servers have one state at one applied index.
func (l *ledger) sameState(id uint16, index, hash uint64) {
	if before, ok := l.states[index]; ok && before != hash {
		l.violate("S12", "server %d has another state at applied index %d than a server before it", id, index)
	}
	l.states[index] = hash
}

// started begins a new process of the same life.
func (l *ledger) started(id uint16, incarnation uint64) {
	s := &l.servers[id]
	if s.incarnation != 0 && s.incarnation != incarnation {
		l.violate("S14", "server %d restarts as incarnation %x, was %x", id, incarnation, s.incarnation)
	}
	s.incarnation = incarnation
	s.committed, s.leading, s.ops, s.term = 0, 0, nil, s.hardTerm
}

// recovered is what a log came to after a restart.
type recovered struct {
	log      []identity // a damaged one has a term and no sum
	damaged  []uint64
	term     uint64
	vote     uint16
	voteless bool

	unsynced []logOp // written and never synced
	whole    bool    // all of it must be there: the page cache lived
	rot      bool    // a bit was turned over since the last start
}

const voteSpent = 0xFFFF // as the log says that the vote of a term is not known

// recovered: S14, recovery returns every synced entry or says damaged, and, of
// what was written and never synced, a prefix; after kill -9 all of it.
func (l *ledger) recovered(id uint16, f *recovered) {
	s := &l.servers[id]
	if f.term < s.hardTerm || f.term == s.hardTerm && s.hardVote != 0 && f.vote != s.hardVote && !(f.vote == voteSpent && f.rot) {
		l.violate("S14", "server %d recovers term %d with vote %d, durable was term %d with vote %d", id, f.term, f.vote, s.hardTerm, s.hardVote)
	}
	s.hardTerm, s.hardVote, s.term, s.voteless = f.term, f.vote, f.term, f.voteless
	for _, index := range f.damaged {
		if !f.rot && !slices.Contains(s.damaged, index) {
			l.violate("S14", "server %d: entry %d is damaged, and nothing damaged it", id, index)
		}
	}
	if f.rot {
		s.remembersRotted(f)
	}
	if f.rot && len(f.damaged) > 0 || !f.rot {
		s.damaged = append(s.damaged[:0], f.damaged...)
	}
	want := append([]identity(nil), s.disk...)
	fits := sameLog(want, f.log) && (!f.whole || len(f.unsynced) == 0)
	for i, op := range f.unsynced {
		if fits {
			break
		}
		want = op.onto(want)
		fits = (!f.whole || i == len(f.unsynced)-1) && sameLog(want, f.log)
	}
	if !fits && !f.voteless {
		l.violate("S14", "server %d recovers %s; synced were %s and %d changes of the log written", id, brief(f.log), brief(s.disk), len(f.unsynced))
	}
	if !fits { // entries whose identity is lost: it says so, and never counts again
		want = f.log
	}
	s.disk = append([]identity(nil), want...)
	s.memory = append([]identity(nil), want...)
	s.settings = l.settingsOf(want)
}

// remembersRotted keeps what rot took from the disk after it was acknowledged: the acknowledgement was right when it
// left, and whoever hears it late may count it (seed 18652), as one may that left before a directory was wiped.
func (s *voterState) remembersRotted(f *recovered) {
	for i, had := range s.disk[:min(s.acked, uint64(len(s.disk)))] {
		index := uint64(i + 1)
		if got, ok := at(f.log, index); ok && got == had && !slices.Contains(f.damaged, index) {
			continue
		}
		if s.rotted == nil {
			s.rotted = map[uint64]identity{}
		}
		s.rotted[index] = had
	}
}

// sameLog says whether b is a; a damaged entry of b has no sum.
func sameLog(a, b []identity) bool {
	if len(a) != len(b) {
		return false
	}
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != b[i] && (a[i].term != b[i].term || b[i].sum != 0) {
			return false
		}
	}
	return true
}

func brief(log []identity) string {
	if len(log) == 0 {
		return "an empty log"
	}
	last := log[len(log)-1]
	return fmt.Sprintf("entries to (%d, term %d, sum %x)", len(log), last.term, last.sum)
}
