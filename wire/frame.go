package wire

import "fmt"

// Kind says what a frame is. Numbers are for ever; a gap is room.
type Kind uint8

// Between servers, at founding, with clients, of whatever is too large.
const (
	KindAppend     Kind = 1
	KindAck        Kind = 2
	KindVote       Kind = 3
	KindVoteReply  Kind = 4
	KindTimeoutNow Kind = 5
	KindProbe      Kind = 6
	KindProbeReply Kind = 7
	KindJoin       Kind = 8
	KindReadAsk    Kind = 10
	KindReadAnswer Kind = 11
	KindAddress    Kind = 12

	KindFoundAsk    Kind = 16
	KindFoundAnswer Kind = 17
	KindFoundList   Kind = 18

	KindHello       Kind = 32
	KindHelloReply  Kind = 33
	KindRequest     Kind = 34
	KindReply       Kind = 35
	KindNotLeader   Kind = 36
	KindStatus      Kind = 37
	KindStatusReply Kind = 38
	KindMember      Kind = 39
	KindMemberReply Kind = 40
	KindChaos       Kind = 41
	KindChaosReply  Kind = 42
	KindToken       Kind = 43
	KindPathAsk     Kind = 44
	KindPathEcho    Kind = 45

	KindFragment       Kind = 48
	KindFragmentStatus Kind = 49
	KindPathProbe      Kind = 50
	KindPathAnswer     Kind = 51
	KindBulk           Kind = 52
	KindBulkAck        Kind = 53
	KindPad            Kind = 54 // zeros: see Packer.Even
)

var kindNames = [256]string{
	KindAppend:         "append",
	KindAck:            "ack",
	KindVote:           "vote",
	KindVoteReply:      "vote-reply",
	KindTimeoutNow:     "timeout-now",
	KindProbe:          "probe",
	KindProbeReply:     "probe-reply",
	KindJoin:           "join",
	KindReadAsk:        "read-ask",
	KindReadAnswer:     "read-answer",
	KindAddress:        "address",
	KindFoundAsk:       "found-ask",
	KindFoundAnswer:    "found-answer",
	KindFoundList:      "found-list",
	KindHello:          "hello",
	KindHelloReply:     "hello-reply",
	KindRequest:        "request",
	KindReply:          "reply",
	KindNotLeader:      "not-leader",
	KindStatus:         "status",
	KindStatusReply:    "status-reply",
	KindMember:         "member",
	KindMemberReply:    "member-reply",
	KindChaos:          "chaos",
	KindChaosReply:     "chaos-reply",
	KindToken:          "token",
	KindPathAsk:        "path-ask",
	KindPathEcho:       "path-echo",
	KindFragment:       "fragment",
	KindFragmentStatus: "fragment-status",
	KindPathProbe:      "path-probe",
	KindPathAnswer:     "path-answer",
	KindBulk:           "bulk",
	KindBulkAck:        "bulk-ack",
	KindPad:            "pad",
}

// Known tells whether we have a name for the kind. Frames of other kinds are skipped, in whatever version: they are
// said by newer software, which gets on without our hearing them (docs/wire-protocol.md, "Versions").
func (k Kind) Known() bool { return kindNames[k] != "" }

// String is the kind's name for people, as in counters and dumps.
func (k Kind) String() string {
	if k.Known() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// OfServers tells whether frames of this kind are said between servers only, and
// OfClients whether by or to clients only. Fragments are both's.
func (k Kind) OfServers() bool { return k < KindHello || k >= KindPathProbe }

// OfClients is told at OfServers.
func (k Kind) OfClients() bool { return k >= KindHello && k < KindFragment }

// InFragments tells whether frames of this kind may come in fragments: those that can be
// larger than a datagram. All others are answered where they arrive, by as many bytes as
// their datagram had, or mean something of that datagram.
func (k Kind) InFragments() bool {
	switch k {
	case KindAppend, KindRequest, KindReply, KindStatusReply, KindMember, KindMemberReply:
		return true
	}
	return false
}

// Frames walks the frames of an opened datagram. A frame is
//
//	0  kind 1 | zero 1 | length 2 | zero 4
//	8  payload, length bytes, then zeros up to a multiple of eight
//
// The zero value has none. Frames of a kind that the caller doesn't know are
// handed out like any other, to be counted and skipped.
type Frames struct {
	rest []byte
	err  error
}

// Next gives the next frame's kind and payload (a view); false at the end, or
// when the rest is malformed, which Err tells.
func (f *Frames) Next() (Kind, []byte, bool) {
	if len(f.rest) == 0 || f.err != nil {
		return 0, nil, false
	}
	p := f.rest
	if len(p) < FrameHeaderBytes {
		f.err = ErrShort
		return 0, nil, false
	}
	n := int(le.Uint16(p[2:]))
	end := FrameHeaderBytes + pad8(n)
	switch {
	case end > len(p):
		f.err = ErrShort
	case p[0] == 0:
		f.err = ErrValue
	case p[1] != 0 || le.Uint32(p[4:]) != 0 || !zero(p[FrameHeaderBytes+n:end]):
		f.err = ErrReserved
	}
	if f.err != nil {
		return 0, nil, false
	}
	f.rest = p[end:]
	return Kind(p[0]), p[FrameHeaderBytes : FrameHeaderBytes+n : FrameHeaderBytes+n], true
}

// Err is why Next stopped before the end; nil when all frames were whole.
func (f *Frames) Err() error { return f.err }
