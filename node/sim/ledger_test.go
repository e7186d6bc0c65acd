package sim

import (
	"slices"
	"testing"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wire"
)

// Each case is a short run of three servers that breaks one rule; what comes
// before its last step is honest.
func TestLedgerSeesEachBrokenRule(t *testing.T) {
	cases := []struct {
		rule, name string
		run        func(r *rig)
	}{
		{"", "an honest run", func(r *rig) {}},
		{"", "acknowledged, then hurt by rot, and the answer is heard late", func(r *rig) {
			r.l.recovered(2, &recovered{log: []identity{{1, 11}, {1, 0}}, damaged: []uint64{2}, term: 1, vote: 1, rot: true})
			r.l.recovered(3, &recovered{log: []identity{{1, 11}}, voteless: true, term: 1, vote: 1, rot: true})
			r.l.commits(1, 2, identity{1, 12})
		}},
		{"S6", "hurt by rot and never acknowledged", func(r *rig) {
			for _, id := range []uint16{2, 3} {
				r.append(id, 3, 1, 13)
				r.sync(id)
				r.l.recovered(id, &recovered{log: []identity{{1, 11}, {1, 12}, {1, 0}}, damaged: []uint64{3}, term: 1, vote: 1, rot: true})
			}
			r.append(1, 3, 1, 13)
			r.sync(1)
			r.l.commits(1, 2, identity{1, 12})
			r.l.commits(1, 3, identity{1, 13})
		}},
		{"S1", "two leaders of one term", func(r *rig) { r.l.leader(2, 1) }},
		{"S1", "entries of a term led by another", func(r *rig) { r.hard(2, 2, 2); r.send(2, raft.Message{Kind: raft.Append, Term: 2, To: 1}) }},
		{"S2", "one index and term, two entries", func(r *rig) { r.append(3, 2, 1, 99) }},
		{"S2", "an entry after another than at its leader", func(r *rig) {
			r.append(2, 3, 1, 13)
			r.l.truncated(3, 2, false)
			r.append(3, 2, 2, 22)
			r.append(3, 3, 1, 13)
		}},
		{"S3", "another entry is committed", func(r *rig) { r.l.commits(2, 1, identity{1, 98}) }},
		{"S3", "what is committed is cut", func(r *rig) { r.l.truncated(2, 1, false) }},
		{"S4", "a leader without the ledger", func(r *rig) {
			r.hard(3, 2, 3)
			r.elect(3, 2, 2)
			r.l.truncated(3, 2, false)
			r.l.servers[3].memory = nil
			r.l.leader(3, 2)
		}},
		{"S4", "a vote for a worse log", func(r *rig) {
			r.hard(3, 2, 3)
			r.send(3, raft.Message{Kind: raft.Vote, Term: 2, To: 2, LastIndex: 1, LastTerm: 1})
			r.hard(2, 2, 3)
			r.send(2, raft.Message{Kind: raft.VoteReply, Granted: true, Term: 2, To: 3})
		}},
		{"S5", "a leader cuts its log", func(r *rig) { r.l.truncated(1, 2, true) }},
		{"S6", "committed, but synced at one", func(r *rig) {
			r.append(1, 3, 1, 13)
			r.sync(1)
			r.l.commits(1, 2, identity{1, 12})
			r.l.commits(1, 3, identity{1, 13})
		}},
		{"S6", "taken for durable, not synced", func(r *rig) { r.append(2, 3, 1, 13); r.l.claimedSynced(2, 3, 1) }},
		{"S7", "a vote that is not durable", func(r *rig) {
			r.hard(3, 2, 3)
			r.send(3, raft.Message{Kind: raft.Vote, Term: 2, To: 2, LastIndex: 2, LastTerm: 1})
			r.l.sent(2, 2, r.from(2, raft.Message{Kind: raft.VoteReply, Granted: true, Term: 2, To: 3}))
		}},
		{"S7", "two votes in a term", func(r *rig) { r.hard(2, 2, 3); r.l.hard(2, 2, 1) }},
		{"S7", "another incarnation takes part", func(r *rig) { r.l.sent(2, 1, &raft.Message{Kind: raft.Ack, FromIncarnation: 77, Term: 1, To: 1}) }},
		{"S8", "a term falls", func(r *rig) { r.hard(2, 2, 0); r.l.hard(2, 1, 0) }},
		{"S8", "a message above the sender's term", func(r *rig) { r.l.sent(2, 1, r.from(2, raft.Message{Kind: raft.Vote, Pre: true, Term: 2, To: 1})) }},
		{"S8", "commits out of order", func(r *rig) { r.l.commits(3, 2, identity{1, 12}) }},
		{"S9", "an ack of what is not synced", func(r *rig) {
			r.append(3, 3, 1, 13)
			r.send(3, raft.Message{Kind: raft.Ack, Term: 1, To: 1, Match: 3})
		}},
		{"S9", "an ack of what the leader has not", func(r *rig) {
			r.append(3, 3, 1, 13)
			r.sync(3)
			r.send(3, raft.Message{Kind: raft.Ack, Term: 1, To: 1, Match: 3})
		}},
		{"", "a late ack to a leader that follows another by now", func(r *rig) {
			r.append(1, 3, 1, 13)
			r.append(2, 3, 1, 13)
			r.sync(2)
			r.l.truncated(1, 3, false)
			r.append(1, 3, 2, 23)
			r.send(2, raft.Message{Kind: raft.Ack, Term: 1, To: 1, Match: 3})
		}},
		{"R7", "a second founding", func(r *rig) {
			r.configure(2, 0, voters(2))
			r.hard(2, 2, 2)
			r.l.leader(2, 2)
		}},
		{"", "a change by joint consensus, and one that is cancelled", func(r *rig) {
			r.make(1, 3, 1, both([]uint16{1, 2, 3}, 2, 3), 2)
			r.make(1, 4, 1, voters(2, 3), 3)
			r.make(1, 5, 1, both([]uint16{2, 3}, 1, 2, 3), 4)
			r.make(1, 6, 1, voters(2, 3), 4)
		}},
		{"S10", "two configurations are not committed", func(r *rig) {
			r.make(1, 3, 1, both([]uint16{1, 2, 3}, 2, 3), 2)
			r.make(1, 4, 1, voters(2, 3), 2)
		}},
		{"S10", "quorums that need not meet", func(r *rig) { r.make(1, 3, 1, voters(1), 2) }},
		{"R10", "a later leader takes a joint configuration back", func(r *rig) {
			r.make(1, 3, 1, both([]uint16{1, 2, 3}, 2, 3), 2)
			r.append(2, 3, 1, 103)
			r.l.configured(2, 3, both([]uint16{1, 2, 3}, 2, 3), false, 0)
			r.append(2, 4, 2, 24)
			r.make(2, 5, 2, voters(1, 2, 3), 4)
		}},
		{"R10", "a committed joint configuration is taken back", func(r *rig) {
			r.make(1, 3, 1, both([]uint16{1, 2, 3}, 2, 3), 2)
			r.make(1, 4, 1, voters(1, 2, 3), 3)
		}},
		{"R11", "a configuration before anything of the term is committed", func(r *rig) {
			r.append(2, 3, 2, 23)
			r.make(2, 4, 2, both([]uint16{1, 2, 3}, 2, 3), 2)
		}},
		{"S6", "a joint entry is committed by the new voters alone", func(r *rig) {
			r.make(1, 3, 1, both([]uint16{1, 2, 3}, 1), 2)
			r.sync(1)
			r.l.commits(1, 2, identity{1, 12})
			r.l.commits(1, 3, identity{1, 103})
		}},
		{"S6", "a learner is counted", func(r *rig) {
			c := voters(1, 2)
			c.Members = append(c.Members, member(3, wire.MemberLearner))
			r.l.servers[1].settings = append(r.l.servers[1].settings, newSetting(2, identity{1, 12}, c))
			r.append(1, 3, 1, 13)
			r.append(3, 3, 1, 13)
			r.sync(1)
			r.sync(3)
			r.l.commits(1, 2, identity{1, 12})
			r.l.commits(1, 3, identity{1, 13})
		}},
		{"S7", "a leader without a quorum's votes", func(r *rig) { r.hard(2, 2, 2); r.l.leader(2, 2) }},
		{"S11", "applied twice", func(r *rig) {
			r.l.applies(1, 1, 7, 1, &kv.Result{Status: kv.OK, Index: 1})
			r.l.applies(1, 2, 7, 1, &kv.Result{Status: kv.OK, Index: 2})
		}},
		{"S14", "a synced entry is gone", func(r *rig) { r.l.recovered(2, &recovered{log: []identity{{1, 11}}, term: 1, vote: 1}) }},
		{"S14", "after kill -9 something written is gone", func(r *rig) {
			r.append(2, 3, 1, 13)
			r.l.recovered(2, &recovered{log: []identity{{1, 11}, {1, 12}}, term: 1, vote: 1, unsynced: r.l.takeOps(2), whole: true})
		}},
		{"S14", "a durable vote is gone", func(r *rig) {
			r.hard(2, 2, 3)
			r.l.recovered(2, &recovered{log: []identity{{1, 11}, {1, 12}}, term: 2})
		}},
		{"S14", "damage that nothing did", func(r *rig) {
			r.l.recovered(2, &recovered{log: []identity{{1, 0}, {1, 12}}, damaged: []uint64{1}, term: 1, vote: 1})
		}},
		{"R13", "an ack past damage", func(r *rig) {
			r.l.recovered(3, &recovered{log: []identity{{1, 0}, {1, 12}}, damaged: []uint64{1}, term: 1, vote: 1, rot: true})
			r.send(3, raft.Message{Kind: raft.Ack, Term: 1, To: 1, Match: 1})
		}},
		{"R6", "a voteless server votes", func(r *rig) {
			r.l.recovered(3, &recovered{log: []identity{{1, 11}, {1, 12}}, voteless: true, term: 1, vote: 1, rot: true})
			r.hard(3, 2, 3)
			r.send(3, raft.Message{Kind: raft.Vote, Term: 2, To: 1, LastIndex: 2, LastTerm: 1})
		}},
		{"R7", "two founding lists", func(r *rig) { r.l.offered(1, 1); r.l.offered(1, 2) }},
	}
	for _, c := range cases {
		r := newRig()
		c.run(r)
		if r.broken != c.rule {
			t.Errorf("%s: rule %q is said to be broken, want %q (%s)", c.name, r.broken, c.rule, r.text)
		}
	}
}

