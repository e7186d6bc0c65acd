package main

// published are those of the survey's list, under its numbers; the gaps are bugs in
// parts that do not exist yet.
var published = []mutant{
	{1, "a vote is sent before it is synced", "S7", raftTests, []edit{
		{"node/raft/raft.go", "c.eff.AfterSync = append(c.eff.AfterSync, m)", "c.eff.Send = append(c.eff.Send, m)"},
	}},
	{2, "the term is saved without the vote", "S7", nodeTests, []edit{
		{"node/step.go", "wal.HardState{Term: e.Hard.Term, Vote: e.Hard.Vote}", "wal.HardState{Term: e.Hard.Term}"},
	}},
	{3, "a vote for a shorter log of the same term", "S4", raftTests, []edit{
		{"node/raft/election.go", "m.LastTerm < last || m.LastTerm == last && m.LastIndex < c.log.last", "m.LastTerm < last"},
	}},
	{4, "an entry of an old term is committed by counting", "S3", raftTests, []edit{
		{"node/raft/replicate.go", "if t, _ := c.log.term(n); t == c.hard.Term {", "if t, _ := c.log.term(n); t > 0 {"},
	}},
	{5, "a follower commits beyond what the message proved", "S3", raftTests, []edit{
		{"node/raft/replicate.go", "min(m.Commit, c.proven)", "min(m.Commit, c.log.last)"},
	}},
	{6, "a follower truncates on any overlap", "S6, S3", raftTests, []edit{
		{"node/raft/replicate.go", "if t, ok := c.log.term(e.Index); ok && t == e.Term {", "if t, ok := c.log.term(e.Index); ok && t == e.Term && e.Index <= c.commit {"},
		{"node/raft/replicate.go", "e.Index <= c.commit || e.Index <= c.proven", "e.Index <= c.commit"},
	}},
	{7, "an ack names the last index, not what was proven", "S9", raftTests, []edit{
		{"node/raft/replicate.go", "m.Match = min(c.proven, c.durable,", "m.Match = min(c.log.last, c.durable,"},
	}},
	{8, "a leader counts itself before its sync", "S6", raftTests, []edit{
		{"node/raft/quorum.go", "return c.durable", "return c.log.last"},
	}},
	{9, "the end of a sync of an old term marks entries", "S9", raftTests, []edit{
		{"node/raft/raft.go", "ok && t == term && serial >= c.truncSerial", "ok && t > 0"},
	}},
	{10, "a leader that sees a higher term goes on leading", "S1", raftTests, []edit{
		{"node/raft/replicate.go", "if m.Term > c.hard.Term {\n\t\tc.becomeFollower(m.Term, 0)\n\t\treturn", "if m.Term > c.hard.Term {\n\t\tc.setHard(HardState{Term: m.Term})\n\t\treturn"},
	}},
	{11, "there is no pre-vote: every timeout raises the term", "tests", raftTests, []edit{
		{"node/raft/raft.go", "c.preCampaign()", "c.campaign(false)"},
	}},
	{12, "no check of the quorum: a leader that hears nobody leads on", "E3", raftTests, []edit{
		{"node/raft/replicate.go", "if c.soleVoter() {\n\t\treturn Never", "if c.hard.Term > 0 {\n\t\treturn Never"},
	}},
	{13, "no entry at the start of a term", "E3", raftTests, []edit{
		{"node/raft/election.go", "c.appendEntry(Entry{Term: c.hard.Term, Kind: NoOp, Size: noOpBytes, Ref: -1})\n\tc.firstOfTerm = c.log.last", "c.firstOfTerm = c.log.last + 1"},
	}},
	{14, "joint commits by the new majority alone", "tests", raftTests, []edit{
		{"node/raft/quorum.go", "v = min(v, c.majority(q, true))", "v = max(v, c.majority(q, true)*0)"},
	}},
	{15, "a configuration is in force when it is committed, not when it is appended", "S6, S10", raftTests, []edit{
		{"node/raft/log.go", "\t\tc.enforce()\n", ""},
		{"node/raft/replicate.go", "\t\t\tc.commit = n\n", "\t\t\tc.commit = n\n\t\t\tc.enforce()\n"},
		{"node/raft/replicate.go", "\tc.commit = max(c.commit, min(m.Commit, c.proven))\n", "\tif n := min(m.Commit, c.proven); n > c.commit {\n\t\tc.commit = n\n\t\tc.enforce()\n\t}\n"},
	}},
	{16, "a configuration is kept after its entry is cut", "tests", raftTests, []edit{
		{"node/raft/log.go", "\tc.rollBack(from)\n", ""},
	}},
	{17, "learners are counted", "S6, S7", raftTests, []edit{
		{"node/raft/progress.go", "\treturn p.voter\n", "\treturn p.voter || !p.oldVoter\n"},
	}},
	{18, "a leader that is removed leaves before that is committed", "tests, E3", raftTests, []edit{
		{"node/raft/transfer.go", "k.Index <= c.commit && c.commit >= c.firstOfTerm && !c.self", "k.Index > 0 && !c.self"},
		{"node/raft/replicate.go", "\tc.confirmReads()\n}\n\n// pendingAck", "\tc.checkLeaving()\n\tc.confirmReads()\n}\n\n// pendingAck"},
	}},
	{19, "a wiped server keeps its id: nobody looks at incarnations", "S7", raftTests, []edit{
		{"node/raft/raft.go", "k != nil && k.Incarnation != m.FromIncarnation", "k != nil && m.FromIncarnation == 0"},
		{"node/found.go", "i >= 0 && c.Members[i].Incarnation == n.identity.Incarnation", "i >= 0"},
	}},
	{20, "ReadIndex without the round", "S13", raftTests, []edit{
		{"node/raft/read.go", "n < len(w) && w[n].round <= round", "n < len(w) && round <= c.round"},
	}},
	{21, "a read joins a round that has begun", "S13", raftTests, []edit{
		{"node/raft/read.go", "\tc.round++\n", "\tif len(c.reads.waiting) == 0 {\n\t\tc.round++\n\t}\n"},
	}},
	{24, "a follower serves reads at its own commit", "S13", raftTests, []edit{
		{"node/raft/read.go", "ReadReady{a[n].ticket, m.Index}", "ReadReady{a[n].ticket, c.commit}"},
	}},
	{26, "a cached result is evicted inside the window", "S11", kvTests, []edit{
		{"kv/session.go", "\tif seq < s.acked {\n\t\treturn nil", "\tif seq <= s.acked {\n\t\treturn nil"},
	}},
	{27, "an unknown session is created silently", "S11", kvTests, []edit{
		{"kv/kv.go", "case c.Flags&FlagRegister == 0:", "case c.Flags&FlagRegister == 0 && c.Client == 0:"},
	}},
	{28, "sessions end by each server's own clock", "E4, S12", nodeTests, []edit{
		{"node/apply.go", "Time: e.Time, Count: e.Count, Body: e.Body})\n\t\tn.applied", "Time: now, Count: e.Count, Body: e.Body})\n\t\tn.applied"},
	}},
	{39, "fragments of two processes are put together", "tests", wireTests, []edit{
		{"wire/reassembler.go", "k := key{Sender{h.Src, h.Incarnation, h.Boot}, f.Message}", "k := key{Sender{h.Src, h.Incarnation, 0}, f.Message}"},
	}},
	{40, "overlapping fragments are accepted", "tests", wireTests, []edit{
		{"wire/reassembler.go", "if !bytes.Equal(place, f.Body) {", "if !bytes.Equal(place, f.Body) && copy(place, f.Body) == 0 {"},
	}},
	{42, "an answer is matched by its number alone, and numbers begin at 1", "tests", clientTests, []edit{
		{"kv/client/core.go", "c.seqs.start(c.rng.Uint64N(1<<48) + 1)", "c.seqs.start(1)"},
	}},
	{43, "a timeout is told as \"not applied\"", "E2", clientTests, []edit{
		{"kv/client/outcome.go", "return k.used == 0 && !k.lost", "return !k.lost"},
	}},
	{44, "a retry has a new number", "S11", clientTests, []edit{
		{"kv/client/core.go", "\t\t\tc.enqueue(h)\n\t\t\tc.Counters.Resent++", "\t\t\tif o := &c.ops[h]; !o.cmd.Op.IsRead() {\n\t\t\t\tc.seqs.remove(o.cmd.Seq)\n\t\t\t\to.session, o.cmd.Seq = nil, 0\n\t\t\t}\n\t\t\tc.enqueue(h)\n\t\t\tc.Counters.Resent++"},
	}},
	{45, "uncommitted bytes are never credited back", "tests, E3", raftTests, []edit{
		{"node/raft/replicate.go", "c.log.bytes(max(c.commit, c.firstOfTerm), c.log.last)", "c.log.bytes(c.firstOfTerm, c.log.last)"},
	}},
}
