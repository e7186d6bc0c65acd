// Package cluster puts together what the servers of a cluster say of themselves: one view, told by the leader when there
// is one.
package cluster

import (
	"context"
	"fmt"
	"time"

	"balsa/kv/client"
	"balsa/wire"
)

// View is the cluster as its servers tell it at one moment.
type View struct {
	Leader    uint16 // 0: none of those that answered leads
	Term      uint64 // the highest that was told
	Voters    []uint16
	Learners  []uint16
	OldVoters []uint16 // while joint
	Joint     bool
	Rows      []client.Row // one a server that is known, by id; a dead one too
}

// patience is what a silent server is waited for once another has answered. A dead process is noticed at once.
const patience = 500 * time.Millisecond

// Ask asks every server. It fails only if none answered before ctx ended; the error is client.ErrNotApplied then.
func Ask(ctx context.Context, c *client.Client) (View, error) {
	for {
		asking, cancel := context.WithTimeout(ctx, patience)
		rows, err := c.Status(asking)
		cancel()
		view, some, configErr := see(rows)
		if some {
			return view, configErr
		}
		if ctx.Err() != nil || err != nil && asking.Err() == nil {
			return View{}, nobody(rows, err)
		}
		if asking.Err() == nil { // all refused at once: a pause, then again
			select {
			case <-asking.Done():
			case <-ctx.Done():
			}
		}
	}
}

func nobody(rows []client.Row, err error) error {
	refused := 0
	for _, r := range rows {
		if r.Refused {
			refused++
		}
	}
	if len(rows) == 0 && err != nil {
		return fmt.Errorf("%w: no server answered: %w", client.ErrNotApplied, err)
	}
	return fmt.Errorf("%w: no server answered at the given addresses (%d refused: no process there; %d silent)",
		client.ErrNotApplied, refused, len(rows)-refused)
}

// see makes one view of many rows; some says whether anybody answered.
func see(rows []client.Row) (view View, some bool, err error) {
	view.Rows = rows
	var best *client.Row // whose configuration counts: the leader's, else the most advanced one
	for i := range rows {
		r := &rows[i]
		if !r.Alive {
			continue
		}
		some = true
		view.Term = max(view.Term, r.Term)
		if best == nil || better(r, best) {
			best = r
		}
	}
	if best == nil {
		return view, false, nil
	}
	if best.Role == wire.RoleLeader && best.Term == view.Term {
		view.Leader = best.ID
	}
	if len(best.Configuration) == 0 {
		return view, true, nil
	}
	c, err := wire.DecodeConfiguration(best.Configuration)
	if err != nil {
		return view, true, fmt.Errorf("the configuration that server %d told: %w", best.ID, err)
	}
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter {
			view.Voters = append(view.Voters, m.ID)
		} else {
			view.Learners = append(view.Learners, m.ID)
		}
	}
	view.OldVoters, view.Joint = c.Old, len(c.Old) > 0
	return view, true, nil
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
