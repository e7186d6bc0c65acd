package client

import (
	"context"
	"fmt"
	"time"

	"balsa/wire"
)

// ClusterStatus is what the servers say of themselves.
type ClusterStatus struct {
	Leader int   // place in Rows of the leader's, with the newest term if several say so; -1 without
	Rows   []Row // every server known, ascending by id; Alive is false for one that did not answer in time
}

// statusWait is how long a silent server is waited for while others answer.
const statusWait = time.Second

// Status asks all known servers in parallel. It is an error only if none answers.
func (c *Client) Status(ctx context.Context) (ClusterStatus, error) {
	end := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	for {
		status, why, err := c.ask(ctx, min(time.Until(end), statusWait))
		if err != nil {
			return status, err
		}
		refused, alive := 0, 0
		for _, r := range status.Rows {
			if r.Alive {
				alive++
			} else if r.Refused {
				refused++
			}
		}
		if alive > 0 {
			return status, nil
		}
		if refused == len(status.Rows) || time.Until(end) <= 0 || ctx.Err() != nil {
			return status, fmt.Errorf("status: no server answers: %d refused, %d silent of %d%s", refused, len(status.Rows)-refused, len(status.Rows), why)
		}
	}
}

// ask gives what the servers answered, and a clause on those that could not.
func (c *Client) ask(ctx context.Context, wait time.Duration) (ClusterStatus, string, error) {
	answer := make(chan ProbeDone, 1)
	c.mu.Lock()
	if err := c.failure; err != nil {
		c.mu.Unlock()
		return ClusterStatus{Leader: -1}, "", fmt.Errorf("status: %w", err)
	}
	c.probes++
	token := c.probes
	c.probing[token] = answer
	now := c.now()
	c.core.Probe(now, now+max(int64(wait), 1), token)
	c.active = now
	c.flushSoon()
	c.mu.Unlock()
	select {
	case d, ok := <-answer:
		if !ok {
			return ClusterStatus{Leader: -1}, "", fmt.Errorf("status: %w", ErrClosed)
		}
		if d.Why != "" {
			d.Why = "; " + d.Why
		}
		return summarize(d.Rows), d.Why, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.probing, token)
		c.mu.Unlock()
		return ClusterStatus{Leader: -1}, "", fmt.Errorf("status: %w", ctx.Err())
	}
}

func summarize(rows []Row) ClusterStatus {
	s := ClusterStatus{Leader: -1, Rows: rows}
	for i, r := range rows {
		if r.Alive && r.Role == wire.RoleLeader && (s.Leader < 0 || r.Term > rows[s.Leader].Term) {
			s.Leader = i
		}
	}
	return s
}
