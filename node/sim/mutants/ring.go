package main

// gaps are bugs in what is held until the entries before it come; they have the numbers from 600.
var gaps = []mutant{
	{600, "what was held counts as durable as soon as it is in the log", "S9, tests", raftTests, []edit{
		{"node/raft/ring.go", "\t\tc.proven, fresh = c.log.last, true\n", "\t\tc.proven, c.durable, fresh = c.log.last, c.log.last, true\n"},
	}},
	{601, "what is held survives a change of leader", "tests", raftTests, []edit{
		{"node/raft/raft.go", "\t\tc.ring.clear()\n", ""},
		{"node/raft/replicate.go", "\t\tc.ring.clear()\n", ""},
		{"node/raft/log.go", "\tc.ring.clear()\n", ""},
	}},
	{602, "what follows a gap is held though the log may be another's", "tests", raftTests, []edit{
		{"node/raft/ring.go", " || c.proven == 0 || c.proven != c.log.last ||", " ||"},
	}},
	{603, "the body of what is held stays in its datagram", "tests", nodeTests, []edit{
		{"node/held.go", "\tslot.Body = body\n", "\t_ = body\n"},
	}},
	{604, "what is held needs no room on the disk", "tests", nodeTests, []edit{
		{"node/inbound.go", "\tbytes := held\n", "\tbytes := 0\n"},
		{"node/inbound.go", "if held > 0 && !n.log.Fits(held) {", "if held < 0 {"},
	}},
	{605, "an ack names what is held one place too high", "tests", raftTests, []edit{
		{"node/raft/ring.go", "if r.has(last + 2 + i) {", "if r.has(last + 1 + i) {"},
	}},
	{606, "every ack has a gap repaired", "tests", raftTests, []edit{
		{"node/raft/ring.go", "(r.index != i || m.EchoSeq > r.seq)", "(r.index != i || m.EchoSeq > 0)"},
	}},
	{607, "a repair that was lost is not repeated", "tests", raftTests, []edit{
		{"node/raft/ring.go", "(r.index != i || m.EchoSeq > r.seq)", "r.index != i"},
	}},
	{608, "a leader takes what is held for what is in the log", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "\tfurther := p.heard(m.Match, m.LastIndex)\n", "\tif m.Held != [2]uint64{} {\n\t\tm.LastIndex = m.highestHeld()\n\t}\n\tfurther := p.heard(m.Match, m.LastIndex)\n"},
	}},
}
