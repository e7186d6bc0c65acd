package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"balsa/wire"
)

func (f *fakeCluster) memberChange(s *fakeServer, p []byte) {
	var q wire.MemberChange
	if q.Decode(p) != nil {
		f.t.Fatal("member change")
	}
	r := wire.MemberChangeReply{Nonce: q.Nonce, Operation: q.Operation, Term: s.term, Outcome: wire.OutcomeNotLeader}
	if f.leader != nil {
		r.Leader = f.leader.id
	}
	if s.leads && f.member == nil {
		return
	}
	if s.leads {
		f.member(s, &q, &r)
	}
	f.frame(s, wire.KindMemberReply, r.Size(), r.Encode)
}

// ask submits a change at once and gathers all news of it.
func (f *fakeCluster) ask(ch Change, deadline int64) *[]ChangeTold {
	var all []ChangeTold
	f.core.Change(f.now, &ch, deadline, 7)
	var gather func()
	gather = func() {
		all = append(all, f.core.Told()...)
		f.after(ms, gather)
	}
	f.after(0, gather)
	return &all
}

func last(t *testing.T, told []ChangeTold) ChangeTold {
	t.Helper()
	if len(told) == 0 || !told[len(told)-1].Ended {
		t.Fatalf("the change did not end: %+v", told)
	}
	for _, n := range told[:len(told)-1] {
		if n.Ended {
			t.Fatalf("it ended twice: %+v", told)
		}
	}
	return told[len(told)-1]
}

// TestAChangeIsRepeatedUnderOneIDUntilItIsOver: over a network that loses, repeats and reorders, and over changes of
// leader, every request carries the same operation, and progress is told once a phase.
func TestAChangeIsRepeatedUnderOneIDUntilItIsOver(t *testing.T) {
	for seed := range uint64(50) {
		f := newCluster(t, seed, CoreConfig{})
		f.faults, f.lossy = true, 0.2
		ids := map[uint64]bool{}
		began := int64(-1)
		f.member = func(s *fakeServer, q *wire.MemberChange, r *wire.MemberChangeReply) {
			named, err := wire.DecodeServers(q.Servers)
			if err != nil || q.Verb != wire.VerbAdd || !slices.Equal(named, []wire.Server{{ID: 4}, {ID: 7, Addr: "127.0.0.1:7107"}}) {
				t.Fatalf("seed %d: got verb %d, servers %v, %v", seed, q.Verb, named, err)
			}
			ids[q.Operation] = true
			if began < 0 {
				began = f.now
			}
			r.Leader = s.id
			switch since := f.now - began; {
			case since < 500*ms:
				r.Outcome, r.Phase = wire.OutcomeBegun, wire.PhaseLearner
			case since < 1000*ms:
				r.Outcome, r.Phase = wire.OutcomeBegun, wire.PhaseJoint
			default:
				r.Outcome, r.Index = wire.OutcomeDone, 99
			}
		}
		told := f.ask(Change{Verb: wire.VerbAdd, Servers: []wire.Server{{ID: 4}, {ID: 7, Addr: "127.0.0.1:7107"}}}, 20000*ms)
		f.after(300*ms, func() { f.lead(f.servers[1]) })
		f.after(700*ms, func() { f.lead(f.servers[2]) })
		f.run(6000 * ms)
		end := last(t, *told)
		if end.Err != nil || end.Outcome != Applied || !end.Answer.Over || end.Answer.Index != 99 || !ids[end.Answer.Operation] || len(ids) != 1 {
			t.Fatalf("seed %d: ended with %+v, operations %v", seed, end, ids)
		}
	}
}

func TestHowAChangeEnds(t *testing.T) {
	answer := func(outcome, phase uint8, leader uint16, text string) func(*fakeServer, *wire.MemberChange, *wire.MemberChangeReply) {
		return func(s *fakeServer, _ *wire.MemberChange, r *wire.MemberChangeReply) {
			r.Outcome, r.Phase, r.Text, r.Leader = outcome, phase, []byte(text), s.id
			if leader != 0 {
				r.Leader = leader
			}
		}
	}
	add := Change{Verb: wire.VerbAdd, Servers: []wire.Server{{ID: 4}}}
	dry, detached := add, add
	dry.DryRun, detached.Detach = true, true
	transfer := Change{Verb: wire.VerbTransfer, Servers: []wire.Server{{ID: 1}}}
	elsewhere := Change{Verb: wire.VerbTransfer, Servers: []wire.Server{{ID: 2}}}
	for _, c := range []struct {
		name   string
		change Change
		member func(*fakeServer, *wire.MemberChange, *wire.MemberChangeReply)
		kind   error
		text   string
	}{
		{"refused", add, answer(wire.OutcomeRefused, 0, 0, "servers 4, 5 do not answer"), ErrNotApplied, "member add: not applied: servers 4, 5 do not answer"},
		{"goes on", add, answer(wire.OutcomeBegun, wire.PhaseLearner, 0, ""), ErrUnknown, "it goes on (learner): balsa member list shows it"},
		{"detached", detached, answer(wire.OutcomeBegun, wire.PhaseLearner, 0, ""), nil, ""},
		{"detached, still being prepared", detached, answer(wire.OutcomeBegun, wire.PhaseStable, 0, ""), ErrUnknown, "it goes on"},
		{"a plan", dry, answer(wire.OutcomePlan, 0, 0, "old 1,2,3"), nil, ""},
		{"canceled", Change{Verb: wire.VerbCancel}, answer(wire.OutcomeBegun, wire.PhaseStable, 0, ""), nil, ""},
		{"nothing to cancel", Change{Verb: wire.VerbCancel}, answer(wire.OutcomeRefused, wire.PhaseStable, 0, "no change is under way"), ErrNotApplied, "member cancel: not applied: no change"},
		{"leads already", transfer, answer(wire.OutcomeBegun, 0, 0, ""), nil, ""},
		{"never leads", elsewhere, answer(wire.OutcomeBegun, 0, 1, ""), ErrUnknown, "server 2 does not lead after 1s"},
	} {
		f := newCluster(t, 1, CoreConfig{})
		f.member = c.member
		told := f.ask(c.change, 1000*ms)
		f.run(1500 * ms)
		end := last(t, *told)
		if c.kind == nil && end.Err != nil || c.kind != nil && (!errors.Is(end.Err, c.kind) || !strings.Contains(end.Err.Error(), c.text)) {
			t.Errorf("%s: got %v, want %v: %q", c.name, end.Err, c.kind, c.text)
		}
		if c.name == "a plan" && end.Answer.Text != "old 1,2,3" {
			t.Errorf("the plan: got %q", end.Answer.Text)
		}
	}
}

