package sim

import (
	"fmt"
	"io"
	"runtime/debug"

	"balsa/kv"
	"balsa/wire"
)

// Result is what became of one seed.
type Result struct {
	Seed       uint64
	Hash       uint64 // of everything that happened, in order
	Events     uint64
	Time       int64 // virtual, in nanoseconds
	Operations int
	Faults     int
	Met        Met
	Hits       [Classes]int // how often each class really did something
	Failure    string       // empty: passed
	Knobs      string
	Elections  int
	Broken     int // servers never healed
}

const (
	statusOK   = kv.OK
	mostEvents = 20_000_000
)

// change is the newest change of a key in the ledger.
type change struct{ index uint64 }

// simulation is one run. It is a single goroutine, and nothing outside of it
// has a part in what happens.
type simulation struct {
	schedule
	seed  uint64
	knobs knobs
	trace trace
	net   network

	pool        []wire.Server
	firstVoters []uint16
	servers     []*server
	firstClient int // endpoint of the first client
	actors      []*actor
	faults      faults
	operator    operator
	reader      reader
	ending      ending
	unbounded   unbounded
	checker     *ledger

	history []*operation
	asked   map[clientSeq]*operation // as the servers know them
	changes []change                 // by key
	jumped  int64                    // of all clocks together, ahead
	guess   map[int]string           // by key: what a client read last, for compare-and-swap
	stamps  int64
	values  int

	hits      [Classes]int
	met       Met
	sent      map[sentTo]uint64
	hinted    map[uint16]bool // whose last pre-vote said that its leader is gone
	leaders   int
	reads     int
	overflows int
	failure   string
	ended     bool
	out       io.Writer
}

// Run plays one seed to its end.
func Run(seed uint64) Result { return RunTold(seed, nil) }

// RunTold does so and tells what happens on w, if w is not nil. The telling
// changes nothing of the run.
func RunTold(seed uint64, w io.Writer) Result {
	s := &simulation{seed: seed, knobs: draw(stream(seed, "knobs", 0)), out: w}
	s.knobs.drawUnbounded(stream(seed, "unbounded", 0))
	s.play()
	return Result{Seed: seed, Hash: s.trace.hash, Events: s.trace.events, Time: s.now, Operations: len(s.history), Faults: s.faults.begun,
		Met: s.met, Hits: s.hits, Failure: s.failure, Knobs: s.knobs.String(), Elections: s.leaders, Broken: s.ending.broken}
}

// play runs events until the ending has judged, a rule is broken, or a part
// of the system panics, which is a failure as any other.
func (s *simulation) play() {
	defer func() {
		if p := recover(); p != nil && p != stopped {
			s.failure = fmt.Sprintf("panic at %d ms: %v\n%s", s.now/millisecond, p, debug.Stack())
		}
	}()
	s.build()
	for !s.ended {
		run, ok := s.next()
		if !ok || s.trace.events > mostEvents {
			s.violate("loop", "after %d events the run has no end", s.trace.events)
		}
		s.trace.events++
		run()
	}
}

// stopped unwinds a run whose outcome is known.
var stopped = new(int)

// violate ends the run with the first rule that is broken.
func (s *simulation) violate(rule, format string, args ...any) {
	s.failure = fmt.Sprintf("%s at %d ms: %s", rule, s.now/millisecond, fmt.Sprintf(format, args...))
	panic(stopped)
}

// tell writes a line for people who follow a seed.
func (s *simulation) tell(format string, args ...any) {
	if s.out != nil {
		fmt.Fprintf(s.out, "%9.3f %s\n", float64(s.now)/1e6, fmt.Sprintf(format, args...))
	}
}

func (s *simulation) stamp() int64 {
	s.stamps++
	return s.stamps
}

// build makes the machines and starts everything that acts.
func (s *simulation) build() {
	k := &s.knobs
	machines := k.Servers + k.Spares
	s.firstClient = machines
	s.sent, s.hinted = map[sentTo]uint64{}, map[uint16]bool{}
	s.asked, s.guess, s.changes = map[clientSeq]*operation{}, map[int]string{}, make([]change, k.Keys)
	s.checker = newLedger(machines, s.violate)
	s.checker.changed = s.changed
	s.net.simulation = s
	s.net.init(machines + k.Clients + 2)
	for i := range machines {
		id := uint16(i + 1)
		s.pool = append(s.pool, wire.Server{ID: id, Addr: address(i, 0).String()})
		if i < k.Servers {
			s.firstVoters = append(s.firstVoters, id)
		}
	}
	for i := range machines {
		v := &server{simulation: s, id: uint16(i + 1), addr: address(i, 0), random: stream(s.seed, "server", i)}
		if chance(v.random, 0.5) { // an entry made by one server may be too large for another's datagrams
			v.datagram = k.Datagram
		}
		s.servers = append(s.servers, v)
		s.net.endpoints[i] = v
		v.make()
		s.at(between(v.random, 0, 200*millisecond), v.start)
	}
	for i := range k.Clients {
		a := &actor{simulation: s, who: i, random: stream(s.seed, "client", i)}
		s.actors = append(s.actors, a)
		s.net.endpoints[s.firstClient+i] = a
		a.reborn()
		a.begin()
	}
	s.operator = operator{simulation: s, random: stream(s.seed, "operator", 0), who: machines + k.Clients}
	s.net.endpoints[s.operator.who] = &s.operator
	s.reader = reader{simulation: s, random: stream(s.seed, "reader", 0), who: machines + k.Clients + 1}
	s.net.endpoints[s.reader.who] = &s.reader
	if k.Faults[AnyServer] {
		s.reader.begin()
	}
	if k.Faults[Membership] || k.Faults[Transfer] {
		s.operator.begin()
	}
	s.faults = faults{simulation: s, random: stream(s.seed, "faults", 0), spent: map[uint16]bool{}}
	s.faults.begin()
	s.unbounded = unbounded{simulation: s, random: stream(s.seed, "unbounded", 1)}
	s.unbounded.begin()
	s.ending.simulation = s
	s.at(k.Length, s.ending.begin)
}

// changed notes that a write has reached the ledger.
func (s *simulation) changed(client, seq uint64, r *kv.Result) {
	o := s.asked[clientSeq{client, seq}]
	if o == nil {
		s.violate("S11", "the ledger has a write of client %x seq %d that nobody sent", client, seq)
	}
	if o.Ledger.Index != 0 {
		s.violate("S11", "entry %d applies again, as client %x seq %d, what entry %d applied: %v", r.Index, client, seq, o.Ledger.Index, o)
	}
	o.Ledger = entered{r.Index, r.Sub, r.Status, s.stamp()}
	if r.Status == kv.OK {
		s.changes[o.Key] = change{r.Index}
	}
}
