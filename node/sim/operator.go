package sim

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"balsa/wire"
)

// operator is a person at `balsa member` and `balsa transfer`: it asks for one
// change after another, repeats each under its operation id at whoever is said
// to lead until it is answered for good, and sometimes loses patience first.
type operator struct {
	*simulation
	random *rand.Rand
	addr   netip.AddrPort
	who    int // its endpoint
	id     uint64
	packer wire.Packer
	asked  *request       // under way, nil when none is
	began  int            // requests so far
	wanted [][]serverLife // voters that the last requests would lead to
}

// request is one thing that an operator wants.
type request struct {
	at *server // asked first; nil: any
	wire.MemberChange
	ids   []uint16
	to    int   // the server asked next
	mute  int   // asked so often since the last answer
	until int64 // then the operator gives up asking
	then  func(outcome uint8)
}

const (
	askPause    = 60 * millisecond
	longestWait = 45 * second // of an operator, above the 30 s after which a learner is given up
)

func (o *operator) begin() {
	o.addr = address(o.who, 0)
	o.id = o.random.Uint64() | 1
	if o.knobs.Faults[FounderWiped] {
		o.after(between(o.random, second, 3*second), o.growFromOne)
		return
	}
	o.next()
}

func (o *operator) next() {
	o.after(between(o.random, o.knobs.ChangeEvery/4, 2*o.knobs.ChangeEvery), func() {
		if o.faults.over {
			return
		}
		r := o.draw()
		if r == nil {
			o.next()
			return
		}
		o.request(r, between(o.random, 2*second, longestWait), func(uint8) { o.next() })
	})
}

// growFromOne is the run of Must show 5: a cluster of one server is grown to
// three, and then that server is wiped and started with the same command line.
func (o *operator) growFromOne() {
	r := &request{ids: []uint16{2, 3}}
	r.Verb = wire.VerbAdd
	o.request(r, longestWait, func(outcome uint8) {
		if outcome == wire.OutcomeDone {
			o.after(between(o.random, 0, second), func() {
				if !o.faults.over {
					o.faults.wipe(o.servers[0], FounderWiped)
				}
				o.next()
			})
			return
		}
		o.after(second, func() {
			if !o.faults.over {
				o.growFromOne()
			}
		})
	})
}

// draw makes up what to ask for, from what is in force.
func (o *operator) draw() *request {
	k := o.checker.committed
	if k == nil {
		k = o.checker.first
	}
	if k == nil {
		return nil
	}
	r := &request{}
	if o.knobs.Faults[Transfer] && (!o.knobs.Faults[Membership] || chance(o.random, 0.25)) {
		r.Verb, r.ids = wire.VerbTransfer, o.some(o.idsOf(k), 1)
		return r
	}
	if !o.knobs.Faults[Membership] {
		return nil
	}
	voters, others := o.idsOf(k), o.othersThan(k)
	var lost []uint16
	for _, v := range k.sets[0] {
		if o.checker.servers[v.id].incarnation != v.incarnation {
			lost = append(lost, v.id)
		}
	}
	switch n := o.random.IntN(100); {
	case len(lost) > 0 && n < 60:
		r.Verb, r.ids = wire.VerbReplace, o.some(lost, 1)
	case n < 30:
		r.Verb, r.ids = wire.VerbAdd, o.some(others, 2)
	case n < 50:
		r.Verb, r.ids = wire.VerbRemove, o.some(voters, 2)
	case n < 60:
		r.Verb, r.ids = wire.VerbReplace, o.some(voters, 1)
	case n < 75 && len(others) > 0:
		r.Verb, r.ids = wire.VerbSet, o.some(others, 5)
	default:
		r.Verb, r.ids = wire.VerbSet, o.some(append(voters, others...), 5)
	}
	if len(r.ids) == 0 && r.Verb != wire.VerbCancel {
		return nil
	}
	r.DryRun, r.Force = chance(o.random, 0.08), chance(o.random, 0.05)
	if chance(o.random, 0.15) {
		r.Hold, r.HoldPhase = between(o.random, 10*millisecond, 2*second), uint8(between(o.random, wire.PhaseLearner, wire.PhaseJoint))
	}
	return r
}

