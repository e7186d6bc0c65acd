package raft

// peer is what this server knows of another member. As leader:
//
//	        answer that fits            resend time passes, a reject, a new boot
//	probing ----------------> streaming ----------------------------------------> probing
//	one message at a time,    entries leave as they come,
//	paced and backed off      up to the window
//
// What an ack says is missing below what came is sent again while streaming goes on (repair).
//
// match <= held < next. Entries up to match are durable there; up to held they are there and equal; up to next-1 they
// were sent. A peer that is silent for a whole timeout gets heartbeats only, and fewer of them.
type peer struct {
	id              uint16
	incarnation     uint64
	voter, oldVoter bool

	ballot ballot
	boot   uint64 // of its last ack; another one means that it restarted

	match, held, next uint64
	acked, ackedSeq   uint64 // the most it acknowledged in this term, over restarts, and the last message sent by then
	forgot, told      bool   // it lacks some of that: its directory is an older copy
	probing, waiting  bool   // waiting: the probe is out
	resetSeq          uint64 // rejects of messages before this one are about a past that is over
	contact           int64  // when it last answered in this term
	promised          int64  // the timeout it last promised, 0: unknown
	lease             lease
	round, roundSent  uint64
	disk              uint8 // how it said its disk does
	full              bool  // and that it has no room for entries
	heartbeatAt       int64
	resendAt          int64
	resendWait        int64
	catch             catchUp    // of a learner
	repairs           []repaired // entry i at i modulo HeldMost; made with the first gap
}

func (p *peer) votes(old bool) bool {
	if old {
		return p.oldVoter
	}
	return p.voter
}

// restart forgets what an earlier term knew.
func (p *peer) restart(now int64, next uint64) {
	clear(p.repairs)
	*p = peer{id: p.id, incarnation: p.incarnation, voter: p.voter, oldVoter: p.oldVoter, repairs: p.repairs,
		next: next, probing: true, contact: now, heartbeatAt: now}
	p.beginCatchUp(now, next-1)
}

// reprobe goes back to what is certain. seq is the number of the next message.
func (p *peer) reprobe(seq uint64) {
	p.probing, p.waiting, p.resetSeq = true, false, seq
	p.next = max(p.match, p.held) + 1
}

func (p *peer) outstanding() bool { return !p.probing && p.next-1 > p.held }

// heard tells what an ack proved; it is true when the peer got further.
func (p *peer) heard(match, held uint64) bool {
	further := match > p.match || held > p.held
	p.match = max(p.match, match)
	p.held = max(p.held, held, match)
	p.next = max(p.next, p.held+1)
	return further
}

// acknowledged notes what p has said is durable. seq is that of the last message sent.
func (p *peer) acknowledged(match, seq uint64) {
	if match > p.acked {
		p.acked, p.ackedSeq = match, seq
	}
}

// contradicts tells whether a reject, of a message sent after the acknowledgement, denies what was acknowledged. What a
// crash or damage takes never does: the one is not acknowledged yet, the other keeps its place in the log.
func (p *peer) contradicts(m *Message) bool {
	return m.Reject && m.EchoSeq > p.ackedSeq && m.RejectPrev > 0 && p.acked > 0 && (m.RejectPrev <= p.acked || m.Hint < p.acked)
}

// Forgetful names a member that was seen to lack what it acknowledged, once, and how far it had; 0 when there is none.
// This leader counts and hears it no more (SAFETY 9).
func (c *Core) Forgetful() (id uint16, acknowledged uint64) {
	for i := range c.peers {
		if p := &c.peers[i]; p.forgot && !p.told {
			p.told = true
			return p.id, p.acked
		}
	}
	return 0, 0
}

// PeerStatus is a peer as the leader sees it.
type PeerStatus struct {
	ID                uint16
	Match, Held, Next uint64
	Probing           bool
	Contact           int64 // when it last answered
	Disk              uint8 // how it said its disk does
}

// Status is a snapshot for people; it allocates.
type Status struct {
	Role                  Role
	Term                  uint64
	Vote                  uint16
	Leader                uint16
	Last, Commit, Durable uint64
	FirstDamaged          uint64 // 0: none
	Voteless              bool
	Configuration         Configuration
	ConfigurationIndex    uint64
	Joint                 bool
	Voter                 bool // this server, in the configuration in force
	PromisedUntil         int64
	Peers                 []PeerStatus // as leader
	Dropped, Violations   uint64       // messages that could not be right; that contradicted what Raft guarantees
	Removed               uint64       // see Core.Removed
	Transferring          uint16       // as leader: whom leadership is being handed to
	Disk                  uint8        // how ours does
	Withheld              uint64       // answers not given because the term or vote was still being written
}

// Status tells what this server is and knows.
func (c *Core) Status() Status {
	s := Status{Role: c.role, Term: c.hard.Term, Vote: c.hard.Vote, Leader: c.leader, Last: c.log.last, Commit: c.commit,
		Durable: c.durable, Voteless: c.voteless, Configuration: c.inForce().Configuration.clone(),
		ConfigurationIndex: c.inForce().Index, Joint: c.joint, Voter: c.self || c.old, PromisedUntil: c.promise.until,
		Dropped: c.dropped, Violations: c.violations, Withheld: c.withheld, Removed: c.Removed(), Transferring: c.transfer.to, Disk: c.disk}
	if c.damage.any() {
		s.FirstDamaged = c.damage.first()
	}
	if c.role == Leader {
		for i := range c.peers {
			p := &c.peers[i]
			s.Peers = append(s.Peers, PeerStatus{p.id, p.match, p.held, p.next, p.probing, p.contact, p.disk})
		}
	}
	return s
}

// Contact tells when this leader last heard a member; for any other server that was never. False: it is no member, or
// this server itself.
func (c *Core) Contact(id uint16) (at int64, member bool) {
	p := c.peer(id)
	if p == nil {
		return 0, false
	}
	if c.role != Leader || p.boot == 0 {
		return 0, true
	}
	return p.contact, true
}

// Role, Term, Leader and Commit answer without allocating.
func (c *Core) Role() Role     { return c.role }
func (c *Core) Term() uint64   { return c.hard.Term }
func (c *Core) Leader() uint16 { return c.leader }
func (c *Core) Commit() uint64 { return c.commit }
func (c *Core) Last() uint64   { return c.log.last }

// TermAt gives the term of the entry at index; false when there is none.
func (c *Core) TermAt(index uint64) (uint64, bool) { return c.log.term(index) }
