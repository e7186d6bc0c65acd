package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"balsa/kv/client"
)

// blockedPatience is the timeout of the put that a majority off-line must block.
const blockedPatience = 1500 * time.Millisecond

// basic is the first promise: whatever crashes, what was acknowledged stays, and a majority serves.
func basic(ctx context.Context, s *stage) error {
	leader, term, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	for _, server := range s.cluster.Servers() {
		s.say("server %d: process %d, %s", server.ID, server.Pid(), server.Addr)
	}
	s.say("server %d leads term %d", leader.ID, term)
	if err := s.putMany(ctx, "calm", 100); err != nil {
		return err
	}
	s.say("100 puts acknowledged: each is on the disks of a majority")
	if err := s.checkAll(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *stage) error{leaderCrashes, minorityFails, majorityFails} {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// leaderCrashes kills the leader while a client writes: another takes over in a later term, and the killed one comes back.
func leaderCrashes(ctx context.Context, s *stage) error {
	leader, term, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	if err := s.crash(leader, "the leader"); err != nil {
		return err
	}
	crashed := time.Now()
	if err := s.put(ctx, "after the crash", "first"); err != nil && !errors.Is(err, client.ErrUnknown) {
		return fmt.Errorf("put after the leader's crash: %w", err)
	}
	s.say("the next put was acknowledged %d ms after the crash", time.Since(crashed).Milliseconds())
	if err := s.putMany(ctx, "second leader", 50); err != nil {
		return err
	}
	next, nextTerm, err := s.leader(ctx, leader.ID)
	if err != nil {
		return err
	}
	if nextTerm <= term {
		return fmt.Errorf("server %d leads term %d, want a term after %d", next.ID, nextTerm, term)
	}
	s.say("server %d leads term %d; 50 more puts acknowledged by two of three servers", next.ID, nextTerm)
	if err := s.checkAll(ctx); err != nil {
		return err
	}
	return s.restart(ctx, leader)
}

// minorityFails kills a follower: nobody waits.
func minorityFails(ctx context.Context, s *stage) error {
	leader, _, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	follower, err := s.follower(leader)
	if err != nil {
		return err
	}
	if err := s.crash(follower, "a follower: a minority"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.putMany(ctx, "minority down", 50); err != nil {
		return err
	}
	s.say("50 puts acknowledged in %d ms, nobody waited", time.Since(began).Milliseconds())
	return s.checkAll(ctx)
}

// majorityFails kills a second server: the last one must refuse, and when one returns, service resumes with every
// acknowledged value.
func majorityFails(ctx context.Context, s *stage) error {
	leader, _, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	if err := s.crash(leader, "the leader: now a majority is off-line"); err != nil {
		return err
	}
	blocked, cancel := context.WithTimeout(ctx, blockedPatience)
	err = s.put(blocked, "blocked", "nobody may acknowledge this")
	cancel()
	switch {
	case err == nil:
		return errors.New("a put was acknowledged by one server of three")
	case errors.Is(err, client.ErrUnknown):
		s.say("a put ended after %v with outcome unknown: not acknowledged", blockedPatience)
	case errors.Is(err, client.ErrNotApplied):
		s.say("a put ended after %v as not applied: not acknowledged", blockedPatience)
	default:
		return fmt.Errorf("put without a majority: got %w, want not applied or unknown", err)
	}
	reading, cancel := context.WithTimeout(ctx, blockedPatience/3)
	_, err = s.client.Get(reading, []byte("calm-000"))
	cancel()
	if !errors.Is(err, client.ErrNotApplied) {
		return fmt.Errorf("get without a majority: got %w, want not applied", err)
	}
	s.say("a get is refused too: nobody could say that it is the newest value")
	if err := s.restart(ctx, leader); err != nil {
		return err
	}
	began := time.Now()
	if err := s.put(ctx, "after recovery", "served again"); err != nil {
		return fmt.Errorf("put after one server returned: %w", err)
	}
	s.say("a majority is up again: a put was acknowledged %d ms after it was ready", time.Since(began).Milliseconds())
	if err := s.checkAll(ctx); err != nil {
		return err
	}
	for _, server := range s.cluster.Servers() {
		if !server.Running() {
			if err := s.restart(ctx, server); err != nil {
				return err
			}
		}
	}
	return s.checkAll(ctx)
}
