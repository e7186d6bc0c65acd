package raft

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"unsafe"
)

// What the explorer keeps of one server, and how two of them are found to be the same: a copy that shares nothing, a
// form without what does not matter (forget), and all of its bytes (codec). Copying is by hand, and TestCloneIsWhole
// holds it against the types; the bytes are taken by reflection, so no field can be left out of them.

// node is one server: its core, what its disk has, and what is being written. It is not changed once it is interned.
type node struct {
	ID      uint16
	Crashes uint8
	Open    bool // the turn goes on: Take is still to come
	Core    *Core
	Log     []body // as written
	Disk    []body // as synced
	Hard    HardState
	Batches []batch
	Votes   [maxTerms]uint16 // made durable, by term
	Commit  uint64
	Asked   uint8 // 1: it has read in this boot
}

const maxTerms = 8

// boot numbers the processes of a server.
func (n *node) boot() uint64 { return uint64(n.ID)*100 + uint64(n.Crashes) }

func (n *node) clone() *node {
	m := *n
	m.Core = n.Core.clone()
	m.Log, m.Disk = slices.Clip(n.Log), slices.Clip(n.Disk) // only ever appended to, or replaced
	m.Batches = slices.Clone(n.Batches)                     // what a batch has is not changed
	return &m
}

// clone copies a core with all it points to.
func (c *Core) clone() *Core {
	n := *c
	n.log.runs, n.log.totals = slices.Clone(c.log.runs), slices.Clone(c.log.totals)
	n.damage.ranges, n.damage.rewrites = slices.Clone(c.damage.ranges), slices.Clone(c.damage.rewrites)
	n.ring.slots = slices.Clone(c.ring.slots)
	for i := range n.ring.slots {
		n.ring.slots[i].Config = cloneConfig(n.ring.slots[i].Config)
	}
	n.configs = slices.Clone(c.configs)
	for i := range n.configs {
		n.configs[i].Configuration = n.configs[i].clone()
	}
	n.peers, n.change.departing = slices.Clone(c.peers), slices.Clone(c.change.departing)
	for i := range n.peers {
		n.peers[i].repairs = slices.Clone(c.peers[i].repairs)
	}
	for i := range n.change.departing {
		n.change.departing[i].peer.repairs = slices.Clone(c.change.departing[i].peer.repairs)
	}
	n.reads.waiting, n.reads.asked = slices.Clone(c.reads.waiting), slices.Clone(c.reads.asked)
	n.scratch = slices.Clone(c.scratch)
	for i := range n.effects {
		n.effects[i] = c.effects[i].clone()
		if c.effects[i].Hard != nil {
			n.effects[i].Hard = &n.effects[i].hard
		}
		if c.eff == &c.effects[i] {
			n.eff = &n.effects[i]
		}
	}
	return &n
}

func (e *Effects) clone() Effects {
	n := *e
	n.Ops, n.Holds = slices.Clone(e.Ops), slices.Clone(e.Holds)
	for i := range n.Holds {
		n.Holds[i].Config = cloneConfig(n.Holds[i].Config)
	}
	for i := range n.Ops {
		n.Ops[i].Entry.Config = cloneConfig(n.Ops[i].Entry.Config)
	}
	n.Send, n.AfterSync, n.Reads = cloneMessages(e.Send), cloneMessages(e.AfterSync), slices.Clone(e.Reads)
	return n
}

func cloneMessages(ms []Message) []Message {
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Entries = slices.Clone(ms[i].Entries)
		for j := range ms[i].Entries {
			ms[i].Entries[j].Config = cloneConfig(ms[i].Entries[j].Config)
		}
	}
	return ms
}

func cloneConfig(k *Configuration) *Configuration {
	if k == nil {
		return nil
	}
	n := k.clone()
	return &n
}

// noon is the time at which all events happen; what is due at another time is made due by an action of its own.
const noon = int64(1 << 40)

