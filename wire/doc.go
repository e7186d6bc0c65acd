// Package wire is what balsa says over UDP: datagrams, frames, fragments.
//
// A datagram is one header, one or more frames, one trailer:
//
//	+-----------+----------------+-----+----------------+------------+
//	| header 48 | frame (8 + n)  | ... | frame (8 + n)  | trailer 16 |
//	+-----------+----------------+-----+----------------+------------+
//	|<------- covered by the checksum ---------------->|
//
// Everything is little-endian and 8-aligned from the datagram's first byte.
// The header says who speaks to whom (header.go), a frame says one thing
// (a file each: append.go, ack.go, vote.go, ...), the trailer holds an
// xxhash64 of all before it or, where there is a secret, the 16-byte tag of a seal
// (seal.go, opener.go, keys.go).
//
// What is larger than a peer's datagram travels in fragments (fragment.go),
// cut by a Fragmenter and put together by a Reassembler. All else may be lost,
// repeated and reordered at will; the parts above are built for that.
//
// # Ownership
//
// Decoders read in place: a decoded frame's byte slices are views into the
// datagram and live as long as it does. Encoders write into the slice they are
// given. Nothing here allocates in steady state, but for the codecs of a
// Configuration and of a list of servers, which are rare.
//
// # Trust
//
// No bytes make a decoder panic. Wrong ones are an error, which the caller
// counts before it drops the datagram. Encoders are called by us: a frame that
// can't be laid out (a length beyond its field) is our mistake, and panics.
//
// The package knows nothing of Raft or of the store: commands, results and
// entry bodies are opaque. docs/wire-protocol.md has every byte.
package wire
