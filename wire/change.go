package wire

const (
	changeHeaderBytes      = 32
	changeReplyHeaderBytes = 48
)

// Verbs of a MemberChange.
const (
	VerbAdd      = 1
	VerbRemove   = 2
	VerbReplace  = 3
	VerbSet      = 4
	VerbCancel   = 5
	VerbTransfer = 6
)

// Outcomes of a MemberChange, as far as it is known when it is answered.
const (
	OutcomeNotLeader = 1 // ask Leader
	OutcomeBegun     = 2 // under way: ask again under the same operation
	OutcomeDone      = 3 // the configuration that was wanted is committed
	OutcomeRefused   = 4 // not begun, or given up; Text says why
	OutcomePlan      = 5 // of a dry run; Text says what would happen
)

// Phases of a change, for holds and answers.
const (
	PhaseStable  = 0
	PhaseLearner = 1
	PhaseJoint   = 2
)

// MemberChange asks for a change of the membership, or of the leader.
//
//	 0  nonce 8
//	 8  operation 8
//	16  hold 8
//	24  verb 1 | flags 1: 1 dry run, 2 force | hold phase 1 | zero 5
//	32  servers
type MemberChange struct {
	Nonce     uint64
	Operation uint64 // made by the asker, so that a repeat is known as one
	Hold      int64  // nanoseconds to stay in HoldPhase; 0 = none
	Verb      uint8
	DryRun    bool
	Force     bool // begin even without a quorum alive
	HoldPhase uint8
	Servers   []byte // encoded; an empty address = as known
}

// Size is the encoded length.
func (m *MemberChange) Size() int { return changeHeaderBytes + len(m.Servers) }

// Encode writes the frame.
func (m *MemberChange) Encode(p []byte) {
	le.PutUint64(p[0:], m.Nonce)
	le.PutUint64(p[8:], m.Operation)
	le.PutUint64(p[16:], uint64(m.Hold))
	p[24], p[25], p[26] = m.Verb, bit(m.DryRun, 1)|bit(m.Force, 2), m.HoldPhase
	clear(p[27:32])
	copy(p[changeHeaderBytes:], m.Servers)
}

// Decode reads the frame; Servers is a view.
func (m *MemberChange) Decode(p []byte) error {
	if len(p) < changeHeaderBytes {
		return ErrShort
	}
	if p[25]&^3 != 0 || !zero(p[27:32]) {
		return ErrReserved
	}
	if p[24] < VerbAdd || p[24] > VerbTransfer {
		return ErrValue
	}
	*m = MemberChange{
		Nonce:     le.Uint64(p[0:]),
		Operation: le.Uint64(p[8:]),
		Hold:      int64(le.Uint64(p[16:])),
		Verb:      p[24],
		DryRun:    p[25]&1 != 0,
		Force:     p[25]&2 != 0,
		HoldPhase: p[26],
		Servers:   p[changeHeaderBytes:],
	}
	return nil
}

// MemberChangeReply answers a MemberChange, and again when the operation is over.
//
//	 0  nonce 8
//	 8  operation 8
//	16  index 8
//	24  term 8
//	32  leader 2 | outcome 1 | phase 1 | zero 4
//	40  configuration length 4 | text length 4
//	48  configuration, then text
type MemberChangeReply struct {
	Nonce, Operation uint64
	Index, Term      uint64 // of the configuration entry, once there is one
	Leader           uint16
	Outcome, Phase   uint8
	Configuration    []byte // encoded
	Text             []byte // for people, UTF-8
}

// Size is the encoded length.
func (m *MemberChangeReply) Size() int {
	return changeReplyHeaderBytes + len(m.Configuration) + len(m.Text)
}

// Encode writes the frame.
func (m *MemberChangeReply) Encode(p []byte) {
	fits("configuration", len(m.Configuration), MaxMessage)
	fits("text", len(m.Text), MaxMessage)
	le.PutUint64(p[0:], m.Nonce)
	le.PutUint64(p[8:], m.Operation)
	le.PutUint64(p[16:], m.Index)
	le.PutUint64(p[24:], m.Term)
	le.PutUint16(p[32:], m.Leader)
	p[34], p[35] = m.Outcome, m.Phase
	le.PutUint32(p[36:], 0)
	le.PutUint32(p[40:], uint32(len(m.Configuration)))
	le.PutUint32(p[44:], uint32(len(m.Text)))
	n := changeReplyHeaderBytes + copy(p[changeReplyHeaderBytes:], m.Configuration)
	copy(p[n:], m.Text)
}

// Decode reads the frame; Configuration and Text are views.
func (m *MemberChangeReply) Decode(p []byte) error {
	if len(p) < changeReplyHeaderBytes {
		return ErrShort
	}
	if le.Uint32(p[36:]) != 0 {
		return ErrReserved
	}
	conf, text := int64(le.Uint32(p[40:])), int64(le.Uint32(p[44:]))
	want := changeReplyHeaderBytes + conf + text
	if int64(len(p)) < want {
		return ErrShort
	}
	if int64(len(p)) > want {
		return ErrTrailing
	}
	end := changeReplyHeaderBytes + int(conf)
	*m = MemberChangeReply{
		Nonce:         le.Uint64(p[0:]),
		Operation:     le.Uint64(p[8:]),
		Index:         le.Uint64(p[16:]),
		Term:          le.Uint64(p[24:]),
		Leader:        le.Uint16(p[32:]),
		Outcome:       p[34],
		Phase:         p[35],
		Configuration: p[changeReplyHeaderBytes:end:end],
		Text:          p[end:],
	}
	return nil
}
