package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"net/netip"
)

// An address token proves that whoever sends from an address also receives there, and
// did so lately and from this process. A server gives them to clients that say hello
// and keeps nothing of it: the token is a MAC over the address and the time, under a
// secret of its boot. Until a client holds one it is answered with no more bytes than
// it sent, and nothing is kept of it. What was recorded of a client and is sent again
// later, or to another process of the server, carries a token that is no more valid.

const (
	tokenWindow  = int64(15e9) // ns
	tokenWindows = 2           // a token of this window, or of the one before, is valid
)

// TokenLife is how long a token is valid at least, ns.
const TokenLife = tokenWindow * (tokenWindows - 1)

// Verdict is what a token is worth.
type Verdict uint8

// A token that is Stale is valid and will not be much longer: its holder should be
// given another.
const (
	Unproven Verdict = iota
	Stale
	Proven
)

// Tokens gives and checks the address tokens of one process. Not safe for two goroutines.
type Tokens struct {
	block cipher.Block
	in    [2 * aes.BlockSize]byte // address 16 | window 8 | port 2 | zero 6
	out   [aes.BlockSize]byte
}

// NewTokens takes a secret that no other process has.
func NewTokens(secret [16]byte) *Tokens {
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic("wire: aes: " + err.Error())
	}
	return &Tokens{block: block}
}

// Give is the token for an address now. It is never 0.
func (t *Tokens) Give(now int64, to netip.AddrPort) uint64 { return t.mac(now/tokenWindow, to) }

// Check says what a token is worth that came from an address.
func (t *Tokens) Check(now int64, from netip.AddrPort, token uint64) Verdict {
	switch {
	case token == 0:
		return Unproven
	case token == t.mac(now/tokenWindow, from):
		return Proven
	case token == t.mac(now/tokenWindow-1, from):
		return Stale
	}
	return Unproven
}

// mac chains two blocks: all inputs have the same length, so that is a MAC.
func (t *Tokens) mac(window int64, a netip.AddrPort) uint64 {
	ip := a.Addr().As16() // an IPv4 address the same, in whatever form it comes
	copy(t.in[:16], ip[:])
	le.PutUint64(t.in[16:], uint64(window))
	le.PutUint16(t.in[24:], a.Port())
	t.block.Encrypt(t.out[:], t.in[:16])
	for i, b := range t.in[16:] {
		t.out[i] ^= b
	}
	t.block.Encrypt(t.out[:], t.out[:])
	return le.Uint64(t.out[:]) | 1
}

const tokenBytes = 8

// Token gives a client the address token of its address. It answers what a client
// without a valid one said, and goes to who holds one that will not be valid much longer.
//
//	0  token 8
type Token struct {
	Token uint64
}

// Size is the encoded length.
func (t *Token) Size() int { return tokenBytes }

// Encode writes the frame.
func (t *Token) Encode(p []byte) { le.PutUint64(p[0:], t.Token) }

// Decode reads the frame.
func (t *Token) Decode(p []byte) error {
	if err := fixed(p, tokenBytes); err != nil {
		return err
	}
	t.Token = le.Uint64(p[0:])
	return nil
}
