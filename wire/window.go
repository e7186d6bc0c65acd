package wire

// WindowPackets is how far a datagram may be overtaken by others of its sender and
// still be taken. A sender numbers what it sends to all destinations together: at
// 100,000 datagrams a second, about what one process sends at most, this is 40 ms of
// reordering. Later ones are as good as lost, which everything above forgives.
// Numbers are taken at the moment of sending, so what waited for a slow disk is not
// late (SAFETY 14).
const WindowPackets = 4096

const windowWords = WindowPackets / 64

// Window tells a datagram that was taken before from a new one, for the last
// WindowPackets numbers of one sender. What is older counts as taken. The zero value
// has seen nothing; numbers begin at 1.
type Window struct {
	top  uint64 // the highest number taken
	bits [windowWords]uint64
}

// Seen tells whether number n was taken, or is too old to know.
func (w *Window) Seen(n uint64) bool {
	switch {
	case n == 0:
		return true
	case n > w.top:
		return false
	case w.top-n >= WindowPackets:
		return true
	}
	return w.bits[n/64%windowWords]>>(n%64)&1 != 0
}

// Take notes number n, and says whether it was new. A seal must have been checked
// before: anybody could move the window otherwise.
func (w *Window) Take(n uint64) bool {
	if w.Seen(n) {
		return false
	}
	if n > w.top {
		w.advance(n)
	}
	w.bits[n/64%windowWords] |= 1 << (n % 64)
	return true
}

// advance forgets the numbers whose places those from top+1 to n take.
func (w *Window) advance(n uint64) {
	if n-w.top >= WindowPackets {
		clear(w.bits[:])
	} else {
		for i := w.top; i < n; { // n may be the last number there is: nothing goes beyond it
			i++
			w.bits[i/64%windowWords] &^= 1 << (i % 64)
		}
	}
	w.top = n
}
