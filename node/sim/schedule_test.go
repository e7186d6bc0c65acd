package sim

import "testing"

func TestScheduleRunsByTimeThenByOrderMade(t *testing.T) {
	var s schedule
	var got []int
	r := stream(1, "test", 0)
	times := make([]int64, 500)
	for i := range times {
		times[i] = between(r, 0, 50)
		s.at(times[i], func() { got = append(got, i) })
	}
	for {
		run, ok := s.next()
		if !ok {
			break
		}
		run()
	}
	if len(got) != len(times) {
		t.Fatalf("%d events ran, want %d", len(got), len(times))
	}
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if times[a] > times[b] || times[a] == times[b] && a > b {
			t.Fatalf("event %d of time %d ran before event %d of time %d", a, times[a], b, times[b])
		}
	}
}

func TestStreamsOfOneSeedDiffer(t *testing.T) {
	first := stream(1, "loop", 1).Uint64()
	for name, other := range map[string]uint64{"seed": stream(2, "loop", 1).Uint64(), "purpose": stream(1, "poop", 1).Uint64(), "node": stream(1, "loop", 2).Uint64()} {
		if other == first {
			t.Errorf("another %s draws the same", name)
		}
	}
	if again := stream(1, "loop", 1).Uint64(); again != first {
		t.Errorf("the same stream draws %d, then %d", first, again)
	}
}
