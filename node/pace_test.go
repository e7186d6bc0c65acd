package node

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBucketsHoldWhatTheySay(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		ns := int64(rng.Uint64() >> (1 + rng.IntN(62)))
		b := bucket(ns)
		if b < 0 || b >= len(delays{}.counts) {
			t.Fatalf("%d: bucket %d", ns, b)
		}
		if c := ceiling(b); ns >= c && c > 0 || ns > 64 && float64(c) > 1.26*float64(ns) {
			t.Fatalf("%d: bucket %d ends at %d", ns, b, c)
		}
	}
}

func TestQuantileIsThatOfASortedList(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var d delays
	var all []int64
	for range 20000 {
		ns := int64(rng.ExpFloat64() * 1e6)
		d.add(ns)
		all = append(all, ns)
	}
	slices.Sort(all)
	exact := all[len(all)-max(len(all)/1000, paceOutliers)-1]
	if got := d.p999(); got < exact || float64(got) > 1.3*float64(exact) {
		t.Errorf("got %d, want %d to a quarter above it", got, exact)
	}
}

func TestTheTimeoutRisesAtOnceAndFallsSlowly(t *testing.T) {
	p := pace{limits: sharedLimits, timeout: sharedLimits.first}
	now := int64(1)
	feed := func(delay int64, windows int) (changes int) {
		for end := now + int64(windows)*paceWindow; now < end; now += 10e6 {
			p.peer(2).beats[0].add(delay)
			p.peer(3).beats[0].add(900e6) // was away: a majority does without it
			if _, changed := p.settle(now, 1); changed {
				changes++
			}
		}
		return changes
	}
	feed(1e6, 6)
	if p.timeout != sharedLimits.least {
		t.Errorf("with delays of 1 ms T is %d, want the least, %d", p.timeout, sharedLimits.least)
	}
	p.peer(2).beats[0].add(800e6) // one stall is no pace
	feed(1e6, 3)
	if p.timeout != sharedLimits.least {
		t.Errorf("after a single stall T is %d, want the least, %d", p.timeout, sharedLimits.least)
	}
	feed(50e6, 1)
	if p.timeout < 500e6 || p.timeout > 650e6 {
		t.Errorf("with delays of 50 ms T is %d, want about ten times as much", p.timeout)
	}
	high := p.timeout
	feed(40e6, 4)
	if p.timeout != high {
		t.Errorf("T followed a small change, from %d to %d", high, p.timeout)
	}
	feed(500e6, 2)
	if p.timeout != sharedLimits.most {
		t.Errorf("T is %d, want the most, %d", p.timeout, int64(sharedLimits.most))
	}
	if changes := feed(5e6, 8); changes > 4 {
		t.Errorf("T changed %d times on its way down", changes)
	}
	was := pace{limits: dedicatedLimits, timeout: dedicatedLimits.first, guessed: true, since: 1}
	for at := int64(1); at < 3e9; at += 10e6 {
		was.peer(2).beats[0].add(300e3)
		was.peer(2).entries[0].add(8e6)
		was.settle(at, 1)
	}
	if was.timeout < 16e6 || was.timeout > 20e6 {
		t.Errorf("with syncs of 8 ms T is %d three seconds after a guess of %d, want about twice as much", was.timeout, dedicatedLimits.first)
	}
	fixed := pace{limits: sharedLimits, timeout: 77, fixed: true}
	if got, changed := fixed.settle(paceWindow*3, 1); got != 77 || changed {
		t.Errorf("a timeout set by the operator became %d", got)
	}
}

// Where an answer takes long, a leader waits for longer before it sends again.
func TestALeaderWaitsForAnAnswerThatTakesLong(t *testing.T) {
	p := newPace(&Options{}, 0)
	p.timeout = 1e9
	now := int64(1)
	for seq := uint64(1); seq <= 200; seq++ {
		now += 1e6
		p.noteSent(now, seq, true)
		p.noteAck(now+1e6, 2, seq)
		p.noteAck(now+1e6, 3, seq)
	}
	if got := p.resend(); got != mostResend {
		t.Errorf("%d ms where an answer takes 1", got/1e6)
	}
	for seq := uint64(201); seq <= 400; seq++ {
		now += 1e6
		p.noteSent(now, seq, true)
		p.noteAck(now+100e6, 2, seq)
	}
	if got := p.resend(); got < 150e6 || got > p.timeout/2 || !p.resendMoved() {
		t.Errorf("%d ms where an answer takes 100", got/1e6)
	}
}
