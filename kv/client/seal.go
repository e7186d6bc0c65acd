package client

import (
	"errors"
	"fmt"
	"net/netip"

	"balsa/wire"
)

// tokenUse is how long a token is used without a word from its server: below the time that servers take it for good, on
// whatever clock. A server tells the next one in time while we talk to it.
const tokenUse = wire.TokenLife * 3 / 4

// Rekey takes another set of keys, as the secret file was changed.
func (c *Core) Rekey(k *wire.Keys) {
	c.wantsKeys = false
	if c.cfg.Keys == nil || c.cfg.Keys.Equal(k) {
		return
	}
	c.cfg.Keys = k
	c.sealer.Rekey(k)
	c.opener.Rekey(k)
	for _, s := range c.servers {
		s.cannot = 0
	}
}

// WantsKeys says that a server holds a newer key than we, or none of ours: the shell reads the secret file again, and
// calls Rekey.
func (c *Core) WantsKeys() bool {
	if c.cfg.Keys == nil {
		return false
	}
	for _, s := range c.servers {
		if s.newest != 0 && !c.cfg.Keys.Has(s.newest) {
			return true
		}
	}
	return c.wantsKeys
}

// unwrap checks a datagram up to its frames.
func (c *Core) unwrap(from netip.AddrPort, datagram []byte) (wire.Header, wire.Frames, bool) {
	h, err := wire.Peek(datagram)
	if errors.Is(err, wire.ErrMismatch) {
		c.onMismatch(from, datagram)
	}
	if err != nil || h.Dst != wire.ClientNode || h.Src == wire.ClientNode {
		return h, wire.Frames{}, false
	}
	var frames wire.Frames
	if c.opener == nil {
		_, frames, err = wire.Open(datagram)
		return h, frames, err == nil
	}
	frames, err = c.opener.Open(c.now, &h, datagram, true)
	if errors.Is(err, wire.ErrReplay) {
		c.Counters.Duplicates++
	}
	return h, frames, err == nil
}

// onMismatch takes a server's word that it can't read what we send. Anybody can forge it: it is kept to be told.
func (c *Core) onMismatch(from netip.AddrPort, datagram []byte) {
	var m wire.Mismatch
	if m.Decode(datagram) != nil {
		return
	}
	for _, s := range c.servers {
		if same(s.addr, from) {
			s.cannot, s.cannotAt, s.speaks = m.Reason+1, c.now, m.Speaks
			c.wantsKeys = c.wantsKeys || m.Reason == wire.MismatchKey && c.opener != nil
		}
	}
}

// epoch says which key to seal with for a server.
func (c *Core) epoch(s *server) uint8 {
	if c.cfg.Keys == nil {
		return 0
	}
	s.tries++
	return c.cfg.Keys.Choose(s.newest, s.tries)
}

// noteNewest takes a server's word of its newest key.
func (c *Core) noteNewest(s *server, h *wire.Header) {
	if c.cfg.Keys != nil {
		s.newest = h.Newest
	}
}

// proven says that the server will hear us: it told us a token, not too long ago. Else it is asked for one, and what
// waits for it stays in its queue meanwhile.
func (c *Core) proven(s *server) bool {
	if s.toldAt >= 0 && c.now-s.toldAt <= tokenUse {
		return true
	}
	c.discover()
	return false
}

// takeToken notes the token that a server gave us.
func (c *Core) takeToken(s *server, token uint64) {
	s.token, s.toldAt, s.cannot = token, c.now, 0
}

func (c *Core) onToken(s *server, p []byte) bool {
	var t wire.Token
	if t.Decode(p) != nil {
		return false
	}
	c.takeToken(s, t.Token)
	c.askAgain()
	return true
}

// askAgain sends the probes and changes again that may not have been heard for want of a token.
func (c *Core) askAgain() {
	for _, p := range c.probes {
		p.send = true
	}
	for _, g := range c.changes {
		g.resend = min(g.resend, c.now)
	}
}

// complaint says what the servers can't read of us, "" if nothing was heard of that since.
func (c *Core) complaint(since int64) string {
	for _, s := range c.servers {
		if s.cannot == 0 || s.cannotAt < since {
			continue
		}
		switch s.cannot - 1 {
		case wire.MismatchVersion:
			return fmt.Sprintf("%s speaks %v of the protocol, this client %v", s.addr, s.speaks, wire.Spoken())
		case wire.MismatchSealed:
			return fmt.Sprintf("%s takes sealed datagrams only: give the cluster's client.secret by --secret-file", s.addr)
		case wire.MismatchOpen:
			return fmt.Sprintf("%s is not sealed: leave --secret-file out", s.addr)
		case wire.MismatchKey:
			return fmt.Sprintf("%s does not hold the secret of the file given by --secret-file: it is another cluster's, or was retired", s.addr)
		}
	}
	return ""
}
