package main

// identities are bugs in who a server is, where it is, and what is said of a change; they have the numbers from 700.
var identities = []mutant{
	{700, "rule 8: a removed server forgets that when it stops", "tests", nodeTests, []edit{
		{"node/configuration.go", "\t\tn.log.SetFounding(n.identity.encode())\n", ""},
	}},
	{701, "rule 8: a removed server stands on", "tests", raftTests, []edit{
		{"node/raft/election.go", "\t\tif c.configs[i].Index < c.left {\n\t\t\treturn false\n\t\t}\n", ""},
	}},
	{702, "rule 8: a server on its way in holds itself for removed", "tests", raftTests, []edit{
		{"node/raft/election.go", "slices.ContainsFunc(c.configs[:i], named)", "k.Index > 0 || slices.ContainsFunc(c.configs[:i], named)"},
	}},
	{703, "rule 9: a wiped server that no founding list names is not told why", "tests", nodeTests, []edit{
		{"node/found.go", "\tif now >= k.tellAt {", "\tif now < 0 {"},
	}},
	{704, "rule 7: a founder that knows nobody does not listen first", "tests", nodeTests, []edit{
		{"node/found.go", "len(n.identity.Pool) == 1 && now-f.voterAt < aloneWait", "now < f.voterAt"},
	}},
	{710, "who is silent is not told where to answer", "tests", nodeTests, []edit{
		{"node/address.go", "member && now-heard >= tellAddress", "member && heard < 0"},
	}},
	{711, "an address stays when its configuration is cut", "tests", nodeTests, []edit{
		{"node/step.go", "\t\t\tn.out.learn(&c)\n", "\t\t\t_ = c\n"},
	}},
	{712, "a dry run moves a server in the leader's mind", "tests", nodeTests, []edit{
		{"node/member.go", "\tc := n.inForce()\n\ttarget, missing, err", "\tn.out.learnAddresses(named)\n\tc := n.inForce()\n\ttarget, missing, err"},
	}},
	{713, "a server that was asked before it led is not asked when it is named", "tests", clientTests, []edit{
		{"kv/client/discover.go", " || term > s.named)", ")"},
	}},
	{720, "a change in its last step is said to be given up", "tests", nodeTests, []edit{
		{"node/member.go", "n.core.Status().ConfigurationIndex > n.core.Commit():", "n.core.Commit() == 0:"},
	}},
	{721, "a leader judges who is alive before it could hear them", "tests", raftTests, []edit{
		{"node/raft/change.go", "p != nil && p.boot == 0 &&", "p != nil && p.boot != 0 &&"},
	}},
}
