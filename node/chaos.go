package node

import (
	"fmt"
	"slices"

	"balsa/node/raft"
)

// Rules that a server with Options.Chaos can be told to break, each the
// protection that one demonstration shows: the demonstration has to fail then.
const (
	BreakVotes    = "votes"    // votes for a candidate whose log is behind
	BreakJoint    = "joint"    // while joint, counts the new voters only
	BreakHandOver = "handover" // as a leader, tells nobody to take over
	BreakServing  = "serving"  // as a leader, serves nobody while the membership changes
)

// Breakable are all of them.
func Breakable() []string { return []string{BreakVotes, BreakJoint, BreakHandOver, BreakServing} }

// checkBreak refuses a rule that is none, or one to break without Chaos.
func (o *Options) checkBreak() error {
	if o.Break == "" {
		return nil
	}
	if !o.Chaos || !slices.Contains(Breakable(), o.Break) {
		return fmt.Errorf("break rule %q: want one of %v, on a server with chaos allowed", o.Break, Breakable())
	}
	return nil
}

func (n *Node) breaks(rule string) bool { return n.o.Break == rule }

// breakVote makes a candidate's log look as good as ours.
func (n *Node) breakVote(m *raft.Message) {
	if m.Kind == raft.Vote && n.breaks(BreakVotes) {
		m.LastIndex = n.core.Last()
		m.LastTerm, _ = n.core.TermAt(m.LastIndex)
	}
}

// breakServing says that requests are put off now.
func (n *Node) breakServing() bool {
	return n.breaks(BreakServing) && n.core.Progress().Phase != raft.PhaseStable
}
