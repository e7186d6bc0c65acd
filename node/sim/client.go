package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/cespare/xxhash/v2"

	"balsa/kv"
	"balsa/kv/client"
)

// actor is one user: it keeps a few operations in flight by a client.Core,
// thinks in between, and writes down what it asked and was told.
type actor struct {
	*simulation
	who     int
	random  *rand.Rand
	core    *client.Core
	addr    netip.AddrPort
	process int // numbers its cores: a client that goes away comes back as another
	made    uint64
	stage   int // of its secret file
	offset  int64
	tickAt  int64
	stopped bool // asks nothing new

	tokens uint64
	flying []flying
}

// flying is an operation without an answer yet.
type flying struct {
	token  uint64
	handle client.Handle
	op     *operation
	then   func(*operation) // told of the end; nil: think, and ask again
}

// reborn begins a client process: new identity, new port. What the old one
// had in flight stays unknown for ever.
func (a *actor) reborn() {
	for _, f := range a.flying {
		a.end(f.op, unknown)
	}
	a.flying = a.flying[:0]
	a.process++
	a.made++
	a.tickAt = never
	a.offset = between(a.random, second, 1000*second)
	a.addr = address(a.firstClient+a.who, uint16(a.process))
	var servers []netip.AddrPort
	for _, s := range a.servers {
		servers = append(servers, s.addr)
	}
	a.core = client.NewCore(client.CoreConfig{ID: a.random.Uint64() | 1, Boot: a.random.Uint64() | 1, Seed: a.random.Uint64(),
		Servers: servers, Timeout: a.knobs.OpTimeout, OneShot: a.knobs.OneShot, Limit: a.knobs.Datagram,
		Keys: a.seals.clients[a.stage]}, a.clock())
}

func (a *actor) clock() int64 { return a.offset + a.now }

// begin lets the actor ask, as many operations at once as its depth.
func (a *actor) begin() {
	for range a.knobs.Depth {
		a.think()
	}
}

func (a *actor) think() {
	process := a.process
	a.after(between(a.random, 0, 2*a.knobs.Think), func() {
		if a.process == process && !a.stopped {
			a.ask(a.draw(), a.knobs.OpTimeout, nil)
		}
	})
}

// draw makes up an operation. Values are unique, so that a read tells which
// write it saw.
func (a *actor) draw() *operation {
	o := &operation{Key: a.random.IntN(a.knobs.Keys)}
	switch n := a.random.IntN(100); {
	case n < 40:
		o.Verb = get
	case n < 80:
		o.Verb, o.Value = put, a.value()
		if chance(a.random, a.knobs.Large) {
			o.Value += strings.Repeat("=", int(between(a.random, 1000, 150_000)))
		}
	case n < 88:
		o.Verb = del
	default:
		o.Verb, o.Value = cas, a.value()
		if o.Old = a.guess[o.Key]; o.Old == "" {
			o.Absent = true
		}
	}
	return o
}

func (a *actor) value() string {
	a.values++
	return fmt.Sprintf("v%d.%d", a.who, a.values)
}

func keyName(k int) string { return fmt.Sprintf("key-%d", k) }

// ask submits o with the given time to answer, in nanoseconds.
func (a *actor) ask(o *operation, timeout int64, then func(*operation)) {
	o.Who, o.Call = a.who, a.stamp()
	o.Floor, o.Head = a.changes[o.Key].index, a.checker.head()
	a.history = append(a.history, o)
	command := kv.Command{Key: []byte(keyName(o.Key)), Value: []byte(o.Value), Old: []byte(o.Old)}
	switch o.Verb {
	case get:
		command.Op = kv.Get
	case put:
		command.Op = kv.Put
	case del:
		command.Op = kv.Delete
	case cas:
		command.Op = kv.CompareAndSwap
		if o.Absent {
			command.Flags = kv.FlagOldAbsent
		}
	}
	if a.values%3 == 0 { // some of the large ones, as a client's shell does
		command.Pack(kv.S2)
	}
	a.tokens++
	now := a.clock()
	f := flying{token: a.tokens, op: o, then: then}
	f.handle = a.core.Submit(now, &command, now+timeout, f.token)
	a.flying = append(a.flying, f)
	a.pump()
}

