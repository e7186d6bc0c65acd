package wire

const timeoutNowBytes = 24

// TimeoutNow is the leader's word to campaign at once: leadership is handed over.
//
//	 0  term 8
//	 8  last index 8
//	16  the leader's boot 8
type TimeoutNow struct {
	Term, LastIndex, AskBoot uint64
}

// Size is the encoded length.
func (t *TimeoutNow) Size() int { return timeoutNowBytes }

// Encode writes the frame.
func (t *TimeoutNow) Encode(p []byte) {
	p = p[:timeoutNowBytes]
	le.PutUint64(p[0:], t.Term)
	le.PutUint64(p[8:], t.LastIndex)
	le.PutUint64(p[16:], t.AskBoot)
}

// Decode reads the frame.
func (t *TimeoutNow) Decode(p []byte) error {
	if err := fixed(p, timeoutNowBytes); err != nil {
		return err
	}
	*t = TimeoutNow{Term: le.Uint64(p[0:]), LastIndex: le.Uint64(p[8:]), AskBoot: le.Uint64(p[16:])}
	return nil
}
