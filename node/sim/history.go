package sim

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"balsa/kv"
)

// verb is what a client asked.
type verb uint8

const (
	get verb = iota
	put
	del
	cas
)

func (v verb) String() string { return [...]string{"get", "put", "del", "cas"}[v] }

// outcome is what a client was told.
type outcome uint8

const (
	open       outcome = iota // no answer yet
	applied                   // done; the answer is in the operation
	notApplied                // and never will be
	unknown                   // may or may not have been
)

// operation is one request of one client, and what became of it. Call and
// Return are stamps of a counter that rises with each, not virtual time, as
// equal times would count as concurrent and hide errors.
type operation struct {
	Client, Seq  uint64
	Who          int // the client actor
	Verb         verb
	Key          int
	Value, Old   string // put and cas; unique per write
	Absent       bool   // cas: the key must be absent
	Call, Return int64
	Outcome      outcome
	Found        bool   // get: there was a value. del: there was one. cas: it was swapped
	Got          string // get: the value
	Index        uint64 // of the ledger, when told
	Floor        uint64 // get: the key's newest change in the ledger when invoked
	Head         uint64 // the ledger's end when invoked
	Last         bool   // of the ending
	Ledger       entered
}

// entered is a write's place in the ledger and its result there; zero while
// it has none.
type entered struct {
	Index  uint64
	Sub    uint16
	Status kv.Status
	Seen   int64 // stamp
}

func (o *operation) String() string {
	return fmt.Sprintf("client %d.%d %v key %d value %.24q: outcome %d found %v got %.24q index %d call %d return %d",
		o.Who, o.Seq, o.Verb, o.Key, o.Value, o.Outcome, o.Found, o.Got, o.Index, o.Call, o.Return)
}

// register is the state of one key: a value or none.
type register struct {
	Present bool
	Value   string
}

// input and output of the model. A free output fits whatever happened.
type input struct {
	Verb       verb
	Value, Old string
	Absent     bool
}

type output struct {
	Free  bool
	Found bool
	Got   string
}

// registerModel is one key as a sequential object.
var registerModel = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, in, out any) (bool, any) { return step(state.(register), in.(input), out.(output)) },
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		return fmt.Sprintf("%v %.16q old %.16q -> %v %.16q", i.Verb, i.Value, i.Old, o.Found, o.Got)
	},
}

func step(s register, in input, out output) (bool, any) {
	switch in.Verb {
	case get:
		return out.Free || out.Found == s.Present && out.Got == s.Value, s
	case put:
		return true, register{true, in.Value}
	case del:
		return out.Free || out.Found == s.Present, register{}
	default:
		match := s.Present && !in.Absent && s.Value == in.Old || in.Absent && !s.Present
		if !out.Free && out.Found != match {
			return false, s
		}
		if match {
			return true, register{true, in.Value}
		}
		return true, s
	}
}

// input and output are the operation as the model takes it, and returned is the stamp by which it had happened: never,
// for one of which that is not known.
func (o *operation) input() input {
	return input{Verb: o.Verb, Value: o.Value, Old: o.Old, Absent: o.Absent}
}

func (o *operation) output() output {
	if o.Outcome != applied {
		return output{Free: true}
	}
	return output{Found: o.Found, Got: o.Got}
}

func (o *operation) returned() int64 {
	if o.Outcome != applied {
		return never
	}
	return o.Return
}

// linearizable judges the operations of one key, all of which have ended.
// Operations that were not applied, and failed reads, are left out; an unknown
// write returns at infinity with a free output unless it was settled before.
// Dozens of unknown writes at once are orders without number to search, so the
// order of the ledger is tried first; what it proves needs no search.
func linearizable(operations []*operation, limit time.Duration) porcupine.CheckResult {
	if witnessed(operations) {
		return porcupine.Ok
	}
	return search(operations, limit)
}

// search looks through all orders.
func search(operations []*operation, limit time.Duration) porcupine.CheckResult {
	var history []porcupine.Operation
	for _, o := range operations {
		if o.Outcome == notApplied || o.Outcome != applied && o.Verb == get {
			continue
		}
		history = append(history, porcupine.Operation{ClientId: o.Who, Call: o.Call, Return: o.returned(), Input: o.input(), Output: o.output()})
	}
	return porcupine.CheckOperationsTimeout(registerModel, history, limit)
}

// settle decides what an unknown write was by the ledger's word: absent from
// it, it never happened; in it, it happened before it was first seen there.
func (o *operation) settle() {
	switch {
	case o.Outcome != unknown || o.Verb == get:
	case o.Ledger.Index == 0:
		o.Outcome = notApplied
	default:
		o.Outcome, o.Return, o.Found = applied, max(o.Ledger.Seen, o.Call), o.Ledger.Status == kv.OK
	}
}
