package wire

const (
	readAskBytes    = 24
	readAnswerBytes = 32
)

// ReadAsk is a follower's question to its leader: up to where must I have applied, so
// that what I read now is linearizable? The leader asks a fresh round for it.
//
//	 0  the asker's boot 8
//	 8  nonce 8, ascending while that boot lives
//	16  term 8, of the asker
type ReadAsk struct {
	AskBoot, Nonce, Term uint64
}

// Size is the encoded length.
func (r *ReadAsk) Size() int { return readAskBytes }

// Encode writes the frame.
func (r *ReadAsk) Encode(p []byte) {
	p = p[:readAskBytes]
	le.PutUint64(p[0:], r.AskBoot)
	le.PutUint64(p[8:], r.Nonce)
	le.PutUint64(p[16:], r.Term)
}

// Decode reads the frame.
func (r *ReadAsk) Decode(p []byte) error {
	if err := fixed(p, readAskBytes); err != nil {
		return err
	}
	*r = ReadAsk{AskBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:]), Term: le.Uint64(p[16:])}
	return nil
}

// ReadAnswer answers a ReadAsk, and every earlier one of the same boot. An answer to
// another boot counts nowhere: that one counted its questions from the beginning too.
//
//	 0  echoed boot 8
//	 8  nonce 8
//	16  term 8, of the leader
//	24  index 8: what is read once this is applied is linearizable
type ReadAnswer struct {
	EchoBoot, Nonce, Term, Index uint64
}

// Size is the encoded length.
func (r *ReadAnswer) Size() int { return readAnswerBytes }

// Encode writes the frame.
func (r *ReadAnswer) Encode(p []byte) {
	p = p[:readAnswerBytes]
	le.PutUint64(p[0:], r.EchoBoot)
	le.PutUint64(p[8:], r.Nonce)
	le.PutUint64(p[16:], r.Term)
	le.PutUint64(p[24:], r.Index)
}

// Decode reads the frame.
func (r *ReadAnswer) Decode(p []byte) error {
	if err := fixed(p, readAnswerBytes); err != nil {
		return err
	}
	*r = ReadAnswer{EchoBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:]), Term: le.Uint64(p[16:]), Index: le.Uint64(p[24:])}
	return nil
}
