package fault

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestALineGivesTheEarliestFirstAndKeepsOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var l Line[int]
	type entry struct {
		at int64
		n  int
	}
	var want, got []entry
	for n := range 500 {
		at := int64(rng.IntN(50))
		l.Add(at, n)
		want = append(want, entry{at, n})
	}
	slices.SortStableFunc(want, func(a, b entry) int { return int(a.at - b.at) })
	for now := int64(-1); now < 50; now++ {
		for {
			n, at, ok := l.Take(now)
			if !ok {
				break
			}
			if at > now {
				t.Fatalf("taken at %d, due at %d", now, at)
			}
			got = append(got, entry{at, n})
		}
	}
	if !slices.Equal(got, want) || l.Len() != 0 {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestASlowLinkMakesDatagramsStandInLineAndLosesWhatIsTooMuch(t *testing.T) {
	l := Link{Rate: 1_000_000, DelayMin: 5, DelayMax: 5} // 1 µs a byte
	rng := stream()
	for i := range 3 {
		d, fate := l.Carry(rng, 0, 1000)
		if fate != Arrives || len(d) != 1 || d[0].Delay != int64(i+1)*1e6+5 {
			t.Fatalf("datagram %d: %v %+v", i, fate, d)
		}
	}
	if d, _ := l.Carry(rng, 50e6, 1000); d[0].Delay != 1e6+5 {
		t.Errorf("an idle link delays by %d", d[0].Delay)
	}
	lost := 0
	for range 1000 {
		if _, fate := l.Carry(rng, 50e6, 1000); fate == Overflow {
			lost++
		}
	}
	if lost < 790 || lost > 810 {
		t.Errorf("%d of 1000 found no room, want all but 200 ms of them", lost)
	}
}

func TestCarryTellsWhy(t *testing.T) {
	rng := stream()
	for want, l := range map[Fate]Link{IsCut: {Cut: true, MTU: 10}, TooLong: {MTU: 10}, Lost: {Loss: 1}, Arrives: {MTU: 11}} {
		if d, fate := l.Carry(rng, 0, 11); fate != want || (len(d) > 0) != (want == Arrives) {
			t.Errorf("%v, %d arrivals, want %v", fate, len(d), want)
		}
	}
}

// Decide and Carry draw the same, so a proxy and the simulator do the same to the same stream.
func TestCarryDrawsAsDecideDoes(t *testing.T) {
	a, b := Link{Loss: 0.2, Dup: 0.2, DelayMax: 100}, Link{Loss: 0.2, Dup: 0.2, DelayMax: 100, MTU: 50, Rate: 1 << 40}
	ra, rb := stream(), stream()
	for i := range 500 {
		d, e := len(a.Decide(ra)), 0
		size := 1 + i%60
		f, _ := b.Carry(rb, int64(i), size)
		if e = len(f); size <= 50 && d != e || size > 50 && e != 0 {
			t.Fatalf("datagram %d of %d bytes: %d and %d arrivals", i, size, d, e)
		}
	}
	if ra.Uint64() != rb.Uint64() {
		t.Error("the streams went apart")
	}
}
