package raft

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
)

// lossy is a world whose network delays, loses and reorders, and whose leader is kept busy: what a put costs in
// messages when not all of them arrive.
type lossy struct {
	*world
	rng             *rand.Rand
	loss, late      float64 // of all packets
	due             dues
	order           int
	appends, copies int // datagrams with entries, and the entries in them
	rejects         int
}

type due struct {
	at    int64
	order int
	p     *packet // nil: a sync of host
	h     *host
}

type dues []due

func (d dues) Len() int { return len(d) }
func (d dues) Less(i, j int) bool {
	return d[i].at < d[j].at || d[i].at == d[j].at && d[i].order < d[j].order
}
func (d dues) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)   { *d = append(*d, x.(due)) }
func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

func newLossy(heldEntries int, loss, late float64) *lossy {
	cfg := Config{Timeout: 1000 * msec, Heartbeat: 10 * msec, Resend: 30 * msec, ProbeAfter: -1, HeldEntries: heldEntries}
	l := &lossy{world: newWorld(1, cfg, voters(1, 2, 3), 1, 2, 3), rng: rand.New(rand.NewPCG(1, 2)), loss: loss, late: late}
	l.chunk = 1
	for range 100 {
		if l.host(1).core.Role() == Leader {
			break
		}
		l.now = max(l.now, l.host(1).core.Deadline())
		l.host(1).core.Tick(l.now)
		l.take(l.host(1))
		for len(l.net) > 0 {
			p := l.net[0]
			l.net = l.net[1:]
			l.deliver(p)
			for _, h := range l.hosts {
				for l.sync(h) {
				}
			}
		}
	}
	return l
}

func (l *lossy) push(d due) {
	l.order++
	d.order = l.order
	heap.Push(&l.due, d)
}

// carry puts what was sent on its way, and begins the syncs that are due.
func (l *lossy) carry() {
	for i := range l.net {
		p := l.net[i]
		if n := len(p.Entries); n > 0 {
			l.appends++
			l.copies += n
		}
		if p.Reject {
			l.rejects++
		}
		if l.rng.Float64() < l.loss {
			continue
		}
		at := l.now + 100_000
		if l.rng.Float64() < l.late {
			at += int64(l.rng.IntN(300_000))
		}
		l.push(due{at: at, p: &p})
	}
	l.net = l.net[:0]
	for _, h := range l.hosts {
		if len(h.batches) > 0 && !h.syncing {
			h.syncing = true
			l.push(due{at: l.now + 150_000, h: h})
		}
	}
}

// put has the leader commit n commands, at most 64 of them under way, one each 20 µs.
func (l *lossy) put(t *testing.T, n int) {
	lead := l.host(1)
	from, begun := lead.core.Commit(), l.now
	for proposed := 0; lead.core.Commit() < from+uint64(n) || lead.core.peers[0].match < lead.core.log.last || lead.core.peers[1].match < lead.core.log.last; {
		if l.now > begun+1000*1000*msec {
			t.Fatalf("commit %d of %d", lead.core.Commit()-from, n)
		}
		if proposed < n && int(lead.core.log.last-lead.core.Commit()) < 64 {
			if err := l.propose(lead, Entry{Kind: Commands}); err != nil {
				t.Fatal(err)
			}
			proposed++
		}
		l.carry()
		for until := l.now + 20_000; ; {
			for _, h := range l.hosts {
				if h.core.Deadline() <= l.now {
					h.core.Tick(l.now)
					l.take(h)
				}
			}
			l.carry()
			if len(l.due) == 0 || l.due[0].at > until {
				l.now = until
				break
			}
			d := heap.Pop(&l.due).(due)
			l.now = d.at
			if d.p != nil {
				l.deliver(*d.p)
			} else {
				d.h.syncing = false
				for l.sync(d.h) {
				}
			}
			l.carry()
		}
	}
	l.now = max(l.now, begun+1)
}

