package sim

import (
	"math/rand/v2"
	"slices"

	"balsa/wal"
)

// faults is the actor that breaks things: every so often it draws a class of
// those the seed has, begins a fault of it and ends that fault later. A fault
// has a least length, so that what it breaks has time to notice.
type faults struct {
	*simulation
	random  *rand.Rand
	classes []Class
	begun   int
	spent   map[uint16]bool // servers that were wiped or rotted: never more than a minority
	over    bool
}

// strikes says that faults of this class are begun by this actor; others are
// begun by the operator, or are there all the time.
func (c Class) strikes() bool {
	switch c {
	case WipeBeforeFounding, Membership, Transfer, KillLearner, KillJoint, KillFinal, FounderWiped, Closed, ClockDrift, AnyServer:
		return false
	}
	return c.drawn()
}

const leastFaults = 5

func (f *faults) begin() {
	for c := range Classes {
		if f.knobs.Faults[c] && c.strikes() {
			f.classes = append(f.classes, c)
		}
	}
	if f.knobs.Faults[WipeBeforeFounding] {
		for range between(f.random, 1, 3) {
			f.at(between(f.random, millisecond, 400*millisecond), f.wipeEarly)
		}
	}
	f.next()
}

func (f *faults) next() {
	f.after(between(f.random, f.knobs.FaultEvery/4, f.knobs.FaultEvery*2), func() {
		if f.over {
			return
		}
		f.strike(f.classes[f.random.IntN(len(f.classes))])
		f.next()
	})
}

// strike begins one fault.
func (f *faults) strike(c Class) {
	f.begun++
	f.trace.add(13, uint64(f.now), uint64(c))
	s := f.servers[f.random.IntN(len(f.servers))]
	f.tell("fault %v", c)
	switch c {
	case Loss, Duplicate, Reorder, Delay, Corrupt, SmallLink:
		f.spoil(c)
	case Cut, CutOneWay:
		if c == CutOneWay && chance(f.random, 0.3) {
			f.mute()
		} else {
			f.cut(c)
		}
	case Pause:
		if s.node != nil && !s.paused {
			f.hits[Pause]++
			f.tell("server %d pauses", s.id)
			s.pause()
			f.after(between(f.random, 20*millisecond, 3*second), s.resume)
		}
	case Hang:
		s.hangUntil = f.now + between(f.random, 50*millisecond, 4*second)
	case SlowDisk:
		s.slowBy = between(f.random, 5, 200)
		s.slowUntil = f.now + between(f.random, second, 6*second)
	case SyncError, DiskError, DiskFull:
		s.ill = ail(c, f.random, f.now)
		s.hookDisk()
		if c == DiskError && s.node != nil && chance(f.random, 0.5) {
			s.stop() // most kinds of calls are made at the start
			f.after(between(f.random, 10*millisecond, second), s.start)
		}
	case Kill:
		f.down(s, Kill)
	case PowerCut:
		f.down(s, PowerCut)
	case PowerCutAll:
		for _, s := range f.servers {
			f.down(s, PowerCutAll)
		}
	case Rot:
		f.rot(s)
	case Wipe:
		f.wipe(s, Wipe)
	case ClientGone:
		a := f.actors[f.random.IntN(len(f.actors))]
		f.hits[ClientGone]++
		a.reborn()
		a.begin()
	case Forged:
		f.forge(s)
	case OldDatagrams:
		f.net.replay()
	case OtherCluster:
		f.foreign(s)
	case ClockJump:
		f.jump(s)
	}
}

// down ends a server, by kill -9 or by a power cut, and starts it again later.
func (f *faults) down(s *server, c Class) {
	power := c == PowerCut || c == PowerCutAll
	if s.node == nil && !power {
		return
	}
	f.hits[c]++
	if !power {
		s.stop()
	} else {
		s.cutPower()
	}
	f.after(between(f.random, 5*millisecond, 4*second), s.start)
}

// spend says whether this server may lose what it had: only a minority ever
// does of any voters that decide or are wanted to, so that a quorum lives.
func (f *faults) spend(s *server) bool {
	if f.checker.first == nil {
		return f.spendEarly(s)
	}
	return f.spares(s)
}

// spares says that every set of voters that may decide has a majority left
// without s.
func (f *faults) spares(s *server) bool {
	left := func(v serverLife) bool { return v.id != s.id && f.whole(v) }
	for _, set := range f.operator.wanted {
		if majority(set, f.whole) && !majority(set, left) {
			return false // a change that is only asked for may decide by it any moment
		}
	}
	for _, k := range f.checker.possible() {
		named := func(v serverLife) bool { return v.id == s.id }
		for _, set := range k.sets {
			if slices.ContainsFunc(set, named) && !majority(set, left) {
				return false
			}
		}
		if slices.ContainsFunc(k.wants, named) && majority(k.wants, f.whole) && !majority(k.wants, left) {
			return false
		}
	}
	return true
}

