package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"balsa/kv"
	"balsa/kv/client"
)

// copies is how often the relay repeats every request.
const copies = 2

// twice sends requests again and again, as a client must that hears no answer, and wants each applied once.
func twice(ctx context.Context, s *stage) error {
	leader, _, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	r, err := newRelay(leader.Addr, copies, s.broken)
	if err != nil {
		return err
	}
	defer r.close()
	c, err := client.Open(client.Config{Addrs: []string{r.addr()}, Timeout: 8 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	s.say("a client reaches the leader, server %d, through a bad network: each request arrives %d times, the first answer is lost", leader.ID, 1+copies)
	for _, step := range []func(context.Context, *stage, *client.Client, *relay) error{repeatedPuts, repeatedSwaps, lateCopy} {
		if err := step(ctx, s, c, r); err != nil {
			return err
		}
	}
	if err := s.lostWithTheLeader(ctx, c, r); err != nil {
		return err
	}
	return s.checkAll(ctx)
}

// repeatedPuts wants the entry that was answered to be the only one that changed the key.
func repeatedPuts(ctx context.Context, s *stage, c *client.Client, r *relay) error {
	const n = 20
	for i := range n {
		key, value := fmt.Sprintf("put-%02d", i), fmt.Sprintf("value-%02d", i)
		a, err := c.Do(ctx, &client.Op{Op: kv.Put, Key: []byte(key), Value: []byte(value)})
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		s.acknowledged[key] = value
		if err := s.changedAt(ctx, key, a.Index); err != nil {
			return err
		}
	}
	sent, lost := r.counts()
	s.say("%d puts: %d requests sent on, %d answers lost; each key was changed once, at the index that was answered", n, sent, lost)
	return nil
}

// changedAt wants the key's last change to be the entry at index.
func (s *stage) changedAt(ctx context.Context, key string, index uint64) error {
	got, err := s.client.Do(ctx, &client.Op{Op: kv.Get, Key: []byte(key)})
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if got.Index != index {
		return fmt.Errorf("%s was changed again at index %d: it was put once, and answered with index %d", key, got.Index, index)
	}
	return nil
}

// repeatedSwaps counts up by compare-and-swap: a swap that was applied and is tried again would find its own value, and
// report a conflict that there was not.
func repeatedSwaps(ctx context.Context, s *stage, c *client.Client, _ *relay) error {
	const n = 10
	if err := c.CompareAndSwap(ctx, []byte("counter"), nil, []byte("0")); err != nil {
		return fmt.Errorf("cas counter: %w", err)
	}
	for i := range n {
		err := c.CompareAndSwap(ctx, []byte("counter"), []byte(fmt.Sprint(i)), []byte(fmt.Sprint(i+1)))
		if errors.Is(err, client.ErrConflict) {
			return fmt.Errorf("cas counter %d %d: a conflict, though nobody else writes: its own first copy was applied", i, i+1)
		}
		if err != nil {
			return fmt.Errorf("cas counter: %w", err)
		}
	}
	s.acknowledged["counter"] = fmt.Sprint(n)
	s.say("a counter went from 0 to %d by cas: no copy met the value of an earlier one", n)
	return nil
}

// lateCopy delivers a put again after a later put of the same key.
func lateCopy(ctx context.Context, s *stage, c *client.Client, r *relay) error {
	if err := c.Put(ctx, []byte("late"), []byte("first")); err != nil {
		return fmt.Errorf("put late: %w", err)
	}
	a, err := s.client.Do(ctx, &client.Op{Op: kv.Put, Key: []byte("late"), Value: []byte("second")})
	if err != nil {
		return fmt.Errorf("put late: %w", err)
	}
	s.acknowledged["late"] = "second"
	if err := r.replay(5); err != nil {
		return err
	}
	if err := c.Put(ctx, []byte("behind the copies"), []byte("x")); err != nil { // the copies arrived before this one
		return err
	}
	if err := s.changedAt(ctx, "late", a.Index); err != nil {
		return err
	}
	s.say("a put of %q arrived five times more after %q was put: it stays %q", "first", "second", "second")
	return nil
}

// lostWithTheLeader kills the leader after it applied a put and before its answer got through. The client asks the next
// leader, which must know the put and answer with the entry that applied it.
func (s *stage) lostWithTheLeader(ctx context.Context, c *client.Client, r *relay) error {
	leader, _, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	r.silence()
	type ended struct {
		answer client.Answer
		err    error
	}
	done := make(chan ended, 1)
	go func() {
		a, err := c.Do(ctx, &client.Op{Op: kv.Put, Key: []byte("unanswered"), Value: []byte("once")})
		done <- ended{a, err}
	}()
	var applied client.Answer
	for {
		if applied, err = s.client.Do(ctx, &client.Op{Op: kv.Get, Key: []byte("unanswered")}); err == nil {
			break
		}
		if err := rest(ctx); err != nil {
			return fmt.Errorf("the put does not arrive: %w", err)
		}
	}
	s.say("a put was applied at index %d, term %d; no answer gets through", applied.Index, applied.Term)
	if err := s.crash(leader, "the leader"); err != nil {
		return err
	}
	d := <-done
	if d.err != nil {
		return fmt.Errorf("put unanswered: %w", d.err)
	}
	s.acknowledged["unanswered"] = "once"
	next, term, err := s.leader(ctx, leader.ID)
	if err != nil {
		return err
	}
	if d.answer.Index != applied.Index || d.answer.Term != applied.Term {
		return fmt.Errorf("the next leader answered with index %d, term %d: the put was applied at index %d, term %d",
			d.answer.Index, d.answer.Term, applied.Index, applied.Term)
	}
	s.say("the client asked again; server %d, leading term %d, answered with index %d, term %d: applied once", next.ID, term, d.answer.Index, d.answer.Term)
	return s.changedAt(ctx, "unanswered", applied.Index)
}
