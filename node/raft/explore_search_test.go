package raft

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// The search: breadth first from one state of the cluster over all actions within bounds, so that what breaks a rule is
// found with the fewest actions. Time is an action; a packet may be lost by staying on the wires for ever.

const maxNodes = 4

// bounds say what is explored, and how far.
type bounds struct {
	name     string
	servers  int
	founding Configuration
	targets  [][]Member   // of reshape
	may      [kinds]uint8 // how often; always, or 0 for never
	terms    uint64       // no higher term is entered
	asked    int          // voters in a whole election; 0: all sets
	chunk    uint64       // entries in one datagram
	prepare  func(*explorer, *scene) *scene
	depth    int  // actions
	states   int  // then the search ends where it is
	whole    bool // which must not happen

	sticky     bool // promises are kept until they are let pass; else they pass at once
	preVote    bool // elections begin with the question; else it is taken to have been answered well
	syncAtOnce bool // every batch is durable before anything else happens
	turns      bool // several packets may come in one turn
	hints      bool // a dead leader is noticed by its silence and by ICMP
	driver     driver
	lenient    bool // only consequences count, not what a server does to bring them about
}

const always = 255 // in may

// scene is a state of the whole cluster.
type scene struct {
	nodes   [maxNodes]uint32
	net     []uint32 // ascending
	ledger  []fact
	leaders [maxTerms]uint16
	spent   [kinds]uint8
	heads   [maxNodes]uint8 // one above what was committed as the read of this server was asked
	id      uint32
}

type step struct {
	parent uint32
	at     uint8
	kind   kind
	arg    uint32
}

type explorer struct {
	bounds
	nodes       []*node
	nodeIndex   map[[2]uint64]uint32
	packets     []packet
	packetIndex map[[2]uint64]uint32
	memo        map[memoKey]*outcome
	seen        map[[2]uint64]struct{}
	trail       []step
	buf         []byte
	edges       int
}

// found is what a search came to.
type found struct {
	states, edges, depth int  // depth: all states so far away were seen
	whole                bool // there are no others within the other bounds
	bad                  string
	trace                []string
}

func newExplorer(b bounds) (*explorer, *scene) {
	x := &explorer{bounds: b, nodeIndex: map[[2]uint64]uint32{}, packetIndex: map[[2]uint64]uint32{},
		memo: map[memoKey]*outcome{}, seen: map[[2]uint64]struct{}{}}
	x.chunk = max(x.chunk, 1)
	s := &scene{}
	for i := range x.servers {
		n := &node{ID: uint16(i + 1)}
		x.boot(n)
		n.Core.Take()
		s.nodes[i] = x.intern(n)
	}
	if x.prepare != nil { // by honest and direct steps
		x.preVote, x.turns, x.driver = false, false, faithful
		s = x.prepare(x, s)
		x.preVote, x.turns, x.driver = b.preVote, b.turns, b.driver
		clear(x.memo)
	}
	s.spent = [kinds]uint8{}
	return x, s
}

// move lets server i take a step; nil if it cannot, or if that changes nothing.
func (x *explorer) move(s *scene, i int, k kind, arg uint32) (*scene, string) {
	o := x.outcome(s.nodes[i], k, arg)
	if o.bad != "" {
		return s, o.bad
	}
	if o.off || o.next == s.nodes[i] && len(o.sent)+len(o.reads) == 0 {
		return nil, ""
	}
	t := *s
	t.nodes[i] = o.next
	t.net = make([]uint32, 0, len(s.net)+len(o.sent))
	for _, id := range s.net {
		if k != deliver || id != arg {
			t.net = append(t.net, id)
		}
	}
	for _, id := range o.sent {
		if at, has := slices.BinarySearch(t.net, id); !has {
			t.net = slices.Insert(t.net, at, id)
		}
	}
	switch k {
	case ask:
		t.heads[i] = uint8(len(t.ledger)) + 1
	case crash:
		t.heads[i] = 0
	}
	return &t, x.judge(s, &t, i, o)
}

