package node

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// strangersAddr is where somebody is whom no pool and no configuration names.
var strangersAddr = netip.MustParseAddrPort("192.0.2.66:6666")

// every is a frame of every kind, that decodes.
func every() map[wire.Kind][]byte {
	list := wire.AppendConfiguration(nil, &wire.Configuration{Cluster: [16]byte{1}, Members: []wire.Member{{ID: 1, Incarnation: 1, Role: wire.MemberVoter, Addr: "a:1"}}})
	get := kv.AppendCommand(nil, &kv.Command{Op: kv.Get, Client: 66, Seq: 1 | kv.ReadSeq, Key: []byte("k")})
	frames := map[wire.Kind]interface {
		Size() int
		Encode([]byte)
	}{
		wire.KindAppend: &wire.Append{Term: 1, Seq: 1}, wire.KindAck: &wire.Ack{Term: 1}, wire.KindVote: &wire.Vote{Pre: true, Term: 2},
		wire.KindVoteReply: &wire.VoteReply{Term: 1}, wire.KindTimeoutNow: &wire.TimeoutNow{Term: 1}, wire.KindProbe: &wire.Probe{Nonce: twinNonce | 1, Term: 1},
		wire.KindProbeReply: &wire.ProbeReply{Term: 1}, wire.KindJoin: &wire.Join{Term: 1, Cluster: [16]byte{1}, List: list},
		wire.KindReadAsk: &wire.ReadAsk{Term: 1, Nonce: 1}, wire.KindReadAnswer: &wire.ReadAnswer{Term: 1},
		wire.KindFoundAsk: &wire.FoundAsk{AskBoot: 1}, wire.KindFoundAnswer: &wire.FoundAnswer{List: list}, wire.KindFoundList: &wire.FoundList{List: list},
		wire.KindHello: &wire.Hello{Nonce: 1}, wire.KindHelloReply: &wire.HelloReply{}, wire.KindRequest: &wire.Request{Count: 1, Ops: get},
		wire.KindReply: &wire.Reply{}, wire.KindNotLeader: &wire.NotLeader{}, wire.KindStatus: &wire.Status{Nonce: 1}, wire.KindStatusReply: &wire.StatusReply{},
		wire.KindMember:      &wire.MemberChange{Operation: 5, Verb: wire.VerbRemove, Servers: wire.AppendServers(nil, []wire.Server{{ID: 3}})},
		wire.KindMemberReply: &wire.MemberChangeReply{}, wire.KindChaos: &wire.Chaos{Nonce: 1, Verb: wire.ChaosPause, Duration: 1},
		wire.KindChaosReply: &wire.ChaosReply{Outcome: wire.ChaosBegun}, wire.KindToken: &wire.Token{Token: 1},
		wire.KindPathAsk: &wire.PathAsk{Passes: 1200, Pad: 200}, wire.KindPathEcho: &wire.PathEcho{},
		wire.KindFragment:       &wire.Fragment{Message: 1, Kind: wire.KindRequest, Total: 8 << 20, Stride: 256, Body: make([]byte, 256)},
		wire.KindFragmentStatus: &wire.FragmentStatus{Message: 1},
	}
	encoded := map[wire.Kind][]byte{}
	for kind, f := range frames {
		p := make([]byte, f.Size())
		f.Encode(p)
		encoded[kind] = p
	}
	return encoded
}

// nodesFor are the states in which strangers are met: blank, following and leading.
func nodesFor(l *lab) map[string]*Node {
	found := map[string]*Node{"leading": l.elect()}
	l.each(func(_ uint16, n *Node) {
		n.o.Chaos = true
		switch {
		case n.core == nil:
			found["blank"] = n
		case !n.Leading():
			found["following"] = n
		}
	})
	return found
}

