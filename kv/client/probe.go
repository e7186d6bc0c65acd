package client

import (
	"slices"

	"balsa/wire"
)

// Row is what one server says of itself.
type Row struct {
	ID      uint16
	Addr    string
	Alive   bool
	Refused bool // ECONNREFUSED: no process there
	Role    uint8
	Leader  uint16
	Term    uint64
	Last    uint64
	Commit  uint64
	Applied uint64
	// Configuration is the one in force there, as wire encodes it; empty when the server is blank.
	Configuration []byte
}

// probe asks every server for its status, in parallel, until all have answered or refused or its time is over.
type probe struct {
	token    uint64
	nonce    uint64
	deadline int64
	resend   int64
	send     bool
	rows     []Row // by server
}

// ProbeDone is the answer to Probe, a row for each server known, ascending by id.
type ProbeDone struct {
	Token uint64
	Rows  []Row
	Why   string // what servers said that can't read us, in words; "" if none did
}

// Probe asks all servers how they are. The answer comes by Probed at the deadline, or when all have said something.
func (c *Core) Probe(now, deadline int64, token uint64) {
	c.now = max(c.now, now)
	c.probes = append(c.probes, &probe{token: token, nonce: c.rng.Uint64(), deadline: deadline, resend: never, send: true})
}

// Probed returns the probes that ended since the last call.
func (c *Core) Probed() []ProbeDone {
	d := c.probed
	c.probed = nil
	return d
}

func (c *Core) tickProbes() {
	for i := 0; i < len(c.probes); i++ {
		p := c.probes[i]
		if c.now >= p.deadline || p.complete(c) {
			c.endProbe(p)
			c.probes = slices.Delete(c.probes, i, i+1)
			i--
			continue
		}
		p.send = p.send || c.now >= p.resend
	}
}

// complete says that nothing more will come: every server answered, or has no process.
func (p *probe) complete(c *Core) bool {
	if len(p.rows) < len(c.servers) || len(p.rows) == 0 {
		return false
	}
	for i := range p.rows {
		if s := c.servers[i]; !p.rows[i].Alive && !(s.refusedAt >= 0 && s.refusedAt > s.saidAt) {
			return false
		}
	}
	return true
}

// sendProbes asks those that have not answered. One whose token we lack is greeted in the same datagram, because it
// may not answer at length before.
func (c *Core) sendProbes() {
	for _, p := range c.probes {
		if !p.send {
			continue
		}
		p.send, p.resend = false, c.now+c.jitter(statusResend)
		for len(p.rows) < len(c.servers) {
			p.rows = append(p.rows, Row{})
		}
		for i, s := range c.servers {
			if p.rows[i].Alive {
				continue
			}
			if s.toldAt < 0 || c.now-s.toldAt > tokenUse {
				c.greet(s)
			}
			q := wire.Status{Nonce: p.nonce}
			if b := c.frame(s, wire.KindStatus, q.Size()); b != nil {
				q.Encode(b)
			}
		}
	}
}

func (c *Core) onStatusReply(s *server, b []byte) bool {
	var r wire.StatusReply
	if r.Decode(b) != nil {
		return false
	}
	c.learnServers(r.Servers)
	for _, p := range c.probes {
		if p.nonce != r.Nonce || s.place >= len(p.rows) {
			continue
		}
		s.id = r.ID
		p.rows[s.place] = Row{ID: r.ID, Alive: true, Role: r.Role, Leader: r.Leader, Term: r.Term, Last: r.Last,
			Commit: r.Commit, Applied: r.Applied, Configuration: slices.Clone(r.Configuration)}
		if len(p.rows) < len(c.servers) {
			p.send = true // it named more
		} else if p.complete(c) {
			p.deadline = c.now
		}
	}
	return true
}

// endProbe makes the rows: one a server, though it may be known by several addresses.
func (c *Core) endProbe(p *probe) {
	d := ProbeDone{Token: p.token, Why: c.complaint(0)}
	for i, s := range c.servers {
		row := Row{}
		if i < len(p.rows) {
			row = p.rows[i]
		}
		if !row.Alive {
			row = Row{ID: s.id, Refused: s.refusedAt >= 0 && s.refusedAt > s.saidAt}
		}
		row.Addr = s.addr.String()
		if at := slices.IndexFunc(d.Rows, func(o Row) bool { return o.ID == row.ID && row.ID != 0 }); at >= 0 {
			if row.Alive && !d.Rows[at].Alive {
				d.Rows[at] = row
			}
			continue
		}
		d.Rows = append(d.Rows, row)
	}
	slices.SortStableFunc(d.Rows, func(a, b Row) int { return int(a.ID) - int(b.ID) })
	c.probed = append(c.probed, d)
}
