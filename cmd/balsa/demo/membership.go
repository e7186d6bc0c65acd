package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire"
)

// holdPhase is how long a change is kept in a phase, to be watched: longer than a request of the load may take.
const holdPhase = 2500 * time.Millisecond

// membership changes who belongs to the cluster while it serves.
func membership(ctx context.Context, s *stage) (err error) {
	if err := s.putMany(ctx, "before", 50); err != nil {
		return err
	}
	l, err := s.startLoad(ctx)
	if err != nil {
		return err
	}
	defer l.stop()
	if err := l.waitMore(ctx, 100); err != nil {
		return err
	}
	s.say("servers 1, 2 and 3 are voters; clients put and get without pause")
	grow := client.Change{Verb: wire.VerbAdd, Servers: ids(4, 5), HoldPhase: wire.PhaseLearner, Hold: holdPhase}
	if err := s.watchChange(ctx, l, &grow, "member add 4 5 --hold learner=2.5s", 1, 2, 3, 4, 5); err != nil {
		return err
	}
	shrink := client.Change{Verb: wire.VerbSet, Servers: ids(3, 4, 5), HoldPhase: wire.PhaseJoint, Hold: holdPhase}
	if err := s.watchChange(ctx, l, &shrink, "member set 3,4,5 --hold joint=2.5s", 3, 4, 5); err != nil {
		return err
	}
	if err := l.end(s); err != nil {
		return err
	}
	return s.checkAll(ctx)
}

// watchChange makes a change, watches the phase it is held in, and wants the load served in that phase and after it.
func (s *stage) watchChange(ctx context.Context, l *load, ch *client.Change, words string, voters ...uint16) error {
	s.say("%s", words)
	ended := make(chan error, 1)
	go func() {
		_, err := s.client.Change(ctx, ch, 0, nil)
		ended <- err
	}()
	held, err := s.waitMembers(ctx, "phase "+client.PhaseName(ch.HoldPhase), func(m *local.Membership) bool { return m.Phase == ch.HoldPhase })
	if err != nil {
		return err
	}
	s.say("held: %s", tell(&held))
	if err := l.waitMore(ctx, 100); err != nil {
		return err
	}
	again, err := local.Ask(ctx, s.client)
	if err != nil || again.Phase != ch.HoldPhase {
		return fmt.Errorf("after 100 requests the change is in phase %s, %v: want it held in %s", client.PhaseName(again.Phase), err, client.PhaseName(ch.HoldPhase))
	}
	s.say("100 more puts and gets were served in this phase")
	if err := <-ended; err != nil {
		return err
	}
	after, err := s.waitMembers(ctx, fmt.Sprintf("voters %v", voters), func(m *local.Membership) bool {
		return m.Phase == wire.PhaseStable && slices.Equal(m.Voters, voters)
	})
	if err != nil {
		return err
	}
	s.say("done: %s", tell(&after))
	return l.waitMore(ctx, 50)
}

// waitMembers asks until the membership is as wanted.
func (s *stage) waitMembers(ctx context.Context, what string, wanted func(*local.Membership) bool) (local.Membership, error) {
	var last local.Membership
	for {
		view, err := local.Ask(ctx, s.client)
		if err == nil && len(view.Voters) > 0 {
			last = view.Membership
			if wanted(&last) {
				return last, nil
			}
		}
		if err := rest(ctx); err != nil {
			return last, fmt.Errorf("waiting for %s, seen %s: %w", what, tell(&last), err)
		}
	}
}

func tell(m *local.Membership) string {
	text := fmt.Sprintf("%s, voters %v", client.PhaseName(m.Phase), m.Voters)
	if m.Joint {
		text += fmt.Sprintf(", old voters %v", m.OldVoters)
	}
	if len(m.Learners) > 0 {
		text += fmt.Sprintf(", learners %v", m.Learners)
	}
	return text
}

func ids(all ...uint16) []wire.Server {
	var servers []wire.Server
	for _, id := range all {
		servers = append(servers, wire.Server{ID: id})
	}
	return servers
}

