package sim

import (
	"time"

	"github.com/anishathalye/porcupine"

	"balsa/wire"
)

// ending is what a run owes once its faults are over: a quorum is healed, the
// others stay broken in some seeds, and within ten election timeouts each
// client's get, then put, is served (E3), and nobody leads in the end whose disk
// hangs for ever (E8). Then all that was told is compared
// with the ledger (E1, E2, E4).
type ending struct {
	*simulation
	waiting  int // clients not yet served
	settleBy int64
	broken   int
}

const (
	leastOperations = 200
	longest         = 90 * second // of virtual time until the ending begins
	retrySlack      = 3 * second  // for clients that had backed off, and for founding late
	forEver         = 1 << 30     // cuts of a link
	settleSlack     = 10 * second
	porcupineLimit  = time.Minute // of real time, for one key; reaching it is a failure
	settledPart     = 0.9         // of the unknown writes; the others stay open for the model
)

func (e *ending) begin() {
	if (len(e.history) < leastOperations || e.faults.begun < leastFaults) && e.now < longest {
		e.after(second, e.begin)
		return
	}
	e.faults.over = true
	e.trace.add(14, uint64(e.now))
	e.heal()
	if e.unbounded.class != 0 {
		e.unbounded.end()
		return
	}
	e.settleBy = e.now + 2*e.bound() + settleSlack + e.operatorSlack()
	e.waiting = len(e.actors)
	for _, a := range e.actors {
		a.stopped = true
		e.serve(a)
	}
}

// operatorSlack is the time that a change may take that is given up, and then
// one that waits for nothing any more.
func (e *ending) operatorSlack() int64 {
	if e.knobs.Faults[Membership] {
		return 2 * longestWait
	}
	return 0
}

func (e *ending) bound() int64 { return 10*e.knobs.Timeout + retrySlack }

// heal mends every link and enough servers; which ones the seed decides.
func (e *ending) heal() {
	for i := range e.net.links {
		for j := range e.net.links[i] {
			e.net.links[i][j].usual(&e.knobs)
		}
	}
	for _, s := range e.servers {
		s.hangUntil, s.slowUntil, s.ill = 0, 0, illness{}
		s.disk.Fail(nil)
	}
	e.spoil()
	for _, s := range e.servers {
		if s.retired {
			continue
		}
		s.resume()
		if s.blocked || s.node == nil || s.stuck() {
			s.stop()
		}
		s.start()
	}
}

// spoil leaves in some seeds as many servers broken as the rest can bear,
// whatever change of the membership is under way.
func (e *ending) spoil() {
	if !e.knobs.StayBroken || e.checker.first == nil {
		return
	}
	r := e.faults.random
	if l := e.leader(); l != nil && chance(r, 0.3) && e.faults.spares(l) {
		e.retire(l, 5)
	}
	order := append([]*server(nil), e.servers...)
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, s := range order {
		if chance(r, 0.7) && !s.gone && e.faults.spares(s) {
			e.retire(s, r.IntN(6))
		}
	}
}

// stuck says that a sync of this server hangs: only an end of the process ends it.
func (s *server) stuck() bool { return len(s.unsynced) > 0 }

// retire breaks a server for ever: dead, frozen, with a disk that hangs, or cut
// off both ways, from what it would hear, or from whom it tells.
func (e *ending) retire(s *server, how int) {
	e.broken++
	e.tell("%v stays broken (%d)", s, how)
	s.gone = true
	switch how {
	case 0:
		s.cutPower()
		s.retired = true
	case 1:
		s.start()
		s.pause()
		s.retired = true
	case 5:
		s.hangUntil = never
		if s == e.leader() {
			e.met[MarkStallEnding]++
		}
	default:
		for i := range e.net.endpoints {
			if how != 4 {
				e.net.links[i][s.id-1].cuts = forEver
			}
			if how != 3 {
				e.net.links[s.id-1][i].cuts = forEver
			}
		}
	}
}

// serve asks a get and then a put for one client; a put first would hide a
// leader that cannot serve reads before it has committed.
func (e *ending) serve(a *actor) {
	began := e.now
	must := func(o *operation) {
		if o.Outcome != applied && !e.blockedRightly() {
			e.violate("E3", "%d ms after a quorum was healed: %v", (e.now-began)/millisecond, o)
		}
	}
	first := &operation{Verb: get, Key: a.random.IntN(e.knobs.Keys), Last: true}
	second := &operation{Verb: put, Key: a.random.IntN(e.knobs.Keys), Value: a.value(), Last: true}
	a.ask(first, e.bound(), func(o *operation) {
		must(o)
		a.ask(second, e.bound(), func(o *operation) {
			must(o)
			if e.waiting--; e.waiting == 0 {
				e.settle()
			}
		})
	})
}

// settle waits until every operation has ended, that on the membership too,
// and the voters that are left agree.
func (e *ending) settle() {
	quiet := e.operator.asked == nil && e.stalledLeader() == nil
	for _, a := range e.actors {
		quiet = quiet && len(a.flying) == 0
	}
	last, one := e.newest()
	if quiet = quiet && one && !last.underWay(); quiet {
		for _, s := range e.survivors(last) {
			index, _ := s.node.Store().Applied()
			quiet = quiet && index == e.checker.head() && s.node.Core() != nil && s.node.Core().Last() == index
		}
	}
	still := true
	for _, a := range e.actors {
		still = still && len(a.flying) == 0
	}
	switch {
	case quiet, still && e.blockedRightly():
		e.judge()
		e.ended = true
	case e.now > e.settleBy:
		e.unsettled(last)
		e.ended = true
	default:
		e.cancelHopeless(last)
		e.after(20*millisecond, e.settle)
	}
}

