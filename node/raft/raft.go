// Package raft is the consensus core of balsa: a step function without goroutines, clock, socket or disk.
//
// What it promises. Events go in (a message, a proposal, a finished sync, the time), work comes out of Take: operations
// on the log, hard state, messages to send now, messages to send once that work is durable, a commit index, reads that
// may be served. The same events with the same seed give the same work. Time is an argument, in nanoseconds of the
// caller's monotonic clock, and Deadline answers when Tick wants to be called next.
//
//	Step Propose Read Synced Tick Change Transfer Refused  ->  Core  ->  Take: Hard, Ops, Send, AfterSync, Commit, Reads
//
// Nothing is answered before the term and vote it rests on are durable; the leader counts itself only by Synced; only
// entries of the leader's own term are committed by counting. Messages come from the network and are judged: what
// cannot be right is counted and dropped, never believed and never a panic. A panic means the caller broke the contract.
//
// The core keeps no bodies: an entry is (index, term, kind, size) here, and the caller keeps the bytes.
package raft

import "errors"

// Never is the deadline of a core that waits for nothing.
const Never = int64(1<<63 - 1)

// maxTerm and maxIndex bound what a message may claim, so that arithmetic on it cannot overflow.
const (
	maxTerm  = 1 << 62
	maxIndex = 1 << 62
)

// Role is what a server does in its term.
type Role uint8

const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

func (r Role) String() string {
	switch r {
	case PreCandidate:
		return "pre-candidate"
	case Candidate:
		return "candidate"
	case Leader:
		return "leader"
	}
	return "follower"
}

// Errors of Propose, Read and Change; nothing has happened when one is returned. transfer.go and change.go have more.
var (
	ErrNotLeader = errors.New("raft: not the leader")
	ErrBusy      = errors.New("raft: too much is uncommitted")
	ErrPending   = errors.New("raft: another configuration, or the first entry of this term, is not committed yet")
	ErrInvalid   = errors.New("raft: not a valid configuration, or one where none belongs")
)

// Config is what a core is told once. Times are nanoseconds, sizes bytes on the wire; zero takes the default.
type Config struct {
	ID                uint16
	Incarnation, Boot uint64
	Seed              uint64
	Timeout           int64 // T: a follower's promise, and the least election timeout; 150 ms
	LargestTimeout    int64 // the largest T any leader may hand out: how long a restart holds its vote where leases are allowed; 1 s
	Heartbeat         int64 // a leader is never silent for longer; 10 ms
	Resend            int64 // entries sent and not told of for so long are sent again; 30 ms
	WindowBytes       int   // sent and not durable, for each peer; 4 MiB
	ProbeBytes        int   // in one message while the peer's log is unknown or it lost something; 64 KiB
	UncommittedBytes  int   // of this term, before Propose says ErrBusy; 32 MiB
	EntryBytes        int   // assumed for an entry whose size is forgotten; 4 KiB
	HeldEntries       int   // kept of what came before the entries it follows; HeldMost, which is the most; negative: none
	HeldBytes         int   // of those; 1 MiB
	ReadsWaiting      int   // tickets open at once; 65536
	NewVotersAlone    bool  // drills: while joint the new voters decide alone, which is what a joint configuration forbids
	ProbeAfter        int64 // silence of the leader after which it is probed; 2.5 heartbeats; negative: hints are ignored
}

func (g Config) withDefaults() Config {
	defaults := func(p *int64, v int64) {
		if *p <= 0 {
			*p = v
		}
	}
	sizes := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	defaults(&g.Timeout, 150e6)
	defaults(&g.LargestTimeout, max(1e9, g.Timeout))
	defaults(&g.Heartbeat, min(10e6, g.Timeout/4+1))
	defaults(&g.Resend, min(30e6, g.Timeout/2+1))
	if g.ProbeAfter == 0 {
		g.ProbeAfter = g.Heartbeat * 5 / 2
	}
	sizes(&g.WindowBytes, 4<<20)
	sizes(&g.ProbeBytes, 64<<10)
	sizes(&g.UncommittedBytes, 32<<20)
	sizes(&g.EntryBytes, 4<<10)
	sizes(&g.HeldBytes, 1<<20)
	sizes(&g.ReadsWaiting, 1<<16)
	if g.HeldEntries == 0 || g.HeldEntries > HeldMost {
		g.HeldEntries = HeldMost
	}
	return g
}

