package main

// sealed are bugs in who is heard: seals, replay window, address tokens. 41 is of the
// survey's list.
var sealed = []mutant{
	{41, "the replay window is off by one", "tests", wireTests, []edit{
		{"wire/window.go", "for i := w.top; i < n; {", "for i := w.top + 1; i < n; {"},
	}},
	{901, "a client's frames are taken for a server's", "tests", nodeTests, []edit{
		{"node/admit.go", "kind.OfServers() && client || ", ""},
	}},
	{902, "a stranger's hello is answered at any length", "tests", nodeTests, []edit{
		{"node/reply.go", "\t\troom = n.admission.room\n", ""},
	}},
	{903, "a token is good for any address", "tests", wireTests, []edit{
		{"wire/token.go", "\tcopy(t.in[:16], ip[:])\n", "\tt.in[0] = ip[0]\n"},
	}},
	{904, "a seal does not cover the header", "tests", wireTests, []edit{
		{"wire/seal.go", "body, b[:HeaderBytes])", "body, b[:0])"},
		{"wire/opener.go", "body, b[:HeaderBytes])", "body, b[:0])"},
	}},
	{905, "a client is forgotten while its token lives", "tests", wireTests, []edit{
		{"wire/opener.go", "now-s.oldest.last < s.least", "now < s.oldest.last"},
	}},
	{906, "clients hold the servers' secret", "tests", wireTests, []edit{
		{"wire/keys.go", "copy(c.Bytes[:], derive(s.Bytes[:], \"balsa 1 clients\", SecretBytes))", "c = s"},
	}},
	{907, "a token never expires", "tests", wireTests, []edit{
		{"wire/token.go", "le.PutUint64(t.in[16:], uint64(window))", "le.PutUint64(t.in[16:], uint64(window>>60))"},
	}},
	{908, "datagrams are sealed with our newest key, whatever the other end holds", "tests", wireTests, []edit{
		{"wire/keys.go", "\tif k.find(told) != nil {\n\t\treturn told\n\t}\n", ""},
	}},
	{909, "a fragment brings in what may not come whole", "tests", nodeTests, []edit{
		{"node/large.go", "if ok && n.may(h, whole.Kind) {", "if ok {"},
	}},
	{910, "a stranger is remembered before its seal is checked", "tests", wireTests, []edit{
		{"wire/opener.go", "\t\taead = o.keys.aead(&want)\n", "\t\taead = o.keys.aead(&want)\n\t\tif remember {\n\t\t\tknown = ls.add(now, want, aead)\n\t\t}\n"},
	}},
	{911, "a request without a token is taken", "tests", nodeTests, []edit{
		{"node/admit.go", "n.admission.verdict == wire.Unproven && kind != wire.KindHello {", "n.admission.verdict == wire.Unproven && kind == wire.KindStatus {"},
	}},
	{912, "an unknown server is answered with the whole list", "tests", nodeTests, []edit{
		{"node/found.go", "if size > n.admission.room {", "if size > 1<<20 {"},
	}},
	{913, "a server keeps a packet number for two datagrams", "tests", nodeTests, []edit{
		{"node/outbound.go", "\t\to.header.Packet = d.packer.Header.Packet\n", ""},
	}},
	{914, "a client is forgotten while what it sent may be repeated", "tests", nodeTests, []edit{
		{"node/reply.go", "now-old.heard < wire.LaneIdle || ", ""},
	}},
	{915, "anybody tells that a message in fragments arrived", "tests", nodeTests, []edit{
		{"node/large.go", "theirs := l.dst == h.Src && (h.Src != wire.ClientNode || l.to == from)", "theirs := from.IsValid()"},
	}},
	{916, "a server's name draws more than was sent", "tests", nodeTests, []edit{
		{"node/twin.go", "if need > n.admission.room {", "if need > 1<<20 {"},
	}},
	{917, "a datagram longer than ours is taken", "tests", nodeTests, []edit{
		{"wire/header.go", "len(b) > MaxDatagram || ", ""},
	}},
	{918, "a refused append leaves its entries behind", "tests", nodeTests, []edit{
		{"node/inbound.go", "be taken for one of its.\n\tn.entries, n.views = n.entries[:0], n.views[:0]", "be taken for one of its."},
	}},
}