// rig is three servers, of which 1 leads term 1 and has committed entry 1;
// entry 2 is synced everywhere.
type rig struct {
	l            *ledger
	broken, text string
}

func newRig() *rig {
	r := &rig{}
	r.l = newLedger(3, func(rule, format string, _ ...any) {
		if r.broken == "" {
			r.broken, r.text = rule, format
		}
	})
	r.l.changed = func(uint64, uint64, *kv.Result) {}
	for id := uint16(1); id <= 3; id++ {
		r.configure(id, 0, voters(1, 2, 3))
		r.l.started(id, uint64(id)*10)
		r.hard(id, 1, 1)
	}
	r.elect(1, 1, 2)
	r.l.leader(1, 1)
	for index := uint64(1); index <= 2; index++ {
		for id := uint16(1); id <= 3; id++ {
			r.append(id, index, 1, 10+index)
		}
	}
	for id := uint16(1); id <= 3; id++ {
		r.sync(id)
		r.l.claimedSynced(id, 2, 1)
	}
	r.send(1, raft.Message{Kind: raft.Append, Term: 1, To: 2})
	r.send(2, raft.Message{Kind: raft.Ack, Term: 1, To: 1, Match: 2})
	r.l.commits(1, 1, identity{1, 11})
	return r
}

// voters is a configuration of these.
func voters(ids ...uint16) *wire.Configuration {
	c := &wire.Configuration{Cluster: [16]byte{1}}
	for _, id := range ids {
		c.Members = append(c.Members, member(id, wire.MemberVoter))
	}
	return c
}

