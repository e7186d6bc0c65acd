package sim

import (
	"time"

	"github.com/anishathalye/porcupine"
)

// ending is what a run owes once its faults are over: a quorum is healed, the
// others stay broken in some seeds, and within ten election timeouts each
// client's get, then put, is served (E3). Then all that was told is compared
// with the ledger (E1, E2, E4).
type ending struct {
	*simulation
	survivors []*server
	waiting   int // clients not yet served
	settleBy  int64
	broken    int
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
	e.settleBy = e.now + 2*e.bound() + settleSlack
	e.waiting = len(e.actors)
	for _, a := range e.actors {
		a.stopped = true
		e.serve(a)
	}
}

func (e *ending) bound() int64 { return 10*e.knobs.Timeout + retrySlack }

// heal mends every link and enough servers; which ones the seed decides.
func (e *ending) heal() {
	for i := range e.net.links {
		for j := range e.net.links[i] {
			e.net.links[i][j].usual(&e.knobs)
		}
	}
	var whole []*server
	for _, s := range e.servers {
		s.hangUntil, s.failSyncs = 0, 0
		s.disk.Fail(nil)
		if int(s.id) <= len(e.firstVoters) && !e.faults.spent[s.id] {
			whole = append(whole, s)
		}
	}
	r := e.faults.random
	r.Shuffle(len(whole), func(i, j int) { whole[i], whole[j] = whole[j], whole[i] })
	if quorum := len(e.firstVoters)/2 + 1; e.knobs.StayBroken && e.checker.named != nil {
		for _, s := range whole[quorum:] {
			e.retire(s, r.IntN(5))
		}
		whole = whole[:quorum]
	}
	e.survivors = whole
	e.tell("healed: %v", whole)
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

// stuck says that a sync of this server hangs: only an end of the process ends it.
func (s *server) stuck() bool { return len(s.unsynced) > 0 }

// retire breaks a server for ever: dead, frozen, or cut off both ways, from
// what it would hear, or from whom it tells.
func (e *ending) retire(s *server, how int) {
	e.broken++
	e.tell("%v stays broken (%d)", s, how)
	switch how {
	case 0:
		s.cutPower()
		s.retired = true
	case 1:
		s.start()
		s.pause()
		s.retired = true
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
		if o.Outcome != applied {
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

// settle waits until every operation has ended and the survivors agree.
func (e *ending) settle() {
	quiet := true
	for _, a := range e.actors {
		quiet = quiet && len(a.flying) == 0
	}
	for _, s := range e.survivors {
		index, _ := s.node.Store().Applied()
		quiet = quiet && index == e.checker.head() && s.node.Core() != nil && s.node.Core().Last() == index
	}
	switch {
	case quiet:
		e.judge()
		e.ended = true
	case e.now > e.settleBy:
		for _, s := range e.survivors {
			index, _ := s.node.Store().Applied()
			e.violate("E3", "no agreement: the ledger ends at %d, %v has applied %d of %d", e.checker.head(), s, index, s.node.Core().Last())
		}
		e.ended = true
	default:
		e.after(20*millisecond, e.settle)
	}
}

func (e *ending) judge() {
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
