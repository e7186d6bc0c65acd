package kv

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is how a value is compressed. The client does it, where it costs no server anything; the value travels, and
// lies in every log, as the client sent it, and is unpacked where it is applied.
type Codec uint8

// The codecs of a packed value.
const (
	Plain Codec = 0
	S2    Codec = 1
	Zstd  Codec = 2
)

// PackedLeast is the size from which a value is packed, if that makes it smaller.
const PackedLeast = 4 << 10

// A packed value: the codec (1), 0 (3), the plain length (4), the compressed block.
const packedHeaderBytes = 8

// Pack compresses the value of a write, of a size that is worth it. Where nothing is gained the command stays as it is.
// It does not touch the old value's bytes.
func (c *Command) Pack(codec Codec) {
	if c.Op != Put && c.Op != CompareAndSwap || len(c.Value) < PackedLeast || len(c.Value) > MaxValue || c.Flags&FlagPacked != 0 {
		return
	}
	b := make([]byte, packedHeaderBytes, packedHeaderBytes+len(c.Value))
	b[0] = byte(codec)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(c.Value)))
	switch codec {
	case S2:
		n := s2.MaxEncodedLen(len(c.Value))
		b = append(b, s2.Encode(make([]byte, n), c.Value)...)
	case Zstd:
		b = zstdEncoder().EncodeAll(c.Value, b)
	default:
		return
	}
	if len(b) < len(c.Value) {
		c.Value = b
		c.Flags |= FlagPacked
	}
}

// Unpack puts the plain value into a command that has a packed one; other commands stay as they are.
func (c *Command) Unpack() error {
	if c.Flags&FlagPacked == 0 {
		return nil
	}
	plain, err := unpack(c.Value)
	if err != nil {
		return err
	}
	c.Value = plain
	c.Flags &^= FlagPacked
	return nil
}

// PlainBytes is how long the value of a packed command says it is when unpacked; 0 for other commands. Some bytes may
// stand for MaxValue, so who bounds its work by what commands weigh counts these.
func (c *Command) PlainBytes() int {
	if c.Flags&FlagPacked == 0 || len(c.Value) < packedHeaderBytes {
		return 0
	}
	return int(binary.LittleEndian.Uint32(c.Value[4:]))
}

// packedFits checks what can be checked without unpacking.
func packedFits(b []byte) bool {
	if len(b) < packedHeaderBytes || b[1]|b[2]|b[3] != 0 || b[0] != byte(S2) && b[0] != byte(Zstd) {
		return false
	}
	plain := binary.LittleEndian.Uint32(b[4:])
	return plain >= PackedLeast && plain <= MaxValue && uint32(len(b)) < plain
}

func unpack(b []byte) ([]byte, error) {
	if !packedFits(b) {
		return nil, fmt.Errorf("packed value: %w", ErrMalformed)
	}
	want := int(binary.LittleEndian.Uint32(b[4:]))
	block := b[packedHeaderBytes:]
	var plain []byte
	var err error
	switch Codec(b[0]) {
	case S2:
		var n int
		if n, err = s2.DecodedLen(block); err == nil && n == want {
			plain, err = s2.Decode(make([]byte, want), block)
		}
	case Zstd:
		var h zstd.Header
		if err = h.Decode(block); err == nil && h.HasFCS && h.FrameContentSize == uint64(want) {
			plain, err = zstdDecoder().DecodeAll(block, make([]byte, 0, want))
		}
	}
	if err != nil || len(plain) != want {
		return nil, fmt.Errorf("packed value: %w: %d bytes, want %d: %v", ErrMalformed, len(plain), want, err)
	}
	return plain, nil
}

// Encoder and decoder work in the goroutine that calls, and start none.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic("kv: zstd with fixed options: " + err.Error())
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxValue+1), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("kv: zstd with fixed options: " + err.Error())
		}
		return d
	})
)
