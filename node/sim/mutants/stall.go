package main

// stalls are bugs in stalling disks and leaders that hand over; they have the numbers from 500.
var stalls = []mutant{
	{500, "a leader whose disk stalls leads on for ever", "E8", raftTests, []edit{
		{"node/raft/stall.go", "if c.disk != DiskStalled || c.leaving", "if c.disk != DiskStalled+1 || c.leaving"},
	}},
	{501, "a leader whose disk stalls hands over though the others are no better", "tests", raftTests, []edit{
		{"node/raft/stall.go", "p.disk == DiskWell && c.alive(p.id)", "c.alive(p.id)"},
	}},
	{502, "a server does not say that its disk stalls", "tests", raftTests, []edit{
		{"node/raft/replicate.go", "EchoTimeout: a.timeout, Disk: c.disk, ", "EchoTimeout: a.timeout, "},
	}},
	{503, "a leader whose disk stalls, and whom nobody relieves, goes on leading", "tests", raftTests, []edit{
		{"node/raft/stall.go", "\tif c.stallTried {\n\t\tc.becomeFollower(c.hard.Term, 0)\n\t\treturn\n\t}\n", ""},
	}},
	{504, "one majority of a joint configuration is enough to hand over to", "tests", raftTests, []edit{
		{"node/raft/stall.go", "c.wellMajority(false) && (!c.joint || c.wellMajority(true))", "c.wellMajority(false)"},
	}},
	{505, "a server whose disk stalls stands for leader", "tests", raftTests, []edit{
		{"node/raft/election.go", "c.voteless || c.disk == DiskStalled || c.damage.any()", "c.voteless || c.damage.any()"},
	}},
	{506, "a disk counts as well as soon as a sync has ended", "tests", nodeTests, []edit{
		{"node/stall.go", "d.badAt != 0 && now-d.badAt < stallMemory", "d.badAt != 0 && now < d.badAt"},
	}},
	{507, "a server that was stopped calls its disk stalled", "tests", nodeTests, []edit{
		{"node/pace.go", "\tp.batchAt = now\n", ""},
	}},
	{508, "the guard leaves the loop to a sync that hangs", "tests", nodeTests, []edit{
		{"node/guard.go", "\tif since == 0 {\n", "\tif since >= 0 {\n"},
	}},
	{509, "leadership is handed to a server whose disk stalls", "E3", raftTests, []edit{
		{"node/raft/transfer.go", "\tif p.disk == DiskStalled {\n", "\tif p.disk > DiskStalled {\n"},
		{"node/raft/transfer.go", "c.now >= t.until || p == nil || p.disk == DiskStalled", "c.now >= t.until || p == nil"},
	}},
}
