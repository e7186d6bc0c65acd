package wire

// mismatchVersion stands where a version stands, and is none: a datagram that has
// it is a Mismatch, in a layout that no version may ever change.
const mismatchVersion = 0

// MismatchBytes is the size of a Mismatch, which is a whole datagram.
const MismatchBytes = 16

// Mismatch answers a datagram of a version that we don't speak. It is no frame:
// the asker could not read our frames. It is a hint for a counter and a log line,
// anyone can forge it, and it is never answered.
//
//	0  magic 2 | zero 1 | version spoken 1 | version asked 1 | zero 3
//	8  checksum 8: xxhash64 of the first 8, seed as in version 1
type Mismatch struct {
	Version uint8 // the version that the answering side speaks
	Asked   uint8 // the version it was spoken to in
}

// AppendMismatch appends the answer to a datagram for which Open said ErrVersion.
// It appends nothing when the question is shorter than the answer would be, so
// that nobody can have us send more than we got.
func AppendMismatch(dst, question []byte) []byte {
	if len(question) < MismatchBytes || le.Uint16(question) != Magic {
		return dst
	}
	if v := question[2]; v == mismatchVersion || v == Version {
		return dst
	}
	n := len(dst)
	dst = append(dst, make([]byte, MismatchBytes)...)
	m := Mismatch{Version: Version, Asked: question[2]}
	m.Encode(dst[n:])
	return dst
}

// Size is the datagram's length in bytes.
func (m *Mismatch) Size() int { return MismatchBytes }

// Encode writes the whole datagram.
func (m *Mismatch) Encode(p []byte) {
	le.PutUint16(p[0:], Magic)
	p[2], p[3], p[4] = mismatchVersion, m.Version, m.Asked
	p[5], p[6], p[7] = 0, 0, 0
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
	if !zero(p[5:8]) {
		return ErrReserved
	}
	m.Version, m.Asked = p[3], p[4]
	return nil
}
