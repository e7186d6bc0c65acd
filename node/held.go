package node

import (
	"balsa/node/raft"
	"balsa/wire"
)

// held keeps what came before the entries it follows: the core says which, and
// when they go into the log. Until then their datagram is long gone.
//
// Slots own their bodies and reuse them; the core bounds how many bytes are held
// at once, the slots how many are ever kept: HeldMost of the largest body.
type held struct {
	slots []wire.Entry // slot of index i is i modulo HeldMost; made with the first
}

// put copies e in, body included.
func (h *held) put(e *wire.Entry) {
	if h.slots == nil {
		h.slots = make([]wire.Entry, raft.HeldMost)
	}
	slot := &h.slots[e.Index%raft.HeldMost]
	body := append(slot.Body[:0], e.Body...)
	*slot = *e
	slot.Body = body
}

// get returns what was put last in the place of index.
func (h *held) get(index uint64) wire.Entry {
	return h.slots[index%raft.HeldMost]
}
