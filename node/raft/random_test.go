package raft

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

var (
	seeds     = flag.Int("seeds", 300, "how many random runs")
	firstSeed = flag.Uint64("first", 1, "the first of them")
)

// chaos runs a world by chance: a network that loses, repeats, reorders and delays, links that are cut one way, slow
// syncs, crashes that keep some of what was written, rot, and changes of the configuration.
type chaos struct {
	*world
	rng     *rand.Rand
	events  []event
	loss    float64
	dup     float64
	delay   int64
	slow    int64
	cut     map[[2]uint16]bool
	noFault bool
	rotten  uint16 // the one server whose disk may rot

	byOperations bool // configurations change by operations only
	met          churn
}

type event struct {
	at  int64
	net bool
	p   packet
	h   *host
	b   uint64 // boot of the host that waits for a sync
}

func newChaos(seed uint64) *chaos {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := []int{1, 2, 3, 3, 3, 5}[rng.IntN(6)]
	var ids, first []uint16
	for i := 1; i <= n+rng.IntN(3); i++ {
		ids = append(ids, uint16(i))
	}
	first = ids[:n]
	cfg := Config{Timeout: 100 * msec, Heartbeat: 10 * msec, Resend: 20 * msec, WindowBytes: 1500, UncommittedBytes: 4000, ProbeBytes: 300}
	cfg.HeldEntries = []int{0, 2, 7, 0, -1}[seed%5]
	c := &chaos{rng: rng, cut: map[[2]uint16]bool{}}
	founding := voters(first...)
	if founding.Leases = seed%3 == 0; founding.Leases {
		cfg.LargestTimeout = 120 * msec
	}
	c.world = newWorld(seed, cfg, founding, ids...)
	c.chunk = 1 + rng.Uint64N(5)
	c.loss, c.dup = rng.Float64()*0.2, rng.Float64()*0.2
	c.delay = 1 + rng.Int64N(30*msec)
	c.slow = 1 + rng.Int64N(15*msec)
	c.rotten = ids[rng.IntN(len(ids))]
	c.byOperations, c.met.phases = seed%2 == 0, map[string]int{}
	return c
}

// flush moves what the cores sent onto the wires, and starts the syncs.
func (c *chaos) flush() {
	for _, p := range c.net {
		copies := 1
		if !c.noFault {
			if c.cut[[2]uint16{p.From, p.To}] || c.rng.Float64() < c.loss {
				copies = 0
			} else if c.rng.Float64() < c.dup {
				copies = 2
			}
		}
		for ; copies > 0; copies-- {
			c.events = append(c.events, event{at: c.now + 1 + c.rng.Int64N(c.delay), net: true, p: p})
		}
	}
	c.net = c.net[:0]
	for _, h := range c.hosts {
		if h.up && len(h.batches) > 0 && !slices.ContainsFunc(c.events, func(e event) bool { return e.h == h && e.b == h.boot }) {
			c.events = append(c.events, event{at: c.now + 1 + c.rng.Int64N(c.slow), h: h, b: h.boot})
		}
	}
}

// step runs the next thing that is due: a packet, a sync or a deadline.
func (c *chaos) step() {
	c.flush()
	at, which := Never, -1
	for i, e := range c.events {
		if e.at < at {
			at, which = e.at, i
		}
	}
	var due *host
	for _, h := range c.hosts {
		if h.up && h.core.Deadline() < at {
			at, due = h.core.Deadline(), h
		}
	}
	if at == Never {
		c.now += msec
		return
	}
	c.now = max(c.now, at)
	if due != nil {
		before := due.core.Deadline()
		due.core.Tick(c.now)
		c.take(due)
		if due.core.Deadline() <= before && before <= c.now && due.core.Deadline() <= c.now {
			fail("the deadline of %d stays at %d", due.id, before)
		}
		return
	}
	e := c.events[which]
	c.events = slices.Delete(c.events, which, which+1)
	if e.net {
		c.refuse(e.p)
		c.deliver(e.p)
	} else if e.h.up && e.h.boot == e.b {
		c.sync(e.h)
	}
}

// refuse answers what was sent to a dead process as its kernel would, mostly.
func (c *chaos) refuse(p packet) {
	to, by := c.host(p.To), c.host(p.From)
	if to != nil && !to.up && by.up && c.byOperations && c.rng.IntN(4) > 0 {
		by.core.Refused(c.now, p.To)
		c.take(by)
	}
}

// disturb does one thing that a client, an operator or fate does.
func (c *chaos) disturb() {
	h := c.hosts[c.rng.IntN(len(c.hosts))]
	switch k := c.rng.IntN(100); {
	case k < 40:
		if l := c.leader(); l != nil {
			c.propose(l, Entry{Kind: Commands})
		}
	case k < 60:
		for _, l := range c.hosts { // also those that only believe to lead
			if l.up && l.core.Role() == Leader {
				c.read(l)
			}
		}
	case k < 70:
		c.cut[[2]uint16{h.id, c.hosts[c.rng.IntN(len(c.hosts))].id}] = true
	case k < 78:
		clear(c.cut)
	case k < 83:
		if h.up {
			c.crash(h, c.rng.IntN(len(h.batches)+1))
			c.rot(h)
		}
	case k < 91:
		if !h.up {
			c.start(h)
		}
	case k < 93:
		if h.up { // a process that dies and comes back at once
			c.crash(h, c.rng.IntN(len(h.batches)+1))
			c.rot(h)
			c.start(h)
		}
	case k < 96 && c.byOperations:
		c.disturbChurn()
	case k < 96:
		c.reconfigure()
	case k < 97:
		for _, g := range c.hosts { // a power cut
			if g.up {
				c.crash(g, c.rng.IntN(len(g.batches)+1))
			}
			c.start(g)
		}
	case k < 98:
		if h.up {
			h.core.Tick(c.now)
			c.take(h)
		}
	}
}

