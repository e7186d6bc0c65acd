package client

import (
	"context"
	"fmt"
	"time"
)

// changeNews is how much news of a change waits for a slow caller; what is more is told by what comes after it.
const changeNews = 16

// Change changes the membership, or the leader, and returns when that is over: the configuration that was wanted is
// committed, or another server leads. within bounds the asking (0 = the client's timeout), as ctx does. news, unless
// nil, is called with the progress, on the caller's goroutine.
//
// The error is ErrNotApplied when it was refused, or never begun, with the servers' reason; ErrUnknown when time was
// over first: a change that has begun goes on then, under whatever leader.
func (c *Client) Change(ctx context.Context, ch *Change, within time.Duration, news func(ChangeAnswer)) (ChangeAnswer, error) {
	if within <= 0 {
		within = c.timeout
	}
	now := c.now()
	deadline := now + int64(within)
	if d, ok := ctx.Deadline(); ok {
		deadline = min(deadline, int64(d.Sub(c.start)))
	}
	told := make(chan ChangeTold, changeNews)
	c.mu.Lock()
	if c.failure != nil {
		defer c.mu.Unlock()
		return ChangeAnswer{}, &outcomeError{fmt.Sprintf("%s: not applied: %v", (&change{Change: *ch}).word(), c.failure), ErrNotApplied, c.failure}
	}
	c.changes++
	token := c.changes
	c.changing[token] = told
	c.core.Change(now, ch, deadline, token)
	c.active = now
	c.flushSoon()
	c.mu.Unlock()
	done := ctx.Done()
	for {
		select {
		case t := <-told:
			if t.Ended {
				return t.Answer, t.Err
			}
			if news != nil {
				news(t.Answer)
			}
		case <-done:
			done = nil
			c.mu.Lock()
			c.core.CancelChange(c.now(), token, ctx.Err())
			c.tellChanges()
			c.mu.Unlock()
		}
	}
}

// tellChanges hands news on; the last of a change always has room.
func (c *Client) tellChanges() {
	for _, t := range c.core.Told() {
		told := c.changing[t.Token]
		if t.Ended {
			delete(c.changing, t.Token)
		} else if len(told) >= changeNews-1 {
			continue
		}
		told <- t
	}
}
