package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What decoders answer for bytes that are wrong. All are plain sentinels, so
// that a flood of bad datagrams costs no allocation.
var (
	ErrShort    = errors.New("wire: shorter than its layout")
	ErrTrailing = errors.New("wire: bytes after the end of its layout")
	ErrReserved = errors.New("wire: a reserved bit or padding is not zero")
	ErrValue    = errors.New("wire: a field has a value out of its range")
	ErrKind     = errors.New("wire: a kind of frame that is not known here")
)

var le = binary.LittleEndian

// pad8 is n rounded up to a multiple of eight.
func pad8(n int) int { return (n + 7) &^ 7 }

// zero tells whether all of p is zero, as reserved bytes and padding must be.
func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// bit is flag when on, else 0.
func bit(on bool, flag uint8) uint8 {
	if on {
		return flag
	}
	return 0
}

// fixed checks a frame that has exactly size bytes.
func fixed(p []byte, size int) error {
	if len(p) < size {
		return ErrShort
	}
	if len(p) > size {
		return ErrTrailing
	}
	return nil
}

// fits panics when n does not fit its length field: the caller is wrong.
func fits(what string, n, most int) {
	if n < 0 || n > most {
		panic(fmt.Sprintf("wire: %s of %d bytes, at most %d fit", what, n, most))
	}
}