// HardState is what must be durable before anything that rests on it is answered.
type HardState struct {
	Term uint64
	Vote uint16 // 0: none
}

// Start is what recovery found. Slices are copied.
type Start struct {
	Hard     HardState
	Last     uint64                 // with damaged entries whose identity survives; all of it is durable
	Terms    []TermRun              // of 1..Last
	Configs  []IndexedConfiguration // ascending; index 0 is the founding list
	Damaged  []Range                // identity survives, the body does not
	Voteless bool                   // term or vote may be lost: never votes, leads or acknowledges
	Fresh    bool                   // this server never took part before, under this incarnation: it promised nothing
	Left     uint64                 // what Removed told an earlier boot; 0: nothing
}

// Core is one server's part in one Raft group. Not safe for concurrent use.
type Core struct {
	cfg    Config
	now    int64
	random random

	hard       HardState
	hardSerial uint64 // the Effects that carried hard; it is durable once synced reaches it
	voteless   bool

	role   Role
	leader uint16 // of this term, 0: unknown

	log         history
	durable     uint64 // <= log.last: entries up to here are synced as they stand
	proven      uint64 // <= log.last: entries up to here are those of this term's leader; 0 in a new term
	commit      uint64 // <= log.last
	damage      damage
	ring        ring   // follower: what came before the entries it follows
	truncSerial uint64 // the Effects of the last truncation: older syncs prove nothing about entries

	configs    []IndexedConfiguration // ascending; the last is in force
	peers      []peer                 // everyone else the configuration in force names, by id
	self, old  bool                   // this server is a voter of the (new, old) set in force
	joint      bool
	promise    promise
	hint       hint
	electionAt int64  // when an election begins, if nothing is heard
	votesAt    int64  // when unanswered vote requests are repeated
	preTerm    uint64 // the highest term told by answers to a pre-vote; a hint, never adopted
	votedFor   uint64 // the incarnation that has the vote of this term; 0: unknown since a restart
	ownVote    bool   // the vote for itself counts: it is durable, or a pre-vote
	handed     bool   // this candidacy is at the word of the last leader
	left       uint64 // a committed configuration at this index leaves this server out: those before it count no more
	withheld   uint64

	firstOfTerm uint64 // leader: its no-op
	leaving     bool   // leader: not a voter of a committed configuration; goes once that is announced
	announce    bool   // and that is still to do
	change      change
	transfer    transfer
	disk        uint8  // how ours does
	full        bool   // ours has no room for entries
	stallTried  bool   // leader: it stalls, and nobody took over
	seq         uint64 // numbers Append messages
	round       uint64 // numbers read rounds; never falls while this boot lives
	reads       reads
	ack         pendingAck

	effects      [2]Effects
	eff          *Effects // under construction
	serialTaken  uint64
	serialSynced uint64
	leaseReads   uint64
	dropped      uint64
	violations   uint64
	scratch      []uint64
}

// New makes a core from what recovery found.
func New(cfg Config, start Start, now int64) *Core {
	c := &Core{cfg: cfg.withDefaults(), now: now, hard: start.Hard, voteless: start.Voteless, left: start.Left}
	c.random = newRandom(cfg.Seed)
	c.log.init(start.Terms, start.Last, c.cfg.EntryBytes)
	c.durable = start.Last
	c.damage.init(start.Damaged, start.Last)
	for _, ic := range start.Configs {
		c.configs = append(c.configs, IndexedConfiguration{ic.Index, ic.Configuration.clone()})
	}
	if len(c.configs) == 0 {
		c.configs = append(c.configs, IndexedConfiguration{})
	}
	// A term below that of the log's last entry means that the record of it was lost: the vote there is spent.
	if t := c.log.lastTerm(); t > c.hard.Term {
		c.hard = HardState{Term: t, Vote: voteSpent}
	}
	c.eff = &c.effects[0]
	c.enforce()
	c.promise.restart(now, c.mayHavePromised(&start), c.cfg.LargestTimeout)
	c.resetElection()
	if c.soleVoter() {
		c.electionAt = now
	}
	return c
}

