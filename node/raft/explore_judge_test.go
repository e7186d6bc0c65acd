package raft

import (
	"fmt"
	"slices"
)

// What must hold of all servers together, S1 to S10 and S13. It is counted here from disks and votes, not from what the
// cores believe.

// fact is an entry that was committed, with the term of the leader that did.
type fact struct {
	term, by uint64
	value    int
	kind     Kind
}

// judge looks at t after server i took a step, which came to o; "" if all is well. It also keeps the books: who led,
// what was committed.
func (x *explorer) judge(before, t *scene, i int, o *outcome) (bad string) {
	defer func() {
		if r := recover(); r != nil {
			bad = fmt.Sprint(r)
		}
	}()
	was, n := x.nodes[before.nodes[i]], x.nodes[t.nodes[i]]
	if was != n {
		x.judgeLog(t, i, n)
		if n.Core.role == Leader && (was.Core.role != Leader || was.Core.hard.Term != n.Core.hard.Term) {
			x.judgeElection(t, n)
		}
		x.judgeCommit(t, n, o)
		x.judgeConfigurations(t, n)
	}
	for _, id := range o.sent {
		x.judgeAck(t, n, &x.packets[id])
	}
	for _, index := range o.reads {
		if head := uint64(t.heads[i]); index+1 < head {
			fail("S13: a read of server %d is served at %d, %d was committed when it was asked", n.ID, index, head-1)
		}
	}
	return ""
}

// judgeElection: one leader in a term (S1), by durable votes of a quorum (S7), with all that earlier terms committed (S4).
func (x *explorer) judgeElection(t *scene, n *node) {
	term := n.Core.hard.Term
	if l := t.leaders[term]; l != 0 && l != n.ID {
		fail("S1: %d and %d lead term %d", l, n.ID, term)
	}
	t.leaders[term] = n.ID
	k, _ := n.inForce(x.founding)
	if !x.lenient && !x.quorum(t, k, func(m *node) bool { return m.Votes[term] == n.ID }) {
		fail("S7: %d leads term %d without the durable votes of a quorum", n.ID, term)
	}
	x.judgeComplete(t, n)
}

func (x *explorer) judgeComplete(t *scene, n *node) {
	for i, f := range t.ledger {
		if f.by < n.Core.hard.Term && (i >= len(n.Log) || n.Log[i].Term != f.term || n.Log[i].value != f.value) {
			fail("S4: %d leads term %d without entry %d, which term %d has committed", n.ID, n.Core.hard.Term, i+1, f.by)
		}
	}
}

// judgeCommit: what is committed stays (S3), is synced at a quorum (S6), and is had by leaders of later terms (S4).
func (x *explorer) judgeCommit(t *scene, n *node, o *outcome) {
	known := uint64(len(t.ledger))
	for i := uint64(1); i <= n.Commit; i++ {
		e := &n.Log[i-1]
		if i <= known {
			if f := t.ledger[i-1]; f.term != e.Term || f.value != e.value {
				fail("S3: %d commits (%d, term %d, value %d), but it was (term %d, value %d)", n.ID, i, e.Term, e.value, f.term, f.value)
			}
			continue
		}
		at := slices.IndexFunc(o.counts, func(c count) bool { return c.upTo >= i })
		if at < 0 {
			fail("S3: %d commits %d and did not count", n.ID, i)
		}
		if !x.lenient && !x.quorum(t, o.counts[at].by, func(m *node) bool { return uint64(len(m.Disk)) >= i && m.Disk[i-1].Term == e.Term }) {
			fail("S6: %d commits %d, which no quorum of its configuration has synced", n.ID, i)
		}
		t.ledger = append(slices.Clip(t.ledger), fact{e.Term, n.Core.hard.Term, e.value, e.Kind})
	}
	if uint64(len(t.ledger)) == known {
		return
	}
	for _, id := range t.nodes[:x.servers] {
		if m := x.nodes[id]; m.Core.role == Leader {
			x.judgeComplete(t, m)
		}
	}
}

// quorum counts by ids, both sets where there are two.
func (x *explorer) quorum(t *scene, k *Configuration, has func(*node) bool) bool {
	majority := func(ids []uint16) bool {
		n := 0
		for _, id := range ids {
			if int(id) <= x.servers && has(x.nodes[t.nodes[id-1]]) {
				n++
			}
		}
		return n > len(ids)/2
	}
	return majority(k.voters()) && (len(k.Old) == 0 || majority(k.Old))
}

// judgeLog: logs and disks that have an entry in common have all before it in common (S2).
func (x *explorer) judgeLog(t *scene, i int, n *node) {
	for j, id := range t.nodes[:x.servers] {
		m := x.nodes[id]
		if i == j {
			continue
		}
		for _, other := range [][]body{m.Log, m.Disk} {
			same := false
			for at := min(len(n.Log), len(other)) - 1; at >= 0; at-- {
				a, b := &n.Log[at], &other[at]
				same = same || a.Term == b.Term
				if same && (a.Term != b.Term || a.value != b.value || a.Kind != b.Kind) {
					fail("S2: the logs of %d (%s) and %d (%s) differ at %d, below what they have in common", n.ID, describeLog(n.Log), m.ID, describeLog(other), at+1)
				}
			}
		}
	}
}

// judgeConfigurations: at most one is not committed, but for a joint one and what cancels it (S10).
func (x *explorer) judgeConfigurations(t *scene, n *node) {
	var last *Configuration
	for i := len(t.ledger); i < len(n.Log); i++ {
		k := n.Log[i].Config
		if k == nil {
			continue
		}
		if last != nil && !(len(last.Old) > 0 && len(k.Old) == 0 && slices.Equal(k.voters(), last.Old)) {
			fail("S10: server %d has two configurations that are not committed, the last at %d", n.ID, i+1)
		}
		last = k
	}
}

// judgeAck: what is acknowledged is what the leader has (S9).
func (x *explorer) judgeAck(t *scene, n *node, p *packet) {
	if p.Kind != Ack || x.lenient {
		return
	}
	l := x.nodes[t.nodes[p.To-1]]
	if l.Core.role != Leader || l.Core.hard.Term != p.Term {
		return
	}
	for i := range min(p.Match, uint64(len(n.Disk))) {
		if i >= uint64(len(l.Log)) || n.Disk[i].Term != l.Log[i].Term || n.Disk[i].value != l.Log[i].value {
			fail("S9: %d acknowledges %d to %d, but differs at %d", n.ID, p.Match, p.To, i+1)
		}
	}
}
