package client

import (
	"net/netip"

	"balsa/wire"
)

// server is one that the core knows: by configuration, or because another server named it.
type server struct {
	addr   netip.AddrPort
	id     uint16 // 0 until known
	place  int    // in Core.servers
	nonce  uint64
	packer wire.Packer
	busy   bool             // the packer has frames of this turn
	pieces *wire.Fragmenter // nil until something large goes there
	cut    int              // largest datagram that they are cut for
	path   *wire.Path

	boot      uint64 // of its last answer
	token     uint64
	greeted   bool   // it answered a Hello in this boot
	foreign   bool   // belongs to another cluster than the pinned one
	blank     bool   // belongs to none
	removed   bool   // belongs to ours no more
	claim     uint64 // term it says it leads; 0 = none
	saidAt    int64  // last answer of any kind
	refusedAt int64  // last ICMP port unreachable
	askedAt   int64  // last Hello
	leadsAt   int64  // since when it is our leader, if it is
	hint      uint16 // the leader it named last
	wanted    bool   // it is asked with what leaves next
	named     uint64 // the newest term for which others named it and we asked it
	seen      wire.Window
	before    boot // what the network kept of it may still come, and counts once

	toldAt   int64  // when it last told a token; -1: never
	newest   uint8  // key that it holds, as it says; 0: it has not spoken yet
	tries    uint64 // datagrams sealed for it
	cannot   uint8  // why it can't read us, as anybody may say, plus 1; 0: nothing was said
	cannotAt int64
	speaks   wire.Versions // told with that
}

// boot is one process of a server, and which of its datagrams were taken.
type boot struct {
	id   uint64
	seen wire.Window
}

// Learn adds a server's address, once.
func (c *Core) Learn(addr netip.AddrPort) { c.learn(addr) }

