package wire

import (
	"crypto/cipher"
	"fmt"
)

// A sealed datagram has the body encrypted and, in place of the checksum, the 16-byte
// tag of AES-GCM over it and over the header, which stays readable. The nonce is four
// zeros and the packet number; that no key sees a number twice is the sender's duty,
// and checked here.

// Sealer seals what one process sends. A Packer that has one seals at Flush: packet
// number and seal are taken at the moment of sending. Not safe for two goroutines; one
// process has one Sealer for all its packers, and one count of packets for them.
type Sealer struct {
	keys     *Keys
	operator bool
	lanes    []sealing // few: a class and epoch each
	nonce    [nonceBytes]byte
}

type sealing struct {
	lane
	aead cipher.AEAD
	last uint64 // packet number
}

// maxSealings is above what is used at once: two classes of all epochs.
const maxSealings = 2*MaxEpochs + 2

// NewSealer makes one. A client with the servers' keys speaks as an operator.
func NewSealer(k *Keys) *Sealer { return &Sealer{keys: k, operator: k.servers} }

// Rekey takes other keys; numbers go on.
func (s *Sealer) Rekey(k *Keys) {
	s.keys, s.operator = k, k.servers
	s.lanes = s.lanes[:0]
}

// seal finishes a datagram in place.
func (s *Sealer) seal(b []byte, h *Header) {
	h.Flags, h.Newest = FlagSealed, s.keys.Newest()
	if s.operator && h.Src == ClientNode {
		h.Flags |= FlagOperator
	}
	if h.KeyEpoch == 0 || s.keys.find(h.KeyEpoch) == nil {
		h.KeyEpoch = s.keys.Newest()
	}
	l := s.lane(laneOf(h))
	if h.Packet <= l.last {
		panic(fmt.Sprintf("wire: packet %d after %d under one key", h.Packet, l.last))
	}
	l.last = h.Packet
	putHeader(b, h)
	le.PutUint64(s.nonce[nonceBytes-8:], h.Packet)
	body := b[HeaderBytes : len(b)-TrailerBytes]
	l.aead.Seal(body[:0], s.nonce[:], body, b[:HeaderBytes])
}

// lane finds or makes the key.
func (s *Sealer) lane(want lane) *sealing {
	for i := range s.lanes {
		if s.lanes[i].lane == want {
			return &s.lanes[i]
		}
	}
	aead := s.keys.aead(&want)
	if aead == nil {
		panic("wire: a " + classNames[want.class] + " datagram, and no secret for such")
	}
	if len(s.lanes) == maxSealings {
		s.lanes = append(s.lanes[:0], s.lanes[1:]...) // of an earlier session or generation
	}
	s.lanes = append(s.lanes, sealing{lane: want, aead: aead})
	return &s.lanes[len(s.lanes)-1]
}
