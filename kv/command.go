package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Op is what a command does. Reads travel in the same form but never enter the log.
type Op uint8

const (
	Put            Op = 1
	Delete         Op = 2
	CompareAndSwap Op = 3
	Get            Op = 4
	Scan           Op = 5
)

func (o Op) String() string {
	switch o {
	case Put:
		return "put"
	case Delete:
		return "del"
	case CompareAndSwap:
		return "cas"
	case Get:
		return "get"
	case Scan:
		return "scan"
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// IsRead says whether the operation changes nothing: it may be sent again freely and is never logged.
func (o Op) IsRead() bool { return o == Get || o == Scan }

// Flags of a command.
const (
	FlagRegister  = 1 // may create the session if its registration is fresh
	FlagOneShot   = 2 // with FlagRegister: a compact session, kept for the horizon only
	FlagOldAbsent = 4 // CompareAndSwap: the key must be absent; Old is empty
	FlagPacked    = 8 // Put, CompareAndSwap: Value is compressed, see Pack

	flagsKnown = FlagRegister | FlagOneShot | FlagOldAbsent | FlagPacked
)

// Limits, checked at the edge by the client, by the decoder, and so by the leader before it logs.
const (
	MaxKey   = 4 << 10 // bytes, at least 1
	MaxValue = 8 << 20 // bytes, may be 0
	// MaxCommand bounds a whole encoded command: a value of any allowed size fits; the old and new values of a
	// CompareAndSwap have to fit together.
	MaxCommand = MaxValue + 3*MaxKey + 64
	// Window is how far a client's sequence numbers may run ahead of its acknowledged-below.
	Window = 8192
	// ReadSeq is set in the sequence numbers of reads, so that they take no room in the session's window.
	ReadSeq = uint64(1) << 63
)

// CommandHeaderBytes is the fixed part of an encoded command:
//
//	 0 u32 size       whole command with padding, a multiple of 8
//	 4 u8  op
//	 5 u8  flags
//	 6 u16 key length
//	 8 u64 client
//	16 u64 seq
//	24 u32 value length
//	28 u32 old length
//	32 u32 back       seq minus acknowledged-below (writes; 0 for reads)
//	36 u32 limit      scan: most pairs wanted, 0 for no limit
//	40 u64 term       of the leader it is meant for, 0 for any
//	48 i64 registered only with FlagRegister
//	   key, value, old, zeros up to a multiple of 8
//
// The bytes a client sends are the bytes in the log, so nothing in them depends on where they stand.
const CommandHeaderBytes = 48

// ErrMalformed is wrapped by every error of DecodeCommand and DecodeResult.
var ErrMalformed = errors.New("malformed")

// Command is one operation of one client.
type Command struct {
	Op         Op
	Flags      uint8
	Client     uint64
	Seq        uint64 // writes: from 1 on, below ReadSeq
	AckedBelow uint64 // the client has the outcome of every seq below it: 1 <= AckedBelow <= Seq for writes
	Registered int64  // log time that discovery told, nanoseconds; with FlagRegister only
	// Term binds a write to the leader it was sent to: in an entry of another term it is refused. Without it a
	// copy that the network kept could be applied after its client has said "not applied". 0 binds to nothing.
	Term            uint64
	Key, Value, Old []byte // scan: prefix, from, to
	Limit           uint32
}

func pad8(n int) int { return (n + 7) &^ 7 }

// CommandSize is the number of bytes AppendCommand adds.
func CommandSize(c *Command) int {
	n := CommandHeaderBytes + len(c.Key) + len(c.Value) + len(c.Old)
	if c.Flags&FlagRegister != 0 {
		n += 8
	}
	return pad8(n)
}

// AppendCommand encodes c, which must be within the limits (see Check).
func AppendCommand(dst []byte, c *Command) []byte {
	size := CommandSize(c)
	start := len(dst)
	var h [CommandHeaderBytes + 8]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], uint32(size))
	h[4], h[5] = byte(c.Op), c.Flags
	le.PutUint16(h[6:], uint16(len(c.Key)))
	le.PutUint64(h[8:], c.Client)
	le.PutUint64(h[16:], c.Seq)
	le.PutUint32(h[24:], uint32(len(c.Value)))
	le.PutUint32(h[28:], uint32(len(c.Old)))
	if !c.Op.IsRead() {
		le.PutUint32(h[32:], uint32(c.Seq-c.AckedBelow))
	}
	le.PutUint32(h[36:], c.Limit)
	le.PutUint64(h[40:], c.Term)
	n := CommandHeaderBytes
	if c.Flags&FlagRegister != 0 {
		le.PutUint64(h[48:], uint64(c.Registered))
		n += 8
	}
	dst = append(dst, h[:n]...)
	dst = append(dst, c.Key...)
	dst = append(dst, c.Value...)
	dst = append(dst, c.Old...)
	var zeros [8]byte
	return append(dst, zeros[:size-(len(dst)-start)]...)
}

// DecodeCommand reads the command at the start of b and returns how many bytes it takes. Key, Value and Old are
// views into b. Whatever it accepts is within the limits and encodes to the same bytes again.
func DecodeCommand(b []byte) (c Command, size int, err error) {
	size, err = c.Decode(b)
	return c, size, err
}

