//go:build !portable

package udp

import (
	"iter"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlMessage is one of what the kernel tells beside a datagram's bytes.
type controlMessage struct {
	level, kind int32
	data        []byte
}

const controlHeader = int(unsafe.Sizeof(unix.Cmsghdr{}))

// controlMessages walks them, in whatever order they stand, and stops at one that does
// not fit. b begins where the kernel began to write, aligned as it wants it.
func controlMessages(b []byte) iter.Seq[controlMessage] {
	return func(yield func(controlMessage) bool) {
		for len(b) >= controlHeader {
			c := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
			n := int(c.Len)
			if n < controlHeader || n > len(b) || !yield(controlMessage{c.Level, c.Type, b[controlHeader:n]}) {
				return
			}
			next := (n + controlAlign - 1) &^ (controlAlign - 1)
			if next >= len(b) {
				return
			}
			b = b[next:]
		}
	}
}

// controlAlign is what the kernel rounds a message up to: the size of a long.
const controlAlign = int(unsafe.Sizeof(uintptr(0)))
