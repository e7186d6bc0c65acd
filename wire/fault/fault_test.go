package fault

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func stream() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestThePerfectLinkDeliversOnceAtOnce(t *testing.T) {
	var l Link
	rng := stream()
	for range 1000 {
		if d := l.Decide(rng); len(d) != 1 || d[0].Delay != 0 || d[0].Corrupt {
			t.Fatalf("%+v", d)
		}
	}
}

func TestEachFaultHappensAboutAsOftenAsAskedFor(t *testing.T) {
	l := Link{Loss: 0.3, Dup: 0.2, Corrupt: 0.1, Reorder: 0.25, DelayMin: 100, DelayMax: 200, ReorderDelay: 1000}
	rng := stream()
	const n = 20_000
	var none, twice, corrupt, held int
	for range n {
		d := l.Decide(rng)
		switch len(d) {
		case 0:
			none++
			continue
		case 2:
			twice++
		}
		if d[0].Corrupt {
			corrupt++
		}
		if d[0].Delay > 200 {
			held++
		}
		if d[0].Delay < 100 || d[0].Delay > 1200 {
			t.Fatalf("delay %d", d[0].Delay)
		}
	}
	for what, c := range map[string]struct{ got, want float64 }{
		"lost":      {float64(none) / n, 0.3},
		"twice":     {float64(twice) / n, 0.7 * 0.2},
		"corrupt":   {float64(corrupt) / n, 0.7 * 0.1},
		"held back": {float64(held) / n, 0.7 * 0.25 * 0.95},
	} {
		if c.got < 0.9*c.want || c.got > 1.1*c.want {
			t.Errorf("%s: %v, want about %v", what, c.got, c.want)
		}
	}
}

func TestACutOrAShortMTULetsNothingPass(t *testing.T) {
	rng := stream()
	cut, short := Link{Cut: true}, Link{MTU: 1200}
	if d := cut.Decide(rng); len(d) != 0 {
		t.Errorf("cut: %+v", d)
	}
	if d := short.DecideSize(rng, 1201); len(d) != 0 {
		t.Errorf("too long: %+v", d)
	}
	if d := short.DecideSize(rng, 1200); len(d) != 1 {
		t.Errorf("just right: %+v", d)
	}
}

func TestChangingOneFaultLeavesTheRestOfTheStreamAlone(t *testing.T) {
	a, b := Link{DelayMax: 1000, Corrupt: 0.5}, Link{DelayMax: 1000, Corrupt: 0.5, Dup: 1, Loss: 0, Reorder: 1, ReorderDelay: 0}
	ra, rb := stream(), stream()
	for i := range 100 {
		x, y := slices.Clone(a.Decide(ra)), slices.Clone(b.Decide(rb))
		if len(y) != 2 || !reflect.DeepEqual(x[0], y[0]) {
			t.Fatalf("decision %d: %+v and %+v", i, x, y)
		}
	}
}

func TestApplyFlipsOneBit(t *testing.T) {
	b := make([]byte, 10)
	(&Delivery{Corrupt: true, Flip: 80 + 13}).Apply(b)
	if b[1] != 1<<5 {
		t.Errorf("%v", b)
	}
	(&Delivery{Flip: 13}).Apply(b)
	(&Delivery{Corrupt: true}).Apply(nil)
	if b[1] != 1<<5 {
		t.Errorf("%v", b)
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	l, rng := Link{Dup: 1}, stream()
	if n := testing.AllocsPerRun(100, func() { l.Decide(rng) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
