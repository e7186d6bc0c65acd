package sim

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

// Durations of virtual time, in nanoseconds.
const (
	microsecond = int64(1e3)
	millisecond = int64(1e6)
	second      = int64(1e9)
	never       = int64(1) << 62
)

// event is something that happens at a moment of virtual time.
type event struct {
	time     int64
	sequence uint64 // events of one moment happen in the order they were made
	slot     int    // of what runs; no pointer, as the heap moves events all the time
}

// schedule is virtual time: one heap ordered by (time, sequence), so no two
// events ever tie and the order of a run is total.
type schedule struct {
	now      int64
	sequence uint64
	heap     []event
	slots    []func()
	free     []int
}

// at lets run happen at time, or now when that has passed.
func (s *schedule) at(time int64, run func()) {
	s.sequence++
	slot := len(s.slots)
	if n := len(s.free); n > 0 {
		slot = s.free[n-1]
		s.free = s.free[:n-1]
		s.slots[slot] = run
	} else {
		s.slots = append(s.slots, run)
	}
	s.heap = append(s.heap, event{max(time, s.now), s.sequence, slot})
	i := len(s.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !s.before(i, parent) {
			break
		}
		s.heap[i], s.heap[parent] = s.heap[parent], s.heap[i]
		i = parent
	}
}

// after lets run happen in so many nanoseconds.
func (s *schedule) after(nanos int64, run func()) { s.at(s.now+nanos, run) }

func (s *schedule) before(i, j int) bool {
	a, b := &s.heap[i], &s.heap[j]
	return a.time < b.time || a.time == b.time && a.sequence < b.sequence
}

// next takes the earliest event, moves the clock to it, and gives what it runs.
func (s *schedule) next() (run func(), ok bool) {
	if len(s.heap) == 0 {
		return nil, false
	}
	first := s.heap[0]
	last := len(s.heap) - 1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if s.before(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
	s.now = first.time
	run, s.slots[first.slot] = s.slots[first.slot], nil
	s.free = append(s.free, first.slot)
	return run, true
}

// stream is a source of randomness of its own for each purpose and node, so
// that one draw more in one place does not shift all others.
func stream(seed uint64, purpose string, node int) *rand.Rand {
	b := binary.LittleEndian.AppendUint64(nil, seed)
	b = binary.LittleEndian.AppendUint64(b, uint64(node))
	b = append(b, purpose...)
	first := xxhash.Sum64(b)
	return rand.New(rand.NewPCG(first, xxhash.Sum64(append(b, '+'))))
}

// between draws from low to high, both included.
func between(r *rand.Rand, low, high int64) int64 {
	if high <= low {
		return low
	}
	return low + r.Int64N(high-low+1)
}

// chance is true with probability p.
func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// trace is the rolling hash over everything that happened, in order.
type trace struct {
	hash   uint64
	events uint64
}

func (t *trace) add(words ...uint64) {
	h := t.hash
	for _, w := range words {
		h = (h ^ w) * 0x9E3779B97F4A7C15
		h ^= h >> 29
	}
	t.hash = h
}