// election is a whole one: i asks the voters in the set for term after term they know of, and hears from them.
func (x *explorer) election(s *scene, i int, set uint32) (t *scene, bad string) {
	t = s
	do := func(at int, k kind, arg uint32) bool {
		next, broken := x.move(t, at, k, arg)
		if bad = broken; next == nil {
			return bad == "" && k == deliver // a vote too many changes nothing
		}
		t = next
		return bad == ""
	}
	syncAll := func(at int) bool {
		for len(x.nodes[t.nodes[at]].Batches) > 0 {
			if !do(at, synced, 0) {
				return false
			}
		}
		return true
	}
	heard := uint64(0)
	for j := range x.servers {
		if set>>(j+1)&1 == 1 {
			heard = max(heard, x.nodes[s.nodes[j]].Core.hard.Term)
		}
	}
	if x.nodes[t.nodes[i]].Core.role == Leader && !do(i, deaf, 0) {
		return nil, bad
	}
	if !syncAll(i) || !do(i, campaign, uint32(heard)) || !syncAll(i) {
		return nil, bad
	}
	term := x.nodes[t.nodes[i]].Core.hard.Term
	for j := range x.servers {
		if set>>(j+1)&1 == 0 {
			continue
		}
		for _, leg := range []struct {
			kind     MessageKind
			from, to int
		}{{Vote, i, j}, {VoteReply, j, i}} {
			id, ok := x.packet(t, leg.kind, leg.from, leg.to, term)
			if !ok || !do(leg.to, deliver, id) {
				return nil, bad
			}
			if leg.to == j && !syncAll(j) {
				return nil, bad
			}
		}
	}
	t.net = slices.DeleteFunc(t.net, func(id uint32) bool { p := &x.packets[id]; return p.Kind == Vote || p.Kind == VoteReply })
	return t, bad
}

// packet finds one on the wires.
func (x *explorer) packet(s *scene, k MessageKind, from, to int, term uint64) (uint32, bool) {
	for _, id := range s.net {
		if p := &x.packets[id]; p.Kind == k && int(p.From) == from+1 && int(p.To) == to+1 && p.Term >= term && !p.Pre {
			return id, true
		}
	}
	return 0, false
}

// tidy takes from the wires what would change nothing now, and what is of a term below a durable one of its receiver.
// That is a loss, which may happen anyway. Answers stay, for the receiver is to find out that they came too late.
func (x *explorer) tidy(t *scene) {
	t.net = slices.DeleteFunc(t.net, func(id uint32) bool {
		p := &x.packets[id]
		at := t.nodes[p.To-1]
		switch p.Kind {
		case Append, TimeoutNow, Vote:
			if !p.Pre && p.Term < x.nodes[at].Hard.Term {
				return true
			}
		}
		o := x.outcome(at, deliver, id)
		return o.bad == "" && !o.off && o.next == at && len(o.sent)+len(o.reads) == 0
	})
}

// actions visits all that may be tried in s.
func (x *explorer) actions(s *scene, visit func(i int, k kind, arg uint32) bool) {
	for _, id := range s.net {
		to := int(x.packets[id].To) - 1
		if !visit(to, deliver, id) || s.spent[repeat] < x.may[repeat] && !visit(to, repeat, id) {
			return
		}
	}
	for i := range x.servers {
		n := x.nodes[s.nodes[i]]
		for k := campaign; k < kinds; k++ {
			if x.may[k] == 0 || x.may[k] != always && s.spent[k] >= x.may[k] {
				continue
			}
			if s.id == 0 && x.prepare == nil && i > 0 {
				continue // all are alike at first
			}
			for _, arg := range x.args(s, i, n, k) {
				if !visit(i, k, arg) {
					return
				}
			}
		}
	}
}

// args lists the arguments that k has at server i.
func (x *explorer) args(s *scene, i int, n *node, k kind) (args []uint32) {
	switch k {
	case campaign:
		args = append(args, 0)
		if heard := x.highest(s); !x.preVote && heard > n.Core.hard.Term {
			args = append(args, uint32(heard))
		}
	case electBy:
		for set := uint32(0); set < 1<<(x.servers+1); set += 2 {
			if set>>(i+1)&1 == 0 && (x.asked == 0 || bits.OnesCount32(set) == x.asked) {
				args = append(args, set)
			}
		}
	case crash:
		for keep := range len(n.Batches) + 1 {
			args = append(args, uint32(keep))
		}
	case propose:
		args = append(args, uint32(s.spent[propose])+1)
	case poke, handOver:
		for j := range x.servers {
			if j != i {
				args = append(args, uint32(j)+1)
			}
		}
	case reshape:
		for j := range x.targets {
			args = append(args, uint32(j))
		}
	default:
		args = append(args, 0)
	}
	return args
}

func (x *explorer) highest(s *scene) (term uint64) {
	for _, id := range s.nodes[:x.servers] {
		term = max(term, x.nodes[id].Core.hard.Term)
	}
	return term
}