// Nobody whose address is not proven is answered with more bytes than it sent, whatever
// it says and however often, at once or later.
func TestNoAnswerIsLargerThanItsQuestion(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 4, 3), "sealed": newSealedLab(t, 4, 3)} {
		for state, n := range nodesFor(l) {
			boot := uint64(0)
			for kind, payload := range every() {
				for _, src := range []uint16{wire.ClientNode, 2, 3, 88, n.ID()} {
					for _, pad := range []int{0, 1, 5, -1} { // further frames in the same datagram; below 0: and the frame is empty
						boot++
						l.now += twinAsk // between questions whether a server is alive
						p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: n.tag, Src: src, Dst: n.ID(), Incarnation: 66, Boot: boot, Token: boot % 2}}
						if src == n.ID() {
							p.Header.Incarnation = n.Incarnation()
						}
						said := payload
						if pad < 0 {
							said = nil
						}
						if l.keys != nil { // the insider who may not be made to shout at others
							p.Sealer = wire.NewSealer(l.keys)
						}
						copy(p.Frame(kind, len(said)), said)
						for range max(pad, 0) {
							h := wire.Hello{Nonce: 1, Pad: 8 * (pad - 1)}
							h.Encode(p.Frame(wire.KindHello, h.Size()))
						}
						in, out := 0, 0
						for _, d := range p.Flush(netip.AddrPort{}, nil) {
							in += len(d.Bytes)
							n.Deliver(l.now, strangersAddr, d.Bytes)
						}
						for range 3 {
							l.now += 1e6
							n.Turn(l.now, false)
							for _, d := range n.Out() {
								if d.To == strangersAddr {
									out += len(d.Bytes)
								}
							}
						}
						if out > in {
							t.Errorf("%s, %s: source %d sent %d bytes with a %v and %d hellos, and was answered with %d", name, state, src, in, kind, pad, out)
						}
					}
				}
			}
			if len(n.clients.byID) > 0 || len(n.askers.list) > 0 || n.clientParts.Bytes() > 0 || n.chaos.pauseTaken() != 0 || len(n.admission.behind) > 0 {
				t.Errorf("%s, %s: something is kept of strangers: %d clients, %d askers, %d bytes", name, state, len(n.clients.byID), len(n.askers.list), n.clientParts.Bytes())
			}
		}
	}
}

// With its token a client is heard; the token comes with the first answer.
func TestAHelloGivesTheTokenThatOpensTheRest(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 3, 3), "sealed": newSealedLab(t, 3, 3)} {
		n := l.elect()
		ask := func(token uint64, kind wire.Kind, payload []byte) (kinds []wire.Kind, got uint64) {
			l.packets++
			p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Src: wire.ClientNode, Dst: n.ID(), Incarnation: 66, Boot: 5, Packet: l.packets, Token: token}}
			copy(p.Frame(kind, len(payload)), payload)
			for _, d := range p.Flush(netip.AddrPort{}, nil) {
				n.Deliver(l.now, strangersAddr, d.Bytes)
			}
			n.Turn(l.now, false)
			for _, d := range n.Out() {
				if d.To != strangersAddr {
					continue
				}
				_, frames, err := l.open(d.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				for k, payload, ok := frames.Next(); ok; k, payload, ok = frames.Next() {
					kinds = append(kinds, k)
					var r wire.HelloReply
					var told wire.Token
					if k == wire.KindHelloReply && r.Decode(payload) == nil {
						got = r.Token
					} else if k == wire.KindToken && told.Decode(payload) == nil {
						got = told.Token
					}
				}
			}
			return kinds, got
		}
		is := func(kinds []wire.Kind, want ...wire.Kind) bool {
			return len(kinds) == len(want) && (len(want) == 0 || kinds[0] == want[0])
		}
		status, hello := every()[wire.KindStatus], make([]byte, 480)
		kinds, first := ask(0, wire.KindStatus, status)
		if !is(kinds, wire.KindToken) || first == 0 {
			t.Errorf("%s: a status without a token: %v, want a token", name, kinds)
		}
		if kinds, token := ask(0, wire.KindHello, hello); !is(kinds, wire.KindHelloReply) || token != first {
			t.Errorf("%s: hello: %v, token %x, want %x", name, kinds, token, first)
		}
		if kinds, _ := ask(first, wire.KindStatus, status); !is(kinds, wire.KindStatusReply) {
			t.Errorf("%s: a status with it: %v", name, kinds)
		}
		l.now += 16e9 // the next window: it is taken, and the next one told
		kinds, next := ask(first, wire.KindStatus, status)
		if len(kinds) != 2 || next == 0 || next == first {
			t.Errorf("%s: a status with an older one: %v, token %x", name, kinds, next)
		}
		l.now += 16e9
		if kinds, _ := ask(first, wire.KindStatus, status); !is(kinds, wire.KindToken) {
			t.Errorf("%s: a status with one that is too old: %v", name, kinds)
		}
		if kinds, _ := ask(next, wire.KindStatus, status); len(kinds) != 2 {
			t.Errorf("%s: a status with the next one: %v", name, kinds)
		}
	}
}

