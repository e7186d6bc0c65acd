package wire_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"balsa/wire"
	"balsa/wire/fault"
)

// walk is a path under a link: probes go through it, answers come back through it.
type walk struct {
	*wire.Path
	t     *testing.T
	there fault.Link
	back  fault.Link
	rng   *rand.Rand
	now   int64
	sent  int
	bytes int
	line  fault.Line[wire.PathAnswer]
}

const pathBoot = 77

func newWalk(t *testing.T, start, mtu int, loss float64) *walk {
	link := fault.Link{Loss: loss, MTU: mtu, DelayMin: 100e3, DelayMax: 300e3}
	w := &walk{Path: wire.NewPath(wire.PathOptions{Boot: pathBoot, Start: start}), t: t, there: link, back: link, rng: rand.New(rand.NewPCG(5, uint64(mtu)))}
	w.now = 1
	return w
}

// run lets so much time pass.
func (w *walk) run(long int64) {
	for end := w.now + long; ; {
		for {
			a, _, ok := w.line.Take(w.now)
			if !ok {
				break
			}
			w.Answer(w.now, &a)
		}
		for rounds := 0; ; rounds++ {
			f, size, ok := w.Next(w.now)
			if !ok {
				break
			}
			if rounds > 2 || size < wire.MinDatagram || size > wire.MaxDatagram || f.Size() != wire.MaxFrame(size) {
				w.t.Fatalf("probe %d of a moment: %d bytes in a datagram of %d", rounds, f.Size(), size)
			}
			w.sent++
			w.bytes += size
			arrivals, _ := w.there.Carry(w.rng, w.now, size)
			for _, d := range slices.Clone(arrivals) {
				back, _ := w.back.Carry(w.rng, w.now, 88)
				for _, e := range back {
					w.line.Add(w.now+d.Delay+e.Delay, wire.PathAnswer{EchoBoot: f.AskBoot, Nonce: f.Nonce})
				}
			}
		}
		next := min(w.Deadline(), w.line.Next())
		if next <= w.now {
			w.t.Fatalf("at %d a deadline of %d with nothing to send", w.now, next)
		}
		if next > end {
			w.now = end
			return
		}
		w.now = next
	}
}

func TestAPathFindsTheLargestSizeOfTheLadderThatPasses(t *testing.T) {
	for _, c := range []struct{ start, mtu, want int }{
		{0, 0, wire.MaxDatagram}, {0, 1472, 1472}, {0, 1471, 1448}, {0, 1372, 1368}, {0, 1200, 1200}, {0, 8972, 8952}, {0, 9000, 8952},
		{wire.MaxDatagram, 0, wire.MaxDatagram}, {wire.MaxDatagram, 8972, 8952}, {wire.MaxDatagram, 1300, 1232}, {wire.MaxDatagram, 600, wire.MinDatagram}, {0, 600, wire.MinDatagram},
	} {
		w := newWalk(t, c.start, c.mtu, 0)
		w.run(10e9)
		if w.Size() != c.want {
			t.Errorf("from %d, MTU %d: %d, want %d", c.start, c.mtu, w.Size(), c.want)
		}
	}
}

func TestAPathThatIsFoundCostsAlmostNothing(t *testing.T) {
	w := newWalk(t, wire.MaxDatagram, 0, 0)
	w.run(60e9)
	if w.sent > 31 {
		t.Errorf("%d probes in a minute", w.sent)
	}
	w = newWalk(t, 0, 1472, 0)
	w.run(10e9)
	w.sent = 0
	w.run(3600e9)
	if w.sent > 1900 {
		t.Errorf("%d probes in an hour", w.sent)
	}
}

