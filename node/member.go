package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"balsa/node/raft"
	"balsa/wire"
)

// members is a change of the membership on its way to the core. The leader
// first learns under which incarnation each new server lives, then hands the
// target to the core, whose configurations carry the operation on from leader
// to leader. Whoever asked for it asks again under the same operation id until
// it is over; nothing here need survive this leader.
type members struct {
	operation uint64 // being prepared; 0: none
	deadline  int64
	askAt     int64
	servers   []newcomer
	refusal   string // why the last prepared operation cannot begin
	refused   uint64 // and which one it was
	canceled  uint64 // the last cancel that was begun here
}

// newcomer is a server whose incarnation is asked for.
type newcomer struct {
	id          uint16
	incarnation uint64 // 0: not told yet
	addr        string // where an operator says it is; empty: as known
}

const (
	membersWait = 2e9   // ns a new server has to tell its incarnation
	membersAsk  = 100e6 // ns between questions
)

// memberChange takes one request of an operator. It is answered at once with
// how far the operation is; the asker repeats it until it is over.
func (n *Node) memberChange(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.MemberChange
	if f.Decode(p) != nil || f.Operation == 0 {
		n.Counters.DroppedMalformed++
		return
	}
	r := wire.MemberChangeReply{Nonce: f.Nonce, Operation: f.Operation}
	named, err := wire.DecodeServers(f.Servers)
	switch {
	case err != nil:
		n.Counters.DroppedMalformed++
		return
	case !n.Leading():
		r.Outcome = wire.OutcomeNotLeader
	case f.Verb == wire.VerbCancel:
		n.cancel(now, f.Operation, &r)
	case f.Verb == wire.VerbTransfer:
		answerOf(&r, n.transferTo(now, named), wire.OutcomeBegun)
	default:
		n.change(now, &f, named, &r)
	}
	if n.core != nil {
		n.absorb(now)
		r.Leader, r.Term = n.core.Leader(), n.core.Term()
		r.Configuration, r.Phase = n.configurations.current(), n.phase()
	}
	n.respond(now, from, h.Src, wire.KindMemberReply, r.Size(), r.Encode)
}

// answerOf fills in a refusal with its reason, or that it went well.
func answerOf(r *wire.MemberChangeReply, err error, outcome uint8) {
	switch {
	case err == nil:
		r.Outcome = outcome
	case err == raft.ErrPending || err == raft.ErrTransferring: // bare: it passes by itself
		r.Outcome = wire.OutcomeBegun
	case err == raft.ErrNotLeader:
		r.Outcome = wire.OutcomeNotLeader
	case errors.Is(err, raft.ErrPending):
		r.Outcome, r.Text = wire.OutcomeRefused, []byte("another change is under way: member list shows it")
	default:
		r.Outcome, r.Text = wire.OutcomeRefused, []byte(strings.TrimPrefix(err.Error(), "raft: "))
	}
}

// cancel takes the operation under way back; repeated, it tells whether that is
// committed.
func (n *Node) cancel(now int64, operation uint64, r *wire.MemberChangeReply) {
	if n.members.canceled != operation || n.core.Progress().Phase != raft.PhaseStable {
		err := n.core.Cancel(now)
		if answerOf(r, err, wire.OutcomeBegun); err == nil {
			n.members.canceled = operation
		}
		return
	}
	r.Outcome, r.Index = wire.OutcomeBegun, n.core.Status().ConfigurationIndex
	if r.Index <= n.core.Commit() {
		r.Outcome = wire.OutcomeDone
	}
}

func (n *Node) transferTo(now int64, named []wire.Server) error {
	if len(named) != 1 {
		return fmt.Errorf("%d servers named to lead, want one", len(named))
	}
	if named[0].ID == n.identity.ID {
		return nil // it leads already
	}
	return n.core.Transfer(now, named[0].ID)
}