// Step takes one message. What m points to belongs to the caller again when Step returns.
func (c *Core) Step(now int64, m *Message) {
	c.advance(now)
	if !c.plausible(m) {
		c.dropped++
		return
	}
	switch m.Kind {
	case Append:
		c.stepAppend(m)
	case Ack:
		c.stepAck(m)
	case Vote:
		c.stepVote(m)
	case VoteReply:
		c.stepVoteReply(m)
	case TimeoutNow:
		c.stepTimeoutNow(m)
	case Probe:
		c.stepProbe(m)
	case ProbeReply:
		c.stepProbeReply(m)
	case ReadAsk:
		c.stepReadAsk(m)
	case ReadAnswer:
		c.stepReadAnswer(m)
	default:
		c.dropped++
	}
}

// plausible judges who speaks, and whether the numbers can be worked with. A server whose id the configuration in force
// gives to another incarnation counts nowhere and cannot raise a term, unless it is ahead of that configuration.
func (c *Core) plausible(m *Message) bool {
	if m.From == 0 || m.From == c.cfg.ID || m.Term > maxTerm || m.PrevIndex > maxIndex || m.Match > maxIndex {
		return false
	}
	if k := c.inForce().member(m.From); k != nil && k.Incarnation != m.FromIncarnation && !c.renewed(m) {
		return false
	}
	switch m.Kind {
	case Ack:
		p := c.otherByID(m.From)
		return m.EchoBoot == c.cfg.Boot && p != nil && p.incarnation == m.FromIncarnation
	case VoteReply:
		return m.EchoBoot == c.cfg.Boot && c.peer(m.From) != nil
	case ReadAnswer:
		return m.EchoBoot == c.cfg.Boot && m.EchoSeq <= c.reads.number && m.Index <= maxIndex
	}
	return true
}

// renewed tells whether a member under another incarnation may be one that replaced it by a configuration that this
// server does not have yet (trap 7): it leads, or its log is ahead of ours, as it has what names it.
func (c *Core) renewed(m *Message) bool {
	switch m.Kind {
	case Append:
		return m.Term >= c.hard.Term
	case Vote:
		last := c.log.lastTerm()
		return m.LastTerm > last || m.LastTerm == last && m.LastIndex > c.log.last
	case ReadAnswer, TimeoutNow, Probe, ProbeReply:
		return c.role == Follower && c.leader == m.From && m.Term == c.hard.Term
	}
	return false
}

// Tick acts on what has fallen due. Call it when now reaches Deadline; more often does no harm.
func (c *Core) Tick(now int64) {
	c.advance(now)
	if c.role == Leader {
		c.tickLeader()
		return
	}
	c.tickReads()
	c.tickWatch()
	if c.mayCampaign() && c.now >= c.campaignAt() {
		c.preCampaign()
	} else if c.role != Follower && c.now >= c.votesAt {
		c.askVotes(true)
	}
}

// Deadline is when Tick wants to be called; Never if nothing but a message can matter.
func (c *Core) Deadline() int64 {
	if c.role == Leader {
		return c.leaderDeadline()
	}
	at := c.reads.deadline()
	if c.watches() {
		at = min(at, c.hint.probeAt)
	}
	if !c.mayCampaign() {
		return at
	}
	if c.role != Follower {
		at = min(at, c.votesAt)
	}
	return min(at, c.campaignAt())
}

// advance moves the core's time, which never goes back.
func (c *Core) advance(now int64) { c.now = max(c.now, now) }