// forget puts a core into the form in which it is compared: times become due or not due, counters that only order
// events become small, and what the role has no use for is wiped. Every answer then counts as fresh (Seq is always 1),
// which lets more happen than the real numbers would. It returns the serial that became 0.
func (c *Core) forget(stickiness bool) uint64 {
	c.now, c.random, c.scratch = noon, random{}, nil
	c.electionAt, c.votesAt, c.seq = Never, Never, 1
	c.dropped, c.withheld = 0, 0
	c.promise = promise{until: c.stillDue(c.promise.until, stickiness), leased: c.stillDue(c.promise.leased, stickiness)}
	c.forgetHint()
	if c.ring.count == 0 {
		c.ring = ring{}
	}
	c.log.base, c.log.unknown = 0, 1
	c.log.totals = make([]int64, c.log.last+1)
	for i := range c.log.totals {
		c.log.totals[i] = int64(i)
	}
	if c.eff == &c.effects[1] {
		c.effects[0], c.effects[1] = c.effects[1], Effects{}
		c.eff = &c.effects[0]
		if c.eff.Hard != nil {
			c.eff.Hard = &c.eff.hard
		}
	}
	c.effects[1] = Effects{}
	c.eff.Holds = nil // the Refs of these runs are the bodies
	if !c.eff.NeedsSync() && len(c.eff.Send)+len(c.eff.AfterSync) == 0 {
		c.effects[0] = Effects{}
	}
	c.forgetRole()
	c.forgetReads()
	base := c.serialSynced
	for _, s := range []*uint64{&c.hardSerial, &c.truncSerial, &c.serialTaken, &c.serialSynced} {
		*s -= min(*s, base)
	}
	return base
}

func (c *Core) stillDue(at int64, counts bool) int64 {
	if counts && at > noon {
		return noon + c.cfg.Timeout
	}
	return 0
}

func (c *Core) forgetHint() {
	h := &c.hint
	if c.cfg.ProbeAfter < 0 {
		*h = hint{}
		return
	}
	h.heardAt, h.probeAt, h.probedAt = 0, Never, 0
	if h.grantUntil = c.stillDue(h.grantUntil, true); h.grantUntil == 0 {
		h.grant = asker{}
	}
	clear(h.askers[h.waiting:])
}

// forgetRole wipes what this role does not read, and evens out the rest.
func (c *Core) forgetRole() {
	if c.role != PreCandidate {
		c.preTerm = 0
	}
	if c.role != PreCandidate && c.role != Candidate {
		c.ownVote, c.handed = false, false
	}
	a := &c.ack
	if c.role == Leader {
		*a = pendingAck{}
	} else {
		c.firstOfTerm = 0
	}
	if a.to != 0 {
		a.seq, a.sentAt = 1, noon
		if a.reject {
			a.rejectSeq = 1
		} else {
			a.rejectSeq, a.rejectPrev, a.hint, a.hintTerm = 0, 0, 0, 0
		}
	}
	for i := range c.peers {
		c.peers[i].forget(c)
	}
	for i := range c.change.departing {
		d := &c.change.departing[i]
		d.peer.forget(c)
		d.announced = min(d.announced, 1)
		if d.until != 0 {
			d.until = noon + departingFor
		}
	}
	if len(c.change.departing) == 0 {
		c.change.departing = nil
	}
	c.change.gaveUp = GaveUp{}
	if t := &c.transfer; t.to == 0 {
		t.until, t.tellAt = 0, 0
	} else {
		t.until = noon + c.cfg.Timeout
		if t.tellAt = noon; t.told {
			t.tellAt = noon + c.cfg.Resend
		}
	}
}

// forget leaves of a peer what c's role goes by; lead starts all peers anew.
func (p *peer) forget(c *Core) {
	if c.role != Leader {
		ballot := p.ballot
		if c.role == Follower {
			ballot = ballotNone
		}
		*p = peer{id: p.id, incarnation: p.incarnation, voter: p.voter, oldVoter: p.oldVoter, ballot: ballot}
		return
	}
	p.ballot, p.promised, p.resetSeq = ballotNone, 0, 0
	p.repairs = nil
	p.contact, p.heartbeatAt, p.resendAt, p.resendWait = noon, Never, Never, c.cfg.Resend
	if p.voter {
		p.catch = catchUp{}
	}
	p.catch.since, p.catch.progressAt, p.catch.rounds = noon, noon, 0
}

func (c *Core) forgetReads() {
	r := &c.reads
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
	if len(r.asked) == 0 {
		r.asked = nil
	}
	r.askAt = 0
	for i := range r.asked {
		r.asked[i].until = Never
	}
}

