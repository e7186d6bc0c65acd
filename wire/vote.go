package wire

const (
	voteBytes      = 40
	voteReplyBytes = 40
)

// Vote asks for a vote, or for a pre-vote.
//
//	 0  term 8
//	 8  last index 8
//	16  last term 8
//	24  the asker's boot 8
//	32  flags 1: 1 pre-vote, 2 transfer | probe 1 | zero 6
type Vote struct {
	Pre      bool // a pre-vote: Term is the one that would be campaigned in
	Transfer bool // the leader asked for it: promises don't stand against it
	Term     uint64

	LastIndex, LastTerm uint64
	Probe               uint8 // what the asker's probe of the leader gave; 0 = not probed
	AskBoot             uint64
}

// Size is the encoded length.
func (v *Vote) Size() int { return voteBytes }

// Encode writes the frame.
func (v *Vote) Encode(p []byte) {
	p = p[:voteBytes]
	le.PutUint64(p[0:], v.Term)
	le.PutUint64(p[8:], v.LastIndex)
	le.PutUint64(p[16:], v.LastTerm)
	le.PutUint64(p[24:], v.AskBoot)
	p[32], p[33] = bit(v.Pre, 1)|bit(v.Transfer, 2), v.Probe
	clear(p[34:40])
}

// Decode reads the frame.
func (v *Vote) Decode(p []byte) error {
	if err := fixed(p, voteBytes); err != nil {
		return err
	}
	if p[32]&^3 != 0 || !zero(p[34:40]) {
		return ErrReserved
	}
	*v = Vote{
		Term:      le.Uint64(p[0:]),
		LastIndex: le.Uint64(p[8:]),
		LastTerm:  le.Uint64(p[16:]),
		AskBoot:   le.Uint64(p[24:]),
		Pre:       p[32]&1 != 0,
		Transfer:  p[32]&2 != 0,
		Probe:     p[33],
	}
	return nil
}

// VoteReply answers a Vote.
//
//	 0  term 8
//	 8  echoed boot 8
//	16  last index 8
//	24  last term 8
//	32  flags 1: 1 pre-vote, 2 granted | reason 1 | zero 6
type VoteReply struct {
	Pre, Granted bool
	Term         uint64
	EchoBoot     uint64 // of the asker's process: an answer to another boot counts nowhere
	Reason       uint8  // why it was refused; 0 = granted or not told

	LastIndex, LastTerm uint64 // of the answering side's log
}

// Size is the encoded length.
func (v *VoteReply) Size() int { return voteReplyBytes }

// Encode writes the frame.
func (v *VoteReply) Encode(p []byte) {
	p = p[:voteReplyBytes]
	le.PutUint64(p[0:], v.Term)
	le.PutUint64(p[8:], v.EchoBoot)
	le.PutUint64(p[16:], v.LastIndex)
	le.PutUint64(p[24:], v.LastTerm)
	p[32], p[33] = bit(v.Pre, 1)|bit(v.Granted, 2), v.Reason
	clear(p[34:40])
}

// Decode reads the frame.
func (v *VoteReply) Decode(p []byte) error {
	if err := fixed(p, voteReplyBytes); err != nil {
		return err
	}
	if p[32]&^3 != 0 || !zero(p[34:40]) {
		return ErrReserved
	}
	*v = VoteReply{
		Term:      le.Uint64(p[0:]),
		EchoBoot:  le.Uint64(p[8:]),
		LastIndex: le.Uint64(p[16:]),
		LastTerm:  le.Uint64(p[24:]),
		Pre:       p[32]&1 != 0,
		Granted:   p[32]&2 != 0,
		Reason:    p[33],
	}
	return nil
}
