package wire

// mismatchVersion stands where a version stands, and is none: a datagram that has
// it is a Mismatch, in a layout that no version may ever change.
const mismatchVersion = 0

// MismatchBytes is the size of a Mismatch, which is a whole datagram.
const MismatchBytes = 16

// Reasons of a Mismatch.
const (
	MismatchVersion = 0 // another version is spoken here
	MismatchSealed  = 1 // only sealed datagrams are taken here
	MismatchOpen    = 2 // sealed datagrams can't be read here: there is no secret
	MismatchKey     = 3 // it was sealed with a key that is not held here
)

// Mismatch answers a datagram that can't be read here: of a version that we don't
// speak, or sealed otherwise. It is no frame: the asker could not read our frames. It is
// a hint for a counter and a log line, anyone can forge it, and it is never answered.
//
//	0  magic 2 | zero 1 | newest spoken 1 | version asked 1 | reason 1 | oldest spoken 1 | zero 1
//	8  checksum 8: xxhash64 of the first 8, seeded as in a datagram, of version 0
type Mismatch struct {
	Speaks Versions // the versions that the answering side takes
	Asked  uint8    // the version it was spoken to in
	Reason uint8
}

// AppendMismatch appends the answer to a datagram for which Open said ErrVersion.
// It appends nothing when the question is shorter than the answer would be, so
// that nobody can have us send more than we got.
func AppendMismatch(dst, question []byte) []byte {
	if len(question) < MismatchBytes || Spoken().Take(question[2]) {
		return dst
	}
	return AppendRefusal(dst, question, MismatchVersion)
}

// AppendRefusal appends the answer to a datagram that can't be read for another reason,
// on the same terms.
func AppendRefusal(dst, question []byte, reason uint8) []byte {
	if len(question) < MismatchBytes || le.Uint16(question) != Magic || question[2] == mismatchVersion {
		return dst
	}
	n := len(dst)
	dst = append(dst, make([]byte, MismatchBytes)...)
	m := Mismatch{Speaks: Spoken(), Asked: question[2], Reason: reason}
	m.Encode(dst[n:])
	return dst
}

// Size is the datagram's length in bytes.
func (m *Mismatch) Size() int { return MismatchBytes }

// Encode writes the whole datagram.
func (m *Mismatch) Encode(p []byte) {
	le.PutUint16(p[0:], Magic)
	p[2], p[3], p[4] = mismatchVersion, m.Speaks.Newest, m.Asked
	p[5], p[6], p[7] = m.Reason, m.Speaks.Oldest, 0
	le.PutUint64(p[8:], checksum(p[:8]))
}

// Decode reads a datagram for which Open said ErrMismatch.
func (m *Mismatch) Decode(p []byte) error {
	if err := fixed(p, MismatchBytes); err != nil {
		return err
	}
	if le.Uint16(p) != Magic || p[2] != mismatchVersion {
		return ErrMagic
	}
	if le.Uint64(p[8:]) != checksum(p[:8]) {
		return ErrChecksum
	}
	if p[7] != 0 {
		return ErrReserved
	}
	if p[5] > MismatchKey || p[6] == 0 || p[6] > p[3] {
		return ErrValue
	}
	*m = Mismatch{Speaks: Versions{Oldest: p[6], Newest: p[3]}, Asked: p[4], Reason: p[5]}
	return nil
}