func member(id uint16, role uint8) wire.Member {
	return wire.Member{ID: id, Incarnation: uint64(id) * 10, Role: role, Addr: "127.0.0.1:7000"}
}

// both is the joint configuration from old to new voters.
func both(old []uint16, wanted ...uint16) *wire.Configuration {
	c := voters(wanted...)
	for _, id := range old {
		if !slices.Contains(wanted, id) {
			c.Members = append(c.Members, member(id, wire.MemberLearner))
		}
	}
	c.Old = old
	return c
}

// make lets a leader append a configuration, having committed up to commit.
func (r *rig) make(id uint16, index, term uint64, c *wire.Configuration, commit uint64) {
	r.append(id, index, term, 100*term+index)
	r.l.configured(id, index, c, true, commit)
}

func (r *rig) configure(id uint16, index uint64, c *wire.Configuration) {
	r.l.configured(id, index, c, false, 0)
}

// elect notes the votes that a candidate and one other gave it.
func (r *rig) elect(id uint16, term uint64, voter uint16) {
	r.l.servers[id].votes[term], r.l.servers[voter].votes[term] = id, id
}

func (r *rig) append(id uint16, index, term, sum uint64) { r.l.appended(id, index, term, sum) }
func (r *rig) sync(id uint16)                            { r.l.synced(id, r.l.takeOps(id)) }
func (r *rig) hard(id uint16, term uint64, vote uint16)  { r.l.hard(id, term, vote) }

func (r *rig) from(id uint16, m raft.Message) *raft.Message {
	m.From, m.FromIncarnation = id, uint64(id)*10
	return &m
}

func (r *rig) send(id uint16, m raft.Message) { r.l.sent(id, r.l.servers[id].hardTerm, r.from(id, m)) }
