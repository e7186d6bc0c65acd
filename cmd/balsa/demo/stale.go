package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/wire"
)

// refusalPatience is how long the line of a refused vote is looked for.
const refusalPatience = 3 * time.Second

// stale lets a server that missed writes ask for votes. The only one it can ask has them, and must refuse.
func stale(ctx context.Context, s *stage) error {
	leader, term, err := s.leader(ctx, 0)
	if err != nil {
		return err
	}
	late, err := s.follower(leader)
	if err != nil {
		return err
	}
	if err := s.putMany(ctx, "all three", 20); err != nil {
		return err
	}
	if err := s.crash(late, "so it misses what comes now"); err != nil {
		return err
	}
	if err := s.putMany(ctx, "while it was away", 100); err != nil {
		return err
	}
	s.say("100 puts acknowledged by the other two, in term %d", term)
	voter, err := s.follower(leader)
	if err != nil {
		return err
	}
	if err := s.crash(leader, "the leader"); err != nil {
		return err
	}
	voter.Pause()
	s.say("server %d, which has all of them, is stopped for a moment (SIGSTOP), so that server %d asks first", voter.ID, late.ID)
	if err := s.restart(ctx, late); err != nil {
		return err
	}
	if err := s.waitAsking(ctx, late); err != nil {
		return err
	}
	s.say("server %d hears no leader and asks for votes; server %d goes on (SIGCONT)", late.ID, voter.ID)
	voter.Resume()
	line, err := s.refusal(ctx, voter, late)
	if err != nil {
		return err
	}
	s.say("server %d said: %s", voter.ID, line)
	next, nextTerm, err := s.leader(ctx, leader.ID)
	if err != nil {
		return err
	}
	if next != voter {
		return fmt.Errorf("server %d leads term %d, want server %d, which has every acknowledged value", next.ID, nextTerm, voter.ID)
	}
	s.say("server %d leads term %d instead, and brings server %d up to date", next.ID, nextTerm, late.ID)
	return s.checkAll(ctx)
}

// waitAsking returns when the server asks for votes.
func (s *stage) waitAsking(ctx context.Context, server *local.Server) error {
	for {
		status, err := s.client.Status(ctx)
		if err == nil {
			for _, r := range status.Rows {
				if r.ID == server.ID && r.Alive && (r.Role == wire.RolePreCandidate || r.Role == wire.RoleCandidate) {
					return nil
				}
			}
		}
		if err := rest(ctx); err != nil {
			return fmt.Errorf("server %d does not ask for votes: %w", server.ID, err)
		}
	}
}

// refusal waits for the voter's line about the vote it refused.
func (s *stage) refusal(ctx context.Context, voter, asker *local.Server) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, refusalPatience)
	defer cancel()
	for {
		if view, err := local.Ask(ctx, s.client); err == nil && view.Leader == asker.ID {
			return "", fmt.Errorf("server %d leads term %d, though its log lacks acknowledged values", asker.ID, view.Term)
		}
		line, err := logLine(voter, `msg="vote refused"`, fmt.Sprintf(" from=%d ", asker.ID), `reason="its log is behind"`)
		if err == nil {
			return line, nil
		}
		if rest(ctx) != nil {
			return "", fmt.Errorf("server %d did not refuse server %d its vote within %v: %w", voter.ID, asker.ID, refusalPatience, err)
		}
	}
}

var errNoLine = errors.New("no such line in its log")

// logLine finds the first line of a server's log that holds all the texts.
func logLine(server *local.Server, texts ...string) (string, error) {
	log, err := os.ReadFile(server.Log)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(log)) {
		found := true
		for _, t := range texts {
			found = found && strings.Contains(line, t)
		}
		if found {
			return short(strings.TrimRight(line, "\n")), nil
		}
	}
	return "", errNoLine
}
