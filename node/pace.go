package node

import "math/bits"

// pace derives the election timeout T from what this cluster's disks and paths
// really take: the leader measures how long its own syncs last and how long
// acknowledgements are on their way, a follower's sync included, and hands T
// out with every AppendEntries. Followers promise what they are handed, so all
// use the same (SAFETY 1 keeps a shrinking T safe).
//
//	T = paceFactor x the 99.9th percentile over the last window, within bounds
//
// It rises within a tenth of a second, and falls only after it was twice too large for a whole
// window, so that it does not follow every gust.
type pace struct {
	fixed   bool // T was set by the operator
	timeout int64
	delays  [2]delays // the window under way, and the one before it
	since   int64     // when the window under way began
	checkAt int64     // when T is looked at again
	sent    [1024]sentAt
	batchAt int64 // when the batch that is out was taken
}

const (
	paceFactor = 10
	paceWindow = 10e9  // ns
	paceLeast  = 100e6 // of T, ns
	paceMost   = 1e9
	paceCheck  = 100e6 // ns between looks
	paceSample = 200   // delays that a window needs to say anything
)

type sentAt struct {
	seq uint64
	at  int64
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

// quantile is a duration that all but one in a thousand are below.
func (d *delays) p999() int64 {
	left := d.total - d.total/1000
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
func (p *pace) noteSent(now int64, seq uint64) { p.sent[seq%uint64(len(p.sent))] = sentAt{seq, now} }

func (p *pace) noteAck(now int64, seq uint64) {
	if s := &p.sent[seq%uint64(len(p.sent))]; s.seq == seq && seq != 0 {
		p.delays[0].add(now - s.at)
		s.seq = 0
	}
}

// settle is T as it should be now; the second result says that it changed.
func (p *pace) settle(now int64) (int64, bool) {
	if p.fixed || now < p.checkAt {
		return p.timeout, false
	}
	p.checkAt = now + paceCheck
	rolled := now-p.since >= paceWindow
	if rolled {
		p.delays[1], p.delays[0] = p.delays[0], delays{}
		p.since = now
	}
	before := p.timeout
	if d := &p.delays[0]; d.total >= paceSample {
		p.timeout = max(p.timeout, within(paceFactor*d.p999()))
	}
	if d := &p.delays[1]; rolled && d.total >= paceSample {
		if want := within(paceFactor * d.p999()); 2*want <= p.timeout {
			p.timeout = want
		}
	}
	return p.timeout, p.timeout != before
}

func within(t int64) int64 { return min(max(t, paceLeast), paceMost) }

// setTimeout hands out T as measured; for a leader.
func (n *Node) setTimeout(now int64) {
	if t, changed := n.pace.settle(now); changed {
		n.core.SetTimeout(t)
		n.logger.Info("election timeout", "ms", t/1e6)
	}
}

// takeTimeout uses the T that the leader hands out, should we lead next.
func (n *Node) takeTimeout(t int64) {
	if t = within(t); !n.pace.fixed && t != n.pace.timeout {
		n.pace.timeout = t
		n.core.SetTimeout(t)
	}
}
