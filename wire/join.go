package wire

const joinHeaderBytes = 40

// Join tells a blank server that it belongs to a cluster now, and as whom. It
// persists this before its first ack.
//
//	 0  the leader's boot 8
//	 8  term 8
//	16  cluster 16
//	32  incarnation 8, as the configuration names the joiner
//	40  list: the encoded Configuration
type Join struct {
	AskBoot, Term uint64
	Cluster       [16]byte
	Incarnation   uint64
	List          []byte
}

// Size is the encoded length.
func (j *Join) Size() int { return joinHeaderBytes + len(j.List) }

// Encode writes the frame.
func (j *Join) Encode(p []byte) {
	le.PutUint64(p[0:], j.AskBoot)
	le.PutUint64(p[8:], j.Term)
	copy(p[16:32], j.Cluster[:])
	le.PutUint64(p[32:], j.Incarnation)
	copy(p[joinHeaderBytes:], j.List)
}

// Decode reads the frame; List is a view.
func (j *Join) Decode(p []byte) error {
	if len(p) < joinHeaderBytes {
		return ErrShort
	}
	*j = Join{AskBoot: le.Uint64(p[0:]), Term: le.Uint64(p[8:]), Incarnation: le.Uint64(p[32:]), List: p[joinHeaderBytes:]}
	copy(j.Cluster[:], p[16:32])
	return nil
}
