package local

import (
	"context"
	"fmt"

	"balsa/kv/client"
	"balsa/wire"
)

// View is a cluster, local or not, as its servers tell it at one moment: put together by the word of the leader when there
// is one.
type View struct {
	Leader    uint16 // 0: none of those that answered leads
	Term      uint64 // the highest that was told
	Voters    []uint16
	Learners  []uint16
	OldVoters []uint16 // while joint
	Joint     bool
	Rows      []client.Row // one a server that is known, by id; a dead one too
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
	c, err := wire.DecodeConfiguration(best.Configuration)
	if err != nil {
		return view, fmt.Errorf("the configuration that server %d told: %w", best.ID, err)
	}
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter {
			view.Voters = append(view.Voters, m.ID)
		} else {
			view.Learners = append(view.Learners, m.ID)
		}
	}
	view.OldVoters, view.Joint = c.Old, len(c.Old) > 0
	return view, nil
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
	}
	return fmt.Sprintf("role %d", role)
}
