package sim

import (
	"fmt"
	"slices"
	"strings"

	"balsa/wire"
)

// serverLife is one incarnation of a server.
type serverLife struct {
	id          uint16
	incarnation uint64
}

// setting is one configuration: a founding list at index 0, or an entry.
type setting struct {
	index uint64
	id    identity
	c     wire.Configuration
	sets  [][]serverLife // of voters: one or, while joint, the new and the old
	wants []serverLife   // the target of the operation under way
}

func newSetting(index uint64, id identity, c *wire.Configuration) *setting {
	k := &setting{index: index, id: id, c: *c}
	var voters, old []serverLife
	for _, m := range c.Members {
		life := serverLife{m.ID, m.Incarnation}
		if m.Role == wire.MemberVoter {
			voters = append(voters, life)
		}
		if slices.Contains(c.Old, m.ID) {
			old = append(old, life)
		}
	}
	if k.sets = [][]serverLife{voters}; old != nil {
		k.sets = append(k.sets, old)
	}
	for _, m := range c.Target {
		k.wants = append(k.wants, serverLife{m.ID, m.Incarnation})
	}
	return k
}

func (k *setting) joint() bool { return len(k.sets) > 1 }

// underWay says that an operation is not over.
func (k *setting) underWay() bool { return k.joint() || k.wants != nil }

func (k *setting) String() string {
	var b strings.Builder
	for _, set := range k.sets {
		b.WriteString("[")
		for _, v := range set {
			fmt.Fprintf(&b, " %d", v.id)
		}
		b.WriteString(" ]")
	}
	if k.wants != nil {
		fmt.Fprintf(&b, " wants %d servers", len(k.wants))
	}
	return fmt.Sprintf("%s at %d", b.String(), k.index)
}

// configurations are all that were ever seen, by their entries.
type configurations struct {
	entered   map[settingKey]*setting
	first     *setting            // the founding list of the first leader: there is no other cluster
	named     map[serverLife]bool // by any configuration of that cluster
	committed *setting            // the newest in the ledger
}

type settingKey struct {
	index uint64
	id    identity
}

func newConfigurations() configurations {
	return configurations{entered: map[settingKey]*setting{}, named: map[serverLife]bool{}}
}

// founded: SAFETY 7, all that lead have one founding list.
func (l *ledger) founded(id uint16, list *setting) {
	switch {
	case list == nil:
		l.violate("R7", "server %d leads without a founding list", id)
	case l.first == nil:
		l.first = list
	case !slices.Equal(wire.AppendConfiguration(nil, &l.first.c), wire.AppendConfiguration(nil, &list.c)):
		l.violate("R7", "server %d leads with another founding list than the first leader: a second cluster", id)
	}
}

// configured puts a configuration in force at a server, at its append. leading
// says that the server leads and so made it itself; then commit is what it had
// committed when it did.
func (l *ledger) configured(id uint16, index uint64, c *wire.Configuration, leading bool, commit uint64) *setting {
	s := &l.servers[id]
	if index == 0 {
		s.founding = newSetting(0, identity{}, c)
		if l.first == nil || l.first.c.Cluster == c.Cluster {
			l.name(s.founding)
		}
		return s.founding
	}
	entry, _ := at(s.memory, index)
	k := l.entered[settingKey{index, entry}]
	before := s.founding
	if n := len(s.settings); n > 0 {
		before = s.settings[n-1]
	}
	if before != nil && before.index >= index {
		return before // a damaged entry written again: it was in force before
	}
	if k == nil {
		k = newSetting(index, entry, c)
		l.entered[settingKey{index, entry}] = k
		l.name(k)
		l.follows(id, before, k)
	}
	if leading {
		l.mayFollow(id, before, k, commit)
	}
	s.settings = append(s.settings, k)
	return k
}

func (l *ledger) name(k *setting) {
	for _, m := range k.c.Members {
		l.named[serverLife{m.ID, m.Incarnation}] = true
	}
}

// follows: S10, every quorum of a configuration meets every quorum of the one
// before it, as the two share a set that decides in both; and only a leader of
// the joint configuration's own term may go back from it (SAFETY 10).
func (l *ledger) follows(id uint16, before, k *setting) {
	if before == nil {
		return
	}
	switch {
	case before.joint() && k.joint():
		l.violate("S10", "server %d: %v follows %v, both are joint", id, k, before)
	case before.joint() && sameSet(k.sets[0], before.sets[0]):
	case before.joint() && sameSet(k.sets[0], before.sets[1]):
		if before.id.term != k.id.term {
			l.violate("R10", "server %d: %v of term %d takes back %v of term %d", id, k, k.id.term, before, before.id.term)
		}
	case k.joint() && sameSet(k.sets[1], before.sets[0]):
	case !k.joint() && !before.joint() && sameSet(k.sets[0], before.sets[0]):
	default:
		l.violate("S10", "server %d: a quorum of %v need not meet one of %v", id, k, before)
	}
}

