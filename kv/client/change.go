package client

import (
	"fmt"
	"slices"
	"time"

	"balsa/wire"
)

// Change is what an operator asks of a cluster: another membership, or another leader.
type Change struct {
	Verb      uint8         // wire.VerbAdd and the others
	Servers   []wire.Server // whom it names; an empty address = as the servers know it
	DryRun    bool          // only tell what it would need
	Force     bool          // begin even if no quorum is alive for it
	HoldPhase uint8         // wire.PhaseLearner or PhaseJoint, for servers with --chaos
	Hold      time.Duration // how long the operation stays in that phase; 0 = no hold
	Detach    bool          // return as soon as the operation is in the log; it goes on by itself
}

// ChangeAnswer is how far a change is, as the leader told it last.
type ChangeAnswer struct {
	Operation     uint64 // its id, the same in all repeats and in the configurations it makes
	Index, Term   uint64 // of the configuration that completed it; the term also before
	Leader        uint16
	Phase         uint8 // wire.PhaseStable and the others
	Over          bool  // nothing more will happen
	Configuration []byte
	Text          string // of a dry run: the plan
}

// The pauses between two requests: they drive the operation until it is in the log, and are questions from then on.
const (
	changeResend = int64(70 * time.Millisecond)
	changeQuiet  = 3 // requests without an answer after which another leader is looked for
)

// change is one under way. It is sent to whoever leads, under one operation id, until somebody says that it is over.
type change struct {
	Change
	token     uint64
	nonce     uint64
	servers   []byte // encoded
	submitted int64
	deadline  int64
	resend    int64
	sends     int  // 0: it cannot have begun
	silent    int  // requests since the last answer
	begun     bool // a leader said so
	answer    ChangeAnswer
}

// ChangeTold is news of a change: of its progress, or that it is over as far as this client goes.
type ChangeTold struct {
	Token   uint64
	Ended   bool
	Outcome Outcome // when ended
	Answer  ChangeAnswer
	Err     error // nil when applied, or begun in the case of Detach
}

// Change begins to ask for ch; news of it comes by Told, the last at the deadline.
func (c *Core) Change(now int64, ch *Change, deadline int64, token uint64) {
	c.now = max(c.now, now)
	g := &change{Change: *ch, token: token, nonce: c.rng.Uint64(), submitted: now, deadline: deadline, resend: now}
	g.answer.Operation = c.rng.Uint64() | 1
	g.servers = wire.AppendServers(nil, ch.Servers)
	c.changes = append(c.changes, g)
	if c.leader == nil {
		c.discover()
	}
}

// CancelChange stops asking; the operation goes on where it has begun.
func (c *Core) CancelChange(now int64, token uint64, cause error) {
	c.now = max(c.now, now)
	for _, g := range c.changes {
		if g.token == token {
			c.stopAsking(g, cause)
			return
		}
	}
}

// Told returns the news of changes since the last call.
func (c *Core) Told() []ChangeTold {
	t := c.told
	c.told = nil
	return t
}

func (c *Core) tickChanges() {
	for i := 0; i < len(c.changes); i++ {
		if g := c.changes[i]; c.now >= g.deadline {
			c.stopAsking(g, nil)
			i--
		} else if c.now >= g.resend && (c.leader == nil || g.silent >= changeQuiet) {
			c.discover()
			if c.leader == nil {
				g.resend = c.now + c.jitter(changeResend) // or as soon as there is one
			}
		}
	}
}

func (c *Core) sendChanges() {
	if c.leader == nil {
		return
	}
	for _, g := range c.changes {
		if c.now < g.resend || !c.proven(c.leader) {
			continue
		}
		q := wire.MemberChange{Nonce: g.nonce, Operation: g.answer.Operation, Hold: int64(g.Hold), Verb: g.Verb,
			DryRun: g.DryRun, Force: g.Force, HoldPhase: g.HoldPhase, Servers: g.servers}
		g.resend = c.now + c.jitter(changeResend)
		if b := c.frame(c.leader, wire.KindMember, q.Size()); b != nil {
			q.Encode(b)
			g.sends++
			g.silent++
		}
	}
}

// onMemberReply takes how far a change is.
func (c *Core) onMemberReply(s *server, p []byte) bool {
	var r wire.MemberChangeReply
	if r.Decode(p) != nil {
		return false
	}
	i := slices.IndexFunc(c.changes, func(g *change) bool { return g.nonce == r.Nonce && g.answer.Operation == r.Operation })
	if i < 0 {
		return true
	}
	g := c.changes[i]
	g.silent = 0
	if r.Outcome == wire.OutcomeNotLeader {
		if g.Verb == wire.VerbTransfer && g.begun && g.wants(r.Leader) {
			g.answer.Leader, g.answer.Term = r.Leader, r.Term
			c.endChange(g, nil)
			return true
		}
		if c.leader == s && r.Term >= s.claim {
			c.revoke(s)
		}
		c.pursue(r.Leader, 0, nil)
		return true
	}
	c.progress(g, &r)
	return true
}