// Synced says that everything in the Effects up to Serial serial is durable, and that the last entry of the log was
// (index, term) as of the last of them. A sync that ran while the log was cut marks no entries: those it wrote may be
// gone, and others with the same place not yet written.
func (c *Core) Synced(now int64, serial, index, term uint64) {
	c.advance(now)
	if serial > c.serialTaken {
		panic("raft: Synced for Effects that were never taken")
	}
	c.serialSynced = max(c.serialSynced, serial)
	if t, ok := c.log.term(index); ok && t == term && serial >= c.truncSerial {
		c.durable = max(c.durable, index)
	}
	c.damage.synced(serial)
	switch c.role {
	case Leader:
		c.advanceCommit()
	case Candidate:
		c.countOwnVote()
	default:
		if c.ack.onSync {
			c.ack.now = true
		}
	}
}

// Take hands over the work since the last Take, and starts what it makes useful: entries and rounds leave here, one
// message for each peer however many proposals there were. The Effects are valid until the next Take.
func (c *Core) Take() *Effects {
	if c.role == Leader {
		c.stepChange()
		c.announceDepartures()
		for i := 0; c.other(i) != nil; i++ {
			c.replicate(c.other(i))
		}
		if c.leaving {
			c.leave()
		} else {
			c.stepStall()
			c.stepTransfer()
		}
	} else {
		c.flushAck()
		c.flushAsk()
	}
	e := c.eff
	if e.Hard != nil || len(e.Ops) > 0 {
		c.serialTaken++
	}
	e.Serial = c.serialTaken
	e.Commit = min(c.commit, c.damage.first()-1)
	e.Role, e.Term, e.Leader = c.role, c.hard.Term, c.leader
	c.eff = &c.effects[0]
	if e == c.eff {
		c.eff = &c.effects[1]
	}
	c.eff.reset()
	return e
}

// serial is what the Effects under construction will be called, if they carry anything to make durable.
func (c *Core) serial() uint64 { return c.serialTaken + 1 }

// hardDurable tells whether term and vote would survive a crash now.
func (c *Core) hardDurable() bool { return c.hardSerial <= c.serialSynced }

func (c *Core) setHard(h HardState) {
	if h.Term > c.hard.Term {
		c.eff.dropStale(h.Term)
		c.votedFor, c.hint.dead = 0, false
		c.ring.clear()
	}
	c.hard = h
	c.eff.hard = h
	c.eff.Hard = &c.eff.hard
	c.hardSerial = c.serial()
}

// answer sends what speaks for the present term and vote: with them, after them, or, while an earlier Effects is
// still being written, not at all (the asker repeats).
func (c *Core) answer(m Message) {
	m.From, m.FromIncarnation, m.FromBoot = c.cfg.ID, c.cfg.Incarnation, c.cfg.Boot
	switch {
	case c.eff.Hard != nil:
		c.eff.AfterSync = append(c.eff.AfterSync, m)
	case c.hardDurable():
		c.eff.Send = append(c.eff.Send, m)
	default:
		c.withheld++
	}
}

// send is for what rests on nothing that could be lost.
func (c *Core) send(m Message) {
	m.From, m.FromIncarnation, m.FromBoot = c.cfg.ID, c.cfg.Incarnation, c.cfg.Boot
	c.eff.Send = append(c.eff.Send, m)
}

// becomeFollower is the only way down from any role, and the only way into a term that another began.
func (c *Core) becomeFollower(term uint64, leader uint16) {
	if term > c.hard.Term {
		c.setHard(HardState{Term: term})
		c.proven, c.ack = 0, pendingAck{}
	}
	if c.role == Leader {
		if c.reads.clear() {
			c.eff.ReadsLost = true
		}
		c.endLeadership()
		c.proven = 0
	}
	if c.role != Follower {
		c.resetElection()
	}
	c.become(Follower, leader)
}

// endLeadership forgets what only a leader may go by: a held phase ends with its leader, too.
func (c *Core) endLeadership() {
	c.leaving, c.announce, c.transfer, c.stallTried = false, false, transfer{}, false
	c.change = change{gaveUp: c.change.gaveUp, departing: c.change.departing[:0]}
}

func (c *Core) become(role Role, leader uint16) {
	if role != c.role || leader != c.leader {
		c.eff.RoleChanged = true
		if len(c.reads.asked) > 0 && c.reads.clear() {
			c.eff.ReadsLost = true // they were asked of another
		}
	}
	c.role, c.leader = role, leader
}