func (o *operator) idsOf(k *setting) (ids []uint16) {
	for _, v := range k.sets[0] {
		ids = append(ids, v.id)
	}
	return ids
}

func (o *operator) othersThan(k *setting) (ids []uint16) {
	for _, s := range o.servers {
		if !slices.ContainsFunc(k.sets[0], func(v serverLife) bool { return v.id == s.id }) {
			ids = append(ids, s.id)
		}
	}
	return ids
}

// some draws from one to most of ids.
func (o *operator) some(ids []uint16, most int) []uint16 {
	if len(ids) == 0 {
		return nil
	}
	o.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return slices.Clone(ids[:1+o.random.IntN(min(most, len(ids)))])
}

// request asks for r until it is answered for good, or patience is over.
func (o *operator) request(r *request, patience int64, then func(outcome uint8)) {
	var named []wire.Server
	for _, id := range r.ids {
		named = append(named, wire.Server{ID: id})
	}
	r.Servers = wire.AppendServers(nil, named)
	r.Operation, r.then, r.until = o.random.Uint64()|1, then, o.now+patience
	if r.to = o.random.IntN(len(o.servers)); r.at != nil {
		r.to = int(r.at.id) - 1
	}
	o.want(r)
	o.asked = r
	o.began++
	o.tell("operator asks: operation %x verb %d of %v, dry run %v, hold %d ms in %d", r.Operation, r.Verb, r.ids, r.DryRun, r.Hold/millisecond, r.HoldPhase)
	o.ask(r)
	if r.Verb < wire.VerbCancel && !r.DryRun && chance(o.random, 0.3) {
		o.after(between(o.random, 0, second/4), func() { o.changeMind(r, nil) })
	}
}

// joint: a leader has just made a joint configuration. Only before that commits
// can it be taken back.
func (o *operator) joint(leader *server) {
	if r := o.asked; r != nil && r.Verb < wire.VerbCancel && chance(o.random, 0.15) {
		o.after(between(o.random, 0, 3*o.knobs.DelayMin), func() { o.changeMind(r, leader) })
	}
}

// changeMind asks to cancel what is under way, which only some moments allow.
func (o *operator) changeMind(asked *request, at *server) {
	if o.asked != asked || o.faults.over {
		return
	}
	r := &request{at: at}
	r.Verb = wire.VerbCancel
	o.request(r, between(o.random, second, 5*second), asked.then)
}

// lastRequests are those that a late datagram may still begin.
const lastRequests = 4

// want notes which voters r would lead to.
func (o *operator) want(r *request) {
	k := o.checker.committed
	if k == nil {
		k = o.checker.first
	}
	if k == nil || r.Verb >= wire.VerbCancel {
		return
	}
	named := func(v serverLife) bool { return slices.Contains(r.ids, v.id) }
	var set []serverLife
	if r.Verb != wire.VerbSet {
		set = slices.Clone(k.sets[0])
	}
	if set = slices.DeleteFunc(set, named); r.Verb != wire.VerbRemove {
		for _, id := range r.ids {
			set = append(set, serverLife{id, o.checker.servers[id].incarnation})
		}
	}
	if o.wanted = append(o.wanted, set); len(o.wanted) > lastRequests {
		o.wanted = o.wanted[1:]
	}
}

func (o *operator) ask(r *request) {
	if o.asked != r {
		return
	}
	if o.now >= r.until {
		o.over(r, 0, "no answer for good, no patience")
		return
	}
	if r.mute++; r.mute > 4 {
		o.elsewhere()
	}
	r.Nonce = o.random.Uint64()
	p := &o.packer
	p.Reset()
	p.Limit, p.Header = wire.SafeDatagram, wire.Header{Src: wire.ClientNode, Incarnation: o.id, Boot: o.id, Packet: p.Header.Packet}
	r.Encode(p.Frame(wire.KindMember, r.Size()))
	packets := p.Flush(o.servers[r.to].addr, nil)
	o.net.send(o.who, o.addr, packets)
	o.after(between(o.random, askPause/2, 2*askPause), func() { o.ask(r) })
}

