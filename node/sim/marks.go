package sim

import (
	"balsa/node"
	"balsa/node/raft"
	"balsa/wal/vfs"
	"balsa/wire"
)

// Mark is a state of the system that a run should have met: one that no seed
// ever met says that nothing was proven about it (E5).
type Mark uint8

const (
	MarkPreVote Mark = iota
	MarkVote
	MarkGrant
	MarkRefusedTerm
	MarkRefusedPromised
	MarkRefusedVoted
	MarkRefusedLog
	MarkRefusedVoteless
	MarkRefusedYield
	MarkRefusedRemoved
	MarkTransferVote
	MarkTimeoutNow
	MarkProbe
	MarkHintVote // a pre-vote that says its leader's process is gone
	MarkHintGrant
	MarkReadAsk
	MarkReadAnswer
	MarkReject
	MarkHeld // an ack tells of entries that came before those they follow
	MarkResend
	MarkHeartbeat
	MarkTruncate
	MarkRewrite
	MarkDamaged
	MarkVoteless
	MarkLearner
	MarkJoint
	MarkStable // after a change
	MarkUndone
	MarkGaveUp
	MarkRemovedLeader
	MarkPart
	MarkFragment
	MarkJoin
	MarkRepeat
	MarkReplay
	MarkForeign
	MarkStranger // a member's id under another incarnation
	MarkBlankAsked
	MarkUnknown
	MarkNotApplied
	MarkOneShot
	MarkLarge
	MarkLeaseRead   // released without a round
	MarkLeaseRanOut // at a leader that does not know yet that another leads
	MarkTwin        // a clone was noticed
	MarkRestored    // a restored directory was
	MarkRoll        // a log went on in another segment
	MarkStall       // an ack says that its server's disk stalls
	MarkHandedStall // a leader whose disk stalls hands over
	MarkStallEnding // the disk of the last leader hangs for ever, and an end is owed (E8)
	MarkFailed      // and those after it, a kind of disk call each
	Marks           = MarkFailed + Mark(vfs.OpLock)
)

var markNames = [MarkFailed]string{"pre-vote", "vote", "grant", "refused:term", "refused:promised", "refused:voted", "refused:log", "refused:voteless",
	"refused:yield", "refused:removed", "transfer-vote", "timeout-now", "probe", "hint-vote", "hint-grant", "read-ask", "read-answer", "reject",
	"held", "resend", "heartbeat", "truncation", "rewrite", "damaged", "voteless", "learner-phase", "joint-phase", "stable-again", "joint-undone", "gave-up", "leader-removed",
	"part", "fragment", "join", "repeat", "replay-dropped", "foreign-dropped", "incarnation-dropped", "blank-asked", "told-unknown", "told-not-applied", "one-shot", "large-value", "lease-read", "lease-run-out", "twin-noticed", "restored-noticed", "segment-rolled",
	"disk-stalls", "stall-handed-over", "stall-at-the-end"}

func (m Mark) String() string {
	if m < MarkFailed {
		return markNames[m]
	}
	return "failed:" + vfs.Op(m-MarkFailed+1).String()
}

// Met counts how often each was met.
type Met [Marks]uint64

// message notes what a Raft message shows.
func (m *Met) message(c *raft.Message, sent map[sentTo]uint64) {
	switch c.Kind {
	case raft.Append:
		m.append(c, sent)
	case raft.Ack:
		if c.Reject {
			m[MarkReject]++
		}
		if c.Held != [2]uint64{} {
			m[MarkHeld]++
		}
		if c.Disk == raft.DiskStalled {
			m[MarkStall]++
		}
	case raft.Vote:
		switch {
		case c.Pre && c.Probe != 0:
			m[MarkHintVote]++
		case c.Pre:
			m[MarkPreVote]++
		case c.Transfer:
			m[MarkTransferVote]++
		default:
			m[MarkVote]++
		}
	case raft.VoteReply:
		if c.Granted {
			m[MarkGrant]++
		} else {
			m[refusals[c.Reason]]++
		}
	case raft.TimeoutNow:
		m[MarkTimeoutNow]++
	case raft.Probe:
		m[MarkProbe]++
	case raft.ReadAsk:
		m[MarkReadAsk]++
	case raft.ReadAnswer:
		m[MarkReadAnswer]++
	}
}

var refusals = [...]Mark{raft.ReasonNone: MarkGrant, raft.ReasonTerm: MarkRefusedTerm, raft.ReasonPromised: MarkRefusedPromised,
	raft.ReasonVoted: MarkRefusedVoted, raft.ReasonLog: MarkRefusedLog, raft.ReasonVoteless: MarkRefusedVoteless,
	raft.ReasonYield: MarkRefusedYield, raft.ReasonRemoved: MarkRefusedRemoved}

// sentTo names what a leader has sent to one server in its term.
type sentTo struct {
	term uint64
	to   uint16
}

func (m *Met) append(c *raft.Message, sent map[sentTo]uint64) {
	if c.First > c.Last {
		m[MarkHeartbeat]++
		return
	}
	key := sentTo{c.Term, c.To}
	if c.First <= sent[key] {
		m[MarkResend]++
	}
	sent[key] = max(sent[key], c.Last)
}

// configuration notes the phase that a leader begins.
func (m *Met) configuration(id uint16, before, k *setting) {
	self := func(set []serverLife) bool {
		for _, v := range set {
			if v.id == id {
				return true
			}
		}
		return false
	}
	switch {
	case k.joint():
		m[MarkJoint]++
	case k.wants != nil:
		m[MarkLearner]++
	default:
		m[MarkStable]++
	}
	if before != nil && before.joint() && !k.joint() && sameSet(k.sets[0], before.sets[1]) && !sameSet(k.sets[0], before.sets[0]) {
		m[MarkUndone]++
	}
	if !k.joint() && !self(k.sets[0]) {
		m[MarkRemovedLeader]++
	}
}

// frames notes the frames of a datagram that leaves.
func (m *Met) frames(frames wire.Frames) {
	for kind, _, ok := frames.Next(); ok; kind, _, ok = frames.Next() {
		switch kind {
		case wire.KindFragment:
			m[MarkFragment]++
		case wire.KindJoin:
			m[MarkJoin]++
		}
	}
}

// process notes what a node has counted, as it ends.
func (m *Met) process(n *node.Node) {
	c := &n.Counters
	m[MarkRepeat] += c.Repeats
	m[MarkReplay] += c.DroppedReplays
	m[MarkForeign] += c.DroppedCluster
	m[MarkStranger] += c.DroppedIncarnation
	m[MarkBlankAsked] += c.DroppedBlank
	m[MarkHandedStall] += c.StallsHandedOver
	m[MarkTwin] += c.Twins
	m[MarkRestored] += c.Restored
	core := n.Core()
	if core == nil {
		return
	}
	m[MarkLeaseRead] += core.LeaseReads()
	if core.Progress().GaveUp.Operation != 0 {
		m[MarkGaveUp]++
	}
}

// answer notes what a client was told.
func (m *Met) answer(o *operation, how outcome, oneShot bool) {
	switch how {
	case unknown:
		m[MarkUnknown]++
	case notApplied:
		m[MarkNotApplied]++
	}
	if oneShot {
		m[MarkOneShot]++
	}
	if len(o.Value) > 1000 {
		m[MarkLarge]++
	}
}
