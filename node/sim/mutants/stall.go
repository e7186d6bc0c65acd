package main

// Bugs about disks that stall.
func init() { mutants = append(mutants, stalled...) }

var stalled = []mutant{
	{320, "a leader whose disk stalls leads on for ever", "E8", raftTests, []edit{
		{"node/raft/stall.go", "if c.disk != DiskStalled || c.leaving", "if c.disk != DiskStalled+1 || c.leaving"},
	}},
	{321, "a leader whose disk stalls hands over though the others are no better", "tests", raftTests, []edit{
		{"node/raft/stall.go", "p.disk == DiskWell && c.alive(p.id)", "c.alive(p.id)"},
	}},
	{322, "a server does not say that its disk stalls", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "EchoTimeout: a.timeout, Disk: c.disk}", "EchoTimeout: a.timeout}"},
	}},
	{323, "a leader whose disk stalls, and whom nobody relieves, goes on leading", "tests", raftTests, []edit{
		{"node/raft/stall.go", "\tif c.stallTried {\n\t\tc.becomeFollower(c.hard.Term, 0)\n\t\treturn\n\t}\n", ""},
	}},
	{324, "one majority of a joint configuration is enough to hand over to", "tests", raftTests, []edit{
		{"node/raft/stall.go", "c.wellMajority(false) && (!c.joint || c.wellMajority(true))", "c.wellMajority(false)"},
	}},
	{325, "a server whose disk stalls stands for leader", "tests", raftTests, []edit{
		{"node/raft/election.go", "c.voteless || c.disk == DiskStalled || c.damage.any()", "c.voteless || c.damage.any()"},
	}},
	{326, "a disk counts as well as soon as a sync has ended", "tests", nodeTests, []edit{
		{"node/stall.go", "d.badAt != 0 && now-d.badAt < stallMemory", "d.badAt != 0 && now < d.badAt"},
	}},
	{327, "a server that was stopped calls its disk stalled", "tests", nodeTests, []edit{
		{"node/pace.go", "\tp.batchAt = now\n", ""},
	}},
	{328, "the guard leaves the loop to a sync that hangs", "tests", nodeTests, []edit{
		{"node/guard.go", "\tif since == 0 {\n", "\tif since >= 0 {\n"},
	}},
}
