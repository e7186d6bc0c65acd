package main

// answers are bugs in how servers answer clients and send large messages; they have the numbers from 950.
var answers = []mutant{
	{950, "a large answer is begun at time 0, and so given up at once", "tests", nodeTests, []edit{
		{"node/reply.go", "n.out.sendLarge(n.now, c.addr, wire.ClientNode, wire.KindReply, kv.AppendResult(body, r))", "n.out.sendLarge(0, c.addr, wire.ClientNode, wire.KindReply, kv.AppendResult(body, r))"},
	}},
	{951, "a message is put together where the last one may be read still", "tests", clientTests, []edit{
		{"wire/reassembler.go", "\tr.handed = s.buf\n", "\tr.spare = s.buf\n"},
	}},
	{952, "reads that a turn left wait for the next datagram", "tests", nodeTests, []edit{
		{"node/turn.go", "if n.reads.servable(0, n.applied) {", "if n.reads.servable(1, n.applied) {"},
	}},
	{953, "reads that were answered are answered again after a bounded turn", "tests", nodeTests, []edit{
		{"node/reads.go", "\t\tfor at := g.at; count", "\t\tfor at := 0; count"},
	}},
	{954, "a message cut for larger datagrams than pass is sent", "tests", nodeTests, []edit{
		{"node/large.go", "if p.Limit < l.limit {", "if p.Limit < 0 {"},
	}},
	{955, "fragments leave before what servers wait for", "tests", nodeTests, []edit{
		{"node/outbound.go", "[...]bool{false, true}", "[...]bool{true, false}"},
	}},
	{956, "clients take servers' places of large messages", "tests", nodeTests, []edit{
		{"node/large.go", "\tmaxLargeServers = 128 ", "\tmaxLargeServers = 0 "},
	}},
}