// rot damages entries of the one server that may rot; with the others whole, everything can be had again.
func (c *chaos) rot(h *host) {
	if h.id != c.rotten || len(h.disk) == 0 || c.rng.IntN(3) > 0 {
		return
	}
	h.disk = slices.Clone(h.disk)
	for range 1 + c.rng.IntN(3) {
		// Entries that everyone has: rot must not take the last copy of anything.
		if i := c.rng.IntN(len(h.disk)); c.elsewhere(h, i) {
			h.disk[i].damaged = true
		}
	}
}

func (c *chaos) elsewhere(h *host, i int) bool {
	for _, g := range c.hosts {
		if g != h && (len(g.disk) <= i || g.disk[i].Term != h.disk[i].Term) && h.core == nil {
			if c.founding.member(g.id) != nil {
				return false
			}
		}
	}
	return len(c.hosts) > 1
}

// reconfigure takes the next step of a change, or begins one: joint, then new; sets drawn at random.
func (c *chaos) reconfigure() {
	l := c.leader()
	if l == nil {
		return
	}
	now := l.core.inForce().Configuration
	k := Configuration{Leases: now.Leases}
	if len(now.Old) > 0 {
		for _, m := range now.Members {
			if m.Voter {
				k.Members = append(k.Members, m)
			}
		}
		for _, h := range c.hosts { // the others go on as learners
			if k.member(h.id) == nil && c.rng.IntN(2) == 0 {
				k.Members = append(k.Members, Member{h.id, h.incarnation, false})
			}
		}
	} else {
		for _, m := range now.Members {
			if m.Voter {
				k.Old = append(k.Old, m.ID)
			}
		}
		for _, h := range c.hosts {
			k.Members = append(k.Members, Member{h.id, h.incarnation, c.rng.IntN(3) > 0})
		}
	}
	if k.valid() {
		c.propose(l, Entry{Kind: Configuring, Config: &k})
	}
}

// heal ends all faults, and asks for liveness: a leader, a commit, the same log everywhere that counts.
func (c *chaos) heal() error {
	clear(c.cut)
	c.noFault, c.delay, c.slow = true, msec, msec
	for _, h := range c.hosts {
		if !h.up {
			c.start(h)
		}
	}
	until, proposed := c.now+60*c.config.Timeout, 0
	for c.now < until {
		c.step()
		l := c.leader()
		if l == nil {
			continue
		}
		c.bringBack(l)
		if k := l.core.inForce(); len(k.Old) > 0 && k.Target == nil && l.core.mayChange() {
			c.reconfigure()
		}
		if c.now < until-30*c.config.Timeout {
			continue
		}
		if c.now < until-15*c.config.Timeout && proposed < 100 {
			proposed++
			c.propose(l, Entry{Kind: Commands})
		}
	}
	l := c.leader()
	if l == nil {
		for _, h := range c.hosts {
			if h.core.damage.any() { // it may hold the newest log, and no one else may lead then
				return nil
			}
		}
		for _, h := range c.hosts {
			fmt.Printf("%d: %+v\n   log %s\n", h.id, h.core.Status(), describeLog(h.log))
		}
		return fmt.Errorf("no leader")
	}
	if k := l.core.inForce(); k.Phase() != PhaseStable && k.Operation != 0 {
		return fmt.Errorf("the change is stuck: %+v", l.core.Progress())
	}
	if l.core.commit < uint64(len(l.log)) {
		return fmt.Errorf("commit %d of %d", l.core.commit, len(l.log))
	}
	for _, m := range l.core.inForce().Members {
		if h := c.host(m.ID); h.core.commit < l.core.commit || h.core.damage.any() {
			return fmt.Errorf("server %d is behind: commit %d of %d, damage %v", h.id, h.core.commit, l.core.commit, h.core.damage.ranges)
		}
	}
	served := c.served
	if err := c.read(l); err != nil {
		return err
	}
	for until := c.now + 5*c.config.Timeout; c.now < until && c.served == served; {
		c.step()
	}
	if c.served == served {
		return fmt.Errorf("a read is not served")
	}
	return nil
}

func runSeed(seed uint64) (leased uint64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	c := newChaos(seed)
	c.run()
	err = c.heal()
	for _, h := range c.hosts {
		if h.up {
			c.leased += h.core.LeaseReads()
		}
	}
	return c.leased, err
}

func (c *chaos) run() {
	for range 1500 {
		for range c.rng.IntN(8) {
			c.step()
		}
		c.disturb()
		if c.byOperations && c.rng.IntN(10) == 0 {
			c.disturbChurn()
		}
	}
}

func TestSafetyUnderChaos(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = 50
	}
	var leased uint64
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		served, err := runSeed(seed)
		if err != nil {
			t.Errorf("seed %d: %v (go test -run Chaos -first %d -seeds 1)", seed, err, seed)
		}
		leased += served
	}
	if n >= 50 && leased == 0 {
		t.Errorf("no read was served by a lease in %d runs", n)
	}
}