func (o *operator) listens() (process, machine bool) { return true, true }

func (o *operator) refused(netip.AddrPort) { o.elsewhere() }

func (o *operator) elsewhere() {
	if o.asked != nil {
		o.asked.to, o.asked.mute = o.random.IntN(len(o.servers)), 0
	}
}

func (o *operator) receive(_ netip.AddrPort, b []byte) {
	_, frames, err := wire.Open(b)
	if err != nil {
		return
	}
	for kind, p, ok := frames.Next(); ok; kind, p, ok = frames.Next() {
		var f wire.MemberChangeReply
		if r := o.asked; kind == wire.KindMemberReply && f.Decode(p) == nil && r != nil && f.Operation == r.Operation {
			o.answered(r, &f)
		}
	}
}

func (o *operator) answered(r *request, f *wire.MemberChangeReply) {
	r.mute = 0
	switch f.Outcome {
	case wire.OutcomeNotLeader:
		if o.elsewhere(); f.Leader != 0 && chance(o.random, 0.9) {
			r.to = int(f.Leader) - 1
		}
	case wire.OutcomeBegun:
		if r.Verb == wire.VerbCancel || r.Verb == wire.VerbTransfer && f.Leader == r.ids[0] {
			o.over(r, wire.OutcomeDone, "")
		}
	case wire.OutcomeRefused:
		if len(f.Text) == 0 {
			o.violate("E3", "operation %x is refused without a reason", r.Operation)
		}
		o.over(r, f.Outcome, string(f.Text))
	case wire.OutcomePlan:
		if !r.DryRun {
			o.violate("E3", "operation %x is no dry run, and is told a plan", r.Operation)
		}
		o.hits[DryRun]++
		o.over(r, f.Outcome, string(f.Text))
	case wire.OutcomeDone:
		o.checkDone(r, f)
		o.over(r, f.Outcome, "")
	}
}

// checkDone: what is said to be done is in the ledger, and is what was asked.
func (o *operator) checkDone(r *request, f *wire.MemberChangeReply) {
	k := o.checker.first
	if f.Index > 0 {
		k = nil
		if f.Index <= o.checker.head() {
			k = o.checker.entered[settingKey{f.Index, o.checker.entries[f.Index-1].identity}]
		}
	}
	if k == nil || k.underWay() {
		o.violate("S10", "operation %x is told done at %d; the ledger ends at %d and has %v there", r.Operation, f.Index, o.checker.head(), k)
		return
	}
	ids := o.idsOf(k)
	has := func(id uint16) bool { return slices.Contains(ids, id) }
	not := func(id uint16) bool { return !has(id) }
	wrong := false
	switch r.Verb {
	case wire.VerbAdd, wire.VerbReplace:
		wrong = slices.ContainsFunc(r.ids, not)
	case wire.VerbRemove:
		wrong = slices.ContainsFunc(r.ids, has)
	case wire.VerbSet:
		wrong = slices.ContainsFunc(r.ids, not) || len(ids) != len(r.ids)
	}
	if wrong {
		o.violate("S10", "operation %x, verb %d of %v, is told done: %v", r.Operation, r.Verb, r.ids, k)
	}
}

func (o *operator) over(r *request, outcome uint8, text string) {
	o.tell("operator: operation %x ends with %d %s", r.Operation, outcome, text)
	o.trace.add(16, uint64(o.now), r.Operation, uint64(outcome))
	o.asked = nil
	switch {
	case outcome == wire.OutcomeRefused:
		o.hits[Refusal]++
	case outcome != wire.OutcomeDone:
	case r.Verb == wire.VerbCancel:
		o.hits[Cancel]++
	case r.Verb == wire.VerbTransfer:
		o.hits[Transfer]++
	case r.Verb == wire.VerbReplace:
		o.hits[Replace]++
		o.hits[Membership]++
	default:
		o.hits[Membership]++
	}
	if r.then != nil {
		r.then(outcome)
	}
}
