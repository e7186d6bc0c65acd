package wire

const ackBytes = 104

// Ack answers an Append.
//
//	 0  term 8
//	 8  echoed boot 8
//	16  echoed round 8
//	24  echoed sequence 8
//	32  match 8
//	40  last index 8
//	48  rejected previous index 8
//	56  hint index 8
//	64  hint term 8
//	72  echoed timeout 8
//	80  held 16, two words of 8
//	96  flags 1: 1 reject, 2 full | disk 1 | zero 6
type Ack struct {
	Term                         uint64
	EchoBoot, EchoRound, EchoSeq uint64    // of the Append it answers, and of the leader's process
	Match                        uint64    // entries up to here are synced and equal to the leader's
	Last                         uint64    // entries up to here are in the log and equal to the leader's, synced or not
	Reject                       bool      // the previous entry was not there
	RejectPrev                   uint64    // which previous index was refused
	Hint, HintTerm               uint64    // where to try next, and the term there
	EchoTimeout                  int64     // the timeout promised, nanoseconds
	Disk                         uint8     // health of the disk: 0 well, larger is worse
	Full                         bool      // the disk has no room: entries are not taken
	Held                         [2]uint64 // bit i: entry Last+2+i came before those it follows
}

// Size is the encoded length.
func (a *Ack) Size() int { return ackBytes }

// Encode writes the frame.
func (a *Ack) Encode(p []byte) {
	p = p[:ackBytes]
	le.PutUint64(p[0:], a.Term)
	le.PutUint64(p[8:], a.EchoBoot)
	le.PutUint64(p[16:], a.EchoRound)
	le.PutUint64(p[24:], a.EchoSeq)
	le.PutUint64(p[32:], a.Match)
	le.PutUint64(p[40:], a.Last)
	le.PutUint64(p[48:], a.RejectPrev)
	le.PutUint64(p[56:], a.Hint)
	le.PutUint64(p[64:], a.HintTerm)
	le.PutUint64(p[72:], uint64(a.EchoTimeout))
	le.PutUint64(p[80:], a.Held[0])
	le.PutUint64(p[88:], a.Held[1])
	p[96], p[97] = bit(a.Reject, 1)|bit(a.Full, 2), a.Disk
	clear(p[98:104])
}

// Decode reads the frame.
func (a *Ack) Decode(p []byte) error {
	if err := fixed(p, ackBytes); err != nil {
		return err
	}
	if p[96]&^3 != 0 || !zero(p[98:104]) {
		return ErrReserved
	}
	*a = Ack{
		Term:        le.Uint64(p[0:]),
		EchoBoot:    le.Uint64(p[8:]),
		EchoRound:   le.Uint64(p[16:]),
		EchoSeq:     le.Uint64(p[24:]),
		Match:       le.Uint64(p[32:]),
		Last:        le.Uint64(p[40:]),
		RejectPrev:  le.Uint64(p[48:]),
		Hint:        le.Uint64(p[56:]),
		HintTerm:    le.Uint64(p[64:]),
		EchoTimeout: int64(le.Uint64(p[72:])),
		Held:        [2]uint64{le.Uint64(p[80:]), le.Uint64(p[88:])},
		Reject:      p[96]&1 != 0,
		Full:        p[96]&2 != 0,
		Disk:        p[97],
	}
	return nil
}
