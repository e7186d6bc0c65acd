package raft

import "slices"

// What goes in and what comes out: messages, log operations, Effects.

// Kind says what an entry is; the same numbers on the wire, in the log and in the store.
type Kind uint8

const (
	NoOp          Kind = 1
	Commands      Kind = 2
	Configuring   Kind = 3 // carries a Configuration
	BaseMark      Kind = 4
	Part          Kind = 5
	lastEntryKind      = Part
)

// Entry is what the core knows of an entry. Size is in bytes on the wire. Ref is the caller's and comes back untouched.
type Entry struct {
	Index, Term uint64
	Kind        Kind
	Size        int
	Config      *Configuration // of a Configuring entry; copied by the core
	Ref         int
}

// MessageKind names the messages between cores.
type MessageKind uint8

const (
	Append     MessageKind = 1 + iota // entries or, without any, a heartbeat
	Ack                               // the answer to it
	Vote                              // a vote or, with Pre, a question whether one would be given
	VoteReply                         // the answer to it
	TimeoutNow                        // the leader's word to campaign at once
	Probe                             // a question to the leader of Term whether it still is that; Seq numbers it
	ProbeReply                        // the answer: Leads
	ReadAsk                           // a follower's question for reads; Seq numbers it
	ReadAnswer                        // the answer: Index
)

func (k MessageKind) String() string {
	switch k {
	case Append:
		return "Append"
	case Ack:
		return "Ack"
	case Vote:
		return "Vote"
	case VoteReply:
		return "VoteReply"
	case TimeoutNow:
		return "TimeoutNow"
	case Probe:
		return "Probe"
	case ProbeReply:
		return "ProbeReply"
	case ReadAsk:
		return "ReadAsk"
	case ReadAnswer:
		return "ReadAnswer"
	}
	return "?"
}

// Why a vote was refused.
const (
	ReasonNone     uint8 = iota
	ReasonTerm           // the asker's term is over
	ReasonPromised       // inside a promise to a leader, or leading
	ReasonVoted          // for another in this term
	ReasonLog            // the asker's log is behind
	ReasonVoteless       // this server lost its memory of votes
	ReasonYield          // this server, or another that asked, stands instead: it noticed a dead leader too
	ReasonRemoved        // a committed configuration that the asker does not have leaves it out
)

// Message is every message; each kind uses some fields.
type Message struct {
	Kind                      MessageKind
	From, To                  uint16
	FromIncarnation, FromBoot uint64
	Term                      uint64 // the sender's, always: also of a pre-vote and its answer

	// Append. Received: Entries follow PrevIndex. To be sent: First..Last, PrevIndex = First-1, First > Last for a
	// heartbeat; the caller reads the bodies, and may split it into several, each with its own PrevIndex and PrevTerm.
	PrevIndex, PrevTerm uint64
	Commit, Round, Seq  uint64
	Timeout             int64 // T: what the sender asks the receiver to promise
	Leases              bool
	Entries             []Entry
	First, Last         uint64

	// Ack. Match is durable at the sender and equal to the leader's log; LastIndex is held and equal, durable or not:
	// it need not be sent again. A Reject says that (RejectPrev) does not fit, and that the leader may look at
	// Hint, HintTerm and below.
	EchoBoot, EchoRound, EchoSeq uint64
	EchoTimeout                  int64
	Match                        uint64
	LastIndex, LastTerm          uint64 // also of Vote and VoteReply: the sender's log; with ReasonRemoved, the configuration
	Reject                       bool
	RejectPrev, Hint, HintTerm   uint64
	Held                         [2]uint64 // bit i: entry LastIndex+2+i came before those it follows; no promise to keep it
	Disk                         uint8
	Full                         bool // its disk has no room for entries

	// Vote and VoteReply.
	Pre, Transfer, Granted bool
	Probe, Reason          uint8

	Leads bool   // ProbeReply: the sender leads the term that was asked about; EchoBoot and EchoSeq name the question
	Index uint64 // ReadAnswer: reads up to question EchoSeq may be served once this is applied
}

// OpKind names what is done to the log.
type OpKind uint8

const (
	OpTruncate OpKind = 1 + iota // entries from From on are void
	OpAppend                     // Entry, at the end; with Rewrite in place of the damaged one with the same index and term
)

// LogOp is one operation on the log. Own entries have the Ref that Propose was given, the no-op of a term and the steps of a change have Ref -1,
// received ones have the Ref of the message's entry: of the one that is stepped or, with Held, of one before.
type LogOp struct {
	Kind    OpKind
	From    uint64
	Entry   Entry
	Rewrite bool
	Held    bool // an append of an entry that was among the Holds of earlier Effects
}

// ReadReady says that the reads behind Ticket may be served once Index is applied.
type ReadReady struct{ Ticket, Index uint64 }

// Effects is the work of some steps. First keep the bodies of Holds, which are the message's: Take follows its Step at once.
// Do Ops in order and Hard (in one batch, in any order among the two), then Send.
// Hard and Ops of one Effects may be joined with those of later ones; AfterSync goes out when all of them, and all of
// every earlier Effects, are durable. Reads hold even if ReadsLost is set: that voids only those not in Reads.
type Effects struct {
	Serial      uint64     // for Synced; not raised by Effects that need no sync
	Hard        *HardState // nil: unchanged
	Holds       []Entry    // received, for a place of the ring: Index modulo HeldMost, whatever was there; nothing to sync
	Ops         []LogOp
	Send        []Message
	AfterSync   []Message
	Commit      uint64 // may be applied up to here
	Reads       []ReadReady
	ReadsLost   bool
	RoleChanged bool // role or known leader, since the last Take
	Role        Role
	Term        uint64
	Leader      uint16

	hard HardState
}

// NeedsSync tells whether there is anything to make durable.
func (e *Effects) NeedsSync() bool { return e.Hard != nil || len(e.Ops) > 0 }

func (e *Effects) reset() {
	e.Hard, e.Holds, e.Ops, e.Send, e.AfterSync, e.Reads = nil, e.Holds[:0], e.Ops[:0], e.Send[:0], e.AfterSync[:0], e.Reads[:0]
	e.ReadsLost, e.RoleChanged = false, false
}

// dropStale forgets vote requests and answers of terms below term: the hard state that would make them durable is
// replaced before it is written.
func (e *Effects) dropStale(term uint64) {
	e.AfterSync = slices.DeleteFunc(e.AfterSync, func(m Message) bool { return m.Term < term })
}
