package client

import "balsa/kv"

// op is one operation under way. Ops live in one slab and are named by their place in it, so that lists of them
// cost no allocation; an op is in exactly one of the queues or flying lists, and in byEnd.
type op struct {
	cmd       kv.Command
	token     uint64
	submitted int64
	deadline  int64
	due       int64 // when flying: send again
	sentAt    int64 // last copy
	firstAt   int64
	session   *session
	copies    copies
	sends     uint32
	pieces    bool // a copy went in pieces
	busy      bool // the last answer was that there is no room
	state     uint8
	in        *list // the queue or flying list it is in
	prev, nxt int32
	endPrev   int32
	endNext   int32
}

const (
	stateFree = iota
	stateQueued
	stateFlying
)

const none = int32(-1)

// list is a doubly linked list of ops by prev and nxt (byEnd: by endPrev and endNext).
type list struct{ front, back int32 }

var emptyList = list{none, none}

func (c *Core) take() int32 {
	c.live++
	if h := c.free; h != none {
		c.free = c.ops[h].nxt
		c.ops[h] = op{state: stateQueued, prev: none, nxt: none, endPrev: none, endNext: none}
		return h
	}
	c.ops = append(c.ops, op{state: stateQueued, prev: none, nxt: none, endPrev: none, endNext: none})
	return int32(len(c.ops) - 1)
}

// release forgets the op; its borrowed bytes are the caller's again.
func (c *Core) release(h int32) {
	o := &c.ops[h]
	c.unlink(h)
	c.removeByEnd(h)
	if o.cmd.Seq != 0 {
		c.tableOf(o).remove(o.cmd.Seq)
	}
	c.dropTransfers(h)
	if !o.cmd.Op.IsRead() {
		c.lastWrite = c.now
	}
	*o = op{state: stateFree, nxt: c.free}
	c.free = h
	c.live--
}

func (c *Core) tableOf(o *op) *table {
	if o.cmd.Op.IsRead() {
		return &c.readSeqs
	}
	return &c.seqs
}

func (c *Core) pushBack(l *list, h int32) {
	o := &c.ops[h]
	o.in, o.prev, o.nxt = l, l.back, none
	if l.back != none {
		c.ops[l.back].nxt = h
	} else {
		l.front = h
	}
	l.back = h
}

func (c *Core) unlink(h int32) {
	o := &c.ops[h]
	l := o.in
	if l == nil {
		return
	}
	if o.prev != none {
		c.ops[o.prev].nxt = o.nxt
	} else {
		l.front = o.nxt
	}
	if o.nxt != none {
		c.ops[o.nxt].prev = o.prev
	} else {
		l.back = o.prev
	}
	o.in, o.prev, o.nxt = nil, none, none
}

// enqueue puts the op where the next Out to a leader takes it from.
func (c *Core) enqueue(h int32) {
	c.unlink(h)
	o := &c.ops[h]
	o.state = stateQueued
	switch {
	case o.cmd.Seq != 0: // it may hold the window open that others wait for
		c.pushBack(&c.repeats, h)
	case o.cmd.Op.IsRead():
		c.pushBack(&c.reads, h)
	default:
		c.pushBack(&c.writes, h)
	}
}

// insertByEnd keeps byEnd in order. Operations mostly end in the order they came, so the walk is mostly empty.
func (c *Core) insertByEnd(h int32) {
	o := &c.ops[h]
	after := c.byEnd.back
	for after != none && c.ops[after].deadline > o.deadline {
		after = c.ops[after].endPrev
	}
	o.endPrev = after
	if after != none {
		o.endNext = c.ops[after].endNext
		c.ops[after].endNext = h
	} else {
		o.endNext = c.byEnd.front
		c.byEnd.front = h
	}
	if o.endNext != none {
		c.ops[o.endNext].endPrev = h
	} else {
		c.byEnd.back = h
	}
}

func (c *Core) removeByEnd(h int32) {
	o := &c.ops[h]
	if o.endPrev != none {
		c.ops[o.endPrev].endNext = o.endNext
	} else {
		c.byEnd.front = o.endNext
	}
	if o.endNext != none {
		c.ops[o.endNext].endPrev = o.endPrev
	} else {
		c.byEnd.back = o.endPrev
	}
}

// table finds the op of a sequence number. low is at most the lowest number in use, and next - low <= kv.Window.
type table struct {
	ring      []int32 // by seq modulo kv.Window; none = not in use
	low, next uint64
}

func (t *table) start(first uint64) {
	t.low, t.next = first, first
}

// full says that the next number would leave the window.
func (t *table) full() bool { return t.next-t.low >= kv.Window }

func (t *table) add(h int32) uint64 {
	if t.ring == nil {
		t.ring = make([]int32, kv.Window)
		for i := range t.ring {
			t.ring[i] = none
		}
	}
	seq := t.next
	t.next++
	t.ring[seq%kv.Window] = h
	return seq
}

func (t *table) find(seq uint64) int32 {
	if seq < t.low || seq >= t.next {
		return none
	}
	return t.ring[seq%kv.Window]
}

func (t *table) remove(seq uint64) {
	t.ring[seq%kv.Window] = none
	for t.low < t.next && t.ring[t.low%kv.Window] == none {
		t.low++
	}
}
