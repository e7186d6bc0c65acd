package wire

// RequestHeaderBytes is the size of a Request, and of a Reply, before its opaque part.
const RequestHeaderBytes = 8

// Request carries a client's operations, as the store encodes them.
//
//	0  count 4 | zero 4
//	8  operations, one behind the other
type Request struct {
	Count int
	Ops   []byte
}

// Size is the encoded length.
func (r *Request) Size() int { return RequestHeaderBytes + len(r.Ops) }

// Encode writes the frame.
func (r *Request) Encode(p []byte) {
	r.EncodeHeader(p)
	copy(p[RequestHeaderBytes:], r.Ops)
}

// EncodeHeader writes the first RequestHeaderBytes alone, for a sender that encodes its
// Count operations behind it in place.
func (r *Request) EncodeHeader(p []byte) { encodeCount(p, r.Count) }

// Decode reads the frame; Ops is a view. That Count operations are in it is for the
// store to find.
func (r *Request) Decode(p []byte) (err error) {
	r.Count, r.Ops, err = decodeCount(p)
	return err
}

// Reply carries results to a client, as the store encodes them, in any order.
//
//	0  count 4 | zero 4
//	8  results, one behind the other
type Reply struct {
	Count   int
	Results []byte
}

// Size is the encoded length.
func (r *Reply) Size() int { return RequestHeaderBytes + len(r.Results) }

// Encode writes the frame.
func (r *Reply) Encode(p []byte) {
	r.EncodeHeader(p)
	copy(p[RequestHeaderBytes:], r.Results)
}

// EncodeHeader writes the first RequestHeaderBytes alone, for a sender that encodes its
// Count results behind it in place.
func (r *Reply) EncodeHeader(p []byte) { encodeCount(p, r.Count) }

// Decode reads the frame; Results is a view.
func (r *Reply) Decode(p []byte) (err error) {
	r.Count, r.Results, err = decodeCount(p)
	return err
}

func encodeCount(p []byte, count int) {
	fits("count", count, MaxMessage)
	le.PutUint32(p[0:], uint32(count))
	le.PutUint32(p[4:], 0)
}

// decodeCount refuses a count of more items than bytes, so that nobody sizes
// anything by a lie.
func decodeCount(p []byte) (int, []byte, error) {
	if len(p) < RequestHeaderBytes {
		return 0, nil, ErrShort
	}
	count, rest := le.Uint32(p[0:]), p[RequestHeaderBytes:]
	if le.Uint32(p[4:]) != 0 {
		return 0, nil, ErrReserved
	}
	if uint64(count) > uint64(len(rest)) {
		return 0, nil, ErrValue
	}
	return int(count), rest, nil
}
