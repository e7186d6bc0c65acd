package raft

import (
	"flag"
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

func scopes() []bounds {
	three := voters(1, 2, 3)
	return []bounds{
		{name: "elections", servers: 3, founding: three, terms: 2, sticky: true, preVote: true, chunk: 4,
			may: limits(map[kind]uint8{campaign: 3, crash: 1, poke: 1}), depth: 12, states: 300000},
		{name: "votes", servers: 3, founding: three, terms: 3, chunk: 4,
			may: limits(map[kind]uint8{campaign: 3, crash: 1, repeat: 1}), depth: 12, states: 300000},
		{name: "log", servers: 3, founding: three, terms: 4, chunk: 1, syncAtOnce: true,
			may: limits(map[kind]uint8{electBy: 4, propose: 1, poke: 2}), depth: 12, states: 300000},
		{name: "syncs", servers: 3, founding: three, terms: 3, chunk: 4,
			may: limits(map[kind]uint8{electBy: 3, propose: 1, crash: 1}), depth: 12, states: 300000},
	}
}

func explore(t *testing.T, b bounds) found {
	t.Helper()
	if *exploreDepth > 0 {
		b.depth = *exploreDepth
	}
	if *exploreStates > 0 {
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
			if f := explore(t, b); f.bad != "" {
				t.Errorf("%s", f.bad)
				for _, l := range f.trace {
					t.Log(l)
				}
			}
		})
	}
}
