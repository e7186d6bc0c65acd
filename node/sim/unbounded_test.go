package sim

import "testing"

// SAFETY 9: a cloned directory is noticed within the time that it is owed, and a
// restored one by the leader that knows better; among so many seeds both are.
func TestClonedAndRestoredDirectoriesAreNoticed(t *testing.T) {
	var left [Classes]int
	left[Clone], left[Restore] = 3, 6
	noticed := map[Class]uint64{}
	for seed := uint64(1); left[Clone]+left[Restore] > 0; seed++ {
		k := draw(stream(seed, "knobs", 0))
		k.drawUnbounded(stream(seed, "unbounded", 0))
		if k.Unbounded == 0 || left[k.Unbounded] == 0 {
			continue
		}
		left[k.Unbounded]--
		r := Run(seed)
		if r.Failure != "" {
			t.Errorf("seed %d: %s", seed, r.Failure)
		}
		noticed[Clone] += r.Met[MarkTwin]
		noticed[Restore] += r.Met[MarkRestored]
	}
	if noticed[Clone] == 0 || noticed[Restore] == 0 {
		t.Errorf("noticed are %d clones and %d restored directories, want some of both", noticed[Clone], noticed[Restore])
	}
}
