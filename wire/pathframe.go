package wire

const pathProbeBytes = 16

// PathProbe asks whether a datagram of this size arrives. It fills its datagram with
// zeros up to the size that is tried.
//
//	 0  the asker's boot 8
//	 8  nonce 8
//	16  zeros
type PathProbe struct {
	AskBoot uint64
	Nonce   uint64
	Pad     int // zeros behind the nonce, bytes
}

// Size is the encoded length.
func (f *PathProbe) Size() int { return pathProbeBytes + f.Pad }

// Encode writes the frame.
func (f *PathProbe) Encode(p []byte) {
	le.PutUint64(p[0:], f.AskBoot)
	le.PutUint64(p[8:], f.Nonce)
	clear(p[pathProbeBytes : pathProbeBytes+f.Pad])
}

// Decode reads the frame.
func (f *PathProbe) Decode(p []byte) error {
	if len(p) < pathProbeBytes {
		return ErrShort
	}
	if !zero(p[pathProbeBytes:]) {
		return ErrReserved
	}
	*f = PathProbe{AskBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:]), Pad: len(p) - pathProbeBytes}
	return nil
}

// PathAnswer says that a PathProbe arrived.
//
//	0  echoed boot 8
//	8  nonce 8
type PathAnswer struct {
	EchoBoot uint64
	Nonce    uint64
}

// Size is the encoded length.
func (f *PathAnswer) Size() int { return 16 }

// Encode writes the frame.
func (f *PathAnswer) Encode(p []byte) {
	le.PutUint64(p[0:], f.EchoBoot)
	le.PutUint64(p[8:], f.Nonce)
}

// Decode reads the frame.
func (f *PathAnswer) Decode(p []byte) error {
	if err := fixed(p, 16); err != nil {
		return err
	}
	*f = PathAnswer{EchoBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:])}
	return nil
}
