package node

import (
	"slices"

	"balsa/node/raft"
	"balsa/wire"
)

// A configuration crosses the hub here: the wire's form has addresses and the
// cluster, the core's has only what quorums need.

func toRaft(c *wire.Configuration) raft.Configuration {
	r := raft.Configuration{Old: c.Old, Leases: c.Leases, Operation: c.Operation}
	for _, m := range c.Members {
		r.Members = append(r.Members, raft.Member{ID: m.ID, Incarnation: m.Incarnation, Voter: m.Role == wire.MemberVoter})
	}
	return r
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

func (c *configurations) truncate(from uint64) {
	for len(c.list) > 1 && c.list[len(c.list)-1].index >= from {
		c.list = c.list[:len(c.list)-1]
	}
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
}

// statusRole numbers the role as the status frame does.
func (n *Node) statusRole() uint8 {
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
