package node

import (
	"math/bits"
	"slices"
	"time"
)

// pace derives the election timeout T from what this cluster's disks and paths
// really take: the leader measures how long its own syncs last and how long
// acknowledgements are on their way, a follower's sync included, and hands T
// out with every AppendEntries. Followers promise what they are handed, so all
// use the same (SAFETY 1 keeps a shrinking T safe).
//
//	T = the larger of paceFactor x the 99.9th percentile of what needs no disk,
//	    and limits.disk x that of what does, over the last window, within bounds
//
// What needs no disk says how late a sign of life may be: no sync stands before
// it, at either end. What does says how long an election takes: its votes, and
// then the first entry of the term, wait for a disk each.
//
// Of the followers only the quickest that make a majority with the leader count:
// one that was away, and answers late for that, says nothing of the others. T
// rises within a tenth of a second, and falls only after it was twice too large
// for a whole window, so that it does not follow every gust. Only what T is
// before anything was measured, a guess, gives way to the first measurement.
//
// The times that hang on T follow it: see heartbeat and resend.
type pace struct {
	limits     limits
	fixed      bool  // T was set by the operator
	guessed    bool  // nothing was measured yet, here or by the leader we follow
	beats      int64 // the heartbeat that was set by the operator, 0: it follows T
	resends    int64 // the same of Resend
	timeout    int64
	own        window // how long a batch is with our disk
	peers      []peerPace
	sorted     []int64 // scratch
	since      int64   // when the window under way began
	checkAt    int64   // when T is looked at again
	sent       [1024]sentAt
	batchAt    int64 // when the batch that is out was taken
	resendTold int64 // to the core
}

// window is the delays of the window under way, and of the one before it.
type window [2]delays

// p999 is that of the window before, or of the one under way if that is more.
func (w *window) p999() int64 { return max(w[0].p999(), w[1].p999()) }

type peerPace struct {
	id      uint16
	beats   window // answers to what had no entries
	entries window // and to what had
	trip    int64  // smoothed, of the latter
}

// limits are the bounds of T, what it is before anything is measured, ns, and how many of the slowest waits for a disk
// it has room for: an election has two after one another.
// A machine that is shared stands still now and then for longer than it takes
// to replace a leader; one that is dedicated does not.
type limits struct{ least, most, first, disk int64 }

var (
	sharedLimits    = limits{100e6, 1e9, 300e6, 4}
	dedicatedLimits = limits{12e6, 200e6, 50e6, 2}
)

const (
	paceFactor = 10
	paceWindow = 10e9  // ns
	paceFirst  = 2e9   // ns until the first measurement replaces the guess
	paceCheck  = 100e6 // ns between looks
	paceSample = 200   // delays that a window needs to say anything
)

// A leader sends at least so many heartbeats in T, and as often as a shared
// machine does with any T; what it hears nothing of for so long it sends again.
const (
	heartbeatPart  = 5
	leastHeartbeat = 2e6  // ns
	mostHeartbeat  = 10e6 // ns
	mostResend     = 30e6 // ns, unless an answer takes more than half of it
)

// FirstTimeout is T of a profile before anything is measured.
func FirstTimeout(dedicated bool) time.Duration {
	if dedicated {
		return time.Duration(dedicatedLimits.first)
	}
	return time.Duration(sharedLimits.first)
}

// newPace is what a server measures with before it has measured anything.
func newPace(o *Options, now int64) pace {
	p := pace{limits: sharedLimits, fixed: o.Timeout != 0, guessed: true, beats: o.Heartbeat, resends: o.Resend, timeout: o.Timeout, since: now}
	if o.Dedicated {
		p.limits = dedicatedLimits
	}
	p.limits.least = max(p.limits.least, 3*p.beats) // a datagram that is lost now and then is no reason to stand
	p.limits.most = max(p.limits.most, p.limits.least)
	if !p.fixed {
		p.timeout = p.within(p.limits.first)
	}
	return p
}

// heartbeat is what a leader is never silent for longer than.
func (p *pace) heartbeat() int64 {
	if p.beats != 0 {
		return p.beats
	}
	return min(max(p.timeout/heartbeatPart, leastHeartbeat), mostHeartbeat)
}

// resend is how long a leader waits for progress before it sends again: longer than an answer
// takes, or it would send all the time what is on its way.
func (p *pace) resend() int64 {
	if p.resends != 0 {
		return p.resends
	}
	trip := int64(0)
	for i := range p.peers {
		trip = max(trip, p.peers[i].trip)
	}
	return min(max(mostResend, 2*trip), p.timeout/2)
}

// resendMoved says that it is no longer near what was told last.
func (p *pace) resendMoved() bool {
	d := p.resend() - p.resendTold
	return max(d, -d) > p.resendTold/4
}

// paceOutliers is how many delays of a window may be above what T covers, when
// a thousandth of them is less: a single stall is no pace.
const paceOutliers = 2

type sentAt struct {
	seq     uint64
	at      int64
	entries bool
}

// delays counts durations in buckets an eighth of an octave wide.
type delays struct {
	counts [512]uint32
	total  uint32
}

func (d *delays) add(ns int64) {
	d.counts[bucket(ns)]++
	d.total++
}

// bucket is the octave of ns and the three bits below its highest.
func bucket(ns int64) int {
	if ns < 8 {
		return int(max(ns, 0))
	}
	octave := bits.Len64(uint64(ns)) - 1
	return octave<<3 | int(ns>>(octave-3)&7)
}