// key is all of s that tells what can happen next.
func (x *explorer) key(s *scene) [2]uint64 {
	b := x.buf[:0]
	for _, id := range s.nodes[:x.servers] {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	for _, l := range s.leaders {
		b = append(b, byte(l))
	}
	b = append(append(b, s.spent[:]...), s.heads[:]...)
	for _, f := range s.ledger {
		b = append(b, byte(f.term), byte(f.by), byte(f.value), byte(f.kind))
	}
	b = append(b, 0xFF)
	for _, id := range s.net {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	x.buf = b
	return digest(b)
}

// search goes level by level.
func (x *explorer) search(start *scene) (f found) {
	start.id = 0
	x.seen[x.key(start)] = struct{}{}
	x.trail = append(x.trail, step{})
	level := []*scene{start}
	for ; len(level) > 0 && f.depth < x.depth; f.depth++ {
		var next []*scene
		for li, s := range level {
			level[li] = nil
			x.actions(s, func(i int, k kind, arg uint32) bool {
				t, bad := x.try(s, i, k, arg)
				if bad != "" {
					f.bad, f.trace = bad, x.trace(s.id, step{s.id, uint8(i), k, arg})
					return false
				}
				if t != nil {
					next = append(next, t)
				}
				return true
			})
			if f.states, f.edges = len(x.trail), x.edges; f.bad != "" || f.states >= x.states {
				if f.bad != "" {
					f.depth++
				}
				return f
			}
		}
		level = next
	}
	f.states, f.edges, f.whole = len(x.trail), x.edges, len(level) == 0
	return f
}

// try gives the state that an action leads to, if it is new.
func (x *explorer) try(s *scene, i int, k kind, arg uint32) (t *scene, bad string) {
	if k == electBy {
		t, bad = x.election(s, i, arg)
	} else {
		t, bad = x.move(s, i, k, arg)
	}
	if t == nil || bad != "" {
		return nil, bad
	}
	x.edges++
	if x.may[k] != always && x.may[k] != 0 {
		t.spent[k]++
	}
	x.tidy(t)
	key := x.key(t)
	if _, again := x.seen[key]; again {
		return nil, ""
	}
	x.seen[key] = struct{}{}
	t.id = uint32(len(x.trail))
	x.trail = append(x.trail, step{s.id, uint8(i), k, arg})
	return t, ""
}

// trace tells how the state at id was reached, and the step after it.
func (x *explorer) trace(id uint32, last step) []string {
	lines := []string{x.describe(last)}
	for id != 0 {
		lines = append(lines, x.describe(x.trail[id]))
		id = x.trail[id].parent
	}
	slices.Reverse(lines)
	return lines
}

func (x *explorer) describe(s step) string {
	switch s.kind {
	case deliver, repeat:
		return fmt.Sprintf("%s %s", s.kind, describe(&x.packets[s.arg]))
	case electBy:
		var by []string
		for j := range x.servers {
			if s.arg>>(j+1)&1 == 1 {
				by = append(by, fmt.Sprint(j+1))
			}
		}
		return fmt.Sprintf("%d: elect, asking %s", s.at+1, strings.Join(by, " "))
	}
	return fmt.Sprintf("%d: %s %d", s.at+1, s.kind, s.arg)
}

// settle delivers and syncs until nothing moves, for preparing a state.
func (x *explorer) settle(s *scene) *scene {
	for moved := true; moved; {
		moved = false
		x.tidy(s)
		for _, id := range s.net {
			if t, bad := x.move(s, int(x.packets[id].To)-1, deliver, id); bad != "" {
				panic(bad)
			} else if t != nil {
				s, moved = t, true
				break
			}
		}
		for i := range x.servers {
			if t, bad := x.move(s, i, synced, 0); bad != "" {
				panic(bad)
			} else if t != nil {
				s, moved = t, true
			}
		}
	}
	return s
}

// led prepares a cluster whose server 1 leads term 1, with its first entry committed.
func led(x *explorer, s *scene) *scene {
	set := uint32(0)
	for _, id := range x.founding.voters() {
		set |= 1 << id
	}
	t, bad := x.election(s, 0, set&^2)
	if bad != "" || t == nil {
		panic("no election: " + bad)
	}
	t = x.settle(t)
	if n := x.nodes[t.nodes[0]]; n.Core.role != Leader || n.Commit != 1 {
		panic("server 1 does not lead")
	}
	return t
}

// reshaped prepares a cluster that goes on from led with the first change, as far as server 1 has appended a configuration
// of the phase; the rest is on the wires.
func reshaped(phase string) func(*explorer, *scene) *scene {
	return func(x *explorer, s *scene) *scene {
		s = led(x, s)
		x.tidy(s)
		for k, arg := reshape, uint32(0); ; k, arg = deliver, s.net[0] {
			i := 0
			if k == deliver {
				i = int(x.packets[arg].To) - 1
			}
			t, bad := x.move(s, i, k, arg)
			if t == nil || bad != "" {
				panic("the change does not go on: " + bad)
			}
			s = t
			for at := 0; at < x.servers; at++ {
				for t, bad = x.move(s, at, synced, 0); t != nil && bad == ""; t, bad = x.move(s, at, synced, 0) {
					s = t
				}
			}
			if n := x.nodes[s.nodes[0]]; n.Core.inForce().Index > 1 && n.Core.inForce().Phase() == phase {
				return s
			}
			x.tidy(s)
		}
	}
}
