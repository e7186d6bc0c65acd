package wire

const (
	probeBytes      = 24
	probeReplyBytes = 32
)

// Probe asks a leader whether it still is one: the first half of noticing a dead
// process before its timeout. No answer means nothing; a refusal by ICMP does. With
// the highest bit of the nonce set it asks any server, of the asker's own id too,
// whether this boot is alive: how a cloned directory is noticed.
//
//	 0  the asker's boot 8
//	 8  nonce 8
//	16  term 8, in which the asked one led
type Probe struct {
	AskBoot, Nonce, Term uint64
}

// Size is the encoded length.
func (q *Probe) Size() int { return probeBytes }

// Encode writes the frame.
func (q *Probe) Encode(p []byte) {
	p = p[:probeBytes]
	le.PutUint64(p[0:], q.AskBoot)
	le.PutUint64(p[8:], q.Nonce)
	le.PutUint64(p[16:], q.Term)
}

// Decode reads the frame.
func (q *Probe) Decode(p []byte) error {
	if err := fixed(p, probeBytes); err != nil {
		return err
	}
	*q = Probe{AskBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:]), Term: le.Uint64(p[16:])}
	return nil
}

// ProbeReply answers a Probe. Its sender's boot is in the header.
//
//	 0  echoed boot 8
//	 8  nonce 8
//	16  term 8, of the answering side now
//	24  flags 1: 1 leads that term | zero 7
type ProbeReply struct {
	EchoBoot, Nonce, Term uint64
	Leads                 bool
}

// Size is the encoded length.
func (r *ProbeReply) Size() int { return probeReplyBytes }

// Encode writes the frame.
func (r *ProbeReply) Encode(p []byte) {
	p = p[:probeReplyBytes]
	le.PutUint64(p[0:], r.EchoBoot)
	le.PutUint64(p[8:], r.Nonce)
	le.PutUint64(p[16:], r.Term)
	p[24] = bit(r.Leads, 1)
	clear(p[25:32])
}

// Decode reads the frame.
func (r *ProbeReply) Decode(p []byte) error {
	if err := fixed(p, probeReplyBytes); err != nil {
		return err
	}
	if p[24]&^1 != 0 || !zero(p[25:32]) {
		return ErrReserved
	}
	*r = ProbeReply{
		EchoBoot: le.Uint64(p[0:]),
		Nonce:    le.Uint64(p[8:]),
		Term:     le.Uint64(p[16:]),
		Leads:    p[24]&1 != 0,
	}
	return nil
}
