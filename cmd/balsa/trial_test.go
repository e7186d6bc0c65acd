package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire"
)

// Trials of a cluster of processes whose membership changes under load: three servers become five and three again, then
// all three are replaced, and back. One trial has leaders killed at random points, the other none, and there no request
// may fail. `make trial` runs more rounds.

var (
	trialRounds = flag.Int("trial.rounds", 1, "rounds of membership changes in each trial")
	trialSeed   = flag.Uint64("trial.seed", 0, "seed of a trial's choices (0: a new one, which is told)")
)

const (
	trialPatience  = 2 * time.Minute // for a round
	changePatience = 90 * time.Second
)

// trial is a cluster of six servers, three of them voters, under load.
type trial struct {
	t       *testing.T
	ctx     context.Context
	servers *local.Cluster
	client  *client.Client
	load    *traffic
	random  *rand.Rand
}

// startCluster runs servers as processes until the test ends; their logs are told if it failed.
func startCluster(t *testing.T, ctx context.Context, o local.Options) *local.Cluster {
	t.Helper()
	var err error
	if o.Binary, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	servers, err := local.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			tellLogs(t, servers)
		}
	})
	return servers
}

// clientOf is a client of these addresses until the test ends.
func clientOf(t *testing.T, timeout time.Duration, addrs ...string) *client.Client {
	t.Helper()
	c, err := client.Open(client.Config{Addrs: addrs, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func startTrial(t *testing.T) *trial {
	t.Helper()
	seed := *trialSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: go test ./cmd/balsa -run '%s$' -trial.seed %d -trial.rounds %d", seed, t.Name(), seed, *trialRounds)
	ctx, cancel := context.WithTimeout(t.Context(), trialPatience*time.Duration(*trialRounds))
	t.Cleanup(cancel)
	r := &trial{t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0))}
	r.servers = startCluster(t, ctx, local.Options{Nodes: 3, Spares: 3, Serve: []string{"--chaos"}})
	r.client = clientOf(t, changePatience, r.servers.Addrs()...)
	if err := waitLeader(ctx, r.client); err != nil {
		t.Fatal(err)
	}
	r.load = startTraffic(t, ctx, r.servers)
	r.load.waitMore(t, ctx, 100)
	return r
}

// ask asks for one change, and again when it was refused for a reason that passes.
func (r *trial) ask(ch client.Change, forgive ...string) error {
	for {
		_, err := r.client.Change(r.ctx, &ch, changePatience, nil)
		if err == nil || r.ctx.Err() != nil {
			return err
		}
		passes := false
		for _, text := range forgive {
			passes = passes || errors.Is(err, client.ErrNotApplied) && strings.Contains(err.Error(), text)
		}
		if !passes {
			return err
		}
		r.t.Logf("asked again: %v", err)
		time.Sleep(50 * time.Millisecond)
	}
}

func theServers(ids ...uint16) (servers []wire.Server) {
	for _, id := range ids {
		servers = append(servers, wire.Server{ID: id})
	}
	return servers
}

// steps are a round: from voters 1, 2, 3 to five, to three, to the other three, and back.
func steps() []client.Change {
	return []client.Change{
		{Verb: wire.VerbAdd, Servers: theServers(4, 5)},
		{Verb: wire.VerbRemove, Servers: theServers(1, 4)},
		{Verb: wire.VerbSet, Servers: theServers(1, 4, 6)},
		{Verb: wire.VerbSet, Servers: theServers(1, 2, 3)},
	}
}

func TestMembershipChangesFailNoRequest(t *testing.T) {
	r := startTrial(t)
	for range *trialRounds {
		for _, ch := range steps() {
			if err := r.ask(ch); err != nil {
				t.Fatalf("%s: %v", tellChange(&ch), err)
			}
			r.load.waitMore(t, r.ctx, 100)
			r.transfer()
			r.load.waitMore(t, r.ctx, 100)
		}
	}
	r.load.judge(t)
	r.load.wantNoneFailed(t)
}

// transfer hands leadership to a voter chosen at random.
func (r *trial) transfer() {
	r.t.Helper()
	view, err := local.Ask(r.ctx, r.client)
	if err != nil || len(view.Voters) == 0 {
		r.t.Fatalf("who votes: %+v, %v", view, err)
	}
	to := view.Voters[r.random.IntN(len(view.Voters))]
	if err := r.ask(client.Change{Verb: wire.VerbTransfer, Servers: theServers(to)}); err != nil {
		r.t.Fatalf("transfer %d: %v", to, err)
	}
}

func TestMembershipChangesSurviveKilledLeaders(t *testing.T) {
	r := startTrial(t)
	for range *trialRounds {
		for _, ch := range steps() {
			if r.random.IntN(2) == 0 { // slowed down, so that it is met in the middle
				ch.HoldPhase = []uint8{wire.PhaseLearner, wire.PhaseJoint}[r.random.IntN(2)]
				ch.Hold = time.Duration(r.random.IntN(400)) * time.Millisecond
			}
			ended := make(chan error, 1)
			go func() {
				ended <- r.ask(ch, "does not answer", "no quorum", "being prepared") // the server that it needs was killed a moment ago
			}()
			for range 1 + r.random.IntN(2) {
				time.Sleep(time.Duration(r.random.IntN(300)) * time.Millisecond)
				r.killLeader()
			}
			if err := <-ended; err != nil {
				t.Fatalf("%s: %v", tellChange(&ch), err)
			}
			r.load.waitMore(t, r.ctx, 50)
		}
	}
	r.load.judge(t)
}

// killLeader kills whoever leads, and starts it again.
func (r *trial) killLeader() {
	r.t.Helper()
	victim := leader(r.t, r.ctx, r.servers, r.client)
	if err := victim.Kill(); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(time.Duration(r.random.IntN(200)) * time.Millisecond)
	if err := victim.Start(); err != nil {
		r.t.Fatal(err)
	}
	if err := victim.WaitReady(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("server %d was killed while it led", victim.ID)
}

func tellChange(ch *client.Change) string {
	text := map[uint8]string{wire.VerbAdd: "add", wire.VerbRemove: "remove", wire.VerbSet: "set", wire.VerbReplace: "replace"}[ch.Verb]
	for _, s := range ch.Servers {
		text += fmt.Sprintf(" %d", s.ID)
	}
	if ch.Hold > 0 {
		text += fmt.Sprintf(" held %s for %v", client.PhaseName(ch.HoldPhase), ch.Hold)
	}
	return "member " + text
}