// Decode is DecodeCommand into a command that is there, for who decodes many: all of c is overwritten, or, with an
// error, some of it.
func (c *Command) Decode(b []byte) (size int, err error) {
	if len(b) < CommandHeaderBytes {
		return 0, fmt.Errorf("command: %w: got %d bytes, want at least %d", ErrMalformed, len(b), CommandHeaderBytes)
	}
	le := binary.LittleEndian
	size = int(le.Uint32(b))
	if size > len(b) || size > MaxCommand {
		return 0, fmt.Errorf("command: %w: size %d, have %d, limit %d", ErrMalformed, size, len(b), MaxCommand)
	}
	c.Op, c.Flags = Op(b[4]), b[5]
	keyBytes, valueBytes, oldBytes := int(le.Uint16(b[6:])), int(le.Uint32(b[24:])), int(le.Uint32(b[28:]))
	c.Client, c.Seq = le.Uint64(b[8:]), le.Uint64(b[16:])
	back := uint64(le.Uint32(b[32:]))
	c.Limit, c.Term = le.Uint32(b[36:]), le.Uint64(b[40:])
	if keyBytes > MaxKey || valueBytes > MaxValue || oldBytes > MaxValue {
		return 0, fmt.Errorf("command: %w: key %d, value %d, old %d bytes", ErrMalformed, keyBytes, valueBytes, oldBytes)
	}
	at := CommandHeaderBytes
	c.Registered, c.AckedBelow = 0, 0
	if c.Flags&FlagRegister != 0 {
		at += 8
	}
	end := at + keyBytes + valueBytes + oldBytes
	if pad8(end) != size {
		return 0, fmt.Errorf("command: %w: size %d, parts need %d", ErrMalformed, size, pad8(end))
	}
	for _, z := range b[end:size] {
		if z != 0 {
			return 0, fmt.Errorf("command: %w: padding is not zero", ErrMalformed)
		}
	}
	if c.Flags&FlagRegister != 0 {
		c.Registered = int64(le.Uint64(b[CommandHeaderBytes:]))
	}
	c.Key = b[at : at+keyBytes : at+keyBytes]
	at += keyBytes
	c.Value = b[at : at+valueBytes : at+valueBytes]
	at += valueBytes
	c.Old = b[at : at+oldBytes : at+oldBytes]
	if c.Op.IsRead() {
		if back != 0 {
			return 0, fmt.Errorf("command: %w: a read acknowledges nothing, got %d", ErrMalformed, back)
		}
	} else {
		if back >= c.Seq {
			return 0, fmt.Errorf("command: %w: acknowledged-below %d under seq %d", ErrMalformed, back, c.Seq)
		}
		c.AckedBelow = c.Seq - back
	}
	if err := c.Check(); err != nil {
		return 0, err
	}
	return size, nil
}

// Check says what is wrong with a command, with the limit and what was got; nil if it can be encoded and applied.
func (c *Command) Check() error {
	if c.Flags&^flagsKnown != 0 {
		return fmt.Errorf("command: %w: unknown flags %#x", ErrMalformed, c.Flags)
	}
	if c.Op < Put || c.Op > Scan {
		return fmt.Errorf("command: %w: unknown operation %d", ErrMalformed, uint8(c.Op))
	}
	if c.Op != Scan && len(c.Key) == 0 {
		return fmt.Errorf("command: %w: key is empty, want 1 to %d bytes", ErrMalformed, MaxKey)
	}
	if len(c.Key) > MaxKey {
		return fmt.Errorf("command: %w: key is %d bytes, limit %d", ErrMalformed, len(c.Key), MaxKey)
	}
	if len(c.Value) > MaxValue || len(c.Old) > MaxValue {
		return fmt.Errorf("command: %w: value is %d bytes, limit %d", ErrMalformed, max(len(c.Value), len(c.Old)), MaxValue)
	}
	if n := CommandSize(c); n > MaxCommand {
		return fmt.Errorf("command: %w: old and new value together make a command of %d bytes, limit %d", ErrMalformed, n, MaxCommand)
	}
	return c.checkByOp()
}

func (c *Command) checkByOp() error {
	bad := false
	switch c.Op {
	case Put:
		bad = len(c.Old) != 0 || c.Flags&FlagOldAbsent != 0
	case Delete:
		bad = len(c.Old) != 0 || len(c.Value) != 0 || c.Flags&(FlagOldAbsent|FlagPacked) != 0
	case CompareAndSwap:
		bad = c.Flags&FlagOldAbsent != 0 && len(c.Old) != 0
	case Get:
		bad = len(c.Old) != 0 || len(c.Value) != 0 || c.Flags != 0
	case Scan:
		bad = len(c.Value) > MaxKey || len(c.Old) > MaxKey || c.Flags != 0
	}
	if c.Op != Scan && c.Limit != 0 || c.Flags&FlagPacked != 0 && !packedFits(c.Value) {
		bad = true
	}
	if bad {
		return fmt.Errorf("command: %w: a field that a %s does not have", ErrMalformed, c.Op)
	}
	if c.Op.IsRead() {
		return nil
	}
	if c.Seq == 0 || c.Seq >= ReadSeq || c.AckedBelow == 0 || c.AckedBelow > c.Seq || c.Seq-c.AckedBelow > 1<<32-1 {
		return fmt.Errorf("command: %w: seq %d, acknowledged-below %d", ErrMalformed, c.Seq, c.AckedBelow)
	}
	return nil
}
