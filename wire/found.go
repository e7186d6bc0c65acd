package wire

const (
	foundAskBytes          = 8
	foundAnswerHeaderBytes = 16
)

// FoundAsk is the founder's question to every server of the pool: are you blank,
// and which incarnation?
//
//	0  the asker's boot 8
//	8  zeros, as many as the asker likes: who does not know the asker's address
//	   answers no more than it was asked with
type FoundAsk struct {
	AskBoot uint64
	Pad     int // zeros behind the boot, bytes
}

// Size is the encoded length.
func (f *FoundAsk) Size() int { return foundAskBytes + f.Pad }

// Encode writes the frame.
func (f *FoundAsk) Encode(p []byte) {
	le.PutUint64(p[0:], f.AskBoot)
	clear(p[foundAskBytes : foundAskBytes+f.Pad])
}

// Decode reads the frame.
func (f *FoundAsk) Decode(p []byte) error {
	if len(p) < foundAskBytes {
		return ErrShort
	}
	if !zero(p[foundAskBytes:]) {
		return ErrReserved
	}
	*f = FoundAsk{AskBoot: le.Uint64(p[0:]), Pad: len(p) - foundAskBytes}
	return nil
}

// FoundAnswer answers FoundAsk and FoundList. The answering side's incarnation is
// in the header.
//
//	 0  echoed boot 8
//	 8  flags 1: 1 blank | zero 7
//	16  list: the encoded Configuration that it holds; empty when blank
type FoundAnswer struct {
	EchoBoot uint64
	Blank    bool
	List     []byte
}

// Size is the encoded length.
func (f *FoundAnswer) Size() int { return foundAnswerHeaderBytes + len(f.List) }

// Encode writes the frame.
func (f *FoundAnswer) Encode(p []byte) {
	le.PutUint64(p[0:], f.EchoBoot)
	p[8] = bit(f.Blank, 1)
	clear(p[9:16])
	copy(p[foundAnswerHeaderBytes:], f.List)
}

// Decode reads the frame; List is a view. A blank server holds no list.
func (f *FoundAnswer) Decode(p []byte) error {
	if len(p) < foundAnswerHeaderBytes {
		return ErrShort
	}
	if p[8]&^1 != 0 || !zero(p[9:16]) {
		return ErrReserved
	}
	blank, list := p[8]&1 != 0, p[foundAnswerHeaderBytes:]
	if blank && len(list) > 0 {
		return ErrValue
	}
	*f = FoundAnswer{EchoBoot: le.Uint64(p[0:]), Blank: blank, List: list}
	return nil
}

// FoundList spreads the founding list. It is answered by a FoundAnswer that is not
// blank, once the list is persisted.
//
//	0  list: the encoded Configuration
type FoundList struct {
	List []byte
}

// Size is the encoded length.
func (f *FoundList) Size() int { return len(f.List) }

// Encode writes the frame.
func (f *FoundList) Encode(p []byte) { copy(p, f.List) }

// Decode reads the frame; List is a view.
func (f *FoundList) Decode(p []byte) error {
	if len(p) == 0 {
		return ErrShort
	}
	f.List = p
	return nil
}
