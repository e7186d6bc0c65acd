package raft

import (
	"errors"
	"slices"
	"testing"
)

// Membership churn for the random runs: whole operations, servers wiped and brought back under a new incarnation,
// leaders killed in each phase, cancels, holds, transfers, hints true and forged, reads at followers.

// overlap checks that every quorum of a meets every quorum of b: then no two leaders can decide apart.
func overlap(a, b *Configuration) bool {
	var all []uint64 // incarnations, which tell servers apart better than ids
	for _, m := range slices.Concat(a.Members, b.Members) {
		if !slices.Contains(all, m.Incarnation) {
			all = append(all, m.Incarnation)
		}
	}
	for set := range uint64(1) << len(all) {
		in := func(incarnation uint64) bool { return set>>slices.Index(all, incarnation)&1 == 1 }
		out := func(incarnation uint64) bool { return !in(incarnation) }
		if a.decides(in) && b.decides(out) {
			return false
		}
	}
	return true
}

// decides is counted apart from the core's own counting.
func (k *Configuration) decides(yes func(incarnation uint64) bool) bool {
	voters, agree, old, oldAgree := 0, 0, 0, 0
	for _, m := range k.Members {
		if m.Voter {
			voters++
			if yes(m.Incarnation) {
				agree++
			}
		}
		if slices.Contains(k.Old, m.ID) {
			old++
			if yes(m.Incarnation) {
				oldAgree++
			}
		}
	}
	return 2*agree > voters && (old == 0 || 2*oldAgree > old)
}

// configured is S10: a leader's new configuration may not decide apart from the one before it, and not more than one
// is uncommitted, but for a joint one and the old one that takes it back.
func (j *judge) configured(h *host, index uint64) {
	ks := h.core.configs
	i := slices.IndexFunc(ks, func(ic IndexedConfiguration) bool { return ic.Index == index })
	if i < 1 {
		fail("S10: the configuration %d of leader %d is not in force", index, h.id)
	}
	if !overlap(&ks[i-1].Configuration, &ks[i].Configuration) {
		fail("S10: leader %d goes from %+v to %+v, which may decide apart", h.id, ks[i-1], ks[i])
	}
	if ks[i-1].Index > h.core.commit && !(len(ks[i-1].Old) > 0 && ks[i-1].Index > h.core.firstOfTerm && slices.Equal(ks[i].voters(), ks[i-1].Old)) {
		fail("S10: leader %d appends configuration %d, and %d is not committed", h.id, index, ks[i-1].Index)
	}
}

// churn is the second kind of random run: configurations change by operations only.
type churn struct {
	operations uint64
	wiped      uint16 // the server that came back blank and is not replaced yet
	phases     map[string]int
}

// disturbChurn does one thing to the membership, or because of it.
func (c *chaos) disturbChurn() {
	l := c.leader()
	if l == nil {
		return
	}
	c.met.phases[l.core.Progress().Phase]++
	switch k := c.rng.IntN(20); {
	case k < 8:
		c.change(l, c.anySet())
	case k < 9:
		if err := l.core.Cancel(c.now); err == nil {
			c.met.phases["cancelled"]++
		}
		c.take(l)
	case k < 10:
		l.core.Hold([]string{PhaseLearner, PhaseJoint}[c.rng.IntN(2)], c.now+c.rng.Int64N(100*msec))
	case k < 13:
		if l.core.Progress().Phase != PhaseStable {
			c.met.phases["killed in "+l.core.Progress().Phase]++
			c.crash(l, c.rng.IntN(len(l.batches)+1))
		}
	case k < 15:
		if l.core.Transfer(c.now, c.hosts[c.rng.IntN(len(c.hosts))].id) == nil || l.core.Transfer(c.now, 0) == nil {
			c.met.phases["transfer"]++
		}
		c.take(l)
	case k < 17:
		h := c.hosts[c.rng.IntN(len(c.hosts))]
		if h.up && h != l { // forged: the leader lives
			h.core.Refused(c.now, l.id)
			c.take(h)
		}
	case k < 18:
		c.wipe(l)
	default:
		for _, h := range c.hosts {
			if h.up {
				_ = c.read(h)
			}
		}
	}
}

// anySet draws voters from all servers, under the incarnations they have now.
func (c *chaos) anySet() []Member {
	var target []Member
	for len(target) == 0 {
		for _, h := range c.hosts {
			if c.rng.IntN(2) == 0 {
				target = append(target, Member{h.id, h.incarnation, true})
			}
		}
	}
	return target
}

func (c *chaos) change(l *host, target []Member) {
	c.met.operations++
	err := l.core.Change(c.now, Change{Operation: c.met.operations, Target: target, Force: c.rng.IntN(4) == 0})
	if err != nil && !errors.Is(err, ErrPending) && !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrTransferring) && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotLeader) {
		fail("change: %v", err)
	}
	c.take(l)
	if err == nil {
		c.met.phases["begun"]++
	}
}

// wipe makes one server anew under its id. The others are a quorum of every set in force without it.
func (c *chaos) wipe(l *host) {
	k := &l.core.inForce().Configuration
	h := c.hosts[c.rng.IntN(len(c.hosts))]
	if c.met.wiped != 0 || k.Phase() != PhaseStable || !l.core.mayChange() || len(k.voters()) < 3 || h == l || h.id == c.rotten || !k.has(Member{ID: h.id, Incarnation: h.incarnation}) {
		return
	}
	if h.up {
		c.crash(h, 0)
	}
	c.judge.held[h.incarnation] = uint64(len(h.disk))
	h.incarnation, h.blank = h.incarnation+1, true
	h.log, h.disk, h.hard = nil, nil, HardState{}
	c.start(h)
	c.met.wiped = h.id
	c.met.phases["wiped"]++
	c.bringBack(l)
}

// bringBack replaces the wiped server, until that has been done.
func (c *chaos) bringBack(l *host) {
	h := c.host(c.met.wiped)
	if h == nil {
		return
	}
	k := &l.core.inForce().Configuration
	if m := k.member(h.id); m == nil || m.Incarnation == h.incarnation {
		if k.Phase() == PhaseStable && l.core.mayChange() {
			c.met.wiped = 0
		}
		return
	}
	if k.Phase() != PhaseStable {
		return
	}
	var target []Member
	for _, m := range k.Members {
		if m.ID == h.id {
			m.Incarnation = h.incarnation
		}
		target = append(target, Member{m.ID, m.Incarnation, true})
	}
	c.change(l, target)
}

// TestEachPhaseWasMet: a random run that never comes somewhere proves nothing about it.
func TestEachPhaseWasMet(t *testing.T) {
	met := map[string]int{}
	for seed := uint64(1); seed <= 60; seed++ {
		c := newChaos(seed)
		if !c.byOperations {
			continue
		}
		func() {
			defer func() { _ = recover() }() // TestSafetyUnderChaos tells of it
			c.run()
		}()
		for what, n := range c.met.phases {
			met[what] += n
		}
	}
	for _, what := range []string{PhaseStable, PhaseLearner, PhaseJoint, "begun", "cancelled", "killed in learner", "killed in joint", "transfer", "wiped"} {
		if met[what] == 0 {
			t.Errorf("never met: %s (%v)", what, met)
		}
	}
	t.Log(met)
}
