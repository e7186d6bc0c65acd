package wire

// EntryHeaderBytes is the size of an entry before its body.
const EntryHeaderBytes = 56

// Entry is a log entry on its way: a batch of commands, a configuration, ...
//
//	 0  index 8
//	 8  term 8
//	16  log time 8
//	24  checksum 8
//	32  kind 1 | codec 1 | group 2 | count 4
//	40  raw length 4 | body length 4
//	48  zero 8
//	56  body, then zeros up to a multiple of eight
type Entry struct {
	Index, Term uint64
	Kind, Codec uint8
	Group       uint16
	Count       uint32 // commands in the body
	RawBytes    uint32 // of the body before compression
	Time        int64  // log time, nanoseconds
	Sum         uint64 // over the stored body and the fields, made once, by the leader; opaque here: whoever writes the log checks it
	Body        []byte // as stored; at most MaxEntryBody
}

// Size is the encoded length with padding.
func (e *Entry) Size() int { return EntryHeaderBytes + pad8(len(e.Body)) }

// Encode writes Size bytes. The body may lie in p already, where it goes.
func (e *Entry) Encode(p []byte) {
	fits("entry body", len(e.Body), MaxEntryBody)
	n := EntryHeaderBytes + copy(p[EntryHeaderBytes:], e.Body)
	le.PutUint64(p[0:], e.Index)
	le.PutUint64(p[8:], e.Term)
	le.PutUint64(p[16:], uint64(e.Time))
	le.PutUint64(p[24:], e.Sum)
	p[32], p[33] = e.Kind, e.Codec
	le.PutUint16(p[34:], e.Group)
	le.PutUint32(p[36:], e.Count)
	le.PutUint32(p[40:], e.RawBytes)
	le.PutUint32(p[44:], uint32(len(e.Body)))
	le.PutUint64(p[48:], 0)
	clear(p[n:pad8(n)])
}

// DecodeEntry reads the entry at the beginning of p and gives what follows it.
func DecodeEntry(p []byte) (e Entry, rest []byte, err error) {
	end, err := entryEnd(p)
	if err != nil {
		return Entry{}, nil, err
	}
	n := EntryHeaderBytes + int(le.Uint32(p[44:]))
	return Entry{
		Index:    le.Uint64(p[0:]),
		Term:     le.Uint64(p[8:]),
		Time:     int64(le.Uint64(p[16:])),
		Sum:      le.Uint64(p[24:]),
		Kind:     p[32],
		Codec:    p[33],
		Group:    le.Uint16(p[34:]),
		Count:    le.Uint32(p[36:]),
		RawBytes: le.Uint32(p[40:]),
		Body:     p[EntryHeaderBytes:n:n],
	}, p[end:], nil
}

// entryEnd checks the entry at the beginning of p and gives its length with padding.
func entryEnd(p []byte) (int, error) {
	if len(p) < EntryHeaderBytes {
		return 0, ErrShort
	}
	body := le.Uint32(p[44:])
	if body > MaxEntryBody {
		return 0, ErrValue
	}
	n := EntryHeaderBytes + int(body)
	if len(p) < pad8(n) {
		return 0, ErrShort
	}
	if le.Uint64(p[48:]) != 0 || !zero(p[n:pad8(n)]) {
		return 0, ErrReserved
	}
	return pad8(n), nil
}
