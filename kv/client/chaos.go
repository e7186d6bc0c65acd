package client

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"balsa/wire"
	"balsa/wire/udp"
)

// ErrChaosRefused is the answer of a server that does itself no harm: it was started without --chaos, or the asker
// neither holds the servers' secret nor, where there is none, is on its machine.
var ErrChaosRefused = errors.New("chaos refused")

const (
	chaosResend = 20 * time.Millisecond
	chaosWait   = 2 * time.Second
)

// Chaos asks the one server at addr to crash, to stand still or to be cut off: for benchmarks and drills. verb is one
// of wire.ChaosCrash, ChaosPause and ChaosCut; a cut of no duration ends one. secretFile is the servers' of a sealed
// cluster, or empty. It returns when the server has said that it begins, and asks until then, at most 2 s.
func Chaos(ctx context.Context, addr, secretFile string, verb uint8, duration time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, chaosWait)
	defer cancel()
	keys, err := (&Config{SecretFile: secretFile}).keys()
	if err != nil {
		return err
	}
	to, err := resolveAll([]string{addr}, chaosWait)
	if err != nil {
		return err
	}
	local := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if to[0].Addr().Is6() {
		local = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	socket, err := udp.Listen(local, udp.Options{})
	if err != nil {
		return fmt.Errorf("chaos: %w", err)
	}
	defer socket.Close()
	var random [24]byte
	cryptorand.Read(random[:]) // never fails: the runtime ends the process rather than return weak bytes
	a := chaosAsker{to: to[0], keys: keys, ask: wire.Chaos{Nonce: binary.LittleEndian.Uint64(random[0:]) | 1, Duration: int64(duration), Verb: verb}}
	a.packer = wire.Packer{Limit: wire.SafeDatagram, Header: wire.Header{Src: wire.ClientNode,
		Incarnation: binary.LittleEndian.Uint64(random[8:]) | 1, Boot: binary.LittleEndian.Uint64(random[16:])}}
	if keys != nil {
		a.packer.Sealer, a.opener = wire.NewSealer(keys), wire.NewOpener(keys)
	}
	for ctx.Err() == nil {
		if err := socket.Send(a.question()); err != nil {
			return fmt.Errorf("chaos: %w", err)
		}
		n, err := socket.Receive(time.Now().Add(chaosResend))
		if err != nil {
			return fmt.Errorf("chaos: %w", err)
		}
		for i := range n {
			b, _ := socket.Datagram(i)
			if outcome := a.hear(b); outcome != 0 {
				return chaosError(addr, outcome)
			}
		}
	}
	return fmt.Errorf("chaos: %s did not answer%s: %w", addr, a.why, ctx.Err())
}

// chaosAsker asks one server for harm. It first gets a token: what was recorded of an earlier request does no harm
// again.
type chaosAsker struct {
	to     netip.AddrPort
	ask    wire.Chaos
	keys   *wire.Keys
	packer wire.Packer
	opener *wire.Opener
	newest uint8 // key that the server holds, as it says
	tries  uint64
	why    string // it can't read us
}

func (a *chaosAsker) question() []wire.Packet {
	a.packer.Reset()
	if a.keys != nil {
		a.tries++
		a.packer.Header.KeyEpoch = a.keys.Choose(a.newest, a.tries)
		a.opener.Turn()
	}
	a.ask.Encode(a.packer.Frame(wire.KindChaos, a.ask.Size()))
	return a.packer.Flush(a.to, nil)
}

// hear finds the answer to our request in a datagram, 0 if it has none, and takes a token that is in it.
func (a *chaosAsker) hear(b []byte) uint8 {
	h, err := wire.Peek(b)
	var m wire.Mismatch
	if errors.Is(err, wire.ErrMismatch) && m.Decode(b) == nil {
		a.why = ": it can't read what we send: give the cluster's server.secret by --secret-file, and none to one that is not sealed"
	}
	if err != nil {
		return 0
	}
	var frames wire.Frames
	if a.opener == nil {
		_, frames, err = wire.Open(b)
	} else {
		frames, err = a.opener.Open(1, &h, b, true)
	}
	if err != nil {
		return 0
	}
	a.newest = h.Newest
	for {
		kind, p, ok := frames.Next()
		if !ok {
			return 0
		}
		var t wire.Token
		var r wire.ChaosReply
		switch {
		case kind == wire.KindToken && t.Decode(p) == nil:
			a.packer.Header.Token = t.Token
		case kind == wire.KindChaosReply && r.Decode(p) == nil && r.Nonce == a.ask.Nonce:
			return r.Outcome
		}
	}
}

func chaosError(addr string, outcome uint8) error {
	switch outcome {
	case wire.ChaosBegun:
		return nil
	case wire.ChaosOff:
		return fmt.Errorf("%w: the server at %s was started without --chaos", ErrChaosRefused, addr)
	}
	return fmt.Errorf("%w: the server at %s does it for who holds its server.secret or, not sealed, for askers on its machine", ErrChaosRefused, addr)
}