// blockedRightly says that a set of voters which must decide has no majority
// left: a joint configuration in the logs of servers that live on, one of its
// majorities wiped. Nothing may be decided then, and safety is all that is owed.
func (e *ending) blockedRightly() bool {
	k, _ := e.newest()
	for _, set := range k.sets {
		if !majority(set, e.faults.whole) {
			return true
		}
	}
	return false
}

// newest is the configuration of those that decide, and whether it is in the
// ledger. What others have in their logs, that never was and is no member's
// any more, nobody will tell them.
func (e *ending) newest() (k *setting, settled bool) {
	l := e.checker
	if k = l.committed; k == nil {
		k = l.first
	}
	settled = true
	for _, set := range k.sets {
		for _, v := range set {
			if mine := l.inForce(v.id); e.faults.whole(v) && mine != nil && mine.index > k.index {
				k, settled = mine, false
			}
		}
	}
	return k, settled
}

// survivors are the voters that decide and were healed.
func (e *ending) survivors(k *setting) (list []*server) {
	for _, v := range k.sets[0] {
		if s := e.servers[v.id-1]; e.faults.whole(v) && s.node != nil {
			list = append(list, s)
		}
	}
	return list
}

// cancelHopeless takes back, as an operator would, a change that waits for
// servers that will never come back.
func (e *ending) cancelHopeless(k *setting) {
	if k.joint() || k.wants == nil || majority(k.wants, e.faults.whole) || e.operator.asked != nil {
		return
	}
	r := &request{}
	r.Verb = wire.VerbCancel
	e.operator.request(r, longestWait, nil)
}

// leader is whoever leads the newest term.
func (e *ending) leader() (best *server) {
	for _, s := range e.servers {
		if s.node != nil && s.node.Leading() && (best == nil || s.node.Core().Term() > best.node.Core().Term()) {
			best = s
		}
	}
	return best
}

// stalledLeader is a server that leads though its disk hangs for ever, and the
// majority that must decide has well ones.
func (e *ending) stalledLeader() *server {
	for _, s := range e.servers {
		if s.hangUntil == never && s.node != nil && s.node.Leading() {
			return s
		}
	}
	return nil
}

func (e *ending) unsettled(k *setting) {
	if s := e.stalledLeader(); s != nil {
		e.violate("E8", "%v leads on, though its disk hangs", s)
	}
	if asked := e.operator.asked; asked != nil {
		e.violate("E3", "operation %x, verb %d of %v, has no end; in force is %v", asked.Operation, asked.Verb, asked.ids, k)
	}
	if k.underWay() {
		e.violate("E3", "a change has no end: %v", k)
	}
	for _, s := range e.survivors(k) {
		index, _ := s.node.Store().Applied()
		e.violate("E3", "no agreement: the ledger ends at %d, %v has applied %d of %d", e.checker.head(), s, index, s.node.Core().Last())
	}
}

func (e *ending) judge() {
	for _, s := range e.servers {
		if s.node != nil {
			e.met.process(s.node)
			s.checkCounters()
		}
	}
	e.judgeStates()
	e.judgeAnswers()
	e.judgeHistory()
}

// judgeStates: E4, equal applied indexes have equal state.
func (e *ending) judgeStates() {
	type state struct{ index, hash uint64 }
	var states []state
	for _, s := range e.servers {
		if s.node == nil || s.node.Blank() {
			continue
		}
		index, _ := s.node.Store().Applied()
		hash := s.node.Store().Hash()
		e.trace.add(15, uint64(s.id), index, hash)
		for _, other := range states {
			if other.index == index && other.hash != hash {
				e.violate("E4", "%v has another state than others at applied index %d", s, index)
			}
		}
		states = append(states, state{index, hash})
	}
}

// judgeAnswers: E2, an acknowledged write is in the ledger once (S11 saw to
// once), one told not applied never is. Then unknown writes are settled.
func (e *ending) judgeAnswers() {
	r := stream(e.seed, "settle", 0)
	for _, o := range e.history {
		if o.Verb == get {
			continue
		}
		in := o.Ledger.Index != 0
		switch {
		case o.Outcome == applied && !in:
			e.violate("E2", "acknowledged, but not in the ledger: %v", o)
		case o.Outcome == notApplied && in:
			e.violate("E2", "told not applied, but entry %d of the ledger has it: %v", o.Ledger.Index, o)
		case o.Outcome == unknown && chance(r, settledPart):
			o.settle()
		}
	}
}

// judgeHistory: E1, each key is linearizable.
func (e *ending) judgeHistory() {
	byKey := make([][]*operation, e.knobs.Keys)
	for _, o := range e.history {
		byKey[o.Key] = append(byKey[o.Key], o)
	}
	for key, operations := range byKey {
		if result := linearizable(operations, porcupineLimit); result != porcupine.Ok {
			e.violate("E1", "key %d: its %d operations are %v", key, len(operations), result)
		}
	}
}