// change begins an operation, or tells how far one that was begun is.
func (n *Node) change(now int64, f *wire.MemberChange, named []wire.Server, r *wire.MemberChangeReply) {
	status := n.core.Progress()
	switch {
	case status.Operation == f.Operation && status.Phase != raft.PhaseStable:
		r.Outcome = wire.OutcomeBegun
		return
	case status.GaveUp.Operation == f.Operation:
		r.Outcome, r.Text = wire.OutcomeRefused, []byte(status.GaveUp.Reason)
		return
	case n.members.refused == f.Operation:
		r.Outcome, r.Text = wire.OutcomeRefused, []byte(n.members.refusal)
		return
	}
	c := n.inForce()
	target, missing, err := n.target(f, &c, named)
	switch {
	case err != nil:
		answerOf(r, err, 0)
	case len(missing) == 0 && n.satisfied(f, &c, named, target):
		r.Outcome, r.Index = wire.OutcomeDone, n.core.Status().ConfigurationIndex
	case status.Operation == f.Operation && n.core.Status().ConfigurationIndex > n.core.Commit():
		r.Outcome = wire.OutcomeBegun // its last step is on its way
	case status.Operation == f.Operation:
		r.Outcome, r.Text = wire.OutcomeRefused, []byte("it was cancelled or given up; ask again to begin anew")
	case f.Hold > 0 && !n.o.Chaos:
		r.Outcome, r.Text = wire.OutcomeRefused, []byte("a hold needs servers that were started with --chaos")
	case f.Hold > 0 && !n.mayHarm():
		r.Outcome, r.Text = wire.OutcomeRefused, []byte("a hold needs the servers' secret file or, where there is none, a client on the server's machine")
	case len(missing) > 0:
		n.prepare(now, f, missing, named, r)
	case f.DryRun:
		r.Outcome, r.Text = wire.OutcomePlan, []byte(n.core.Plan(target).String())
		n.members.operation = 0 // whoever comes next need not wait for what was only asked
	default:
		if status.Phase == raft.PhaseStable { // a hold is this operation's own: it ends what an earlier one left
			n.core.Hold(phaseName(f.HoldPhase), now+f.Hold)
		}
		err := n.core.Change(now, raft.Change{Operation: f.Operation, Target: target, Force: f.Force})
		if err == nil { // its configuration is about to be encoded, with these addresses
			n.out.expect(target, named)
		}
		answerOf(r, err, wire.OutcomeBegun)
		n.members = members{}
	}
}

// inForce is the configuration in force, with addresses.
func (n *Node) inForce() wire.Configuration {
	c, err := wire.DecodeConfiguration(n.configurations.current())
	if err != nil {
		panic("members: the configuration in force does not decode: " + err.Error())
	}
	return c
}

// satisfied says that the voters, and where they are, are as the request wants
// and the entry that made them so is committed. A replace is satisfied by its own
// operation only: the ids are the same before and after.
func (n *Node) satisfied(f *wire.MemberChange, c *wire.Configuration, named []wire.Server, target []raft.Member) bool {
	moved := func(s wire.Server) bool { return s.Addr != "" && s.Addr != memberAddr(c, s.ID) }
	if slices.ContainsFunc(named, moved) || len(c.Target) > 0 || len(c.Old) > 0 || n.core.Status().ConfigurationIndex > n.core.Commit() {
		return false
	}
	if f.Verb == wire.VerbReplace && c.Operation != f.Operation {
		return false
	}
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter && !slices.ContainsFunc(target, func(t raft.Member) bool { return t.ID == m.ID && t.Incarnation == m.Incarnation }) {
			return false
		}
	}
	return len(c.Members) == len(target)
}

// target is the voters that a request wants. missing are those of it whose
// incarnation nobody has told us yet.
func (n *Node) target(f *wire.MemberChange, c *wire.Configuration, named []wire.Server) (target []raft.Member, missing []uint16, err error) {
	voters := map[uint16]uint64{}
	var ids []uint16
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter {
			ids = append(ids, m.ID)
			voters[m.ID] = m.Incarnation
		}
	}
	for _, s := range named {
		if s.Addr == "" && n.out.addressOf(s.ID) == nil {
			return nil, nil, fmt.Errorf("server %d is not in the pool: name it with its address, %d=HOST:PORT", s.ID, s.ID)
		}
		if other := taken(f, c, named, &s); other != 0 {
			return nil, nil, fmt.Errorf("%s is the address of server %d", s.Addr, other)
		}
		present := slices.Contains(ids, s.ID)
		switch f.Verb {
		case wire.VerbRemove:
			ids = slices.DeleteFunc(ids, func(id uint16) bool { return id == s.ID })
		case wire.VerbReplace:
			if !present {
				return nil, nil, fmt.Errorf("server %d is no voter: replace takes a voter that was made again; add brings in a new one", s.ID)
			}
			if c.Operation != f.Operation { // else it is done: the incarnation is the new one
				delete(voters, s.ID)
			}
		case wire.VerbAdd:
			if !present {
				ids = append(ids, s.ID)
			}
		}
	}
	if f.Verb == wire.VerbSet {
		ids = ids[:0]
		for _, s := range named {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return nil, nil, fmt.Errorf("no voter would be left")
	}
	for _, id := range ids {
		incarnation := voters[id]
		if incarnation == 0 {
			incarnation = n.members.told(id)
		}
		if incarnation == 0 {
			missing = append(missing, id)
		}
		target = append(target, raft.Member{ID: id, Incarnation: incarnation, Voter: true})
	}
	return target, missing, nil
}

