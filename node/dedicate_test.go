package node

import "testing"

// looks runs a dedication over so many looks, each after so many more switches, and tells where it changed.
func looks(d *dedication, now, switches *int64, n int, driven int64) (changes int) {
	for range n {
		*now = max(*now, d.lookAt)
		*switches += driven
		if d.look(*now, *switches) {
			changes++
		}
	}
	return changes
}

func TestWhoIsDrivenFromItsProcessorStopsSpinningForATime(t *testing.T) {
	d := dedication{wanted: true}
	now, switches := int64(1), int64(1_000_000) // those of a former thread say nothing
	looks(&d, &now, &switches, 1, 0)
	if !d.spins {
		t.Fatal("it does not begin")
	}
	if looks(&d, &now, &switches, 100, spinSwitches-1) != 0 || !d.spins {
		t.Fatal("few switches stop it")
	}
	for i := range 10 {
		want := min(restLeast<<i, restMost)
		if looks(&d, &now, &switches, 1, spinSwitches) != 1 || d.spins {
			t.Fatalf("rest %d: it goes on", i)
		}
		began := now
		for !d.spins {
			looks(&d, &now, &switches, 1, spinSwitches) // others drive it while it rests, too
		}
		if got := now - began; got < want || got > want+spinLook {
			t.Fatalf("rest %d took %d ms, want %d", i, got/1e6, want/1e6)
		}
	}
	looks(&d, &now, &switches, int(3*restMost/spinLook), 0)
	if looks(&d, &now, &switches, 1, spinSwitches); d.spins || d.rest != restLeast {
		t.Fatalf("after a long time alone the rest is %d ms, want %d", d.rest/1e6, restLeast/1e6)
	}
}

// Nothing was looked at for a while, as the loop slept: that many switches are no more than usual.
func TestALateLookIsNoReasonToRest(t *testing.T) {
	d := dedication{wanted: true}
	d.look(1, 0)
	if d.look(d.lookAt+9*spinLook, 10*spinSwitches-1); !d.spins {
		t.Fatal("it stopped")
	}
	if d.look(d.lookAt+9*spinLook, 20*spinSwitches); d.spins {
		t.Fatal("it goes on")
	}
}

func TestANewThreadKnowsThatItsServerRests(t *testing.T) {
	d := dedication{wanted: true}
	d.look(1, 0)
	d.look(d.lookAt, spinSwitches)
	d.settle(&Config{Dedicated: true, Sole: true})
	if d.look(d.wakeAt-1, 5); d.spins {
		t.Fatal("it spins before its rest is over")
	}
}

func TestTheSharedProfileNeverSpins(t *testing.T) {
	for _, c := range []Config{{}, {Sole: true}, {Dedicated: true}} {
		var d dedication
		if d.settle(&c); d.due(1 << 60) {
			t.Errorf("%+v may spin", c)
		}
	}
}