func TestABlackHoleIsFallenOutOfAndClimbedOutOf(t *testing.T) {
	w := newWalk(t, wire.MaxDatagram, 0, 0)
	w.run(10e9)
	for _, c := range []struct{ mtu, want int }{{1300, 1232}, {600, wire.MinDatagram}, {9000, 8952}, {0, wire.MaxDatagram}} {
		w.there.MTU = c.mtu
		before := w.Size()
		w.run(3e9)
		if c.mtu != 0 && c.mtu < before && w.Size() > c.mtu {
			t.Errorf("MTU %d: still %d after 3s", c.mtu, w.Size())
		}
		w.run(700e9)
		if w.Size() != c.want {
			t.Errorf("MTU %d: %d, want %d", c.mtu, w.Size(), c.want)
		}
	}
	if w.Falls() < 2 {
		t.Errorf("%d falls", w.Falls())
	}
}

// What nothing passes is no black hole: a server that is down keeps its size.
func TestSilenceChangesNothing(t *testing.T) {
	for _, start := range []int{0, wire.MaxDatagram} {
		w := newWalk(t, start, 0, 0)
		w.run(10e9)
		size := w.Size()
		w.there.Cut = true
		w.sent = 0
		w.run(100e9)
		if w.Size() != size || w.Falls() != 0 {
			t.Errorf("%d after a cut, was %d; %d falls", w.Size(), size, w.Falls())
		}
		if w.sent > 200 {
			t.Errorf("%d probes to nobody in 100s", w.sent)
		}
		w.there.Cut = false
		w.run(5e9)
		if w.Size() != size {
			t.Errorf("%d when it is back, was %d", w.Size(), size)
		}
	}
}

// Loss that hits all sizes alike must seldom be taken for a black hole, and never for good.
func TestLossIsSeldomTakenForABlackHole(t *testing.T) {
	w := newWalk(t, 0, 1472, 0.3)
	below, whole := 0, 0
	for range 3600 {
		w.run(1e9)
		if whole++; w.Size() < 1472 {
			below++
		}
	}
	t.Logf("below its size for %d of %d s, %d falls", below, whole, w.Falls())
	if below > whole/5 {
		t.Errorf("below its size for %d of %d s", below, whole)
	}
	w.there.Loss, w.back.Loss = 0, 0
	w.run(700e9)
	if w.Size() != 1472 {
		t.Errorf("%d without loss", w.Size())
	}
}

func TestForeignAndStaleAnswersCountForNothing(t *testing.T) {
	w := newWalk(t, 0, 0, 0)
	w.there.Cut = true
	w.run(1e9)
	for _, a := range []wire.PathAnswer{{EchoBoot: pathBoot + 1, Nonce: 2}, {EchoBoot: pathBoot, Nonce: 1 << 40}, {EchoBoot: pathBoot}} {
		for range 10 {
			w.Answer(w.now, &a)
		}
	}
	w.run(1e9)
	if w.Size() != wire.SafeDatagram {
		t.Errorf("size %d", w.Size())
	}
}

// Any answers at any time: the size stays within its bounds, and there is always a deadline.
func FuzzPath(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 200, 100, 50}, uint16(0))
	f.Fuzz(func(t *testing.T, script []byte, start uint16) {
		p := wire.NewPath(wire.PathOptions{Boot: pathBoot, Start: wire.MinDatagram + int(start)%(wire.MaxDatagram-wire.MinDatagram+1)})
		now := int64(1)
		for _, b := range script {
			now += int64(b) * 1e6
			for range 8 {
				f, _, ok := p.Next(now)
				if !ok {
					break
				}
				if b&1 == 1 {
					p.Answer(now+int64(b), &wire.PathAnswer{EchoBoot: pathBoot, Nonce: f.Nonce - uint64(b>>6)})
				}
			}
			if s := p.Size(); s < wire.MinDatagram || s > wire.MaxDatagram || s%8 != 0 || p.Deadline() < 0 {
				t.Fatalf("size %d, deadline %d", s, p.Deadline())
			}
		}
	})
}

func TestAPathDoesNotAllocate(t *testing.T) {
	p, now := wire.NewPath(wire.PathOptions{Boot: pathBoot}), int64(1)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1e8
		for {
			f, _, ok := p.Next(now)
			if !ok {
				break
			}
			p.Answer(now, &wire.PathAnswer{EchoBoot: pathBoot, Nonce: f.Nonce})
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