// whole says that a server lives on, as this incarnation and with all it had.
func (f *faults) whole(v serverLife) bool {
	s := f.servers[v.id-1]
	return f.checker.servers[v.id].incarnation == v.incarnation && !s.rotted && !s.gone
}

func majority(set []serverLife, fits func(serverLife) bool) bool {
	n := 0
	for _, v := range set {
		if fits(v) {
			n++
		}
	}
	return n > len(set)/2
}

// spendEarly is spend before the first leader: nothing is known yet of who
// decides but the list of first voters.
func (f *faults) spendEarly(s *server) bool {
	voters := len(f.firstVoters)
	if int(s.id) <= voters && !f.spent[s.id] {
		lost := 0
		for id := range voters {
			if f.spent[uint16(id+1)] {
				lost++
			}
		}
		if lost+1 > (voters-1)/2 {
			return false
		}
	}
	f.spent[s.id] = true
	return true
}

// wouldFoundAgain says that, with s, every first voter were blank. They found a
// cluster then, as they were told to, unless one of those that took over is up
// to tell them of its own; nothing else could (SAFETY 7).
func (f *faults) wouldFoundAgain(s *server) bool {
	for id := 1; id <= len(f.firstVoters); id++ {
		if life := f.checker.servers[id].incarnation; uint16(id) != s.id && f.checker.named[serverLife{uint16(id), life}] {
			return false
		}
	}
	return f.checker.first != nil && len(f.firstVoters) > 1
}

// wipe replaces a directory by a fresh one.
func (f *faults) wipe(s *server, c Class) {
	if f.wouldFoundAgain(s) || !f.spend(s) {
		return
	}
	f.hits[c]++
	if s.node != nil && !s.node.Blank() && f.checker.first == nil {
		// A cluster that only this server knew may be gone, and who has pinned
		// it is served by no other: those clients begin anew, as people would.
		for _, a := range f.actors {
			a.reborn()
			a.begin()
		}
	}
	s.wipe()
	f.after(between(f.random, 10*millisecond, 2*second), s.start)
}

// rot turns over a bit of an entry's record while its server is down.
func (f *faults) rot(s *server) {
	if s.node == nil || s.node.Blank() || f.checker.first == nil || !f.spend(s) {
		return
	}
	s.stop()
	f.after(between(f.random, 10*millisecond, 2*second), s.start)
	if len(s.unsynced) > 0 {
		return // what is not synced may be lost anyhow
	}
	type place struct {
		name      string
		at, bytes int64
	}
	var records []place
	end := int64(0) // of the newest segment
	marked := false // behind the newest entry stands that this server was removed: without it, it rightly does not start
	_, err := wal.Scan(s.disk, dataDir, func(r *wal.Record) error {
		if end = r.Offset + r.Size; r.Type == wal.TypeEntry && r.Verdict == wal.Clean {
			records = append(records, place{dataDir + "/" + r.Segment, r.Offset, r.Size})
			marked = false
		}
		marked = marked || r.Type == wal.TypeFounding
		return nil
	})
	if err != nil {
		f.violate("S14", "scan of %v: %v", s, err)
	}
	if len(records) == 0 {
		return
	}
	r := records[f.random.IntN(len(records))]
	if chance(f.random, 0.5) && !marked { // so much of the newest that nobody knows any more what it was
		r = records[len(records)-1]
		for at := r.at &^ 511; at < end; at += 40 {
			s.disk.Flip(r.name, at, 2)
		}
	} else {
		s.disk.Flip(r.name, r.at+f.random.Int64N(r.bytes), uint(f.random.IntN(8)))
	}
	s.rotted, s.freshRot = true, true
	f.hits[Rot]++
}

// wipeEarly wipes a server while the founding may be under way. One that no
// list names yet has lost nothing; but that cannot be known from outside, so
// it counts as wiped.
func (f *faults) wipeEarly() {
	s := f.servers[f.random.IntN(len(f.firstVoters))]
	f.begun++
	f.wipe(s, WipeBeforeFounding)
}

