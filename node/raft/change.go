package raft

import (
	"errors"
	"fmt"
	"slices"
)

// Membership changes as their leader drives them. The operation is in the configuration, so nothing here has to
// survive: a later leader finds it there, counts the learners' rounds afresh, and goes on.

// Errors of Change and Cancel; what wraps them says why.
var (
	ErrNoQuorum     = errors.New("raft: no quorum of the wanted voters can be alive")
	ErrCannotCancel = errors.New("raft: the change cannot be cancelled")
)

const (
	catchUpRounds = 10   // thesis 4.2.1: then a learner is not converging
	catchUpIdle   = 30e9 // without any progress
	departingFor  = 5e9  // how long a removed server is told of its removal, once that is committed
)

// Change asks for the voters to become Target. Operation is the asker's, not 0, and makes a repeat known as one.
type Change struct {
	Operation uint64
	Target    []Member
	Force     bool // begin even if no quorum of the target can be alive now; it waits for one before it goes joint
}

// change is what the leader keeps of the operation besides the configuration. It ends with the leader.
type change struct {
	holdPhase string
	holdUntil int64
	gaveUp    GaveUp
	departing []departing
}

// GaveUp tells of the last operation that this server, leading, gave up.
type GaveUp struct {
	Operation uint64 // 0: none
	Reason    string
}

// Change begins an operation. nil means that it has begun or, repeated, that this log has it already, under way or over.
// ErrNotLeader, ErrTransferring, ErrPending (wait, or another is under way), ErrInvalid, or ErrNoQuorum.
func (c *Core) Change(now int64, ch Change) error {
	c.advance(now)
	if err := c.mayLead(); err != nil {
		return err
	}
	k := c.inForce()
	if ch.Operation != 0 && slices.ContainsFunc(c.configs, func(ic IndexedConfiguration) bool { return ic.Index > 0 && ic.Operation == ch.Operation }) {
		return nil
	}
	wanted := k.Configuration.clone()
	wanted.Operation, wanted.Target = ch.Operation, slices.Clone(ch.Target)
	if ch.Operation == 0 || len(ch.Target) == 0 || !wanted.valid() || wanted.replaced() != nil && len(wanted.nextVotersAfterLearners()) == 0 {
		return fmt.Errorf("%w: a change needs an operation, distinct servers with incarnations, and a voter to stay while another is replaced", ErrInvalid)
	}
	switch {
	case k.Target != nil || c.joint:
		return fmt.Errorf("%w: operation %d is under way", ErrPending, k.Operation)
	case !c.mayChange():
		return ErrPending
	case c.held(&k.Configuration):
		return fmt.Errorf("%w: phase %s is held", ErrPending, PhaseStable)
	}
	if p := c.Plan(ch.Target); !p.Possible && !ch.Force {
		if c.tooEarly(&p) {
			return ErrPending
		}
		return fmt.Errorf("%w: %s", ErrNoQuorum, p)
	}
	// The first step is taken with the wish in one entry, unless it has to wait.
	first, _ := wanted.next(c.caughtUp, c.quorumAlive)
	if first == nil || c.held(&wanted) && first.Phase() != PhaseLearner {
		first = &wanted
	}
	c.configure(first)
	return nil
}

// nextVotersAfterLearners is nextVoters once all that are absent have become learners.
func (k *Configuration) nextVotersAfterLearners() []uint16 {
	n, _ := k.withLearners()
	return n.nextVoters()
}

// Cancel takes the operation under way back, as far as that is safe. While servers catch up, any leader may. A joint
// configuration only the leader that appended it may take back, in the same term and before it commits (SAFETY 10):
// a later one cannot know whether the new set has decided already. ErrNotLeader, ErrPending, ErrCannotCancel.
func (c *Core) Cancel(now int64) error {
	c.advance(now)
	if err := c.mayLead(); err != nil {
		return err
	}
	k := c.inForce()
	switch {
	case c.joint && k.Index <= c.commit:
		return fmt.Errorf("%w: its joint configuration is committed, and will be left by completing it", ErrCannotCancel)
	case c.joint && k.Index < c.firstOfTerm:
		return fmt.Errorf("%w: its joint configuration was appended by an earlier leader, and is completed", ErrCannotCancel)
	case c.joint:
		n := k.undone()
		c.configure(&n)
	case k.Target == nil:
		return fmt.Errorf("%w: none is under way", ErrCannotCancel)
	case !c.mayChange():
		return ErrPending
	default:
		n := k.settled()
		c.configure(&n)
	}
	return nil
}

