// Package demo has scenarios that show on this machine what balsa promises: each tells what happens as it happens, checks
// it, and ends with an error if it did not hold. The servers are processes of their own.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/node"
)

// Scenario is one demonstration.
type Scenario struct {
	Name  string
	About string
	play  func(ctx context.Context, s *stage) error

	spares int    // servers of the pool besides the three first voters
	broken string // what --break switches off, for people; empty: nothing to switch off
	rule   string // the servers' name of it, for serve --break; empty: the scenario itself does it
}

// Breakable says whether the protection that the scenario shows can be switched off.
func (s Scenario) Breakable() bool { return s.broken != "" }

// All are the scenarios, in the order in which `demo all` plays them.
func All() []Scenario {
	return []Scenario{
		{"basic", "put, get, the leader crashes, a minority fails, a majority off-line blocks, it recovers", basic, 0, "", ""},
		{"membership", "three servers become five and three again, slowly, and no put or get fails meanwhile", membership, 2,
			"the leader serves nobody while the membership changes", node.BreakServing},
		{"joint", "a majority of the old servers dies while a change is joint: nothing is decided until they return", joint, 2,
			"while joint, the new servers decide alone", node.BreakJoint},
		{"stale", "a server that missed writes asks for votes and is refused", stale, 0,
			"servers vote for a log that is behind", node.BreakVotes},
		{"remove", "a leader removes itself, serves until the end and hands over", remove, 0,
			"the leader tells nobody to take over", node.BreakHandOver},
		{"twice", "requests that are sent again, lost answers, a leader that dies before it answers: each is applied once", twice, 0,
			"a request that is sent again carries a fresh identity", ""},
	}
}

// Find is the scenario of this name.
func Find(name string) (Scenario, bool) {
	all := All()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// playPatience ends a scenario that hangs.
const playPatience = 2 * time.Minute

// Play starts a fresh cluster, plays the scenario on it and stops every process. out is told what happens. broken
// switches off the protection that it shows: it has to fail then.
func (s Scenario) Play(ctx context.Context, binary string, broken bool, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, playPatience)
	defer cancel()
	st := &stage{out: out, began: time.Now(), acknowledged: map[string]string{}, unsure: map[string][]string{}, broken: broken}
	st.say("%s: %s", s.Name, s.About)
	o := local.Options{Binary: binary, Nodes: 3, Spares: s.spares, Serve: []string{"--chaos"}}
	if broken {
		st.say("its protection is switched off: %s", s.broken)
		if s.rule != "" {
			o.Serve = append(o.Serve, "--break", s.rule)
		}
	}
	st.cluster, err = local.Run(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.cluster.Close()) }()
	st.client, err = client.Open(client.Config{Addrs: st.cluster.Addrs(), Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer st.client.Close()
	if err := s.play(ctx, st); err != nil {
		st.say("it did not hold: %v", err)
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	st.say("%s: held", s.Name)
	return nil
}

// stage is what a scenario plays on, and its memory of what was acknowledged.
type stage struct {
	out     io.Writer
	began   time.Time
	cluster *local.Cluster
	client  *client.Client
	broken  bool

	acknowledged map[string]string   // what every later read must give
	unsure       map[string][]string // further values a key may have: of puts whose outcome is unknown
}

// say tells one thing, with the time since the beginning.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.2fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// put writes and remembers what may be read from now on.
func (s *stage) put(ctx context.Context, key, value string) error {
	err := s.client.Put(ctx, []byte(key), []byte(value))
	switch {
	case err == nil:
		s.acknowledged[key] = value
		delete(s.unsure, key)
	case errors.Is(err, client.ErrUnknown):
		s.unsure[key] = append(s.unsure[key], value)
	}
	return err
}

// putMany writes n keys and wants every one acknowledged.
func (s *stage) putMany(ctx context.Context, prefix string, n int) error {
	for i := range n {
		key := fmt.Sprintf("%s-%03d", prefix, i)
		if err := s.put(ctx, key, "value of "+key); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	return nil
}

// checkAll reads every acknowledged key and wants its value.
func (s *stage) checkAll(ctx context.Context) error {
	for key, want := range s.acknowledged {
		got, err := s.client.Get(ctx, []byte(key))
		if err != nil {
			return fmt.Errorf("get %s: %w", key, err)
		}
		if string(got) != want && !slices.Contains(s.unsure[key], string(got)) {
			return fmt.Errorf("get %s: got %q, want %q", key, clip(string(got)), clip(want))
		}
	}
	s.say("all %d acknowledged values are there", len(s.acknowledged))
	return nil
}

// leaderPoll is the pause between two questions for a leader.
const leaderPoll = 10 * time.Millisecond

// leader waits for a leader other than the one named (0: any) and gives it with its term.
func (s *stage) leader(ctx context.Context, other uint16) (*local.Server, uint64, error) {
	for {
		asking, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		status, err := local.Ask(asking, s.client)
		cancel()
		if err == nil && status.Leader != 0 && status.Leader != other {
			server := s.cluster.Server(int(status.Leader))
			if server == nil {
				return nil, 0, fmt.Errorf("leader %d is no server of this cluster", status.Leader)
			}
			return server, status.Term, nil
		}
		select {
		case <-time.After(leaderPoll):
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("no leader: %w", ctx.Err())
		}
	}
}

// follower is a server that runs and does not lead.
func (s *stage) follower(leader *local.Server) (*local.Server, error) {
	for _, server := range s.cluster.Servers() {
		if server != leader && server.Running() {
			return server, nil
		}
	}
	return nil, errors.New("no follower runs")
}

// crash is kill -9.
func (s *stage) crash(server *local.Server, what string) error {
	pid := server.Pid()
	if err := server.Kill(); err != nil {
		return err
	}
	s.say("kill -9 of server %d (process %d), %s", server.ID, pid, what)
	return nil
}

func (s *stage) restart(ctx context.Context, server *local.Server) error {
	if err := server.Start(); err != nil {
		return err
	}
	if err := server.WaitReady(ctx); err != nil {
		return err
	}
	s.say("server %d is back (process %d)", server.ID, server.Pid())
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "..."
	}
	return s
}