// spoil makes some links bad for a while: all, those of one endpoint, or one.
func (f *faults) spoil(c Class) {
	count := len(f.net.endpoints)
	from, to := f.random.IntN(count), f.random.IntN(count)
	scope := f.random.IntN(3)
	strength := f.random.Float64()
	var chosen []*link
	for i := range count {
		for j := range count {
			if scope == 0 || scope == 1 && (i == from || j == from) || scope == 2 && i == from && j == to {
				chosen = append(chosen, &f.net.links[i][j])
			}
		}
	}
	for _, l := range chosen {
		l.spoil(c, strength)
	}
	f.after(between(f.random, 200*millisecond, 6*second), func() {
		for _, l := range chosen {
			l.mend(c, &f.knobs)
		}
	})
}

func (l *link) spoil(c Class, strength float64) {
	switch c {
	case Loss:
		l.Loss = 0.02 + 0.5*strength*strength
	case Duplicate:
		l.Dup = 0.05 + 0.5*strength
	case Reorder:
		l.Reorder = 0.05 + 0.5*strength
	case Delay:
		l.DelayMax += 2*millisecond + int64(strength*float64(150*millisecond))
	case Corrupt:
		l.Corrupt = 0.01 + 0.2*strength
	case SmallLink:
		l.MTU = 600 + int(strength*5000)
	}
}

func (l *link) mend(c Class, k *knobs) {
	switch c {
	case Loss:
		l.Loss = 0
	case Duplicate:
		l.Dup = 0
	case Reorder:
		l.Reorder = 0
	case Delay:
		l.DelayMax = k.DelayMax
	case Corrupt:
		l.Corrupt = 0
	case SmallLink:
		l.MTU = 0
	}
}

// cut parts the servers, with the clients that see only one side, or cuts
// single links; one way or both.
func (f *faults) cut(c Class) {
	count := len(f.net.endpoints)
	side := make([]bool, count)
	switch f.random.IntN(3) {
	case 0: // any two sides
		for i := range side {
			side[i] = chance(f.random, 0.5)
		}
	case 1: // one server alone
		side[f.random.IntN(len(f.servers))] = true
	case 2: // the leader alone, clients on either side
		for i, s := range f.servers {
			side[i] = s.node != nil && s.node.Leading()
		}
		for i := len(f.servers); i < count; i++ {
			side[i] = chance(f.random, 0.5)
		}
	}
	inward := c == CutOneWay && chance(f.random, 0.5)
	var chosen []*link
	for i := range count {
		for j := range count {
			if side[i] != side[j] && (c == Cut || side[i] == inward) {
				l := &f.net.links[i][j]
				l.cuts++
				l.cutClass = c
				chosen = append(chosen, l)
			}
		}
	}
	f.after(between(f.random, 100*millisecond, 6*second), func() {
		for _, l := range chosen {
			l.cuts = max(0, l.cuts-1)
		}
	})
}

// mute makes a leader believe longest: what it hears comes later and later,
// in steps that it does not notice, and then nothing that it says to servers
// arrives, while clients reach everybody.
func (f *faults) mute() {
	leader := -1
	for i, s := range f.servers {
		if s.node != nil && s.node.Leading() {
			leader = i
		}
	}
	if leader < 0 {
		return
	}
	pace := f.knobs.Timeout / 2
	steps := between(f.random, 1, 7)
	for n := range steps {
		f.after(n*pace, func() {
			for i := range f.servers {
				if l := &f.net.links[i][leader]; !f.over {
					l.DelayMin += f.knobs.Timeout / 3
					l.DelayMax = max(l.DelayMax, l.DelayMin+f.knobs.DelayMax)
				}
			}
		})
	}
	silent := between(f.random, 3*f.knobs.Timeout, 6*f.knobs.Timeout)
	f.after(steps*pace, func() { f.silence(leader, 1) })
	f.after(steps*pace+silent, func() {
		f.silence(leader, -1)
		for i := range f.servers {
			if l := &f.net.links[i][leader]; !f.over {
				l.DelayMin, l.DelayMax = f.knobs.DelayMin, f.knobs.DelayMax
			}
		}
	})
}

// silence cuts, or no longer cuts, what a server says to servers.
func (f *faults) silence(server, by int) {
	if f.over {
		return
	}
	for i := range f.servers {
		l := &f.net.links[server][i]
		l.cuts = max(0, l.cuts+by)
		l.cutClass = CutOneWay
	}
}

// killIn lets the leader that has just appended a configuration die soon, in
// the phase of the change that it begins.
func (f *faults) killIn(k *setting, s *server) {
	c := KillFinal
	switch {
	case k.joint():
		c = KillJoint
	case k.wants != nil:
		c = KillLearner
	}
	if !f.knobs.Faults[c] || f.over || !chance(f.random, 0.3) {
		return
	}
	process := s.process
	f.after(between(f.random, 0, 2*f.knobs.Heartbeat), func() {
		if s.process == process && !f.over {
			f.begun++
			f.down(s, c)
		}
	})
}
