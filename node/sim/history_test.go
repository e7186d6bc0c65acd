package sim

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"balsa/kv"
)

// honest is a small history as a correct store tells it; each case below bends it.
func honest() []*operation {
	return []*operation{
		{Who: 0, Verb: put, Value: "a", Outcome: applied, Call: 1, Return: 2},
		{Who: 1, Verb: get, Outcome: applied, Found: true, Got: "a", Call: 3, Return: 4},
		{Who: 0, Verb: put, Value: "b", Outcome: applied, Call: 5, Return: 8},
		{Who: 1, Verb: get, Outcome: applied, Found: true, Got: "b", Call: 6, Return: 7},
		{Who: 2, Verb: cas, Old: "b", Value: "c", Outcome: applied, Found: true, Call: 9, Return: 10},
		{Who: 2, Verb: cas, Old: "b", Value: "d", Outcome: applied, Found: false, Call: 11, Return: 12},
		{Who: 1, Verb: del, Outcome: applied, Found: true, Call: 13, Return: 14},
		{Who: 1, Verb: del, Outcome: applied, Found: false, Call: 15, Return: 16},
		{Who: 1, Verb: cas, Absent: true, Value: "e", Outcome: applied, Found: true, Call: 17, Return: 18},
		{Who: 0, Verb: get, Outcome: applied, Found: true, Got: "e", Call: 19, Return: 20},
		{Who: 0, Verb: put, Value: "f", Outcome: notApplied, Call: 21, Return: 22},
		{Who: 0, Verb: get, Outcome: unknown, Call: 23, Return: 24},
	}
}

func TestCheckerTellsBentHistoriesFromHonestOnes(t *testing.T) {
	cases := []struct {
		name string
		bend func(h []*operation) []*operation
		want porcupine.CheckResult
	}{
		{"honest", func(h []*operation) []*operation { return h }, porcupine.Ok},
		{"stale read", func(h []*operation) []*operation {
			return append(h, &operation{Who: 3, Verb: get, Outcome: applied, Found: true, Got: "b", Call: 25, Return: 26})
		}, porcupine.Illegal},
		{"lost write", func(h []*operation) []*operation { h[9].Found, h[9].Got = false, ""; return h }, porcupine.Illegal},
		{"double apply", func(h []*operation) []*operation {
			// The swap b to c ran twice: after somebody put b again it is c once more.
			return append(h, &operation{Who: 3, Verb: put, Value: "b", Outcome: applied, Call: 25, Return: 26},
				&operation{Who: 3, Verb: get, Outcome: applied, Found: true, Got: "c", Call: 27, Return: 28})
		}, porcupine.Illegal},
		{"swapped reply", func(h []*operation) []*operation { h[1].Got, h[3].Got = h[3].Got, h[1].Got; return h }, porcupine.Illegal},
		{"not applied, yet read", func(h []*operation) []*operation {
			return append(h, &operation{Who: 3, Verb: get, Outcome: applied, Found: true, Got: "f", Call: 25, Return: 26})
		}, porcupine.Illegal},
		{"unknown write, read", func(h []*operation) []*operation {
			h[10].Outcome = unknown
			return append(h, &operation{Who: 3, Verb: get, Outcome: applied, Found: true, Got: "f", Call: 25, Return: 26})
		}, porcupine.Ok},
		{"unknown write, never seen", func(h []*operation) []*operation {
			h[10].Outcome = unknown
			return append(h, &operation{Who: 3, Verb: get, Outcome: applied, Found: true, Got: "e", Call: 25, Return: 26})
		}, porcupine.Ok},
	}
	for _, c := range cases {
		if got := linearizable(c.bend(honest()), time.Minute); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSettledWritesAreJudgedByTheLedger(t *testing.T) {
	write := &operation{Verb: put, Value: "x", Outcome: unknown, Call: 1, Return: 9}
	write.settle()
	if write.Outcome != notApplied {
		t.Errorf("absent from the ledger: outcome %d, want not applied", write.Outcome)
	}
	write = &operation{Verb: put, Value: "x", Outcome: unknown, Call: 1, Return: 9, Ledger: entered{Index: 3, Status: kv.OK, Seen: 5}}
	write.settle()
	missed := &operation{Who: 1, Verb: get, Outcome: applied, Call: 6, Return: 7}
	if got := linearizable([]*operation{write, missed}, time.Minute); got != porcupine.Illegal {
		t.Errorf("a read after the write was seen in the ledger finds nothing: %v, want Illegal", got)
	}
}
