package node

import "balsa/wire"

// tail holds the newest entries with their bodies, so that sending, applying
// and answering read memory. Older ones are read from the log.
//
// It is a ring indexed by entry index that grows when it must: an entry whose
// batch is not yet written, or that is not yet applied, is never dropped.
// Slots own their bodies and reuse them, so a steady state allocates nothing.
type tail struct {
	slots []wire.Entry // length is a power of two; slot of index i is i & (len-1)
	first uint64       // entries first..last are held; first == last+1 when none is
	last  uint64
}

const tailKept = 512 // entries kept past their use, for followers a little behind

// reset empties the tail; the log ends at last.
func (t *tail) reset(last uint64) { t.first, t.last = last+1, last }

// put copies e, body included, in as the newest entry, or over an older one
// that is written again.
func (t *tail) put(e *wire.Entry) *wire.Entry {
	if e.Index > t.last+1 || e.Index == 0 {
		panic("tail: entry leaves a gap")
	}
	if e.Index < t.first {
		return e // a damaged old entry written again: the log has it, the tail needs no copy
	}
	if e.Index == t.last+1 {
		if t.last+1-t.first == uint64(len(t.slots)) {
			t.grow()
		}
		t.last = e.Index
	}
	slot := &t.slots[e.Index&uint64(len(t.slots)-1)]
	body := append(slot.Body[:0], e.Body...)
	*slot = *e
	slot.Body = body
	return slot
}

func (t *tail) grow() {
	size := max(64, 2*len(t.slots))
	slots := make([]wire.Entry, size)
	for i := t.first; i <= t.last; i++ {
		slots[i&uint64(size-1)] = t.slots[i&uint64(len(t.slots)-1)]
	}
	t.slots = slots
}

// get returns the entry at index, or nil when it must be read from the log.
// The body is the tail's: valid until the entry is released or truncated.
func (t *tail) get(index uint64) *wire.Entry {
	if index < t.first || index > t.last {
		return nil
	}
	return &t.slots[index&uint64(len(t.slots)-1)]
}

// truncate voids the entries from index on.
func (t *tail) truncate(from uint64) {
	if from <= t.first {
		t.reset(from - 1)
		return
	}
	if from <= t.last {
		t.last = from - 1
	}
}

// release lets entries up to index go, keeping the last few of them.
func (t *tail) release(index uint64) {
	if index > tailKept && index-tailKept >= t.first {
		t.first = min(index-tailKept+1, t.last+1)
	}
}