// progress judges what a leader said.
func (c *Core) progress(g *change, r *wire.MemberChangeReply) {
	a := &g.answer
	before := *a
	a.Term, a.Leader, a.Phase = r.Term, r.Leader, r.Phase
	a.Configuration = slices.Clone(r.Configuration)
	switch r.Outcome {
	case wire.OutcomeDone:
		a.Index = r.Index
		c.endChange(g, nil)
	case wire.OutcomePlan:
		a.Text = string(r.Text)
		c.endChange(g, nil)
	case wire.OutcomeRefused:
		// A cancel that was begun leaves nothing to cancel behind, which is what a later leader says of it.
		if g.Verb == wire.VerbCancel && g.begun && r.Phase == wire.PhaseStable {
			c.endChange(g, nil)
			return
		}
		c.endChange(g, &outcomeError{fmt.Sprintf("%s: not applied: %s", g.word(), r.Text), ErrNotApplied, nil})
	case wire.OutcomeBegun:
		again := g.begun
		g.begun = true
		switch {
		case g.Verb == wire.VerbTransfer && g.wants(r.Leader), g.Verb == wire.VerbCancel && again && r.Phase == wire.PhaseStable:
			c.endChange(g, nil)
		case g.Detach && (r.Phase != wire.PhaseStable || g.Verb == wire.VerbTransfer):
			c.tellChange(g, ChangeTold{Ended: true, Outcome: Applied})
			c.dropChange(g)
		case !again || before.Phase != a.Phase || before.Leader != a.Leader || !slices.Equal(before.Configuration, a.Configuration):
			c.tellChange(g, ChangeTold{})
		}
	}
}

// wants says that id is the server that leadership should go to.
func (g *change) wants(id uint16) bool { return len(g.Servers) == 1 && g.Servers[0].ID == id }

func (c *Core) tellChange(g *change, t ChangeTold) {
	t.Token, t.Answer = g.token, g.answer
	c.told = append(c.told, t)
}

func (c *Core) dropChange(g *change) {
	c.changes = slices.DeleteFunc(c.changes, func(o *change) bool { return o == g })
}

// endChange ends a change that is over: it took place, or with err it did not and will not.
func (c *Core) endChange(g *change, err error) {
	g.answer.Over = true
	outcome := Applied
	if err != nil {
		outcome = NotApplied
	}
	c.tellChange(g, ChangeTold{Ended: true, Outcome: outcome, Err: err})
	c.dropChange(g)
}

// stopAsking ends the asking, not the operation. What was never sent has not begun.
func (c *Core) stopAsking(g *change, cause error) {
	in := round(c.now - g.submitted)
	t := ChangeTold{Ended: true, Outcome: NotApplied}
	switch {
	case g.sends == 0 || g.DryRun:
		why := "no leader among " + c.census(g.submitted)
		if told := c.complaint(g.submitted); told != "" {
			why += ": " + told
		}
		if g.sends > 0 && c.leader != nil {
			why = fmt.Sprintf("leader %s did not answer", c.leader.addr)
		}
		if cause != nil {
			why = cause.Error()
		}
		t.Err = &outcomeError{fmt.Sprintf("%s: not applied: %s in %s; see balsa status", g.word(), why, in), ErrNotApplied, cause}
	case g.begun:
		t.Outcome = Unknown
		t.Err = &outcomeError{fmt.Sprintf("%s: outcome unknown: not over after %s, it goes on (%s): balsa member list shows it, balsa member cancel takes it back while that is possible",
			g.word(), in, PhaseName(g.answer.Phase)), ErrUnknown, cause}
		if g.Verb == wire.VerbTransfer {
			t.Err = &outcomeError{fmt.Sprintf("%s: outcome unknown: server %d does not lead after %s; see balsa status", g.word(), g.Servers[0].ID, in), ErrUnknown, cause}
		}
	default:
		t.Outcome = Unknown
		t.Err = &outcomeError{fmt.Sprintf("%s: outcome unknown: asked %d times, no answer in %s; if it has begun it goes on: balsa member list shows it", g.word(), g.sends, in), ErrUnknown, cause}
	}
	c.tellChange(g, t)
	c.dropChange(g)
}

func (g *change) word() string {
	switch g.Verb {
	case wire.VerbAdd:
		return "member add"
	case wire.VerbRemove:
		return "member remove"
	case wire.VerbReplace:
		return "member replace"
	case wire.VerbSet:
		return "member set"
	case wire.VerbCancel:
		return "member cancel"
	}
	return "transfer"
}

// PhaseName is a phase of a membership change in a word.
func PhaseName(phase uint8) string {
	switch phase {
	case wire.PhaseStable:
		return "stable"
	case wire.PhaseLearner:
		return "learner"
	case wire.PhaseJoint:
		return "joint"
	}
	return fmt.Sprintf("phase %d", phase)
}