// joint lets a majority of the old servers die while the cluster is between two sets: a majority of the new ones alone
// may decide nothing, or the old ones could decide otherwise.
func joint(ctx context.Context, s *stage) error {
	leader, _, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	if err := s.putMany(ctx, "before", 50); err != nil {
		return err
	}
	s.say("server %d leads servers 1, 2 and 3; member set 1,2,3,4,5 --hold joint=60s", leader.ID)
	ch := client.Change{Verb: wire.VerbSet, Servers: ids(1, 2, 3, 4, 5), HoldPhase: wire.PhaseJoint, Hold: time.Minute, Detach: true}
	if _, err := s.client.Change(ctx, &ch, 0, nil); err != nil {
		return err
	}
	held, err := s.waitMembers(ctx, "phase joint", func(m *local.Membership) bool { return m.Joint })
	if err != nil {
		return err
	}
	s.say("held: %s", tell(&held))
	if err := s.putMany(ctx, "joint", 50); err != nil {
		return err
	}
	s.say("50 puts acknowledged by a majority of the old and one of the new servers")
	for _, server := range s.cluster.Servers()[:3] {
		if server != leader {
			if err := s.crash(server, "one of the old three"); err != nil {
				return err
			}
		}
	}
	if err := s.nothingDecided(ctx); err != nil {
		return err
	}
	for _, server := range s.cluster.Servers()[:3] {
		if !server.Running() {
			if err := s.restart(ctx, server); err != nil {
				return err
			}
		}
	}
	done, err := s.waitMembers(ctx, "voters 1 to 5", func(m *local.Membership) bool {
		return m.Phase == wire.PhaseStable && len(m.Voters) == 5
	})
	if err != nil {
		return err
	}
	s.say("the change was carried on and completed: %s", tell(&done))
	if err := s.putMany(ctx, "after", 20); err != nil {
		return err
	}
	return s.checkAll(ctx)
}

// nothingDecided wants that puts and gets end without effect and that the change stays where it is.
func (s *stage) nothingDecided(ctx context.Context) error {
	const patience = 1200 * time.Millisecond
	blocked, cancel := context.WithTimeout(ctx, patience)
	err := s.put(blocked, "blocked", "the new servers alone may not acknowledge this")
	cancel()
	switch {
	case err == nil:
		return errors.New("a put was acknowledged without a majority of the old servers")
	case errors.Is(err, client.ErrUnknown):
		s.say("a put ended after %v with outcome unknown (6): three of the new five live, but one of the old three", patience)
	case errors.Is(err, client.ErrNotApplied):
		s.say("a put ended after %v as not applied (5): three of the new five live, but one of the old three", patience)
	default:
		return fmt.Errorf("put without a majority of the old servers: got %w, want not applied or unknown", err)
	}
	reading, cancel := context.WithTimeout(ctx, patience/3)
	_, err = s.client.Get(reading, []byte("before-000"))
	cancel()
	if !errors.Is(err, client.ErrNotApplied) {
		return fmt.Errorf("get without a majority of the old servers: got %v, want not applied", err)
	}
	view, err := local.Ask(ctx, s.client)
	if err != nil || !view.Joint {
		return fmt.Errorf("without a majority of the old servers the membership is %s (%v), want it joint", tell(&view.Membership), err)
	}
	s.say("a get is refused too, and the change is where it was: %s", tell(&view.Membership))
	return nil
}

// remove has a leader take itself out of the cluster.
func remove(ctx context.Context, s *stage) error {
	leader, term, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	if err := s.putMany(ctx, "before", 50); err != nil {
		return err
	}
	l, err := s.startLoad(ctx)
	if err != nil {
		return err
	}
	defer l.stop()
	if err := l.waitMore(ctx, 100); err != nil {
		return err
	}
	s.say("server %d leads term %d and is told to remove itself: member remove %d --hold joint=2.5s", leader.ID, term, leader.ID)
	ch := client.Change{Verb: wire.VerbRemove, Servers: ids(leader.ID), HoldPhase: wire.PhaseJoint, Hold: holdPhase}
	var others []uint16
	for _, server := range s.cluster.Servers() {
		if server != leader {
			others = append(others, server.ID)
		}
	}
	if err := s.watchChange(ctx, l, &ch, "it leads on while it leaves", others...); err != nil {
		return err
	}
	next, nextTerm, err := s.leader(ctx, leader.ID)
	if err != nil {
		return err
	}
	s.say("server %d leads term %d", next.ID, nextTerm)
	line, err := logLine(leader, "handing leadership over")
	if err != nil {
		return fmt.Errorf("server %d left without handing leadership over: %w", leader.ID, err)
	}
	s.say("server %d said: %s", leader.ID, line)
	if err := l.waitMore(ctx, 100); err != nil {
		return err
	}
	if err := l.end(s); err != nil {
		return err
	}
	if err := s.crash(leader, "the removed one: nobody misses it"); err != nil {
		return err
	}
	return s.checkAll(ctx)
}

// short takes the time and the level off a log line.
func short(line string) string {
	if i := strings.Index(line, "msg="); i >= 0 {
		return line[i:]
	}
	return line
}