func (c *Core) learn(addr netip.AddrPort) *server {
	if !addr.IsValid() || addr.Port() == 0 {
		return nil
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	for _, s := range c.servers {
		if s.addr == addr {
			return s
		}
	}
	if len(c.servers) >= maxServers {
		return nil
	}
	s := &server{addr: addr, place: len(c.servers), nonce: c.rng.Uint64()}
	c.newPath(s)
	s.saidAt, s.refusedAt, s.askedAt, s.toldAt = -1, -1, -1, -1
	c.servers = append(c.servers, s)
	return s
}

// Servers returns the addresses known, in the order they were learnt.
func (c *Core) Servers() []netip.AddrPort {
	all := make([]netip.AddrPort, len(c.servers))
	for i, s := range c.servers {
		all[i] = s.addr
	}
	return all
}

// Names returns, once, the host names that servers were told by: the shell resolves them and calls Learn.
func (c *Core) Names() []string {
	n := c.names
	c.names = nil
	return n
}

// Leader is the address that operations go to, if a leader is known.
func (c *Core) Leader() (netip.AddrPort, bool) {
	if c.leader == nil {
		return netip.AddrPort{}, false
	}
	return c.leader.addr, true
}

// discover asks all servers who leads, at once if that is not under way, and again with growing pauses while
// anything waits for the answer.
func (c *Core) discover() {
	if c.hello.due == never {
		c.hello.due, c.hello.now, c.hello.pause = c.now, true, helloMin
	}
}

// hellos writes one round of questions; all servers are asked in parallel, so a dead one costs nothing.
func (c *Core) hellos() {
	if !c.hello.now {
		for _, s := range c.servers {
			if s.wanted {
				c.greet(s)
			}
		}
		return
	}
	c.hello.now = false
	for _, s := range c.servers {
		c.greet(s)
	}
	c.hello.due = c.now + c.jitter(c.hello.pause)
	c.hello.pause = min(c.hello.pause*2, helloMax)
}

// greet writes one question. It is padded, because a server does not answer more bytes than it was asked with unless we
// hold its token, and the one we have may be too old.
func (c *Core) greet(s *server) {
	s.wanted = false
	h := wire.Hello{Nonce: s.nonce, Pad: helloPad}
	if p := c.frame(s, wire.KindHello, h.Size()); p != nil {
		h.Encode(p)
		s.askedAt = c.now
		c.Counters.Hellos++
	}
}

// helloPad makes room for an answer that names some twenty servers.
const helloPad = 472

// onHelloReply learns who the server is, who leads, and which servers there are.
func (c *Core) onHelloReply(s *server, h *wire.Header, r *wire.HelloReply) {
	c.noteNewest(s, h)
	if s.token != r.Token {
		c.askAgain()
	}
	c.takeToken(s, r.Token)
	s.id, s.greeted, s.blank, s.removed = h.Src, true, r.Blank, r.Removed
	c.learnServers(r.Servers)
	if r.Blank {
		s.claim = 0
		return
	}
	if c.cluster == ([16]byte{}) {
		c.cluster = r.Cluster
	}
	s.hint = r.Leader
	if r.LogTime > c.logTime || c.logTimeAt == 0 {
		c.logTime = r.LogTime
	}
	switch {
	case r.Leader == s.id:
		s.claim = max(s.claim, r.Term)
		c.logTime, c.logTimeAt = max(c.logTime, r.LogTime), c.now
		c.elect()
		if c.leader == s {
			c.hello.due, c.hello.now = never, false
		}
	case r.Term >= s.claim:
		s.claim = 0
		c.elect()
	}
	c.pursue(r.Leader, r.Term, r.LeaderAddr)
}

// pursue asks the named leader of a term itself, at once, unless it was asked a moment ago: only what a server says of
// itself makes it our leader. The first who names it for a term is believed so far that it is asked in any case: when
// leadership is handed over, the next leader was often asked just before it led.
func (c *Core) pursue(id uint16, term uint64, addr []byte) {
	if id == wire.NoNode || c.leader != nil && c.leader.id == id {
		return
	}
	var s *server
	for _, known := range c.servers {
		if known.id == id {
			s = known
		}
	}
	if a, ok := c.parse(addr); ok && (s == nil || s.addr != a) {
		s = c.learn(a)
	}
	if s != nil && (s.askedAt < 0 || c.now-s.askedAt >= helloMin || term > s.named) && c.hello.due != never {
		s.named, s.wanted = max(s.named, term), true // what leaves is written in Out
	}
}

func (c *Core) learnServers(encoded []byte) {
	if len(encoded) == 0 {
		return
	}
	list, err := wire.DecodeServers(encoded)
	if err != nil {
		c.Counters.Dropped++
		return
	}
	for _, w := range list {
		if a, ok := c.parse([]byte(w.Addr)); ok {
			if s := c.learn(a); s != nil && s.id == 0 {
				s.id = w.ID
			}
		}
	}
}

// parse reads an address; a host name is kept for the shell.
func (c *Core) parse(addr []byte) (netip.AddrPort, bool) {
	if len(addr) == 0 {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(string(addr))
	if err == nil {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
	}
	if name := string(addr); len(c.names) < maxServers {
		for _, n := range c.names {
			if n == name {
				return netip.AddrPort{}, false
			}
		}
		c.names = append(c.names, name)
	}
	return netip.AddrPort{}, false
}

// elect makes the server with the newest claim our leader. A change sends everything that is under way again.
func (c *Core) elect() {
	var best *server
	for _, s := range c.servers {
		if s.claim != 0 && s.greeted && !s.foreign && (best == nil || s.claim > best.claim) {
			best = s
		}
	}
	if best == c.leader {
		return
	}
	c.leader = best
	if best == nil {
		c.discover()
		return
	}
	best.leadsAt = c.now
	c.dropAllTransfers()
	for _, g := range c.changes {
		g.resend = c.now
	}
	c.resendAll()
}

// revoke takes a server's claim: it said, or an answer proved, that it does not lead.
func (c *Core) revoke(s *server) {
	s.claim = 0
	if c.leader == s {
		c.elect()
	}
	c.discover()
}

// Refused tells that addr answered with ICMP port unreachable: no process is there now. It is a hint that anyone can
// forge, so it proves nothing of what was sent; but we look for another leader at once.
func (c *Core) Refused(now int64, addr netip.AddrPort) {
	c.now = max(c.now, now)
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	for _, s := range c.servers {
		if s.addr != addr {
			continue
		}
		s.refusedAt = c.now
		if c.leader == s {
			s.greeted = false
			c.revoke(s)
		}
	}
}

// wonder asks who leads when an answer is late, well before the operation is sent again: if the leader is gone, the
// others look for it, and whoever comes to lead knows whom to tell. A leader that lives just says so.
func (c *Core) wonder() {
	if c.wonderAt() <= c.now {
		c.wondered = c.now
		c.discover()
	}
}

// wonderAt is when the oldest operation that was sent once is late; never if we wondered about it already.
func (c *Core) wonderAt() int64 {
	h := c.flying[0].front
	if h == none || c.ops[h].sentAt <= c.wondered {
		return never
	}
	return c.ops[h].sentAt + max(lateMin, c.srtt+4*c.rttvar)
}

// jitter spreads d by a quarter, so that clients that began together do not go on together.
func (c *Core) jitter(d int64) int64 { return d - d/8 + int64(c.rng.Uint64N(uint64(d/4)+1)) }