// TestWhatIsLostAloneIsSentAgain counts the datagrams with entries for 10,000 puts to two followers; with -v it tells the
// same without the ring. There must be one for each follower and put, one more for each that is lost, and one for nothing
// for each that is overtaken.
func TestWhatIsLostAloneIsSentAgain(t *testing.T) {
	const puts = 10000
	for _, test := range []struct {
		name       string
		loss, late float64
		most       float64 // datagrams for each that had to be
	}{
		{"nothing lost", 0, 0, 1},
		{"5 % lost", 0.05, 0, 1 / 0.95},
		{"30 % lost", 0.30, 0, 1 / 0.7},
		{"10 % late", 0, 0.1, 1.1},
		{"5 % lost, 10 % late", 0.05, 0.1, 1.1 / 0.95},
	} {
		t.Run(test.name, func(t *testing.T) {
			var told [2]string
			for i, entries := range []int{-1, HeldMost} {
				if entries < 0 && !testing.Verbose() {
					continue // a figure to compare with, of a minute for the race detector
				}
				l := newLossy(entries, test.loss, test.late)
				begun := l.now
				l.put(t, puts)
				told[i] = fmt.Sprintf("%d datagrams, %d entries, %d rejects, %.2f s", l.appends, l.copies, l.rejects, float64(l.now-begun)/1e9)
				if ratio := float64(l.appends) / (2 * puts); entries > 0 && ratio > test.most*1.01 {
					t.Errorf("%.2f datagrams for each put and follower, want at most %.2f", ratio, test.most)
				}
			}
			t.Logf("without: %s", told[0])
			t.Logf("with:    %s", told[1])
		})
	}
}

// following is server 1, whose log is 1, of leader 2's term 1.
func following() *Core {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec, Entries: []Entry{{Index: 1, Term: 1, Kind: NoOp, Size: 50}}}))
	flush(c)
	c.Take()
	return c
}

func follows(prev uint64, n int) *Message {
	return from(2, Message{Kind: Append, Term: 1, PrevIndex: prev, PrevTerm: 1, Timeout: 100 * msec, Entries: entries(prev+1, 1, n)})
}

// A gap is held only where it can be nothing else, and within bounds.
func TestWhatIsNotHeldIsRejected(t *testing.T) {
	for _, test := range []struct {
		name  string
		core  func() *Core
		after *Message
		held  bool
	}{
		{"right behind a gap of one", following, follows(2, 1), true},
		{"as far ahead as the ring goes", following, follows(1+HeldMost, 1), true},
		{"further", following, follows(2+HeldMost, 1), false},
		{"its end further", following, follows(1+HeldMost, 2), false},
		{"too many bytes", func() *Core { c := following(); c.cfg.HeldBytes = 199; return c }, follows(2, 2), false},
		{"as many bytes as may be", func() *Core { c := following(); c.cfg.HeldBytes = 200; return c }, follows(2, 2), true},
		{"no entries", following, follows(2, 0), false},
		{"nothing is to be held", func() *Core { c := following(); c.cfg.HeldEntries = -1; return c }, follows(2, 1), false},
		{"the log may be another's", func() *Core {
			return newCore(1, Start{Hard: HardState{Term: 1}, Last: 1, Terms: []TermRun{{1, 1}}})
		}, follows(2, 1), false},
		{"an empty log", func() *Core { return newCore(1, Start{Hard: HardState{Term: 1}}) }, follows(2, 1), false},
		{"entries after what the leader spoke of may be another's", func() *Core {
			c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 2, Terms: []TermRun{{1, 1}}})
			c.Step(c.now, follows(1, 0))
			flush(c)
			return c
		}, follows(3, 1), false},
		{"an entry of the log is damaged", func() *Core {
			c := newCore(1, Start{Hard: HardState{Term: 1}, Last: 2, Terms: []TermRun{{1, 1}}, Damaged: []Range{{1, 1}}})
			c.Step(c.now, follows(2, 0))
			flush(c)
			return c
		}, follows(3, 1), false},
	} {
		c := test.core()
		c.Step(c.now, test.after)
		a := sentKind(flush(c), Ack)
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if a == nil || a.Reject == test.held || (a.Held != [2]uint64{}) != test.held || (c.ring.count > 0) != test.held {
			t.Errorf("%s: answered %+v with %d held, want held %v", test.name, a, c.ring.count, test.held)
		}
	}
}

// What is held is told, bit by bit, and is neither in the log nor acknowledged.
func TestHeldEntriesAreToldAndNotAcknowledged(t *testing.T) {
	c := following()
	for _, i := range []uint64{3, 6, 65, 66, 67, 130} {
		c.Step(c.now, follows(i-1, 1))
		a := sentKind(flush(c), Ack)
		if a == nil || !a.holds(i) || a.highestHeld() != i || a.holds(i-1) != (i == 66 || i == 67) || a.holds(i+1) {
			t.Fatalf("after %d: told %+v", i, a)
		}
		if a.Match != 1 || a.LastIndex != 1 || c.log.last != 1 || c.durable != 1 || a.EchoSeq != 0 {
			t.Fatalf("after %d: match %d, last %d; the log ends at %d", i, a.Match, a.LastIndex, c.log.last)
		}
	}
	c.Step(c.now, follows(1, 1))
	e := c.Take()
	if len(e.Ops) != 2 || e.Ops[0].Held || !e.Ops[1].Held || e.Ops[1].Entry.Index != 3 || sentKind(e, Ack) != nil {
		t.Errorf("2 came, got operations %+v, sent %+v; want 2 and 3 into the log, and no word before they are durable", e.Ops, e.Send)
	}
	c.Synced(c.now, e.Serial, 3, 1)
	if a := sentKind(c.Take(), Ack); a == nil || a.Match != 3 || a.highestHeld() != 130 || !a.holds(6) || a.holds(5) {
		t.Errorf("after the sync: told %+v", a)
	}
}

