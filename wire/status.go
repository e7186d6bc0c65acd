package wire

const (
	statusBytes            = 8
	statusReplyHeaderBytes = 56
)

// Roles as a StatusReply tells them.
const (
	RoleBlank        = 0
	RoleFollower     = 1
	RolePreCandidate = 2
	RoleCandidate    = 3
	RoleLeader       = 4
	RoleLearner      = 5
	RoleRemoved      = 6
)

// Status asks one server how it is.
//
//	0  nonce 8
type Status struct {
	Nonce uint64
}

// Size is the encoded length.
func (s *Status) Size() int { return statusBytes }

// Encode writes the frame.
func (s *Status) Encode(p []byte) { le.PutUint64(p[0:], s.Nonce) }

// Decode reads the frame.
func (s *Status) Decode(p []byte) error {
	if err := fixed(p, statusBytes); err != nil {
		return err
	}
	s.Nonce = le.Uint64(p[0:])
	return nil
}

// StatusReply answers a Status.
//
//	 0  nonce 8
//	 8  term 8
//	16  last index 8
//	24  commit index 8
//	32  applied index 8
//	40  id 2 | leader 2 | role 1 | zero 3
//	48  configuration length 4 | servers length 4
//	56  configuration, then servers
type StatusReply struct {
	Nonce         uint64
	ID            uint16
	Role          uint8
	Leader        uint16 // 0 = none known
	Term          uint64
	Last          uint64
	Commit        uint64
	Applied       uint64
	Configuration []byte // encoded, the one in force; empty when blank
	Servers       []byte // encoded, every server known
}

// Size is the encoded length.
func (s *StatusReply) Size() int {
	return statusReplyHeaderBytes + len(s.Configuration) + len(s.Servers)
}

// Encode writes the frame.
func (s *StatusReply) Encode(p []byte) {
	fits("configuration", len(s.Configuration), MaxMessage)
	fits("servers", len(s.Servers), MaxMessage)
	le.PutUint64(p[0:], s.Nonce)
	le.PutUint64(p[8:], s.Term)
	le.PutUint64(p[16:], s.Last)
	le.PutUint64(p[24:], s.Commit)
	le.PutUint64(p[32:], s.Applied)
	le.PutUint16(p[40:], s.ID)
	le.PutUint16(p[42:], s.Leader)
	p[44] = s.Role
	p[45], p[46], p[47] = 0, 0, 0
	le.PutUint32(p[48:], uint32(len(s.Configuration)))
	le.PutUint32(p[52:], uint32(len(s.Servers)))
	n := statusReplyHeaderBytes + copy(p[statusReplyHeaderBytes:], s.Configuration)
	copy(p[n:], s.Servers)
}

// Decode reads the frame; Configuration and Servers are views.
func (s *StatusReply) Decode(p []byte) error {
	if len(p) < statusReplyHeaderBytes {
		return ErrShort
	}
	if !zero(p[45:48]) {
		return ErrReserved
	}
	if p[44] > RoleRemoved {
		return ErrValue
	}
	conf, servers := int64(le.Uint32(p[48:])), int64(le.Uint32(p[52:]))
	want := statusReplyHeaderBytes + conf + servers
	if int64(len(p)) < want {
		return ErrShort
	}
	if int64(len(p)) > want {
		return ErrTrailing
	}
	end := statusReplyHeaderBytes + int(conf)
	*s = StatusReply{
		Nonce:         le.Uint64(p[0:]),
		Term:          le.Uint64(p[8:]),
		Last:          le.Uint64(p[16:]),
		Commit:        le.Uint64(p[24:]),
		Applied:       le.Uint64(p[32:]),
		ID:            le.Uint16(p[40:]),
		Leader:        le.Uint16(p[42:]),
		Role:          p[44],
		Configuration: p[statusReplyHeaderBytes:end:end],
		Servers:       p[end:],
	}
	return nil
}