func (a *actor) receive(from netip.AddrPort, b []byte) {
	a.trace.add(11, uint64(a.now), uint64(a.who), xxhash.Sum64(b))
	a.core.Deliver(a.clock(), from, b)
	a.pump() // results are views of b
	a.net.over(b)
}

func (a *actor) refused(to netip.AddrPort) {
	a.core.Refused(a.clock(), to)
	a.pump()
}

func (a *actor) listens() (process, machine bool) { return true, true }

// pump sends what the core wants sent, takes what has ended, and comes back
// at the core's deadline.
func (a *actor) pump() {
	packets := a.core.Out(nil)
	a.identify()
	a.net.send(a.firstClient+a.who, a.addr, packets)
	for _, d := range a.core.Done() {
		a.done(&d)
	}
	due := a.core.Deadline()
	if due >= never {
		return
	}
	if due = max(due-a.offset, a.now+1); due < a.tickAt || a.tickAt <= a.now {
		a.tickAt = due
		process := a.process
		a.at(due, func() {
			if a.process == process && a.tickAt == due {
				a.tickAt = never
				a.core.Tick(a.clock())
				a.pump()
			}
		})
	}
}

// identify notes under which session and number the servers will know each
// operation. They are fixed when it is first sent, and change only when no copy
// under the old ones can be applied any more.
func (a *actor) identify() {
	for i := range a.flying {
		f := &a.flying[i]
		if id, seq := a.core.Identity(f.handle); seq != 0 && (id != f.op.Client || seq != f.op.Seq) {
			f.op.Client, f.op.Seq = id, seq
			a.asked[clientSeq{id, seq}] = f.op
		}
	}
}

func (a *actor) done(d *client.Done) {
	for i := range a.flying {
		f := a.flying[i]
		if f.token != d.Token {
			continue
		}
		a.flying = append(a.flying[:i], a.flying[i+1:]...)
		a.answer(f.op, d)
		if f.then != nil {
			f.then(f.op)
		} else {
			a.think()
		}
		return
	}
	a.violate("client", "client %d: an end of token %d, which is not in flight", a.who, d.Token)
}

// answer writes down the end of an operation and checks what can be checked at
// once: S13, a read is not older than the ledger was when it was asked.
func (a *actor) answer(o *operation, d *client.Done) {
	switch d.Outcome {
	case client.NotApplied:
		a.end(o, notApplied)
		return
	case client.Unknown:
		if o.Verb == get && !a.unbounded.begun {
			a.violate("E2", "a read is told unknown: %v", o)
		}
		a.end(o, unknown)
		return
	}
	r := &d.Result
	if o.Index = r.Index; a.unbounded.begun {
		a.end(o, applied)
		return
	}
	o.Found = r.Status == kv.OK
	if o.Verb == get {
		o.Got = string(r.Value)
		if o.Found && r.Index < o.Floor {
			a.violate("S13", "a read is served at an old state: %v, the key changed at %d before it was asked", o, o.Floor)
		}
		if o.Found {
			a.guess[o.Key] = o.Got
		} else {
			delete(a.guess, o.Key)
		}
	}
	if o.Verb != get {
		if l := &o.Ledger; l.Index == 0 || l.Index != r.Index || l.Sub != r.Sub || l.Status != r.Status {
			a.violate("E2", "a client is told %v at (%d, %d): %v; the ledger has %v at (%d, %d)", r.Status, r.Index, r.Sub, o, l.Status, l.Index, l.Sub)
		}
	}
	a.end(o, applied)
}

func (a *actor) end(o *operation, how outcome) {
	o.Outcome, o.Return = how, a.stamp()
	a.met.answer(o, how, a.knobs.OneShot)
	a.tell("%v", o)
	a.trace.add(12, uint64(a.now), uint64(a.who), uint64(how), o.Index)
}
