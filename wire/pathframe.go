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

// PathAsk is a client's question whether datagrams of this size pass, to the server and
// back; and tells the largest that it knows to. It is alone in its datagram and fills it.
//
//	 0  the asker's boot 8
//	 8  nonce 8
//	16  size that passes 4 | zero 4
//	24  zeros
type PathAsk struct {
	AskBoot uint64
	Nonce   uint64
	Passes  int // MinDatagram to MaxDatagram: no answer should be longer
	Pad     int // zeros behind it, bytes
}

const pathAskBytes = 24

// Ask makes of a probe what a client sends in its place, in as many bytes.
func (f *PathProbe) Ask(passes int) PathAsk {
	return PathAsk{AskBoot: f.AskBoot, Nonce: f.Nonce, Passes: passes, Pad: f.Size() - pathAskBytes}
}

// Size is the encoded length.
func (f *PathAsk) Size() int { return pathAskBytes + f.Pad }

// Encode writes the frame.
func (f *PathAsk) Encode(p []byte) {
	fits("path's datagrams", f.Passes, MaxDatagram)
	le.PutUint64(p[0:], f.AskBoot)
	le.PutUint64(p[8:], f.Nonce)
	le.PutUint32(p[16:], uint32(f.Passes))
	clear(p[20 : pathAskBytes+f.Pad])
}

// Decode reads the frame.
func (f *PathAsk) Decode(p []byte) error {
	if len(p) < pathAskBytes {
		return ErrShort
	}
	if !zero(p[20:]) {
		return ErrReserved
	}
	passes := le.Uint32(p[16:])
	if passes < MinDatagram || passes > MaxDatagram {
		return ErrValue
	}
	*f = PathAsk{AskBoot: le.Uint64(p[0:]), Nonce: le.Uint64(p[8:]), Passes: int(passes), Pad: len(p) - pathAskBytes}
	return nil
}

// PathEcho answers a PathAsk in a datagram of the same size: what passes one way and not
// the other does not pass.
//
//	 0  echoed boot 8
//	 8  nonce 8
//	16  zeros
type PathEcho struct {
	EchoBoot uint64
	Nonce    uint64
	Pad      int
}

// Echo is the answer.
func (f *PathAsk) Echo() PathEcho {
	return PathEcho{EchoBoot: f.AskBoot, Nonce: f.Nonce, Pad: f.Size() - pathProbeBytes}
}

// Size is the encoded length.
func (f *PathEcho) Size() int { return pathProbeBytes + f.Pad }

// Encode writes the frame.
func (f *PathEcho) Encode(p []byte) {
	g := PathProbe{AskBoot: f.EchoBoot, Nonce: f.Nonce, Pad: f.Pad}
	g.Encode(p)
}

// Decode reads the frame.
func (f *PathEcho) Decode(p []byte) error {
	var g PathProbe
	if err := g.Decode(p); err != nil {
		return err
	}
	*f = PathEcho{EchoBoot: g.AskBoot, Nonce: g.Nonce, Pad: g.Pad}
	return nil
}

// Answer is what it says to the asker's Path.
func (f *PathEcho) Answer() PathAnswer { return PathAnswer{EchoBoot: f.EchoBoot, Nonce: f.Nonce} }