func TestATransferIsOverWhenTheNamedServerLeads(t *testing.T) {
	f := newCluster(t, 3, CoreConfig{})
	f.member = func(s *fakeServer, _ *wire.MemberChange, r *wire.MemberChangeReply) {
		r.Outcome, r.Leader = wire.OutcomeBegun, s.id
	}
	told := f.ask(Change{Verb: wire.VerbTransfer, Servers: []wire.Server{{ID: 3}}}, 5000*ms)
	f.after(200*ms, func() {
		if slices.ContainsFunc(*told, func(n ChangeTold) bool { return n.Ended }) {
			t.Error("it was over before server 3 led")
		}
		f.lead(f.servers[2])
	})
	f.run(2000 * ms)
	if end := last(t, *told); end.Err != nil || end.Answer.Leader != 3 {
		t.Errorf("ended with %+v", end)
	}
}

// TestNothingIsUnknownOfAChangeThatWasNeverSent, nor of a dry run.
func TestNothingIsUnknownOfAChangeThatWasNeverSent(t *testing.T) {
	f := newCluster(t, 4, CoreConfig{})
	f.leader.leads, f.leader = false, nil
	told := f.ask(Change{Verb: wire.VerbSet, Servers: []wire.Server{{ID: 1}}}, 800*ms)
	f.run(1000 * ms)
	if end := last(t, *told); !errors.Is(end.Err, ErrNotApplied) || !strings.Contains(end.Err.Error(), "member set: not applied: no leader among 3 servers") {
		t.Errorf("without a leader: %v", end.Err)
	}
	for _, dry := range []bool{false, true} {
		f = newCluster(t, 5, CoreConfig{}) // its leader takes the requests and says nothing
		told = f.ask(Change{Verb: wire.VerbSet, DryRun: dry, Servers: []wire.Server{{ID: 1}}}, 800*ms)
		f.run(1000 * ms)
		kind, text := ErrUnknown, "no answer in 800ms; if it has begun it goes on"
		if dry {
			kind, text = ErrNotApplied, "did not answer in 800ms"
		}
		if end := last(t, *told); !errors.Is(end.Err, kind) || !strings.Contains(end.Err.Error(), text) {
			t.Errorf("dry run %v, sent and not answered: %v", dry, end.Err)
		}
	}
}

// TestAChangeOverASocket: the shell tells progress, and its context ends the asking.
func TestAChangeOverASocket(t *testing.T) {
	s := startLone(t, false)
	c := open(t, 10*time.Second, s.addr())
	var phases []string
	a, err := c.Change(t.Context(), &Change{Verb: wire.VerbAdd, Servers: []wire.Server{{ID: 4}}}, 0, func(a ChangeAnswer) {
		phases = append(phases, PhaseName(a.Phase))
	})
	if err != nil || !a.Over || a.Leader != 1 || a.Index != 9 || fmt.Sprint(phases) != "[learner joint]" {
		t.Fatalf("got %+v, %v, phases %v", a, err, phases)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Change(ctx, &Change{Verb: wire.VerbRemove, Servers: []wire.Server{{ID: 4}}}, 0, func(ChangeAnswer) { cancel() })
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled under way: %v", err)
	}
	_, err = c.Change(t.Context(), &Change{Verb: wire.VerbRemove, Servers: []wire.Server{{ID: 4}}}, 50*time.Millisecond, nil)
	if !errors.Is(err, ErrUnknown) {
		t.Errorf("its time was over: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err = c.Change(t.Context(), &Change{Verb: wire.VerbCancel}, 0, nil); !errors.Is(err, ErrNotApplied) || !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
