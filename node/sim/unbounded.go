package sim

import (
	"math/rand/v2"
)

// A directory that is cloned, or restored from an older copy, has a memory that
// no rule can make safe (SAFETY 9). Some seeds do that to one server, in the
// middle of all their other faults or after them. From then on nothing is owed
// but that it is noticed: by a server that says so, or by one that stops.
type unbounded struct {
	*simulation
	random *rand.Rand
	class  Class
	begun  bool // nothing else is owed any more
	seen   bool

	copied  uint64  // entries that the older copy has at most
	leader  *server // that knows of more, by the restored server's own word
	process int     // of it
	term    uint64
	subject *server
}

const (
	unboundedPart = 0.06
	noticeWithin  = 20 * second // after all is healed
	noticeCopy    = 5 * second  // a leader notices a server that lacks what it had
)

// drawUnbounded makes a few seeds such ones. Nobody else loses anything in them,
// and no one takes part that did not from the start.
func (k *knobs) drawUnbounded(r *rand.Rand) {
	if !chance(r, unboundedPart) {
		return
	}
	k.Unbounded = Clone
	if chance(r, 0.5) {
		k.Unbounded = Restore
	}
	k.Late = chance(r, 0.5)
	k.Servers, k.Spares, k.StayBroken = max(k.Servers, 3), max(k.Spares, 1), false
	for _, c := range []Class{Membership, FounderWiped, KillLearner, KillJoint, KillFinal, Wipe, WipeBeforeFounding, Rot, AnyServer} {
		k.Faults[c] = false
	}
	k.Faults[k.Unbounded] = true
}

func (u *unbounded) begin() {
	if u.class = u.knobs.Unbounded; u.class != 0 && !u.knobs.Late {
		u.after(between(u.random, 5*second, u.knobs.Length-8*second), u.strike)
	}
}

// strike does it to one server of the cluster, or tries again soon.
func (u *unbounded) strike() {
	s := u.servers[u.random.IntN(len(u.firstVoters))]
	if s.node == nil || s.node.Blank() || s.node.Log().Last() == 0 {
		u.after(200*millisecond, u.strike)
		return
	}
	if u.subject = s; u.class == Clone {
		u.clone()
		return
	}
	copied := s.disk.Clone()
	u.copied = uint64(len(u.checker.servers[s.id].memory))
	u.after(between(u.random, second, 6*second), func() {
		u.occur()
		u.remember()
		s.stop()
		s.disk = copied
		s.unsynced, s.whole = nil, true
		u.after(between(u.random, 10*millisecond, 2*second), s.start)
	})
}

// clone lets a machine outside of the cluster run with a copy.
func (u *unbounded) clone() {
	at := u.servers[u.knobs.Servers]
	u.occur()
	at.stop()
	at.disk = u.subject.disk.Clone()
	at.disk.ReleaseLocks()
	at.unsynced, at.whole = nil, true
	at.start()
}

func (u *unbounded) occur() {
	u.begun = true
	u.hits[u.class]++
	u.tell("%v of %v", u.class, u.subject)
	u.trace.add(18, uint64(u.now), uint64(u.subject.id))
}

// remember finds the leader to whom the server has acknowledged more than the
// older copy has. It owes us to notice, while it leads.
func (u *unbounded) remember() {
	for _, s := range u.servers {
		if s.node == nil || !s.node.Leading() {
			continue
		}
		for _, p := range s.node.Core().Status().Peers {
			if p.ID == u.subject.id && p.Match > u.copied {
				u.leader, u.process, u.term = s, s.process, s.node.Core().Term()
			}
		}
	}
}

// end is the ending of such a seed: all is healed, and what was done is noticed.
func (u *unbounded) end() {
	if u.knobs.Late && !u.begun && u.subject == nil {
		u.after(3*second, u.strike)
	}
	u.await(0)
}

func (u *unbounded) await(since int64) {
	for _, s := range u.servers {
		if s.node != nil {
			s.checkCounters()
		}
	}
	if u.begun && since == 0 {
		since = u.now
	}
	limit := noticeWithin
	if u.class == Restore {
		limit = noticeCopy
	}
	switch l := u.leader; {
	case u.seen:
		for _, s := range u.servers {
			if s.node != nil {
				u.met.process(s.node)
			}
		}
		u.ended = true
	case !u.begun || u.now-since < limit:
		u.after(100*millisecond, func() { u.await(since) })
	case u.class == Restore && (l == nil || l.process != u.process || l.node == nil || !l.node.Leading() || l.node.Core().Term() != u.term):
		u.ended = true // who knew of more leads no more: nobody can tell
	default:
		u.violate("R9", "%v of %v, and nobody noticed", u.class, u.subject)
	}
}
