package wire

const notLeaderHeaderBytes = 24

// NotLeader refuses operations for good: this copy of each was not and will not be
// applied. It names the leader, if one is known.
//
//	 0  term 8
//	 8  leader 2 | reason 1 | zero 1 | address length 2 | zero 2
//	16  count 4 | zero 4
//	24  sequence numbers, 8 each, then the leader's address
type NotLeader struct {
	Term   uint64
	Leader uint16 // 0 = none known
	Addr   []byte // host:port of the leader; may be empty
	Count  int
	Seqs   []byte // 8 bytes each, see Seq
	Reason uint8  // 0 = does not lead; others are for the servers to say
}

// Size is the encoded length.
func (n *NotLeader) Size() int { return notLeaderHeaderBytes + len(n.Seqs) + len(n.Addr) }

// Seq is the i-th refused sequence number, i below Count.
func (n *NotLeader) Seq(i int) uint64 { return le.Uint64(n.Seqs[8*i:]) }

// PutSeq sets the i-th; Seqs has room for it.
func (n *NotLeader) PutSeq(i int, seq uint64) { le.PutUint64(n.Seqs[8*i:], seq) }

// Encode writes the frame.
func (n *NotLeader) Encode(p []byte) {
	fits("leader address", len(n.Addr), MaxAddr)
	if len(n.Seqs) != 8*n.Count {
		panic("wire: NotLeader: Seqs does not hold Count numbers")
	}
	le.PutUint64(p[0:], n.Term)
	le.PutUint16(p[8:], n.Leader)
	p[10], p[11] = n.Reason, 0
	le.PutUint16(p[12:], uint16(len(n.Addr)))
	le.PutUint16(p[14:], 0)
	le.PutUint32(p[16:], uint32(n.Count))
	le.PutUint32(p[20:], 0)
	end := notLeaderHeaderBytes + copy(p[notLeaderHeaderBytes:], n.Seqs)
	copy(p[end:], n.Addr)
}

// Decode reads the frame; Seqs and Addr are views.
func (n *NotLeader) Decode(p []byte) error {
	if len(p) < notLeaderHeaderBytes {
		return ErrShort
	}
	if p[11] != 0 || !zero(p[14:16]) || !zero(p[20:24]) {
		return ErrReserved
	}
	count, addr := int64(le.Uint32(p[16:])), int64(le.Uint16(p[12:]))
	want := notLeaderHeaderBytes + 8*count + addr
	if int64(len(p)) < want {
		return ErrShort
	}
	if int64(len(p)) > want {
		return ErrTrailing
	}
	end := notLeaderHeaderBytes + 8*int(count)
	if !addrOK(p[end:]) {
		return ErrValue
	}
	*n = NotLeader{
		Term:   le.Uint64(p[0:]),
		Leader: le.Uint16(p[8:]),
		Reason: p[10],
		Count:  int(count),
		Seqs:   p[notLeaderHeaderBytes:end:end],
		Addr:   p[end:],
	}
	return nil
}
