package raft

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	exploreDepth  = flag.Int("explore.depth", 0, "actions to go from the start; 0: as each scope says")
	exploreStates = flag.Int("explore.states", 0, "states to stop at; 0: as each scope says")
)

func limits(of map[kind]uint8) (may [kinds]uint8) {
	for k, n := range of {
		may[k] = n
	}
	may[synced], may[pass] = always, always
	return may
}

// scopes are what is explored. No server, packet or action is drawn by chance: each scope always visits the same states.
func scopes() []bounds {
	three := voters(1, 2, 3)
	return []bounds{
		// These are small enough to be seen to the end.
		{name: "all of two elections", whole: true, servers: 3, founding: three, terms: 2, chunk: 4, syncAtOnce: true,
			may: limits(map[kind]uint8{campaign: 2, crash: 1}), depth: 99, states: 600000},
		{name: "all of a proposal", whole: true, servers: 3, founding: three, terms: 1, chunk: 4, prepare: led,
			may: limits(map[kind]uint8{propose: 2, poke: 1}), depth: 99, states: 600000},
		{name: "all of growing", whole: true, servers: 3, founding: voters(1), terms: 2, asked: 1, chunk: 4, syncAtOnce: true, prepare: led, targets: [][]Member{members(1, 2, 3)},
			may: limits(map[kind]uint8{reshape: 1, electBy: 1, crash: 1, poke: 1}), depth: 99, states: 600000},
		// The others are seen as far as they go.
		// Elections with all they have: promises, the question before, hints of a dead leader, syncs that take time.
		{name: "elections", servers: 3, founding: three, terms: 2, sticky: true, preVote: true, chunk: 4,
			may: limits(map[kind]uint8{campaign: 3, crash: 1, poke: 1}), depth: 12, states: 100000},
		{name: "hints", servers: 3, founding: three, terms: 2, sticky: true, preVote: true, hints: true, syncAtOnce: true, chunk: 4, prepare: led,
			may: limits(map[kind]uint8{campaign: 2, crash: 1, poke: 2, refuse: 2}), depth: 30, states: 100000},
		// Votes alone, from all sides, over crashes.
		{name: "votes", servers: 3, founding: three, terms: 3, chunk: 4,
			may: limits(map[kind]uint8{campaign: 3, crash: 1, repeat: 1}), depth: 11, states: 100000},
		// Logs that part and meet again.
		{name: "log", servers: 3, founding: three, terms: 4, asked: 1, chunk: 1, syncAtOnce: true,
			may: limits(map[kind]uint8{electBy: 4}), depth: 30, states: 100000},
		{name: "syncs", servers: 3, founding: three, terms: 3, asked: 1, chunk: 4, prepare: led,
			may: limits(map[kind]uint8{electBy: 2, propose: 2, crash: 1}), depth: 30, states: 100000},
		{name: "repeats", servers: 3, founding: three, terms: 2, asked: 1, chunk: 1, syncAtOnce: true, prepare: led,
			may: limits(map[kind]uint8{electBy: 1, propose: 2, poke: 1, repeat: 2}), depth: 30, states: 100000},
		{name: "gaps", servers: 3, founding: three, terms: 2, asked: 1, chunk: 1, syncAtOnce: true, prepare: led,
			may: limits(map[kind]uint8{electBy: 1, propose: 4, poke: 1, crash: 1}), depth: 30, states: 100000},
		{name: "turns", servers: 3, founding: three, terms: 2, chunk: 1, turns: true, prepare: led,
			may: limits(map[kind]uint8{campaign: 1, propose: 1, crash: 1, turn: always}), depth: 30, states: 100000},
		{name: "turns of votes", servers: 3, founding: three, terms: 2, chunk: 4, turns: true,
			may: limits(map[kind]uint8{campaign: 3, crash: 1, turn: always}), depth: 30, states: 100000},
		{name: "reads", servers: 3, founding: three, terms: 2, asked: 1, chunk: 4, syncAtOnce: true, prepare: led,
			may: limits(map[kind]uint8{electBy: 1, propose: 1, poke: 1, ask: 2, crash: 1}), depth: 30, states: 100000},
		// Changes of the membership.
		{name: "replace", servers: 4, founding: three, terms: 2, chunk: 4, syncAtOnce: true, prepare: led, targets: [][]Member{members(1, 2, 4)},
			may: limits(map[kind]uint8{reshape: 1, electBy: 1, poke: 1}), depth: 30, states: 100000},
		{name: "remove leader", servers: 3, founding: three, terms: 3, asked: 1, chunk: 4, syncAtOnce: true, prepare: led, targets: [][]Member{members(2, 3)},
			may: limits(map[kind]uint8{reshape: 1, electBy: 2, giveUp: 1, propose: 1}), depth: 30, states: 100000},
		{name: "grow", servers: 3, founding: voters(1), terms: 3, asked: 1, chunk: 4, prepare: led, targets: [][]Member{members(1, 2, 3)},
			may: limits(map[kind]uint8{reshape: 1, electBy: 1, crash: 1, poke: 1}), depth: 30, states: 100000},
		{name: "joint", servers: 4, founding: three, terms: 3, asked: 2, chunk: 4, syncAtOnce: true, prepare: reshaped(PhaseJoint), targets: [][]Member{members(1, 3, 4)},
			may: limits(map[kind]uint8{electBy: 2, cancel: 1, crash: 1}), depth: 30, states: 100000},
		{name: "disjoint", servers: 4, founding: voters(1, 2), terms: 3, chunk: 4, syncAtOnce: true, prepare: reshaped(PhaseJoint), targets: [][]Member{members(3, 4)},
			may: limits(map[kind]uint8{electBy: 2, propose: 1, poke: 2}), depth: 30, states: 100000},
		{name: "final", servers: 4, founding: three, terms: 3, asked: 2, chunk: 4, syncAtOnce: true, prepare: reshaped(PhaseStable), targets: [][]Member{members(1, 3, 4)},
			may: limits(map[kind]uint8{electBy: 2, cancel: 1, crash: 1, poke: 1}), depth: 30, states: 100000},
		{name: "transfer", servers: 3, founding: three, terms: 3, sticky: true, chunk: 4, prepare: led,
			may: limits(map[kind]uint8{handOver: 1, giveUp: 1, campaign: 1, propose: 1, crash: 1}), depth: 30, states: 100000},
	}
}