// ceiling is the least duration that is above every one of the bucket.
func ceiling(b int) int64 {
	if b < 24 {
		return int64(b&7|b&8) + 1
	}
	octave := b >> 3
	return int64(8+b&7+1) << (octave - 3)
}

// p999 is a duration that all but one in a thousand, and a few, are below; 0
// when there are too few to say.
func (d *delays) p999() int64 {
	if d.total < paceSample {
		return 0
	}
	left := d.total - max(d.total/1000, paceOutliers)
	for b, n := range d.counts {
		if n >= left {
			return ceiling(b)
		}
		left -= n
	}
	return 0
}

// noteSent remembers when an AppendEntries left, noteAck takes what its answer
// took.
func (p *pace) noteSent(now int64, seq uint64, entries bool) {
	p.sent[seq%uint64(len(p.sent))] = sentAt{seq, now, entries}
}

func (p *pace) noteAck(now int64, from uint16, seq uint64) {
	s := &p.sent[seq%uint64(len(p.sent))]
	if s.seq != seq || seq == 0 {
		return
	}
	d := &p.peer(from).beats[0]
	if s.entries {
		q := p.peer(from)
		d = &q.entries[0]
		if q.trip == 0 {
			q.trip = now - s.at
		}
		q.trip += (now - s.at - q.trip) / 16
	}
	d.add(now - s.at)
	s.seq = 0
}

func (p *pace) peer(id uint16) *peerPace {
	for i := range p.peers {
		if p.peers[i].id == id {
			return &p.peers[i]
		}
	}
	p.peers = append(p.peers, peerPace{id: id})
	return &p.peers[len(p.peers)-1]
}

// wanted is the T that window w asks for, without bounds: for our disk, and for
// the slowest among the quickest followers that make a majority with us. 0 when
// too little was measured.
func (p *pace) wanted(w, followers int) int64 {
	own := p.limits.disk * p.own[w].p999()
	if followers == 0 {
		return own
	}
	p.sorted = p.sorted[:0]
	for i := range p.peers {
		q := &p.peers[i]
		if t := max(paceFactor*q.beats[w].p999(), p.limits.disk*q.entries[w].p999()); t > 0 {
			p.sorted = append(p.sorted, t)
		}
	}
	if len(p.sorted) < followers {
		return 0
	}
	slices.Sort(p.sorted)
	return max(p.sorted[followers-1], own)
}

// roll begins a new window when the one under way is over; true if it did.
func (p *pace) roll(now int64) bool {
	if now-p.since < paceWindow {
		return false
	}
	p.since = now
	p.own[1], p.own[0] = p.own[0], delays{}
	for i := range p.peers {
		q := &p.peers[i]
		q.beats[1], q.beats[0] = q.beats[0], delays{}
		q.entries[1], q.entries[0] = q.entries[0], delays{}
	}
	return true
}

// absent says that this server stood still for so long that it has lost its
// followers, if it led. The delays that are under way are of its own making.
func (p *pace) absent(now int64) {
	clear(p.sent[:])
	p.batchAt = now
}

// settle is T as it should be now, with so many followers needed for a
// majority; the second result says that it changed.
func (p *pace) settle(now int64, followers int) (int64, bool) {
	if now < p.checkAt {
		return p.timeout, false
	}
	p.checkAt = now + paceCheck
	before, age := p.timeout, now-p.since
	if rolled := p.roll(now); p.fixed {
		return p.timeout, false
	} else if rolled {
		if t := p.wanted(1, followers); t > 0 && 2*p.within(t) <= p.timeout {
			p.timeout, p.guessed = p.within(t), false
		}
	}
	if t := p.wanted(0, followers); t > 0 && p.guessed && age >= paceFirst {
		p.timeout, p.guessed = p.within(t), false
	} else if t > 0 {
		p.timeout = max(p.timeout, p.within(t))
	}
	return p.timeout, p.timeout != before
}

func (p *pace) within(t int64) int64 { return min(max(t, p.limits.least), p.limits.most) }

// setTimeout hands out T as measured; for a leader. Others only let their
// windows roll.
func (n *Node) setTimeout(now int64) {
	if !n.Leading() {
		n.pace.roll(now)
		return
	}
	t, changed := n.pace.settle(now, n.out.voters/2)
	if changed || n.pace.resendMoved() {
		n.pace.resendTold = n.pace.resend()
		n.core.SetTimes(t, n.pace.heartbeat(), n.pace.resendTold)
	}
	if changed {
		n.logger.Info("election timeout", "ms", t/1e6, "heartbeat_ms", float64(n.pace.heartbeat()/1e4)/100,
			"disk_p999_us", n.pace.own.p999()/1e3)
	}
}

// takeTimeout uses the T that the leader hands out, should we lead next.
func (n *Node) takeTimeout(t int64) {
	n.pace.guessed = false
	if t = n.pace.within(t); !n.pace.fixed && t != n.pace.timeout {
		n.pace.timeout = t
		n.pace.resendTold = n.pace.resend()
		n.core.SetTimes(t, n.pace.heartbeat(), n.pace.resendTold)
	}
}

// woke is told the time before anything else of a turn. Who comes so late that
// T has passed since it was due was stopped, or its machine was.
func (n *Node) woke(now int64) {
	if n.due != 0 && now-n.due >= n.pace.timeout {
		n.pace.absent(now)
	}
	n.due = 0
	n.now = now
}
