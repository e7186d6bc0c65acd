package wire

// AppendHeaderBytes is the size of an Append before its entries.
const AppendHeaderBytes = 64

// Append is an AppendEntries, complete in itself; without entries, a heartbeat.
//
//	 0  term 8
//	 8  previous index 8
//	16  previous term 8
//	24  commit index 8
//	32  round 8
//	40  sequence 8
//	48  timeout 8
//	56  count 4 | flags 1: 1 leases | zero 3
//	64  entries, one behind the other (Entry)
type Append struct {
	Term, PrevIndex, PrevTerm, Commit uint64

	Round   uint64 // of reads: the latest that this message begins or repeats
	Seq     uint64 // of the sender to this peer, so that a stale answer is known as such
	Timeout int64  // the election timeout handed out, nanoseconds
	Leases  bool   // the configuration in force allows them
	Count   int    // entries
	Entries []byte // encoded; walk with DecodeEntry. Decode has checked that Count of them fill it
}

// Size is the encoded length.
func (a *Append) Size() int { return AppendHeaderBytes + len(a.Entries) }

// Encode writes header and entries.
func (a *Append) Encode(p []byte) {
	a.EncodeHeader(p)
	copy(p[AppendHeaderBytes:], a.Entries)
}

// EncodeHeader writes the first AppendHeaderBytes alone, for a sender that encodes its
// Count entries behind it in place.
func (a *Append) EncodeHeader(p []byte) {
	fits("append count", a.Count, MaxDatagram/EntryHeaderBytes)
	le.PutUint64(p[0:], a.Term)
	le.PutUint64(p[8:], a.PrevIndex)
	le.PutUint64(p[16:], a.PrevTerm)
	le.PutUint64(p[24:], a.Commit)
	le.PutUint64(p[32:], a.Round)
	le.PutUint64(p[40:], a.Seq)
	le.PutUint64(p[48:], uint64(a.Timeout))
	le.PutUint32(p[56:], uint32(a.Count))
	p[60] = bit(a.Leases, 1)
	p[61], p[62], p[63] = 0, 0, 0
}

// Decode reads the frame; Entries is a view of exactly Count well-formed entries.
func (a *Append) Decode(p []byte) error {
	if len(p) < AppendHeaderBytes {
		return ErrShort
	}
	if p[60]&^1 != 0 || !zero(p[61:64]) {
		return ErrReserved
	}
	count, rest := le.Uint32(p[56:]), p[AppendHeaderBytes:]
	if int64(count)*EntryHeaderBytes > int64(len(rest)) {
		return ErrShort
	}
	for range count {
		n, err := entryEnd(rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return ErrTrailing
	}
	*a = Append{
		Term:      le.Uint64(p[0:]),
		PrevIndex: le.Uint64(p[8:]),
		PrevTerm:  le.Uint64(p[16:]),
		Commit:    le.Uint64(p[24:]),
		Round:     le.Uint64(p[32:]),
		Seq:       le.Uint64(p[40:]),
		Timeout:   int64(le.Uint64(p[48:])),
		Leases:    p[60]&1 != 0,
		Count:     int(count),
		Entries:   p[AppendHeaderBytes:],
	}
	return nil
}
