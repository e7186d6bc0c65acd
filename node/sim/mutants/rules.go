package main

// ruled has a mutant for each rule of safety that the code can carry so far;
// rule N has the numbers from 100 + 10 N, and 101 is of none alone.
var ruled = []mutant{
	{101, "nothing is ever synced", "S14", walTests, []edit{
		{"wal/batch.go", "if err := l.syncFile(); err != nil {\n\t\t\treturn l.fail(fmt.Errorf(\"wal: sync segment %d:", "if err := l.Err(); err != nil {\n\t\t\treturn l.fail(fmt.Errorf(\"wal: sync segment %d:"},
	}},
	{110, "rule 1: a promise shrinks with a shorter timeout", "tests", raftTests, []edit{
		{"node/raft/promise.go", "p.until = max(p.until, now+timeout)", "p.until = now + timeout"},
	}},
	{120, "rule 2: a restarted server forgets a promise that backs a lease", "tests", raftTests, []edit{
		{"node/raft/promise.go", "if leases {\n\t\tp.keep(", "if leases && largest == 0 {\n\t\tp.keep("},
	}},
	{102, "a joint election is won by the new voters alone", "S7", raftTests, []edit{
		{"node/raft/quorum.go", "won, lost = won && w, lost || l", "lost = lost || l || w && !w"},
	}},
	{103, "a transfer's vote overrides promises for any term", "tests", raftTests, []edit{
		{"node/raft/transfer.go", "m.Transfer && !m.Pre && m.Term <= c.hard.Term+1 &&", "m.Transfer && !m.Pre &&"},
	}},
	{104, "a leader that was not told to go takes a transfer's word", "tests", raftTests, []edit{
		{"node/raft/transfer.go", "(c.role != Leader || c.transfer.told)", "(c.role != Leader || c.transfer.to == 0)"},
	}},
	{130, "rule 2: a hint ends a promise that backs a lease", "tests", raftTests, []edit{
		{"node/raft/hint.go", "c.hint.leader != 0 && !c.hint.dead && c.now >= c.promise.leased", "c.hint.leader != 0 && !c.hint.dead"},
		{"node/raft/promise.go", "p.until = min(p.until, p.leased)", "p.until = 0"},
	}},
	{131, "rule 3: a leader that answers and leads is held for dead", "tests", raftTests, []edit{
		{"node/raft/hint.go", "if m.FromBoot != h.boot || !m.Leads {", "if m.FromBoot != h.boot || m.Leads {"},
	}},
	{132, "rule 3: of two that notice together neither yields", "tests", raftTests, []edit{
		{"node/raft/hint.go", "if !me.below(m.LastTerm, m.LastIndex, m.From) {", "if m.LastTerm < me.lastTerm {"},
	}},
	{140, "rule 4: a deadline passes while the sockets are not drained", "R4", nodeTests, []edit{
		{"node/turn.go", "if drained && now >= ", "if now >= "},
	}},
	{150, "rule 5: an echo of another boot counts", "tests", raftTests, []edit{
		{"node/raft/raft.go", "return m.EchoBoot == c.cfg.Boot && c.peer(m.From) != nil", "return c.peer(m.From) != nil"},
	}},
	{151, "rule 5: a read answer to another boot counts", "tests", raftTests, []edit{
		{"node/raft/raft.go", "return m.EchoBoot == c.cfg.Boot && m.EchoSeq <= c.reads.number", "return m.EchoSeq <= c.reads.number"},
	}},
	{160, "rule 6: the hard state is written in one place only", "tests", walTests, []edit{
		{"wal/wal.go", "\tl.pending.slot = true\n", ""},
	}},
	{161, "rule 6: an ack leaves before its term is durable", "S7", raftTests, []edit{
		{"node/raft/replicate.go", "if !a.now || c.voteless || !c.hardDurable() {", "if !a.now || c.voteless {"},
	}},
	{170, "rule 7: the founding list is sent before it is durable", "R7", nodeTests, []edit{
		{"node/found.go", "\tn.founding.persisting = true\n", "\tn.founding.persisting = true\n\tfor _, s := range n.identity.Pool {\n\t\tif s.ID != n.identity.ID {\n\t\t\tn.sendList(0, s.ID)\n\t\t}\n\t}\n"},
	}},
	{171, "rule 7: a server that holds a list counts as blank, and a second cluster is founded", "S7", nodeTests, []edit{
		{"node/found.go", "\tcase f.Blank:\n", "\tcase f.Blank || n.founds():\n"},
	}},
	{172, "rule 7: a server that founds alone waits for nobody", "S1, R7", nodeTests, []edit{
		{"node/found.go", "(len(n.identity.Voters) == 1 || now", "(now < 0 || now"},
	}},
	{181, "rule 8: a wiped server joins under whatever incarnation it has", "S7", nodeTests, []edit{
		{"node/found.go", "\tif f.Incarnation != n.identity.Incarnation {", "\tif f.Incarnation == 0 {"},
	}},
	{180, "rule 8: a client follows another cluster than that of its first answer", "tests", clientTests, []edit{
		{"kv/client/deliver.go", "!r.Blank && c.cluster != ([16]byte{}) && r.Cluster != c.cluster", "!r.Blank && c.cluster == r.Cluster && r.Cluster != c.cluster"},
	}},
	{190, "rule 9: a leader hears members of any incarnation", "tests", raftTests, []edit{
		{"node/raft/raft.go", "k != nil && k.Incarnation != m.FromIncarnation", "k != nil && m.FromIncarnation == 0"},
	}},
	{191, "rule 9: a restarted server is taken for a twin", "R9", nodeTests, []edit{
		{"node/twin.go", "asked <= t.proven || asked > t.asked || h.Boot == t.boot", "asked > t.asked || h.Boot == t.boot"},
		{"node/twin.go", "if h.Boot == t.before && !t.refused {", "if t.before != 0 && !t.refused {"},
	}},
	{192, "rule 9: twins are not noticed", "tests", nodeTests, []edit{
		{"node/twin.go", "if h.Boot == t.before && !t.refused {", "if h.Boot == t.before && h.Boot == 0 {"},
	}},
	{193, "rule 9: a late reject is taken for forgetting", "R9", raftTests, []edit{
		{"node/raft/progress.go", "m.Reject && m.EchoSeq > p.ackedSeq &&", "m.Reject &&"},
	}},
	{194, "rule 9: a restored directory is not noticed", "tests", nodeTests, []edit{
		{"node/raft/progress.go", "(m.RejectPrev <= p.acked || m.Hint < p.acked)", "m.RejectPrev == 0"},
	}},
	{195, "rule 9: a process does not look for its own twin", "tests", nodeTests, []edit{
		{"node/twin.go", "if to := n.out.peerAt(now, n.identity.ID); to.IsValid() && to != from {", "if to := n.out.peerAt(now, n.identity.ID); !to.IsValid() {"},
	}},
	{200, "rule 10: a later leader takes a joint configuration back", "R10", raftTests, []edit{
		{"node/raft/change.go", "case c.joint && k.Index < c.firstOfTerm:", "case c.joint && k.Index == 0:"},
	}},
	{201, "rule 10: a committed joint configuration is taken back", "R10", raftTests, []edit{
		{"node/raft/change.go", "case c.joint && k.Index <= c.commit:", "case c.joint && k.Index == 0:"},
	}},
	{210, "trap 1: a configuration before anything of the term is committed", "R11", raftTests, []edit{
		{"node/raft/membership.go", "return c.commit >= c.firstOfTerm && c.inForce", "return c.inForce"},
	}},
	{211, "trap 2: a joint configuration is left before it is committed", "S10", raftTests, []edit{
		{"node/raft/membership.go", " && c.inForce().Index <= c.commit", ""},
	}},
	{212, "trap 6: a server outside its newest configuration never campaigns", "tests, E3", raftTests, []edit{
		{"node/raft/election.go", "\t\tif c.configs[i].Index <= c.commit {\n\t\t\treturn false", "\t\tif i > 0 || c.configs[i].Index <= c.commit {\n\t\t\treturn false"},
	}},
	{213, "trap 7: a voter that was replaced is not heard by who was away", "tests, E3", raftTests, []edit{
		{"node/raft/raft.go", " && !c.renewed(m) {", " {"},
	}},
	{214, "trap 7: only members are voted for", "tests, E3", raftTests, []edit{
		{"node/raft/election.go", "\t\t\tif m.LastIndex < k.Index {\n\t\t\t\treturn k.Index", "\t\t\tif m.LastIndex < maxIndex {\n\t\t\t\treturn max(k.Index, 1)"},
	}},
	{215, "trap 22: a server that does not know that it is a voter does not vote", "tests, E3", raftTests, []edit{
		{"node/raft/election.go", "\tif c.voteless {\n\t\treturn ReasonVoteless", "\tif c.voteless || !c.self && !c.old {\n\t\treturn ReasonVoteless"},
	}},
	{216, "a change goes joint before who is new has caught up, and alive", "tests", raftTests, []edit{
		{"node/raft/steps.go", "if !quorumAlive(ids) {", "if len(ids) == 0 {"},
	}},
	{220, "rule 12: a sector of a value may be all zero", "tests", walTests, []edit{
		{"wal/record.go", "\t\tif isZero(body[p : p+sectorBytes]) {\n\t\t\thit = true", "\t\tif isZero(body[p : p+sectorBytes]) {\n\t\t\thit = false"},
	}},
	{230, "rule 13: a server with a damaged log leads", "tests", raftTests, []edit{
		{"node/raft/election.go", "c.disk == DiskStalled || c.damage.any() {", "c.disk == DiskStalled {"},
	}},
	{231, "rule 13: a server acknowledges past its damage", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "m.Match = min(c.proven, c.durable, c.damage.first()-1)", "m.Match = min(c.proven, c.durable)"},
	}},
	{240, "rule 14: answers leave though their sync failed", "S6, S9", nodeTests, []edit{
		{"node/persist.go", "\tif err != nil {\n\t\tn.fail(err)\n\t\treturn\n\t}\n\tindex, term, synced", "\tif err != nil {\n\t\tn.logger.Error(\"sync\", \"err\", err)\n\t}\n\tindex, term, synced"},
	}},
	{260, "rule 16: an entry larger than the datagram is not sent", "tests, E3", nodeTests, []edit{
		{"node/outbound.go", "\t\to.sendLarge(now, to, dst, wire.KindAppend, body)\n", ""},
	}},
	{280, "rule 18: a repetition by the network is refused as if it were a copy", "tests, E2", nodeTests, []edit{
		{"node/inbound.go", " && !n.asked(now, &h, from) {", " && !n.asked(now, &h, from) && h.Src == 0 {"},
	}},
	{281, "rule 18: one refusal counts for all copies at a server", "tests, E2", clientTests, []edit{
		{"kv/client/outcome.go", "a.refused+1 < a.sent {", "a.refused+1 < 0 {"},
	}},
	{282, "rule 18: a refusal clears a copy of each term", "tests, E2", clientTests, []edit{
		{"kv/client/outcome.go", "\t\tk.drop(first)\n", "\t\tk.drop(first)\n\t\tk.refuse(s, term)\n"},
	}},
	{283, "rule 18: busy is taken for a refusal of a copy that went in pieces", "tests", clientTests, []edit{
		{"kv/client/deliver.go", "r.Index == 0 && !o.pieces", "r.Index == 0"},
	}},
	{284, "rule 18: a forgotten session says that no copy was applied", "tests", clientTests, []edit{
		{"kv/client/deliver.go", "if o.sends == 1 && r.Index != 0 {", "if r.Index != 0 {"},
	}},
	{285, "rule 18: an early registration speaks for all copies of its term", "tests", clientTests, []edit{
		{"kv/client/deliver.go", "o.copies.refuseIn(r.Term, r.Index)", "o.copies.clearBefore(r.Term + 1)"},
	}},
	{290, "rule 19: log time is the leader's clock", "R19", nodeTests, []edit{
		{"node/step.go", "return max(n.stamp+max(now-n.stampAt, 0), 1)", "return max(n.stamp, now, 1)"},
	}},
	{291, "rule 19: an old registration is accepted", "tests", kvTests, []edit{
		{"kv/session.go", "return registered >= now-Horizon && registered <= now+Horizon", "return registered <= now+Horizon"},
	}},
	{300, "rule 20: a one-shot session lives like any other", "tests", kvTests, []edit{
		{"kv/session.go", "class = classOneShot\n", "class = classIdle\n"},
	}},
	{310, "rule 21: a repeat is executed again", "S11", kvTests, []edit{
		{"kv/kv.go", "if k := p.cached(c.Seq); k != nil {", "if k := p.cached(c.Seq); k != nil && k.term == 0 {"},
	}},
}
