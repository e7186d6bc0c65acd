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

// ErrChaosRefused is the answer of a server that does itself no harm: it was started without --chaos, or the asker is
// not on loopback.
var ErrChaosRefused = errors.New("chaos refused")

const (
	chaosResend = 20 * time.Millisecond
	chaosWait   = 2 * time.Second
)

// Chaos asks the one server at addr to crash, to stand still or to be cut off: for benchmarks and drills. verb is one
// of wire.ChaosCrash, ChaosPause and ChaosCut; a cut of no duration ends one. It returns when the server has said that
// it begins, and asks until then, at most 2 s.
func Chaos(ctx context.Context, addr string, verb uint8, duration time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, chaosWait)
	defer cancel()
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
	ask := wire.Chaos{Nonce: binary.LittleEndian.Uint64(random[0:]) | 1, Duration: int64(duration), Verb: verb}
	p := wire.Packer{Limit: wire.SafeDatagram, Header: wire.Header{Src: wire.ClientNode,
		Incarnation: binary.LittleEndian.Uint64(random[8:]) | 1, Boot: binary.LittleEndian.Uint64(random[16:])}}
	for ctx.Err() == nil {
		p.Reset()
		ask.Encode(p.Frame(wire.KindChaos, ask.Size()))
		if err := socket.Send(p.Flush(to[0], nil)); err != nil {
			return fmt.Errorf("chaos: %w", err)
		}
		n, err := socket.Receive(time.Now().Add(chaosResend))
		if err != nil {
			return fmt.Errorf("chaos: %w", err)
		}
		for i := range n {
			b, _ := socket.Datagram(i)
			if outcome := chaosOutcome(b, ask.Nonce); outcome != 0 {
				return chaosError(addr, outcome)
			}
		}
	}
	return fmt.Errorf("chaos: %s did not answer: %w", addr, ctx.Err())
}

// chaosOutcome finds the answer to our request in a datagram, 0 if it has none.
func chaosOutcome(b []byte, nonce uint64) uint8 {
	_, frames, err := wire.Open(b)
	if err != nil {
		return 0
	}
	for {
		kind, p, ok := frames.Next()
		if !ok {
			return 0
		}
		var r wire.ChaosReply
		if kind == wire.KindChaosReply && r.Decode(p) == nil && r.Nonce == nonce {
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
	return fmt.Errorf("%w: the server at %s does it for askers on loopback only", ErrChaosRefused, addr)
}
