package wire

const (
	chaosBytes      = 24
	chaosReplyBytes = 16
)

// Verbs of a Chaos.
const (
	ChaosCrash = 1 // end at once, as kill -9 does
	ChaosPause = 2 // stand still for the duration
	ChaosCut   = 3 // hear and say nothing for the duration; of none: hear and speak again
)

// Outcomes of a Chaos.
const (
	ChaosBegun   = 1
	ChaosOff     = 2 // the server was not started with --chaos
	ChaosRefused = 3 // not from this asker: only loopback may
)

// Chaos asks one server to do itself harm, for benchmarks and drills. A server
// that was not told to allow it refuses.
//
//	 0  nonce 8
//	 8  duration 8
//	16  verb 1 | zero 7
type Chaos struct {
	Nonce    uint64 // of this request: a copy of it is answered and not done again
	Duration int64  // nanoseconds, not negative
	Verb     uint8
}

// Size is the encoded length.
func (c *Chaos) Size() int { return chaosBytes }

// Encode writes the frame.
func (c *Chaos) Encode(p []byte) {
	p = p[:chaosBytes]
	le.PutUint64(p[0:], c.Nonce)
	le.PutUint64(p[8:], uint64(c.Duration))
	p[16] = c.Verb
	clear(p[17:24])
}

// Decode reads the frame.
func (c *Chaos) Decode(p []byte) error {
	if err := fixed(p, chaosBytes); err != nil {
		return err
	}
	if !zero(p[17:24]) {
		return ErrReserved
	}
	d := int64(le.Uint64(p[8:]))
	if p[16] < ChaosCrash || p[16] > ChaosCut || d < 0 {
		return ErrValue
	}
	*c = Chaos{Nonce: le.Uint64(p[0:]), Duration: d, Verb: p[16]}
	return nil
}

// ChaosReply answers a Chaos before the harm is done.
//
//	0  nonce 8
//	8  outcome 1 | zero 7
type ChaosReply struct {
	Nonce   uint64
	Outcome uint8
}

// Size is the encoded length.
func (r *ChaosReply) Size() int { return chaosReplyBytes }

// Encode writes the frame.
func (r *ChaosReply) Encode(p []byte) {
	p = p[:chaosReplyBytes]
	le.PutUint64(p[0:], r.Nonce)
	p[8] = r.Outcome
	clear(p[9:16])
}

// Decode reads the frame.
func (r *ChaosReply) Decode(p []byte) error {
	if err := fixed(p, chaosReplyBytes); err != nil {
		return err
	}
	if !zero(p[9:16]) {
		return ErrReserved
	}
	if p[8] < ChaosBegun || p[8] > ChaosRefused {
		return ErrValue
	}
	*r = ChaosReply{Nonce: le.Uint64(p[0:]), Outcome: p[8]}
	return nil
}
