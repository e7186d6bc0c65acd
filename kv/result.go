package kv

import (
	"encoding/binary"
	"fmt"
)

// Status is how a command ended, at one server or in the log.
type Status uint8

const (
	OK       Status = 1
	NotFound Status = 2 // get, delete: no such key
	Conflict Status = 3 // compare-and-swap: the condition does not hold

	UnknownSession    Status = 4 // says nothing of earlier copies of the command
	TooOld            Status = 5 // below acknowledged-below; says nothing of earlier copies
	StaleRegistration Status = 6 // the registration is older than the horizon; says nothing of earlier copies
	Busy              Status = 7 // a bound is reached; try again
	TooLarge          Status = 8
	BeyondWindow      Status = 9  // seq is Window or more past acknowledged-below
	WrongTerm         Status = 10 // bound to the leader of another term
	Malformed         Status = 11
	EarlyRegistration Status = 12 // the registration is further ahead than the horizon; other copies may be taken later

	statusLast = EarlyRegistration
)

var statusNames = [...]string{"", "ok", "not found", "conflict", "unknown session", "too old", "stale registration",
	"busy", "too large", "beyond the window", "wrong term", "malformed", "early registration"}

func (s Status) String() string {
	if s == 0 || s > statusLast {
		return fmt.Sprintf("status(%d)", uint8(s))
	}
	return statusNames[s]
}

// Applied says that the command was executed: whatever the answer, it is final and a repeat gets the same one.
func (s Status) Applied() bool { return s == OK || s == NotFound || s == Conflict }

// Refused says that this copy of the command was definitely not executed and never will be.
// Neither Applied nor Refused (UnknownSession, TooOld, and StaleRegistration where a session may have come and gone) says nothing of the command's other copies.
func (s Status) Refused() bool { return s >= StaleRegistration && s <= statusLast }

// Result is the answer to one command. (Index, Sub) is its place in the order of all commands; for a get, Index
// and Term are those of the key's last change.
type Result struct {
	Status Status
	More   bool   // scan: the range has more pairs than fit
	Sub    uint16 // place inside the entry
	Client uint64 // not encoded: a datagram has one client
	Seq    uint64
	Index  uint64
	Term   uint64
	Value  []byte
}

// ResultHeaderBytes is the fixed part of an encoded result:
//
//	 0 u32 value length
//	 4 u8  status
//	 5 u8  1 if there is more
//	 6 u16 sub
//	 8 u64 seq
//	16 u64 index
//	24 u64 term
//	32 value, zeros up to a multiple of 8
const ResultHeaderBytes = 32

// MaxResult bounds the value of a result: the largest value, or as much of a scan.
const MaxResult = MaxValue + 2*MaxKey

// ResultSize is the number of bytes AppendResult adds.
func ResultSize(r *Result) int { return pad8(ResultHeaderBytes + len(r.Value)) }

// AppendResult encodes r.
func AppendResult(dst []byte, r *Result) []byte {
	var h [ResultHeaderBytes]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], uint32(len(r.Value)))
	h[4] = byte(r.Status)
	if r.More {
		h[5] = 1
	}
	le.PutUint16(h[6:], r.Sub)
	le.PutUint64(h[8:], r.Seq)
	le.PutUint64(h[16:], r.Index)
	le.PutUint64(h[24:], r.Term)
	dst = append(dst, h[:]...)
	dst = append(dst, r.Value...)
	var zeros [8]byte
	return append(dst, zeros[:pad8(len(r.Value))-len(r.Value)]...)
}

// DecodeResult reads the result at the start of b and returns how many bytes it takes. Value is a view into b.
func DecodeResult(b []byte) (r Result, size int, err error) {
	if len(b) < ResultHeaderBytes {
		return r, 0, fmt.Errorf("result: %w: got %d bytes, want at least %d", ErrMalformed, len(b), ResultHeaderBytes)
	}
	le := binary.LittleEndian
	n := int(le.Uint32(b))
	if n > MaxResult || pad8(ResultHeaderBytes+n) > len(b) {
		return r, 0, fmt.Errorf("result: %w: value of %d bytes in %d, limit %d", ErrMalformed, n, len(b), MaxResult)
	}
	size = pad8(ResultHeaderBytes + n)
	r.Status, r.More, r.Sub = Status(b[4]), b[5] == 1, le.Uint16(b[6:])
	r.Seq, r.Index, r.Term = le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	if r.Status == 0 || r.Status > statusLast || b[5] > 1 {
		return r, 0, fmt.Errorf("result: %w: status %d, more %d", ErrMalformed, b[4], b[5])
	}
	end := ResultHeaderBytes + n
	for _, z := range b[end:size] {
		if z != 0 {
			return r, 0, fmt.Errorf("result: %w: padding is not zero", ErrMalformed)
		}
	}
	if n > 0 {
		r.Value = b[ResultHeaderBytes:end:end]
	}
	return r, size, nil
}

// AppendPair adds one pair to the value of a scan's result: u32 key length, u32 value length, key, value.
func AppendPair(dst, key, value []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(key)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, key...)
	return append(dst, value...)
}

// PairSize is the number of bytes AppendPair adds.
func PairSize(key, value []byte) int { return 8 + len(key) + len(value) }

// NextPair takes the first pair from the value of a scan's result; key and value are views. ok is false at the end
// and at anything malformed: a well-formed value ends with rest empty.
func NextPair(b []byte) (key, value, rest []byte, ok bool) {
	if len(b) < 8 {
		return nil, nil, b, false
	}
	k, v := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if k+v > uint64(len(b)-8) {
		return nil, nil, b, false
	}
	return b[8 : 8+k : 8+k], b[8+k : 8+k+v : 8+k+v], b[8+k+v:], true
}
