package raft

import "slices"

// The steps of a membership change. One operation takes the voters from any set to any other:
//
//	stable --> learner: who is new catches up, counting nowhere
//	               |  a server that comes back as another incarnation first leaves (joint), then is new like any other
//	               v
//	           joint: both majorities decide
//	               |
//	               v
//	           the target's voters, Target gone: stable
//
// What the next step is follows from the configuration in force, and from who has caught up and who is alive; so
// whichever leader is there carries the operation on. Each step waits until the configuration before it is committed,
// in the leader's own term (SAFETY 11).

// Phases of a change, by name.
const (
	PhaseStable  = "stable"
	PhaseLearner = "learner" // Target is set, one set of voters decides
	PhaseJoint   = "joint"
)

// Phase names where the operation under way is.
func (k *Configuration) Phase() string {
	switch {
	case len(k.Old) > 0:
		return PhaseJoint
	case k.Target != nil:
		return PhaseLearner
	}
	return PhaseStable
}

// voters lists the voters of the new, or only, set.
func (k *Configuration) voters() []uint16 {
	var ids []uint16
	for _, m := range k.Members {
		if m.Voter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// has tells whether this very server is a member.
func (k *Configuration) has(t Member) bool {
	m := k.member(t.ID)
	return m != nil && m.Incarnation == t.Incarnation
}

// reached tells whether the voters are exactly the target.
func (k *Configuration) reached() bool {
	n := 0
	for _, m := range k.Members {
		if m.Voter {
			n++
		}
	}
	return n == len(k.Target) && !slices.ContainsFunc(k.Target, func(t Member) bool {
		return !k.has(t) || !k.member(t.ID).Voter
	})
}

// replaced gives a voter whose id the target has under another incarnation; nil when there is none.
func (k *Configuration) replaced() *Member {
	for _, t := range k.Target {
		if m := k.member(t.ID); m != nil && m.Incarnation != t.Incarnation {
			return m
		}
	}
	return nil
}

// withLearners adds those of the target whose ids are free.
func (k *Configuration) withLearners() (n Configuration, added bool) {
	n = k.clone()
	for _, t := range k.Target {
		if n.member(t.ID) == nil {
			n.Members = append(n.Members, Member{t.ID, t.Incarnation, false})
			added = true
		}
	}
	n.sort()
	return n, added
}

// final is what a joint configuration becomes: its new voters, and the target's servers that are still to come.
func (k *Configuration) final() Configuration {
	n := k.clone()
	n.Old = nil
	n.Members = slices.DeleteFunc(n.Members, func(m Member) bool {
		return !m.Voter && !slices.ContainsFunc(k.Target, func(t Member) bool { return t.ID == m.ID && t.Incarnation == m.Incarnation })
	})
	if n.reached() {
		n.Target = nil
		return n
	}
	n, _ = n.withLearners()
	return n
}

// settled ends the operation where it is: the voters that decide, nobody else.
func (k *Configuration) settled() Configuration {
	n := k.clone()
	n.Target = nil
	n.Members = slices.DeleteFunc(n.Members, func(m Member) bool { return !m.Voter })
	return n
}

// undone takes back a joint configuration: the old voters alone.
func (k *Configuration) undone() Configuration {
	n := k.clone()
	n.Old, n.Target = nil, nil
	n.Members = slices.DeleteFunc(n.Members, func(m Member) bool { return !slices.Contains(k.Old, m.ID) })
	for i := range n.Members {
		n.Members[i].Voter = true
	}
	return n
}

// jointTo adds a second set of voters, all of them members.
func (k *Configuration) jointTo(ids []uint16) Configuration {
	n := k.clone()
	n.Old = k.voters()
	for i := range n.Members {
		n.Members[i].Voter = slices.Contains(ids, n.Members[i].ID)
	}
	return n
}

// nextVoters is the set to go to once everyone who is new and present has caught up: the target or, while an id of it
// is still taken by the server that is to be replaced, all who are there without that one.
func (k *Configuration) nextVoters() []uint16 {
	var ids []uint16
	gone := k.replaced()
	if gone == nil {
		for _, t := range k.Target {
			ids = append(ids, t.ID)
		}
		return ids
	}
	for _, m := range k.Members {
		if m.ID != gone.ID && (m.Voter || slices.ContainsFunc(k.Target, func(t Member) bool { return t.ID == m.ID && t.Incarnation == m.Incarnation })) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// next is the step that follows k; nil with the reason when there is none to take now.
func (k *Configuration) next(caughtUp func(uint16) bool, quorumAlive func([]uint16) bool) (*Configuration, string) {
	if k.Target == nil {
		return nil, ""
	}
	if len(k.Old) > 0 {
		n := k.final()
		return &n, ""
	}
	if k.reached() {
		n := k.settled()
		return &n, ""
	}
	if n, added := k.withLearners(); added {
		return &n, ""
	}
	for _, t := range k.Target {
		if m := k.member(t.ID); m.Incarnation == t.Incarnation && !m.Voter && !caughtUp(t.ID) {
			return nil, "new servers are catching up"
		}
	}
	ids := k.nextVoters()
	if !quorumAlive(ids) {
		return nil, "no quorum of the new voters is alive"
	}
	n := k.jointTo(ids)
	return &n, ""
}

func (k *Configuration) sort() {
	slices.SortFunc(k.Members, func(a, b Member) int { return int(a.ID) - int(b.ID) })
}
