package wire

import (
	"errors"
	"net/netip"

	"github.com/cespare/xxhash/v2"
)

// Sizes in bytes, and numbers that both ends must agree on.
const (
	Magic            = 0x6c62 // "bl", the first two bytes of every datagram of every version
	Version          = 1      // the newest that is spoken here, and what is said; see version.go
	HeaderBytes      = 48
	TrailerBytes     = 16 // xxhash64 in the first 8, room for a 16-byte tag
	FrameHeaderBytes = 8

	MaxDatagram  = 60 << 10 // what we send at most, on loopback
	SafeDatagram = 1200     // passes every path we mean to run on
	MinDatagram  = 576      // the least Limit of a Packer
	MaxEntryBody = 32 << 10
	MaxMessage   = 9 << 20 // of a frame put together from fragments

	NoNode     = 0      // as a leader: none is known
	ClientNode = 0xFFFF // as a source or destination: a client
)

// Flags of a header.
const (
	FlagSealed   = 1 << 0 // the trailer is an authentication tag, the body is sealed (seal.go)
	FlagOperator = 1 << 1 // by a client that holds the servers' secret; only with FlagSealed
	flagsKnown   = FlagSealed | FlagOperator
)

// What Peek and Open answer. ErrVersion: the datagram is ours but of another version,
// answer it with a Mismatch. ErrMismatch: it is itself a Mismatch. ErrSealed: it takes
// an Opener to read it.
var (
	ErrSealed   = errors.New("wire: a sealed datagram, and no key for it here")
	ErrMagic    = errors.New("wire: not a datagram of balsa")
	ErrVersion  = errors.New("wire: another version of the protocol")
	ErrMismatch = errors.New("wire: the other side does not speak our version")
	ErrLength   = errors.New("wire: body length does not match the datagram, or is above the largest")
	ErrChecksum = errors.New("wire: wrong checksum")
)

// checksumSeed begins every checksum, so that an xxhash64 made for another
// purpose never passes for ours: "balsawr" and the datagram's version.
const checksumSeed = 0x62616c7361777200

// Header opens every datagram.
//
//	 0  magic 2: 62 6c | version 1 | flags 1: 1 sealed, 2 operator | cluster tag 4
//	 8  source 2 | destination 2 | key epoch 1 | newest epoch 1 | body length 2
//	16  incarnation 8
//	24  boot 8
//	32  packet number 8
//	40  address token 8
//
// The body length counts the frames with their headers and padding, neither
// this header nor the trailer.
type Header struct {
	Flags    uint8
	Cluster  uint32 // ClusterTag of the sender's cluster; 0 = none known yet
	Src, Dst uint16 // node ids; ClientNode = a client; Dst 0 = whoever is at that address
	KeyEpoch uint8  // which key sealed it; 0 when not sealed
	Newest   uint8  // the newest key its sender holds, so that answers can use it; 0 when not sealed

	Incarnation uint64 // of the sending server; the client's id when Src is ClientNode
	Boot        uint64 // random, anew at each start of the sender's process
	Packet      uint64 // from 1, never reused within one boot: one count for all destinations
	Token       uint64 // the address token the destination gave out; 0 = none
}

// Packet is a finished datagram and where it goes.
type Packet struct {
	To    netip.AddrPort
	Bytes []byte
}

// ClusterTag is the short form of a cluster id that every header carries. The
// zero cluster (none known yet) has tag 0, no other has.
func ClusterTag(cluster [16]byte) uint32 {
	if cluster == ([16]byte{}) {
		return 0
	}
	h := xxhash.Sum64(cluster[:])
	if tag := uint32(h ^ h>>32); tag != 0 {
		return tag
	}
	return 1
}

// Peek checks a datagram's magic, version and length, in this order, and gives its
// header. Neither checksum nor seal is looked at: who believes it must check those.
func Peek(b []byte) (Header, error) {
	if len(b) < 3 || le.Uint16(b) != Magic {
		return Header{}, ErrMagic
	}
	if b[2] == mismatchVersion {
		return Header{}, ErrMismatch
	}
	if !Spoken().Take(b[2]) {
		return Header{}, ErrVersion
	}
	if len(b) < HeaderBytes+TrailerBytes {
		return Header{}, ErrShort
	}
	body := int(le.Uint16(b[14:]))
	if len(b) > MaxDatagram || body%8 != 0 || HeaderBytes+body+TrailerBytes != len(b) {
		return Header{}, ErrLength
	}
	return Header{
		Flags:       b[3],
		Cluster:     le.Uint32(b[4:]),
		Src:         le.Uint16(b[8:]),
		Dst:         le.Uint16(b[10:]),
		KeyEpoch:    b[12],
		Newest:      b[13],
		Incarnation: le.Uint64(b[16:]),
		Boot:        le.Uint64(b[24:]),
		Packet:      le.Uint64(b[32:]),
		Token:       le.Uint64(b[40:]),
	}, nil
}

// Open checks a datagram that is not sealed, to its checksum, and gives its header
// and frames, which are views into b.
func Open(b []byte) (Header, Frames, error) {
	h, err := Peek(b)
	if err != nil {
		return Header{}, Frames{}, err
	}
	if h.Flags&FlagSealed != 0 {
		return h, Frames{}, ErrSealed
	}
	end := len(b) - TrailerBytes
	if le.Uint64(b[end:]) != checksum(b[:end]) {
		return Header{}, Frames{}, ErrChecksum
	}
	if h.Flags != 0 || h.KeyEpoch != 0 || h.Newest != 0 || !zero(b[end+8:]) {
		return Header{}, Frames{}, ErrReserved
	}
	return h, Frames{rest: b[HeaderBytes:end]}, nil
}

// finish completes a datagram that is not sealed, in place: b holds room for the
// header, the frames, and room for the trailer.
func finish(b []byte, h *Header) {
	h.Flags, h.KeyEpoch, h.Newest = 0, 0, 0
	putHeader(b, h)
	end := len(b) - TrailerBytes
	le.PutUint64(b[end:], checksum(b[:end]))
	le.PutUint64(b[end+8:], 0)
}

func putHeader(b []byte, h *Header) {
	body := len(b) - HeaderBytes - TrailerBytes
	le.PutUint16(b[0:], Magic)
	b[2] = Version
	b[3] = h.Flags
	le.PutUint32(b[4:], h.Cluster)
	le.PutUint16(b[8:], h.Src)
	le.PutUint16(b[10:], h.Dst)
	b[12] = h.KeyEpoch
	b[13] = h.Newest
	le.PutUint16(b[14:], uint16(body))
	le.PutUint64(b[16:], h.Incarnation)
	le.PutUint64(b[24:], h.Boot)
	le.PutUint64(b[32:], h.Packet)
	le.PutUint64(b[40:], h.Token)
}

// checksum is that of p, the beginning of a datagram.
func checksum(p []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(checksumSeed | uint64(p[2]))
	d.Write(p)
	return d.Sum64()
}