// taken is the server, of those that stay, which has the address that another is
// named with; 0: none.
func taken(f *wire.MemberChange, c *wire.Configuration, named []wire.Server, s *wire.Server) uint16 {
	for _, m := range c.Members {
		stays := f.Verb != wire.VerbSet || slices.ContainsFunc(named, func(o wire.Server) bool { return o.ID == m.ID })
		if m.Addr == s.Addr && m.ID != s.ID && stays {
			return m.ID
		}
	}
	return 0
}

// memberAddr is where a configuration says a member is.
func memberAddr(c *wire.Configuration, id uint16) string {
	for _, m := range c.Members {
		if m.ID == id {
			return m.Addr
		}
	}
	return ""
}

// told is the incarnation that a server told for the operation being prepared.
func (m *members) told(id uint16) uint64 {
	for _, s := range m.servers {
		if s.id == id {
			return s.incarnation
		}
	}
	return 0
}

// prepare asks new servers who they are; the request is repeated meanwhile.
func (n *Node) prepare(now int64, f *wire.MemberChange, missing []uint16, named []wire.Server, r *wire.MemberChangeReply) {
	m := &n.members
	r.Outcome = wire.OutcomeBegun
	if m.operation != f.Operation {
		if m.operation != 0 && now < m.deadline {
			r.Outcome, r.Text = wire.OutcomeRefused, []byte("another change is being prepared")
			return
		}
		*m = members{operation: f.Operation, deadline: now + membersWait}
		for _, id := range missing {
			s := newcomer{id: id}
			if i := slices.IndexFunc(named, func(k wire.Server) bool { return k.ID == id }); i >= 0 {
				s.addr = named[i].Addr
			}
			m.servers = append(m.servers, s)
		}
		n.askIncarnations(now)
	}
	if now >= m.deadline {
		m.refused = f.Operation
		m.refusal = fmt.Sprintf("server %d at %s does not answer", missing[0], n.whereAsked(missing[0]))
		m.operation = 0
		r.Outcome, r.Text = wire.OutcomeRefused, []byte(m.refusal)
	}
}

// askIncarnations asks the servers of the operation being prepared.
func (n *Node) askIncarnations(now int64) {
	m := &n.members
	m.askAt = now + membersAsk
	for _, s := range m.servers {
		to := n.out.peerAt(now, s.id)
		if s.addr != "" {
			to, _ = n.o.Resolve(s.addr) // not valid: asked again soon, and told when time is over
		}
		if s.incarnation == 0 && to.IsValid() {
			ask := wire.FoundAsk{AskBoot: n.boot, Pad: foundPad}
			ask.Encode(n.out.must(to, s.id, wire.KindFoundAsk, ask.Size()))
		}
	}
}

// whereAsked is the address at which a newcomer is asked, for people.
func (n *Node) whereAsked(id uint16) string {
	for _, s := range n.members.servers {
		if s.id == id && s.addr != "" {
			return s.addr
		}
	}
	return string(n.out.addressOf(id))
}

// incarnationTold takes the answer of a server that is blank, or that once was
// of this cluster; one of another cluster is refused.
func (n *Node) incarnationTold(h *wire.Header, f *wire.FoundAnswer) {
	m := &n.members
	i := slices.IndexFunc(m.servers, func(s newcomer) bool { return s.id == h.Src })
	if i < 0 || m.operation == 0 {
		return
	}
	if !f.Blank {
		c, err := wire.DecodeConfiguration(f.List)
		if err != nil || c.Cluster != n.founding.cluster {
			m.refused = m.operation
			m.refusal = fmt.Sprintf("server %d at %s belongs to another cluster: its data directory was made for that one", h.Src, n.whereAsked(h.Src))
			m.operation = 0
			return
		}
	}
	m.servers[i].incarnation = h.Incarnation
}

// phase numbers how far a change of the membership is, as the wire does.
func (n *Node) phase() uint8 {
	switch n.core.Progress().Phase {
	case raft.PhaseLearner:
		return wire.PhaseLearner
	case raft.PhaseJoint:
		return wire.PhaseJoint
	}
	return wire.PhaseStable
}

func phaseName(phase uint8) string {
	switch phase {
	case wire.PhaseLearner:
		return raft.PhaseLearner
	case wire.PhaseJoint:
		return raft.PhaseJoint
	}
	return raft.PhaseStable
}