// A client's secret makes nothing that is taken for a server's word: neither under a
// server's name nor as a client, whole or in fragments.
func TestAClientCannotSayWhatServersSay(t *testing.T) {
	l := newSealedLab(t, 3, 3)
	n := l.elect()
	term, last := n.core.Term(), n.core.Last()
	vote := wire.Vote{Term: term + 5, LastIndex: 1 << 40, LastTerm: term + 4, Transfer: true}
	l.tell(n.ID(), n.tag, wire.KindVote, vote.Size(), vote.Encode)
	heart := wire.Append{Term: term + 5, PrevIndex: last, PrevTerm: term}
	l.tell(n.ID(), n.tag, wire.KindAppend, heart.Size(), heart.Encode)
	var whole [512]byte
	vote.Encode(whole[:])
	for i := range 2 { // a message of 512 bytes that is a vote, padded as no vote is; then one of its size
		f := wire.Fragment{Message: 9, Kind: wire.KindVote, Total: uint32(vote.Size()), Stride: 256, Body: whole[:vote.Size()]}
		if i == 1 {
			f = wire.Fragment{Message: 10, Kind: wire.KindAppend, Total: uint32(heart.Size()), Stride: 256, Body: make([]byte, heart.Size())}
			heart.Encode(f.Body)
		}
		l.tell(n.ID(), n.tag, wire.KindFragment, f.Size(), f.Encode)
	}
	before := n.Counters.DroppedMalformed
	l.turn(1e6)
	if got := n.Counters.DroppedMalformed - before; got != 4 {
		t.Errorf("%d frames refused, want 4", got)
	}
	if n.core.Term() != term || !n.Leading() {
		t.Errorf("a client moved the term from %d to %d", term, n.core.Term())
	}
	// Under a server's name: what a client's keys seal is no seal of a server's.
	forged := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: n.ID(), Incarnation: 1, Boot: 9}, Sealer: wire.NewSealer(l.clientKeys)}
	vote.Encode(forged.Frame(wire.KindVote, vote.Size()))
	b := forged.Flush(netip.AddrPort{}, nil)[0].Bytes
	b[8], b[9] = 2, 0 // the source
	seals := n.Counters.DroppedSeal
	n.Deliver(l.now, labAddr(2), b)
	if n.Counters.DroppedSeal != seals+1 || n.core.Term() != term {
		t.Errorf("a client's datagram under a server's name: %d seals refused, term %d", n.Counters.DroppedSeal-seals, n.core.Term())
	}
	// Nor can it hold a change, or do harm, where the servers allow drills.
	n.o.Chaos = true
	held := wire.MemberChange{Operation: 11, Verb: wire.VerbRemove, HoldPhase: wire.PhaseJoint, Hold: 1e9, Servers: wire.AppendServers(nil, servers([]uint16{3}))}
	if r := l.ask(held); r.Outcome != wire.OutcomeRefused || !strings.Contains(string(r.Text), "secret") {
		t.Errorf("a hold: outcome %d, %q", r.Outcome, r.Text)
	}
	l.chaos(n.ID(), wire.Chaos{Nonce: 3, Verb: wire.ChaosCrash})
	l.until(1e9, "an answer", func() bool { return len(l.chaosAnswers(3)) == 1 })
	if got := l.chaosAnswers(3)[0]; got != wire.ChaosRefused || n.chaos.crash {
		t.Errorf("chaos: outcome %d, crash %v", got, n.chaos.crash)
	}
}

// What was recorded of an operator does nothing to a process that was not there then.
func TestARecordedRequestIsNotTakenAgain(t *testing.T) {
	l := newSealedLab(t, 3, 3)
	n := l.elect()
	c := kv.Command{Op: kv.Put, Client: 66, Seq: 1, AckedBelow: 1, Flags: kv.FlagRegister, Registered: 1, Key: []byte("k"), Value: []byte("v")}
	r := wire.Request{Count: 1, Ops: kv.AppendCommand(nil, &c)}
	p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: n.ID(), Incarnation: 66, Boot: 5, Packet: 1000, Token: n.token(l.now, strangersAddr)}}
	r.Encode(p.Frame(wire.KindRequest, r.Size()))
	recorded := p.Flush(netip.AddrPort{}, nil)[0].Bytes
	send := func(n *Node, from netip.AddrPort) {
		n.Deliver(l.now, from, append([]byte(nil), recorded...))
		n.Turn(l.now, false)
	}
	send(n, strangersAddr)
	if n.Counters.Commands != 1 {
		t.Fatalf("%d commands taken, want the first", n.Counters.Commands)
	}
	send(n, strangersAddr)
	send(n, labAddr(labClient)) // from elsewhere
	l.now += 40e9
	send(n, strangersAddr) // when its token has expired
	if n.Counters.Commands != 1 || n.Counters.DroppedReplays < 1 {
		t.Errorf("%d commands taken, want 1; %d copies noticed", n.Counters.Commands, n.Counters.DroppedReplays)
	}
	id := n.ID()
	l.kill(id)
	again := l.start(id)
	l.elect()
	before := again.Counters.DroppedUnproven
	send(again, strangersAddr)
	if again.Counters.Commands != 0 || again.Counters.DroppedUnproven != before+1 {
		t.Errorf("after a restart: %d commands taken, %d refused for their token", again.Counters.Commands, again.Counters.DroppedUnproven-before)
	}
}

