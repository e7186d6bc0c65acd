package wire

const (
	helloBytes            = 8
	helloReplyHeaderBytes = 56
)

// Hello is a client's question to every server that it knows: who leads?
//
//	0  nonce 8
//	8  zeros, as many as the asker likes: the answer to a client without a token
//	   may not be longer than the question
type Hello struct {
	Nonce uint64
	Pad   int // zeros behind the nonce, bytes
}

// Size is the encoded length.
func (h *Hello) Size() int { return helloBytes + h.Pad }

// Encode writes the frame.
func (h *Hello) Encode(p []byte) {
	le.PutUint64(p[0:], h.Nonce)
	clear(p[helloBytes : helloBytes+h.Pad])
}

// Decode reads the frame.
func (h *Hello) Decode(p []byte) error {
	if len(p) < helloBytes {
		return ErrShort
	}
	if !zero(p[helloBytes:]) {
		return ErrReserved
	}
	*h = Hello{Nonce: le.Uint64(p[0:]), Pad: len(p) - helloBytes}
	return nil
}

// HelloReply tells a client all it needs to begin.
//
//	 0  nonce 8
//	 8  term 8
//	16  log time 8
//	24  token 8
//	32  cluster 16
//	48  leader 2 | flags 1: 1 blank, 2 removed | zero 1 | address length 2 | servers length 2
//	56  leader's address, then servers
type HelloReply struct {
	Nonce      uint64
	Leader     uint16 // 0 = none known
	LeaderAddr []byte // host:port; empty = look it up in Servers
	Term       uint64
	LogTime    int64    // nanoseconds; a registration carries it back
	Token      uint64   // for the header of what the client sends to this server
	Blank      bool     // belongs to no cluster yet
	Removed    bool     // belongs to the cluster no more
	Cluster    [16]byte // zero when blank
	Servers    []byte   // every server known, as AppendServers encodes them
}

// Size is the encoded length.
func (h *HelloReply) Size() int {
	return helloReplyHeaderBytes + len(h.LeaderAddr) + len(h.Servers)
}

// Encode writes the frame.
func (h *HelloReply) Encode(p []byte) {
	fits("leader address", len(h.LeaderAddr), MaxAddr)
	fits("servers", len(h.Servers), 0xFFFF)
	le.PutUint64(p[0:], h.Nonce)
	le.PutUint64(p[8:], h.Term)
	le.PutUint64(p[16:], uint64(h.LogTime))
	le.PutUint64(p[24:], h.Token)
	copy(p[32:48], h.Cluster[:])
	le.PutUint16(p[48:], h.Leader)
	p[50], p[51] = bit(h.Blank, 1)|bit(h.Removed, 2), 0
	le.PutUint16(p[52:], uint16(len(h.LeaderAddr)))
	le.PutUint16(p[54:], uint16(len(h.Servers)))
	n := helloReplyHeaderBytes + copy(p[helloReplyHeaderBytes:], h.LeaderAddr)
	copy(p[n:], h.Servers)
}

// Decode reads the frame; LeaderAddr and Servers are views.
func (h *HelloReply) Decode(p []byte) error {
	if len(p) < helloReplyHeaderBytes {
		return ErrShort
	}
	if p[50]&^3 != 0 || p[51] != 0 {
		return ErrReserved
	}
	addr := int(le.Uint16(p[52:]))
	end := helloReplyHeaderBytes + addr
	if err := fixed(p, end+int(le.Uint16(p[54:]))); err != nil {
		return err
	}
	if !addrOK(p[helloReplyHeaderBytes:end]) {
		return ErrValue
	}
	*h = HelloReply{
		Nonce:      le.Uint64(p[0:]),
		Term:       le.Uint64(p[8:]),
		LogTime:    int64(le.Uint64(p[16:])),
		Token:      le.Uint64(p[24:]),
		Leader:     le.Uint16(p[48:]),
		Blank:      p[50]&1 != 0,
		Removed:    p[50]&2 != 0,
		LeaderAddr: p[helloReplyHeaderBytes:end:end],
		Servers:    p[end:],
	}
	copy(h.Cluster[:], p[32:48])
	return nil
}
