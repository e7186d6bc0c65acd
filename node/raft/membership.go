package raft

import "slices"

// Membership. A configuration is in force from the moment its entry is in the log, committed or not, and no longer
// once that entry is cut. So all of them are kept, from the founding list on; they are few.

// Member is one server of a configuration. Incarnation tells it from any other server that had the same id.
type Member struct {
	ID          uint16
	Incarnation uint64
	Voter       bool // of the new set; others are learners, or old voters on their way out
}

// Configuration lists everyone. While joint, Old has the voters of the old set, each also among Members. Target has the
// voters that the change under way wants, nil when none is; Operation names the change that made it.
type Configuration struct {
	Members   []Member
	Old       []uint16
	Target    []Member
	Leases    bool
	Operation uint64
}

// IndexedConfiguration is a configuration and the entry it came with; 0 for the founding list.
type IndexedConfiguration struct {
	Index uint64
	Configuration
}

func (k Configuration) clone() Configuration {
	k.Members, k.Old, k.Target = slices.Clone(k.Members), slices.Clone(k.Old), slices.Clone(k.Target)
	return k
}

func (k *Configuration) member(id uint16) *Member {
	for i := range k.Members {
		if k.Members[i].ID == id {
			return &k.Members[i]
		}
	}
	return nil
}

// isVoter tells whether the server counts in any set of k.
func (k *Configuration) isVoter(id uint16, incarnation uint64) bool {
	m := k.member(id)
	return m != nil && m.Incarnation == incarnation && (m.Voter || slices.Contains(k.Old, id))
}

// valid tells whether k can be put in force: ids distinct, a voter in the new set, old voters among the members, and a
// target, if any, of distinct servers that are known.
func (k *Configuration) valid() bool {
	voters := 0
	for i, m := range k.Members {
		if m.ID == 0 || m.ID == voteSpent || k.member(m.ID) != &k.Members[i] {
			return false
		}
		if m.Voter {
			voters++
		}
	}
	for i, id := range k.Old {
		if k.member(id) == nil || slices.Contains(k.Old[:i], id) {
			return false
		}
	}
	for i, t := range k.Target {
		same := func(o Member) bool { return o.ID == t.ID }
		if t.ID == 0 || t.ID == voteSpent || t.Incarnation == 0 || slices.ContainsFunc(k.Target[:i], same) {
			return false
		}
	}
	return voters > 0
}

func (c *Core) inForce() *IndexedConfiguration { return &c.configs[len(c.configs)-1] }

// enforce makes the last configuration the one that counts. Peers that stay keep what is known of them.
func (c *Core) enforce() {
	k := c.inForce()
	c.joint = len(k.Old) > 0 && !c.cfg.NewVotersAlone
	c.self, c.old = false, false
	before := c.peers
	c.peers = make([]peer, 0, len(k.Members))
	for _, m := range k.Members {
		old := slices.Contains(k.Old, m.ID)
		if m.ID == c.cfg.ID {
			if m.Incarnation == c.cfg.Incarnation {
				c.self, c.old = m.Voter, old
			}
			continue
		}
		p := peer{id: m.ID, incarnation: m.Incarnation}
		p.restart(c.now, c.log.last+1)
		c.change.departing = slices.DeleteFunc(c.change.departing, func(d departing) bool {
			if d.id == m.ID && d.incarnation == m.Incarnation {
				p = d.peer // back before it was gone
			}
			return d.id == m.ID
		})
		for i := range before {
			if before[i].id == m.ID && before[i].incarnation == m.Incarnation {
				p = before[i]
			}
		}
		p.voter, p.oldVoter = m.Voter, old
		c.peers = append(c.peers, p)
	}
	for i := range before {
		if c.role == Leader && k.member(before[i].id) == nil {
			c.depart(before[i], k.Index)
		}
	}
	slices.SortFunc(c.peers, func(a, b peer) int { return int(a.id) - int(b.id) })
	if cap(c.scratch) <= len(c.peers) {
		c.scratch = make([]uint64, 0, len(c.peers)+1)
	}
}

// rollBack takes back the configurations whose entries are cut.
func (c *Core) rollBack(from uint64) {
	n := len(c.configs)
	for n > 1 && c.configs[n-1].Index >= from {
		n--
	}
	if n < len(c.configs) {
		c.configs = c.configs[:n]
		c.enforce()
	}
}

// restoreConfiguration puts a configuration whose entry was damaged, and is now received again, where it belongs.
func (c *Core) restoreConfiguration(index uint64, k *Configuration) {
	i := len(c.configs)
	for i > 0 && c.configs[i-1].Index > index {
		i--
	}
	if i > 0 && c.configs[i-1].Index == index {
		return
	}
	c.configs = slices.Insert(c.configs, i, IndexedConfiguration{index, k.clone()})
	c.enforce()
}

// mayChange tells whether the leader may append a configuration: its own term has begun to commit, and the
// configuration in force is committed (under both majorities, if it is joint).
func (c *Core) mayChange() bool {
	return c.commit >= c.firstOfTerm && c.inForce().Index <= c.commit
}

func (c *Core) peer(id uint16) *peer {
	for i := range c.peers {
		if c.peers[i].id == id {
			return &c.peers[i]
		}
	}
	return nil
}