// mayFollow: S10, R11, one uncommitted configuration at a time, and none before
// the leader's own term has begun to commit. What a cancel takes back is not
// committed.
func (l *ledger) mayFollow(id uint16, before, k *setting, commit uint64) {
	s := &l.servers[id]
	if got, _ := at(s.memory, commit); got.term != k.id.term {
		l.violate("R11", "server %d makes %v in term %d, and has committed only up to %d of term %d", id, k, k.id.term, commit, got.term)
	}
	if before == nil || before.index <= commit {
		if before != nil && before.joint() && sameSet(k.sets[0], before.sets[1]) && !sameSet(k.sets[0], before.sets[0]) {
			l.violate("R10", "server %d: %v takes back %v, which is committed", id, k, before)
		}
		return
	}
	if !before.joint() || k.joint() || !sameSet(k.sets[0], before.sets[1]) {
		l.violate("S10", "server %d makes %v while %v is not committed (up to %d is)", id, k, before, commit)
	}
}

func sameSet(a, b []serverLife) bool {
	if len(a) != len(b) {
		return false
	}
	for _, v := range a {
		if !slices.Contains(b, v) {
			return false
		}
	}
	return true
}

// settingsOf lists the configurations of a log.
func (l *ledger) settingsOf(log []identity) (list []*setting) {
	for i, id := range log {
		if k := l.entered[settingKey{uint64(i + 1), id}]; k != nil {
			list = append(list, k)
		}
	}
	return list
}

// inForce is a server's configuration, nil while it has none.
func (l *ledger) inForce(id uint16) *setting {
	s := &l.servers[id]
	if n := len(s.settings); n > 0 {
		return s.settings[n-1]
	}
	return s.founding
}

// settled notes a configuration that enters the ledger.
func (l *ledger) settled(index uint64, entry identity) {
	if k := l.entered[settingKey{index, entry}]; k != nil {
		l.committed = k
	}
}

// possible gives every configuration that may be in force somewhere, or come
// to be: the newest in the ledger and those after it.
func (l *ledger) possible() (list []*setting) {
	newest := l.committed
	if newest == nil {
		newest = l.first
	}
	if newest != nil {
		list = append(list, newest)
	}
	for i := range l.servers {
		for _, k := range l.servers[i].settings {
			if (newest == nil || k.index > newest.index) && !slices.Contains(list, k) {
				list = append(list, k)
			}
		}
	}
	return list
}

// state is what is known of one life of a server, also of one that ended.
func (l *ledger) state(v serverLife) *voterState {
	if s := &l.servers[v.id]; s.incarnation == v.incarnation {
		return s
	}
	return l.past[v]
}

// most says whether more than half of each set of voters fit.
func (k *setting) most(fits func(serverLife) bool) bool {
	for _, set := range k.sets {
		n := 0
		for _, v := range set {
			if fits(v) {
				n++
			}
		}
		if n <= len(set)/2 {
			return false
		}
	}
	return true
}

// unheld: S6, an entry is committed when it is synced at a quorum of the
// configuration that is in force at the leader, of both sets if that is joint:
// the last one up to the entry, or a later one that the log has already.
// Learners count nowhere. It says what is missing.
func (l *ledger) unheld(s *voterState, index uint64, entry identity) string {
	holds := func(v serverLife) bool {
		holder := l.state(v)
		if holder == nil {
			return false
		}
		if had, ok := holder.rotted[index]; ok && had == entry {
			return true
		}
		got, ok := at(holder.disk, index)
		return ok && got == entry && !slices.Contains(holder.damaged, index)
	}
	k := s.founding
	for _, next := range s.settings {
		if next.index > index && k != nil && k.most(holds) {
			return ""
		}
		k = next
	}
	if k == nil || k.most(holds) {
		return ""
	}
	return fmt.Sprintf("no quorum of %v has it synced", k)
}

// elected: S7, S10, a leader has the votes of a quorum of its configuration,
// each durable; learners' votes count nowhere.
func (l *ledger) elected(id uint16, term uint64) {
	k := l.inForce(id)
	if k == nil {
		return
	}
	if !k.most(func(v serverLife) bool {
		voter := l.state(v)
		if voter == nil {
			return false
		}
		return voter.votes[term] == id || v.id == id && voter.hardTerm == term && voter.hardVote == id
	}) {
		l.violate("S7", "server %d leads term %d without the votes of a quorum of %v", id, term, k)
	}
}
