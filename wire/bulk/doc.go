// Package bulk carries what is too large for a message, a base of a gigabyte, from one
// process to another: in pieces of 256 KiB that have a checksum each, and in parts of a
// piece that fill a datagram.
//
// A Sender reads pieces from a source, a Receiver hands out whole ones to be written.
// Both are step machines: time, frames and answers go in, frames, answers and the next
// deadline come out. They know no file, socket or clock, and hold a bounded number of
// pieces however large the whole is.
//
// What is kept is a number and sixteen bits (Progress): with it a transfer goes on after
// the death of either end, with another sender, over another path with other datagrams.
//
// How fast it goes is decided by delay: the window grows while a round trip takes hardly
// longer than the shortest seen, and shrinks when it does, or when the receiver's socket
// overflows. Loss by itself says little on a bad link: what is lost is sent again and
// hardly slows down the rest.
package bulk