// codec gives what appends all bytes of a value of type t that is at p.
func codec(t reflect.Type) func(p unsafe.Pointer, out []byte) []byte {
	if t == reflect.TypeFor[*Effects]() { // of itself: forget has it point to the first
		return func(_ unsafe.Pointer, out []byte) []byte { return out }
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int, reflect.Int64:
		size := t.Size()
		return func(p unsafe.Pointer, out []byte) []byte { return append(out, unsafe.Slice((*byte)(p), int(size))...) }
	case reflect.String:
		return func(p unsafe.Pointer, out []byte) []byte {
			s := *(*string)(p)
			return append(binary.AppendUvarint(out, uint64(len(s))), s...)
		}
	case reflect.Struct:
		return structCodec(t)
	case reflect.Array:
		elem, size, n := codec(t.Elem()), t.Elem().Size(), t.Len()
		return func(p unsafe.Pointer, out []byte) []byte {
			for i := range n {
				out = elem(unsafe.Add(p, uintptr(i)*size), out)
			}
			return out
		}
	case reflect.Slice:
		elem, size := codec(t.Elem()), t.Elem().Size()
		return func(p unsafe.Pointer, out []byte) []byte {
			s := *(*[]byte)(p) // the header of any slice
			if s == nil {
				return append(out, 0)
			}
			out = binary.AppendUvarint(out, uint64(len(s))+1)
			for i := range len(s) {
				out = elem(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), uintptr(i)*size), out)
			}
			return out
		}
	case reflect.Pointer:
		elem := codec(t.Elem())
		return func(p unsafe.Pointer, out []byte) []byte {
			if q := *(*unsafe.Pointer)(p); q != nil {
				return elem(q, append(out, 1))
			}
			return append(out, 0)
		}
	}
	panic(fmt.Sprintf("the explorer does not know how to compare a %s", t))
}

func structCodec(t reflect.Type) func(p unsafe.Pointer, out []byte) []byte {
	type field struct {
		at    uintptr
		bytes func(unsafe.Pointer, []byte) []byte
	}
	var fields []field
	for i := range t.NumField() {
		fields = append(fields, field{t.Field(i).Offset, codec(t.Field(i).Type)})
	}
	return func(p unsafe.Pointer, out []byte) []byte {
		for i := range fields {
			out = fields[i].bytes(unsafe.Add(p, fields[i].at), out)
		}
		return out
	}
}

var (
	nodeBytes   = codec(reflect.TypeFor[node]())
	packetBytes = codec(reflect.TypeFor[packet]())
)

// fill sets every number, string, slice and pointer below v to something; n counts up.
func fill(v reflect.Value, n *int) {
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprint(*n))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Pointer:
		if v.Type() != reflect.TypeFor[*Effects]() && v.Type() != reflect.TypeFor[*HardState]() {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), n)
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n % 100))
	default:
		v.SetUint(uint64(*n % 100))
	}
}

// memory lists where slices and pointers below v lead to.
func memory(v reflect.Value, at string, visit func(at string, p unsafe.Pointer)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			memory(v.Field(i), at+"."+v.Type().Field(i).Name, visit)
		}
	case reflect.Array, reflect.Slice:
		if v.Kind() == reflect.Slice && v.Len() > 0 {
			visit(at, v.UnsafePointer())
		}
		for i := range v.Len() {
			memory(v.Index(i), fmt.Sprintf("%s[%d]", at, i), visit)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			visit(at, v.UnsafePointer())
			if v.Type() != reflect.TypeFor[*Effects]() {
				memory(v.Elem(), at, visit)
			}
		}
	}
}

// TestCloneIsWhole fills all fields of a core, those to come too, and wants a copy that is equal and shares nothing.
func TestCloneIsWhole(t *testing.T) {
	var c Core
	n := 0
	fill(reflect.ValueOf(&c).Elem(), &n)
	c.eff, c.effects[0].Hard, c.effects[1].Hard = &c.effects[1], &c.effects[0].hard, &c.effects[1].hard
	d := c.clone()
	if !reflect.DeepEqual(&c, d) {
		t.Error("a copy of a core differs from it")
	}
	theirs := map[unsafe.Pointer]string{}
	memory(reflect.ValueOf(&c), "core", func(at string, p unsafe.Pointer) { theirs[p] = at })
	memory(reflect.ValueOf(d), "copy", func(at string, p unsafe.Pointer) {
		if s, shared := theirs[p]; shared {
			t.Errorf("%s shares the memory of %s", at, s)
		}
	})
	if d.eff != &d.effects[1] || d.effects[1].Hard != &d.effects[1].hard {
		t.Error("the copy's effects are not its own")
	}
	// Every field shows in the bytes: a change anywhere changes them.
	one := nodeBytes(unsafe.Pointer(&node{Core: &c}), nil)
	for i := range 3 {
		e := c.clone()
		[]func(){func() { e.hint.grant.boot++ }, func() { e.configs[1].Target[1].Incarnation++ }, func() { e.effects[1].Send[1].Entries[1].Config.Old[1]++ }}[i]()
		if slices.Equal(one, nodeBytes(unsafe.Pointer(&node{Core: e}), nil)) {
			t.Errorf("change %d does not show in the bytes", i)
		}
	}
}
