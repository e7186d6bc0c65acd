package main

// leases are bugs in leases, drift and transfer; they have the numbers from 400.
var leases = []mutant{
	{22, "a lease begins with the receipt of the answer", "R1, tests", raftTests, []edit{
		{"node/raft/replicate.go", "\tp.lease.promised(m.EchoSeq, m.EchoTimeout)\n", "\tp.lease.sentAt = c.now\n\tp.lease.promised(m.EchoSeq, m.EchoTimeout)\n"},
	}},
	{23, "a lease is kept through a transfer", "R1, tests", raftTests, []edit{
		{"node/raft/lease.go", " || c.transfer.told || c.leaving {", " || c.leaving {"},
	}},
	{400, "rule 1: nothing is left for drift", "R1, tests", raftTests, []edit{
		{"node/raft/lease.go", "l.sentAt+timeout-timeout/leaseDrift", "l.sentAt+timeout"},
	}},
	{401, "rule 1: a lease lasts for the leader's T, not for what was promised", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "p.lease.promised(m.EchoSeq, m.EchoTimeout)", "p.lease.promised(m.EchoSeq, c.cfg.Timeout)"},
	}},
	{402, "rule 1: an answer to an earlier message renews the lease", "R1, tests", raftTests, []edit{
		{"node/raft/lease.go", "if l.seq == 0 || seq < l.seq {", "if l.seq == 0 {"},
	}},
	{403, "rule 1: a follower echoes one message and the T of another", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "\tif m.Seq >= a.seq { // what", "\ta.timeout = timeout\n\tif m.Seq >= a.seq { // what"},
	}},
	{404, "rule 1: a lease is looked at with the time of before a pause", "R1, S13, tests", nodeTests, []edit{
		{"node/reads.go", "n.core.Read(now)", "n.core.Read(0)"},
	}},
	{405, "rule 1: a promise counts for longer than any restart holds", "tests", raftTests, []edit{
		{"node/raft/lease.go", "min(timeout, longestLease)", "max(timeout, 0)"},
	}},
	{410, "rule 2: a restart looks only at the last configuration of its log", "tests", raftTests, []edit{
		{"node/raft/lease.go", "\t\tif c.configs[i].Leases {", "\t\tif i == len(c.configs)-1 && c.configs[i].Leases {"},
	}},
	{411, "rule 2: what a server promised before it restarted backs a lease on its word after", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "\t\t\tp.lease.until = 0\n", ""},
	}},
	{412, "rule 2: leases are allowed by a later configuration", "tests", raftTests, []edit{
		{"node/raft/lease.go", "return !k.Leases || c.inForce().Leases", "return !k.Leases || c.role == Leader"},
	}},
	{420, "a lease before an entry of its term is committed", "tests", raftTests, []edit{
		{"node/raft/lease.go", "!c.mayChange() ||", "c.inForce().Index > c.commit ||"},
	}},
	{421, "a lease under a configuration that is not committed", "tests", raftTests, []edit{
		{"node/raft/lease.go", "!c.mayChange() ||", "c.commit < c.firstOfTerm ||"},
	}},
	{422, "a joint lease is that of the new majority alone", "tests", raftTests, []edit{
		{"node/raft/lease.go", "int64(c.quorum(leases))", "int64(c.majority(leases, false))"},
	}},
	{413, "rule 2: messages that allow no leases renew one", "tests", raftTests, []edit{
		{"node/raft/lease.go", "\tif !leases {\n\t\t*l = lease{}", "\tif !leases && seq == 0 {\n\t\t*l = lease{}"},
	}},
	{423, "a lease of a leader that is leaving", "tests", raftTests, []edit{
		{"node/raft/lease.go", " || c.transfer.told || c.leaving {", " || c.transfer.told {"},
	}},
}
