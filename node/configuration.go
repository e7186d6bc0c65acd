package node

import (
	"slices"
	"strconv"
	"strings"

	"balsa/node/raft"
	"balsa/wire"
)

// A configuration crosses the hub here: the wire's form has addresses and the
// cluster, the core's has only what quorums need.

func toRaft(c *wire.Configuration) raft.Configuration {
	return raft.Configuration{Members: toRaftMembers(c.Members), Old: c.Old, Target: toRaftMembers(c.Target), Leases: c.Leases, Operation: c.Operation}
}

func toRaftMembers(members []wire.Member) (r []raft.Member) {
	for _, m := range members {
		r = append(r, raft.Member{ID: m.ID, Incarnation: m.Incarnation, Voter: m.Role == wire.MemberVoter})
	}
	return r
}

// encodeConfiguration gives a configuration that the core made its addresses.
func (n *Node) encodeConfiguration(r *raft.Configuration) []byte {
	c := wire.Configuration{Cluster: n.founding.cluster, Leases: r.Leases, Operation: r.Operation, Old: r.Old}
	c.Members, c.Target = n.toWireMembers(r.Members), n.toWireMembers(r.Target)
	if err := c.Check(); err != nil {
		panic("configuration: the core made one that does not encode: " + err.Error())
	}
	return wire.AppendConfiguration(nil, &c)
}

func (n *Node) toWireMembers(members []raft.Member) (w []wire.Member) {
	for _, m := range members {
		k := wire.Member{ID: m.ID, Incarnation: m.Incarnation, Role: wire.MemberLearner, Addr: string(n.out.addressOf(m.ID))}
		if m.Voter {
			k.Role = wire.MemberVoter
		}
		w = append(w, k)
	}
	return w
}

// configurations are the configurations of the log in order, the newest in
// force, so that a truncated one can be rolled back. Each is kept encoded.
type configurations struct{ list []encodedConfiguration }

type encodedConfiguration struct {
	index uint64
	bytes []byte
}

func (c *configurations) add(index uint64, encoded []byte) {
	c.list = append(c.list, encodedConfiguration{index: index, bytes: slices.Clone(encoded)})
}

// truncate says whether another one is in force now.
func (c *configurations) truncate(from uint64) bool {
	before := len(c.list)
	for len(c.list) > 1 && c.list[len(c.list)-1].index >= from {
		c.list = c.list[:len(c.list)-1]
	}
	return len(c.list) < before
}

// index is that of the newest.
func (c *configurations) index() uint64 {
	if len(c.list) == 0 {
		return 0
	}
	return c.list[len(c.list)-1].index
}

func (c *configurations) current() []byte { return c.list[len(c.list)-1].bytes }

// configurationAppended: a configuration is in force as soon as it is in the
// log (thesis 4.1); from now on its addresses are where its servers are.
func (n *Node) configurationAppended(e *wire.Entry) {
	c, err := wire.DecodeConfiguration(e.Body)
	if err != nil {
		panic("step: a configuration that was checked does not decode: " + err.Error())
	}
	n.configurations.add(e.Index, e.Body)
	n.out.learn(&c)
	if n.o.Observe != nil {
		n.o.Observe.Configured(e.Index, &c)
	}
	n.logger.Info("configuration", "index", e.Index, "members", describe(&c))
}

// noteRemoved keeps a marker of the committed configuration that left this server
// out (SAFETY 8): it must say so when it is asked, and stand no more, also after
// a restart, when nobody may be left to tell it. A later configuration that
// names it makes the marker void, as that stands behind it in the log.
func (n *Node) noteRemoved(left uint64) {
	n.left = left
	if left == 0 {
		n.logger.Info("a configuration names this server again", "index", n.core.Status().ConfigurationIndex)
		return
	}
	n.logger.Warn("this server was removed from its cluster and stands for leader no more; bring it back with `balsa member add`, or make its directory anew",
		"configuration", left)
	if left > n.identity.Left {
		n.identity.Left = left
		n.log.SetFounding(n.identity.encode())
	}
}

// statusRole numbers the role as the status frame does.
func (n *Node) statusRole() uint8 {
	if n.left != 0 {
		return wire.RoleRemoved
	}
	switch n.core.Role() {
	case raft.PreCandidate:
		return wire.RolePreCandidate
	case raft.Candidate:
		return wire.RoleCandidate
	case raft.Leader:
		return wire.RoleLeader
	}
	return wire.RoleFollower
}

// describe tells a configuration in a log line: 1,2,3 or 1,2,3->2,3,4 +4.
func describe(c *wire.Configuration) string {
	var voters, learners []string
	for _, m := range c.Members {
		if m.Role == wire.MemberVoter {
			voters = append(voters, strconv.Itoa(int(m.ID)))
		} else {
			learners = append(learners, "+"+strconv.Itoa(int(m.ID)))
		}
	}
	s := strings.Join(voters, ",")
	if len(c.Old) > 0 {
		var old []string
		for _, id := range c.Old {
			old = append(old, strconv.Itoa(int(id)))
		}
		s = strings.Join(old, ",") + "->" + s
	}
	return strings.TrimSpace(s + " " + strings.Join(learners, " "))
}
