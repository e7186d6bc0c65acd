package local

import (
	"context"
	"fmt"
	"slices"

	"balsa/kv/client"
	"balsa/wire"
)

// View is a cluster, local or not, as its servers tell it at one moment: put together by the word of the leader when there
// is one.
type View struct {
	Leader uint16 // 0: none of those that answered leads
	Term   uint64 // the highest that was told
	Membership
	Rows []client.Row // one a server that is known, by id; a dead one too
}

// Membership is what a configuration says of who belongs to the cluster.
type Membership struct {
	Voters    []uint16 // while joint, the new set
	Learners  []uint16
	OldVoters []uint16 // while joint
	Joint     bool
	Phase     uint8 // wire.PhaseStable and the others
	Leases    bool  // leaders may serve reads by a lease
}

// Ask asks every server. It fails only if none answers before ctx ends; the error is client.ErrNotApplied then.
func Ask(ctx context.Context, c *client.Client) (View, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return View{}, fmt.Errorf("%w: %w", err, client.ErrNotApplied)
	}
	return see(status.Rows)
}

// see makes one view of many rows.
func see(rows []client.Row) (view View, err error) {
	view.Rows = rows
	var best *client.Row // whose configuration counts: the leader's, else the most advanced one
	for i := range rows {
		r := &rows[i]
		if !r.Alive {
			continue
		}
		view.Term = max(view.Term, r.Term)
		if best == nil || better(r, best) {
			best = r
		}
	}
	if best == nil {
		return view, nil
	}
	if best.Role == wire.RoleLeader && best.Term == view.Term {
		view.Leader = best.ID
	}
	if len(best.Configuration) == 0 {
		return view, nil
	}
	view.Membership, err = ReadMembership(best.Configuration)
	if err != nil {
		return view, fmt.Errorf("the configuration that server %d told: %w", best.ID, err)
	}
	return view, nil
}

// ReadMembership reads a configuration as a server tells it. An old voter that leaves while joint is no learner.
func ReadMembership(encoded []byte) (m Membership, err error) {
	c, err := wire.DecodeConfiguration(encoded)
	if err != nil {
		return m, err
	}
	for _, k := range c.Members {
		switch {
		case k.Role == wire.MemberVoter:
			m.Voters = append(m.Voters, k.ID)
		case !slices.Contains(c.Old, k.ID):
			m.Learners = append(m.Learners, k.ID)
		}
	}
	m.OldVoters, m.Joint, m.Leases = c.Old, len(c.Old) > 0, c.Leases
	switch {
	case m.Joint:
		m.Phase = wire.PhaseJoint
	case len(c.Target) > 0 || len(m.Learners) > 0:
		m.Phase = wire.PhaseLearner
	}
	return m, nil
}

// better says whether a's word counts more than b's.
func better(a, b *client.Row) bool {
	if lead := a.Role == wire.RoleLeader; lead != (b.Role == wire.RoleLeader) {
		return lead
	}
	if a.Term != b.Term {
		return a.Term > b.Term
	}
	return a.Commit > b.Commit
}

// RoleName is a role in a word.
func RoleName(role uint8) string {
	switch role {
	case wire.RoleBlank:
		return "blank"
	case wire.RoleFollower:
		return "follower"
	case wire.RolePreCandidate:
		return "pre-candidate"
	case wire.RoleCandidate:
		return "candidate"
	case wire.RoleLeader:
		return "leader"
	case wire.RoleLearner:
		return "learner"
	case wire.RoleRemoved:
		return "removed"
	}
	return fmt.Sprintf("role %d", role)
}