// Nothing of one term, leader or boot is left for the next.
func TestARingIsOfOneLeader(t *testing.T) {
	heartbeat := func(term, boot uint64) *Message {
		m := from(2, Message{Kind: Append, Term: term, PrevIndex: 1, PrevTerm: 1, Timeout: 100 * msec})
		m.FromBoot = boot
		return m
	}
	for name, event := range map[string]func(c *Core){
		"another boot": func(c *Core) { c.Step(c.now, heartbeat(1, 21)) },
		"a later term": func(c *Core) { c.Step(c.now, heartbeat(2, 20)) },
		"a vote": func(c *Core) {
			c.Step(c.now+1000*msec, from(3, Message{Kind: Vote, Term: 2, LastIndex: 9, LastTerm: 1}))
		},
		"no room":             func(c *Core) { c.ForgetHeld() },
		"its own candidature": func(c *Core) { c.campaign(false) },
		"a truncation":        func(c *Core) { c.truncate(1); c.proven = 0 },
	} {
		c := following()
		c.Step(c.now, follows(2, 3))
		flush(c)
		if c.HeldBytes() != 300 {
			t.Fatalf("%d bytes held", c.HeldBytes())
		}
		event(c)
		flush(c)
		if err := c.Check(); err != nil || c.ring.count != 0 || c.HeldBytes() != 0 {
			t.Errorf("%s: %d held, %v", name, c.ring.count, err)
		}
	}
}

// A configuration that is held is in force when it is in the log, as it was when it came; and what the messages of held
// entries said is committed then is.
func TestAHeldConfigurationComesIntoForceInTheLog(t *testing.T) {
	c := following()
	k := voters(1, 2, 3, 4)
	m := follows(2, 1)
	m.Entries[0].Kind, m.Entries[0].Config, m.Commit = Configuring, &k, 3
	c.Step(c.now, m)
	flush(c)
	k.Members[3].ID = 5
	if c.inForce().Index != 0 || c.Commit() != 0 {
		t.Fatalf("in force is %d, commit %d", c.inForce().Index, c.Commit())
	}
	c.Step(c.now, follows(1, 1))
	flush(c)
	if f := c.inForce(); f.Index != 3 || f.member(4) == nil || c.Commit() != 3 {
		t.Errorf("in force is %+v, commit %d", f, c.Commit())
	}
}

// Whatever an ack claims to hold, only what was sent is sent again, and nothing counts.
func TestALeaderTakesNoClaimForHeld(t *testing.T) {
	c := newCore(1, Start{})
	elect(t, c)
	flush(c)
	c.Step(c.now, from(2, ack(c, 1)))
	flush(c)
	m := ack(c, 1)
	m.Held = [2]uint64{1<<63 | 5, 1 << 63}
	c.Step(c.now, from(2, m))
	if e := flush(c); len(e.Send) != 0 || c.Check() != nil {
		t.Errorf("sent %+v, %v", e.Send, c.Check())
	}
	for range 3 {
		if err := c.Propose(c.now, &Entry{Kind: Commands, Size: 10}); err != nil {
			t.Fatal(err)
		}
		flush(c)
	}
	m.EchoSeq, m.Full = c.seq, true
	c.Step(c.now, from(2, m))
	if e := flush(c); len(e.Send) != 0 {
		t.Errorf("sent again %+v to a server that takes nothing", e.Send)
	}
	m.Full = false
	c.Step(c.now, from(2, m))
	e := flush(c)
	if len(e.Send) != 2 || e.Send[0].First != 2 || e.Send[0].Last != 2 || e.Send[1].First != 4 || e.Send[1].Last != 4 {
		t.Errorf("sent again %+v, want 2 and 4", e.Send)
	}
	if p := c.peer(2); p.match != 1 || p.held != 1 || p.probing || c.Commit() != 1 {
		t.Errorf("%+v, commit %d", p, c.Commit())
	}
}