// Hold keeps operations from leaving a phase before until. It ends with this leader; a cancel does not wait for it.
func (c *Core) Hold(phase string, until int64) { c.change.holdPhase, c.change.holdUntil = phase, until }

// held tells whether k's phase may not be left yet.
func (c *Core) held(k *Configuration) bool {
	return c.now < c.change.holdUntil && c.change.holdPhase == k.Phase()
}

// mayLead tells whether the leader may decide anything new.
func (c *Core) mayLead() error {
	switch {
	case c.role != Leader:
		return ErrNotLeader
	case c.transfer.to != 0:
		return ErrTransferring
	case c.leaving:
		return ErrNotLeader
	}
	return nil
}

// configure appends a configuration of the core's own making; the caller of the core encodes its body.
func (c *Core) configure(k *Configuration) {
	if !k.valid() {
		panic(fmt.Sprintf("raft: a step of a change made %+v", *k))
	}
	size := noOpBytes + 64*(len(k.Members)+len(k.Target))
	c.appendEntry(Entry{Term: c.hard.Term, Kind: Configuring, Size: size, Config: k, Ref: -1})
}

// stepChange takes the next step of the operation under way, if its time has come.
func (c *Core) stepChange() {
	k := &c.inForce().Configuration
	if k.Target == nil || c.mayLead() != nil || !c.mayChange() {
		return
	}
	held := c.held(k)
	if reason := c.hopeless(k); reason != "" && !held {
		c.change.gaveUp = GaveUp{k.Operation, reason}
		n := k.settled()
		c.configure(&n)
		return
	}
	n, _ := k.next(c.caughtUp, c.quorumAlive)
	if n != nil && (!held || n.Phase() == k.Phase()) {
		c.configure(n)
	}
}

// hopeless says why the operation is given up: a new server that does not converge, or never answers.
func (c *Core) hopeless(k *Configuration) string {
	if len(k.Old) > 0 {
		return ""
	}
	for i := range c.peers {
		p := &c.peers[i]
		switch {
		case p.voter || p.catch.done:
		case p.catch.rounds >= catchUpRounds:
			return fmt.Sprintf("server %d did not catch up in %d rounds: it has %d of %d entries", p.id, p.catch.rounds, p.match, c.log.last)
		case c.now >= p.catch.progressAt+catchUpIdle:
			return fmt.Sprintf("server %d made no progress for 30 s: it has %d of %d entries", p.id, p.match, c.log.last)
		}
	}
	return ""
}

// changeDeadline is when stepChange has to look again, if nothing is heard.
func (c *Core) changeDeadline() int64 {
	at := Never
	if k := &c.inForce().Configuration; k.Target != nil {
		if c.held(k) {
			at = c.change.holdUntil
		}
		for i := range c.peers {
			if p := &c.peers[i]; !p.voter && !p.catch.done && !c.held(k) && !c.joint {
				at = min(at, max(p.catch.progressAt+catchUpIdle, c.now+c.cfg.Heartbeat))
			}
		}
	}
	return at
}

func (c *Core) caughtUp(id uint16) bool {
	if id == c.cfg.ID {
		return true
	}
	p := c.peer(id)
	return p != nil && p.catch.done
}

// alive tells whether a server was heard in this term and within T.
func (c *Core) alive(id uint16) bool {
	if id == c.cfg.ID {
		return true
	}
	p := c.peer(id)
	return p != nil && p.boot != 0 && c.now-p.contact < c.cfg.Timeout
}

// unsure tells whether a server was not heard yet by a leader that waits for it since less than T: nobody can say
// whether it is alive.
func (c *Core) unsure(id uint16) bool {
	p := c.peer(id)
	return p != nil && p.boot == 0 && c.now-p.contact < c.cfg.Timeout
}

