package raft

import "math/bits"

// Entries that came before those they follow. Datagrams are lost and overtake each other; what came after a gap is kept,
// so that only what is missing has to be sent again:
//
//	follower   1..7 in the log, 8 lost   9, 10 arrive: held      8 arrives: 8, 9, 10 go into the log, in order
//	ack        last 7                    last 7, held 9 and 10    match 10 when that is durable
//	leader     sends on                  sends 8 again, sends on
//
// What is held is not in the log: it is not acknowledged, counted, voted or led by, and a crash loses it. It goes into
// the log as if a message with that entry alone had just come, judged by the same rule (its predecessor is there, with
// the right term) and only while the whole log is known to be that of this term's leader. So a gap is never a conflict;
// what might be one is rejected, as is what comes too far ahead. A new term, another leader and a truncation empty the ring.

// HeldMost is how many entries a ring can hold, and how many bits an ack has for them.
const HeldMost = 128

// heldEntry is an entry in the ring, and the term of the one before it. Index 0: the place is free.
type heldEntry struct {
	Entry
	prevTerm uint64
}

// ring holds entry i at i modulo its size: those from last+2 to last+1+size have different places.
type ring struct {
	slots  []heldEntry // made when the first entry is held
	count  int
	bytes  int
	commit uint64 // the highest commit index of the messages they came in
}

func (r *ring) at(index uint64) *heldEntry { return &r.slots[index%uint64(len(r.slots))] }

func (r *ring) has(index uint64) bool { return r.count > 0 && r.at(index).Index == index }

func (r *ring) free(index uint64) {
	if r.has(index) {
		h := r.at(index)
		r.count--
		r.bytes -= h.Size
		*h = heldEntry{}
	}
}

func (r *ring) clear() {
	if r.count > 0 {
		clear(r.slots)
	}
	r.count, r.bytes, r.commit = 0, 0, 0
}

// bitmap tells what is held beyond a log that ends at last: bit i is entry last + 2 + i. The one after last is missing.
func (r *ring) bitmap(last uint64) (b [2]uint64) {
	if r.count == 0 {
		return
	}
	for i := range uint64(len(r.slots)) {
		if r.has(last + 2 + i) {
			b[i/64] |= 1 << (i % 64)
		}
	}
	return
}

// HeldBytes is the size of what is held: it needs room on the disk as soon as the gap is filled.
func (c *Core) HeldBytes() int { return c.ring.bytes }

// ForgetHeld drops what is held, as a restart would: there is no room for it.
func (c *Core) ForgetHeld() { c.ring.clear() }

// hold keeps the entries of m, which follow a gap; false if m must be rejected instead.
func (c *Core) hold(m *Message) bool {
	r, n := &c.ring, len(m.Entries)
	if n == 0 || c.cfg.HeldEntries < 0 || c.proven == 0 || c.proven != c.log.last || c.damage.any() ||
		m.Entries[n-1].Index > c.log.last+1+uint64(c.cfg.HeldEntries) || r.bytes+sumOf(m.Entries) > c.cfg.HeldBytes {
		return false
	}
	if r.slots == nil {
		r.slots = make([]heldEntry, c.cfg.HeldEntries)
	}
	prevTerm := m.PrevTerm
	for i := range m.Entries {
		e := m.Entries[i]
		if !r.has(e.Index) {
			if e.Kind == Configuring {
				k := e.Config.clone()
				e.Config = &k
			} else {
				e.Config = nil
			}
			*r.at(e.Index) = heldEntry{e, prevTerm}
			r.count++
			r.bytes += e.Size
			c.eff.Holds = append(c.eff.Holds, e)
		}
		prevTerm = e.Term
	}
	r.commit = max(r.commit, m.Commit)
	return true
}

func sumOf(entries []Entry) (bytes int) {
	for i := range entries {
		bytes += entries[i].Size
	}
	return
}

// release moves into the log what the entries after before, just accepted, made contiguous; true if there was any.
func (c *Core) release(before uint64) (fresh bool) {
	r := &c.ring
	if r.count == 0 {
		return false
	}
	for i := before + 1; r.count > 0 && i <= c.log.last; i++ {
		r.free(i) // it came once more
	}
	for c.proven == c.log.last && r.has(c.log.last+1) {
		h := *r.at(c.log.last + 1)
		if h.prevTerm != c.log.lastTerm() {
			c.violations++ // the leader contradicts itself
			r.clear()
			return fresh
		}
		r.free(h.Index)
		c.appendEntry(h.Entry)
		c.eff.Ops[len(c.eff.Ops)-1].Held = true
		c.proven, fresh = c.log.last, true
	}
	c.commit = max(c.commit, min(r.commit, c.proven))
	return fresh
}

// repaired is an entry that was sent again, with which message.
type repaired struct{ index, seq uint64 }

// repair sends again what p, in m, says is missing below what it holds: at once when it is first told of, and once more
// only if a message that was sent even later came, and it did not. In between it may be on its way. A server without room
// may not have taken it: that is tried again as seldom as ever.
func (c *Core) repair(p *peer, m *Message) {
	if p.probing || p.full || m.LastIndex != p.held || m.Held == [2]uint64{} {
		return
	}
	if p.repairs == nil {
		p.repairs = make([]repaired, HeldMost)
	}
	first := uint64(0) // of those in a row that are due, 0: none
	top := min(m.highestHeld(), p.next-1)
	for i := p.held + 1; i <= top; i++ {
		r := p.repairs[i%HeldMost]
		due := !m.holds(i) && (r.index != i || m.EchoSeq > r.seq)
		if due && first == 0 {
			first = i
		} else if !due && first != 0 {
			c.resend(p, first, i-1)
			first = 0
		}
	}
	if first != 0 {
		c.resend(p, first, top)
	}
}

func (c *Core) resend(p *peer, first, last uint64) {
	c.sendAppend(p, first, last)
	for i := first; i <= last; i++ {
		p.repairs[i%HeldMost] = repaired{i, c.seq}
	}
	p.resendAt = c.now + p.resendWait
}

// holds tells whether an ack says that the entry at index, past LastIndex, is held.
func (m *Message) holds(index uint64) bool {
	i := index - m.LastIndex - 2
	return i < HeldMost && m.Held[i/64]>>(i%64)&1 != 0
}

// highestHeld is the last entry that an ack says is held.
func (m *Message) highestHeld() uint64 {
	if m.Held[1] != 0 {
		return m.LastIndex + 65 + uint64(bits.Len64(m.Held[1]))
	}
	return m.LastIndex + 1 + uint64(bits.Len64(m.Held[0]))
}