func explore(t *testing.T, b bounds) found {
	t.Helper()
	if *exploreDepth > 0 && !b.whole {
		b.depth = *exploreDepth
	}
	if *exploreStates > 0 && !b.whole {
		b.states = *exploreStates
	}
	begun := time.Now()
	x, s := newExplorer(b)
	f := x.search(s)
	t.Logf("%s: %d states, %d actions, depth %d (whole: %t), %d servers' states, %d packets, %d steps, %v", b.name, f.states, f.edges, f.depth, f.whole,
		len(x.nodes), len(x.packets), len(x.memo), time.Since(begun).Round(time.Millisecond))
	return f
}

func TestExplore(t *testing.T) {
	for _, b := range scopes() {
		t.Run(b.name, func(t *testing.T) {
			f := explore(t, b)
			if f.bad != "" {
				t.Errorf("%s", f.bad)
				for _, l := range f.trace {
					t.Log(l)
				}
			} else if b.whole && !f.whole || !b.whole && *exploreDepth == 0 && *exploreStates == 0 && f.states < 100000 {
				t.Errorf("%d states to depth %d: too few, or not all", f.states, f.depth)
			}
		})
	}
}

// TestExplorerCatches gives the core to drivers that break the contract, each in one way: what the explorer is for.
func TestExplorerCatches(t *testing.T) {
	three := voters(1, 2, 3)
	votes := bounds{servers: 3, founding: three, terms: 2, chunk: 4, may: limits(map[kind]uint8{campaign: 2, crash: 1}), depth: 16, states: 400000}
	log := bounds{servers: 3, founding: three, terms: 3, chunk: 4, prepare: led, may: limits(map[kind]uint8{electBy: 1, propose: 1, crash: 1}), depth: 14, states: 400000}
	for _, c := range []struct {
		name    string
		scope   bounds
		driver  driver
		lenient bool
		want    string
	}{
		{"a vote told before it is durable", votes, tellEarly, false, "S8"},
		{"a vote told before it is durable, and lost", votes, tellEarly, true, "S1"},
		{"a term without its vote", votes, loseVote, false, "S7"},
		{"a term without its vote, and voted again", votes, loseVote, true, "S1"},
		{"counted before the sync", log, believeEarly, false, "S9"},
		{"counted before the sync, and lost", log, believeEarly, true, "S4"},
		{"a disk that lies", log, lyingDisk, true, "S4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.scope
			b.name, b.driver, b.lenient = c.name, c.driver, c.lenient
			f := explore(t, b)
			if !strings.HasPrefix(f.bad, c.want) {
				t.Fatalf("got %q within %d states, want a breach of %s", f.bad, f.states, c.want)
			}
			t.Logf("at depth %d: %s", f.depth, f.bad)
			for _, l := range f.trace {
				t.Log(l)
			}
		})
	}
}