// tooEarly tells whether those of whom nobody can say it yet could make the plan possible.
func (c *Core) tooEarly(p *Plan) bool {
	maybe := func(ids []uint16) (n int) {
		for _, id := range ids {
			if c.unsure(id) {
				n++
			}
		}
		return n
	}
	return len(p.OldAlive)+maybe(p.OldVoters) >= p.OldQuorum && len(p.NewAlive)+len(p.NewUnknown)+maybe(p.NewVoters) >= p.NewQuorum
}

func (c *Core) quorumAlive(ids []uint16) bool {
	n := 0
	for _, id := range ids {
		if c.alive(id) {
			n++
		}
	}
	return n > len(ids)/2
}

// Plan is what an operation would need, and who is there for it.
type Plan struct {
	OldVoters, NewVoters []uint16
	OldQuorum, NewQuorum int
	OldAlive, NewAlive   []uint16 // heard within T
	NewUnknown           []uint16 // not members yet: only catching up will tell
	Possible             bool     // the old voters decide, and those alive or unknown could make a quorum of the new ones
}

func (p Plan) String() string {
	return fmt.Sprintf("%d of the old voters %v must be alive, %v are; %d of the new voters %v must be, %v are, of %v nothing is known yet",
		p.OldQuorum, p.OldVoters, p.OldAlive, p.NewQuorum, p.NewVoters, p.NewAlive, p.NewUnknown)
}

// Plan tells what changing to target would need. It changes nothing; only a leader knows who is alive.
func (c *Core) Plan(target []Member) Plan {
	k := &c.inForce().Configuration
	p := Plan{OldVoters: k.voters()}
	for _, id := range p.OldVoters {
		if c.role == Leader && c.alive(id) {
			p.OldAlive = append(p.OldAlive, id)
		}
	}
	for _, t := range target {
		p.NewVoters = append(p.NewVoters, t.ID)
		switch {
		case !k.has(t):
			p.NewUnknown = append(p.NewUnknown, t.ID)
		case c.role == Leader && c.alive(t.ID):
			p.NewAlive = append(p.NewAlive, t.ID)
		}
	}
	p.OldQuorum, p.NewQuorum = len(p.OldVoters)/2+1, len(p.NewVoters)/2+1
	p.Possible = len(p.OldAlive) >= p.OldQuorum && len(p.NewAlive)+len(p.NewUnknown) >= p.NewQuorum
	return p
}

// ChangeProgress is how far the operation under way is, for people; it allocates.
type ChangeProgress struct {
	Phase     string
	Operation uint64 // that made the configuration in force
	Target    []Member
	Waits     string // why the next step is not taken now; empty: nothing under way, or it is being written
	Learners  []LearnerProgress
	Departing []uint16 // removed, and still told of it
	GaveUp    GaveUp
}

// LearnerProgress is how far a new server is, as its leader sees it.
type LearnerProgress struct {
	ID              uint16
	Incarnation     uint64
	Match           uint64
	Rounds          int
	CaughtUp, Alive bool
}

// Progress tells of the operation under way. Learners and Waits are known to a leader only.
func (c *Core) Progress() ChangeProgress {
	k := c.inForce().Configuration.clone()
	p := ChangeProgress{Phase: k.Phase(), Operation: k.Operation, Target: k.Target, GaveUp: c.change.gaveUp}
	if c.role != Leader {
		return p
	}
	for i := range c.peers {
		if r := &c.peers[i]; !r.voter && !r.oldVoter {
			p.Learners = append(p.Learners, LearnerProgress{r.id, r.incarnation, r.match, r.catch.rounds, r.catch.done, c.alive(r.id)})
		}
	}
	for i := range c.change.departing {
		p.Departing = append(p.Departing, c.change.departing[i].id)
	}
	if k.Target == nil {
		return p
	}
	switch _, why := k.next(c.caughtUp, c.quorumAlive); {
	case !c.mayChange():
		p.Waits = "the configuration in force is not committed yet"
	case c.held(&k):
		p.Waits = "the phase is held"
	default:
		p.Waits = why
	}
	return p
}