// Strangers at full rate leave nothing behind, and clients are served meanwhile.
func TestAFloodIsBoundedAndServiceGoesOn(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 3, 3), "sealed": newSealedLab(t, 3, 3)} {
		n := l.elect()
		random := rand.New(rand.NewPCG(1, 1))
		var recorded [][]byte
		frames := every()
		seq := uint64(0)
		for round := range 300 {
			for range 64 {
				kind := wire.Kind(random.IntN(52))
				payload := frames[kind]
				p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: n.tag, Src: []uint16{wire.ClientNode, 2, uint16(random.Uint32() | 1)}[random.IntN(3)],
					Dst: n.ID(), Incarnation: random.Uint64(), Boot: random.Uint64(), Packet: random.Uint64(), Token: random.Uint64()}}
				copy(p.Frame(kind|1, len(payload)), payload)
				b := p.Flush(netip.AddrPort{}, nil)[0].Bytes
				switch random.IntN(5) {
				case 0:
					b = b[:random.IntN(len(b))]
				case 1:
					b[random.IntN(len(b))]++
				case 2:
					if len(recorded) > 0 {
						b = append([]byte(nil), recorded[random.IntN(len(recorded))]...)
					}
				case 3:
					if l.keys != nil {
						b[3], b[12] = wire.FlagSealed, 1 // and no seal
					}
				}
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))}), uint16(20_000+random.IntN(40_000)))
				if l.keys == nil && kind.OfServers() {
					continue // open, whoever is heard at all may be a server: docs/threat-model.md
				}
				n.Deliver(l.now, from, b)
			}
			if round%10 != 0 {
				l.turn(1e6)
				continue
			}
			seq++
			l.request(l.elect().ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte("k"), Value: []byte("v")})
			for _, f := range l.queue {
				if len(recorded) < 64 {
					recorded = append(recorded, append([]byte(nil), f.bytes...))
				}
			}
			l.result(seq)
		}
		if got := len(n.clients.byID); got > 1 {
			t.Errorf("%s: %d clients are known, want one", name, got)
		}
		if n.clientParts.Bytes() != 0 || len(n.askers.list) != 0 {
			t.Errorf("%s: %d bytes of fragments, %d askers are kept of strangers", name, n.clientParts.Bytes(), len(n.askers.list))
		}
		if len(n.admission.behind) > 0 {
			t.Errorf("%s: %d keys are kept of strangers", name, len(n.admission.behind))
		}
		if l.keys != nil && n.admission.opener.Senders() > 3 {
			t.Errorf("%s: %d senders are known, want two servers and a client", name, n.admission.opener.Senders())
		}
	}
}

// Servers that take the next secret one after the other are never without each other.
func TestServersRotateTheirSecretOneByOne(t *testing.T) {
	l := newSealedLab(t, 3, 3)
	n := l.elect()
	term := n.core.Term()
	seq := uint64(0)
	put := func() {
		t.Helper()
		seq++
		l.request(n.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte("k"), Value: []byte("v")})
		if r := l.result(seq); r.Status != kv.OK {
			t.Fatalf("put %d: %v", seq, r.Status)
		}
	}
	put()
	for _, epochs := range [][]uint8{{1, 2}, {2}} {
		servers, clients := labKeys(epochs...)
		l.keys, _ = labKeys(1, 2) // to look on
		l.each(func(_ uint16, n *Node) {
			n.Rekey(servers)
			put()
			for range 20 {
				l.turn(5e6)
			}
		})
		l.sealer.Rekey(clients)
		put()
	}
	if got := l.leader(); got != n || n.core.Term() != term {
		t.Errorf("the rotation cost the leader its term: %d, was %d", got.core.Term(), term)
	}
	l.each(func(id uint16, n *Node) {
		if n.Counters.DroppedSeal != 0 {
			t.Errorf("server %d could not open %d datagrams", id, n.Counters.DroppedSeal)
		}
	})
}
