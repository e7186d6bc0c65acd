package client

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"balsa/wire"
)

// lone is one server at the other end of a core, by hand.
type lone struct {
	t       *testing.T
	c       *Core
	at      netip.AddrPort
	sealer  *wire.Sealer
	opener  *wire.Opener
	packets uint64
	token   uint64 // that it tells
	nonce   uint64 // of the last hello
	heard   []wire.Kind
	last    wire.Header
}

func newLone(t *testing.T, servers, clients *wire.Keys) *lone {
	l := &lone{t: t, at: netip.MustParseAddrPort("127.0.0.1:7001"), token: 11}
	if servers != nil {
		l.sealer, l.opener = wire.NewSealer(servers), wire.NewOpener(servers)
	}
	l.c = NewCore(CoreConfig{ID: 5, Boot: 6, Seed: 7, Servers: []netip.AddrPort{l.at}, Keys: clients}, 1)
	return l
}

// listen takes what the core sends.
func (l *lone) listen() {
	l.t.Helper()
	l.heard = l.heard[:0]
	for _, p := range l.c.Out(nil) {
		h, err := wire.Peek(p.Bytes)
		var frames wire.Frames
		if l.opener == nil {
			_, frames, err = wire.Open(p.Bytes)
		} else if err == nil {
			l.opener.Turn()
			frames, err = l.opener.Open(1, &h, p.Bytes, true)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		if h.Packet <= l.last.Packet {
			l.t.Fatalf("packet %d after %d", h.Packet, l.last.Packet)
		}
		l.last = h
		for k, b, ok := frames.Next(); ok; k, b, ok = frames.Next() {
			if k != wire.KindPathAsk { // asked by the way
				l.heard = append(l.heard, k)
			}
			var q wire.Hello
			if k == wire.KindHello && q.Decode(b) == nil {
				l.nonce = q.Nonce
			}
		}
	}
}

func (l *lone) say(now int64, kind wire.Kind, size int, encode func([]byte)) {
	p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Cluster: wire.ClusterTag([16]byte{1}), Src: 1, Dst: wire.ClientNode, Incarnation: 2, Boot: 3, Packet: l.packets}}
	encode(p.Frame(kind, size))
	b := p.Flush(l.at, nil)[0].Bytes
	l.packets = p.Header.Packet
	l.c.Deliver(now, l.at, b)
}

func (l *lone) greet(now int64) {
	r := wire.HelloReply{Nonce: l.nonce, Leader: 1, Term: 3, LogTime: 1, Cluster: [16]byte{1}, Token: l.token}
	l.say(now, wire.KindHelloReply, r.Size(), r.Encode)
}

func (l *lone) is(what string, want ...wire.Kind) {
	l.t.Helper()
	same := len(l.heard) == len(want)
	for i := range want {
		same = same && l.heard[i] == want[i]
	}
	if !same {
		l.t.Fatalf("%s: sent %v, want %v", what, l.heard, want)
	}
}

// A token that may have expired is not tried: the request waits for the next one, so
// that no copy is sent which nobody takes.
func TestAnIdleClientAsksForATokenBeforeItSends(t *testing.T) {
	servers, clients := coreKeys(t, 1)
	for _, l := range []*lone{newLone(t, nil, nil), newLone(t, servers, clients)} {
		now := int64(10)
		l.c.Submit(now, put("k", "v"), now+3600e9, 1)
		l.listen()
		l.is("at first", wire.KindHello)
		l.greet(now)
		l.listen()
		l.is("with a token", wire.KindRequest)
		if l.last.Token != 11 {
			t.Errorf("token %d, want the one that was told", l.last.Token)
		}
		now += tokenUse - 1e9
		told := wire.Token{Token: 22} // a new one before the old one expires
		l.say(now, wire.KindToken, told.Size(), told.Encode)
		now += tokenUse - 1e9
		l.c.Submit(now, put("k", "w"), now+3600e9, 2)
		l.listen()
		if !slices.Contains(l.heard, wire.KindRequest) {
			t.Fatalf("with the next token: sent %v, want a request among it", l.heard)
		}
		if l.last.Token != 22 {
			t.Errorf("token %d, want the new one", l.last.Token)
		}
		now += tokenUse + 1
		l.c.Submit(now, put("k", "x"), now+3600e9, 3)
		l.listen()
		l.is("idle for long", wire.KindHello)
		l.token = 33
		l.greet(now)
		l.listen()
		l.is("told again", wire.KindRequest)
	}
}

func coreKeys(t *testing.T, epochs ...uint8) (servers, clients *wire.Keys) {
	t.Helper()
	var all, derived []wire.Secret
	for _, e := range epochs {
		s := wire.Secret{Epoch: e, Bytes: [wire.SecretBytes]byte{e}}
		all, derived = append(all, s), append(derived, s.ForClients())
	}
	servers, err := wire.NewKeys(true, all)
	if err != nil {
		t.Fatal(err)
	}
	if clients, err = wire.NewKeys(false, derived); err != nil {
		t.Fatal(err)
	}
	return servers, clients
}

// One count for the datagrams to all servers: they may share a key.
func TestPacketNumbersAreOneCountForAllServers(t *testing.T) {
	var addrs []netip.AddrPort
	for i := range uint16(5) {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 7001+i))
	}
	c := NewCore(CoreConfig{ID: 5, Boot: 6, Seed: 7, Servers: addrs}, 1)
	c.Submit(1, put("k", "v"), 3600e9, 1)
	seen := map[uint64]bool{}
	for now := int64(1); len(seen) < 50; now += 300 * ms {
		c.Tick(now)
		for _, p := range c.Out(nil) {
			h, err := wire.Peek(p.Bytes)
			if err != nil || seen[h.Packet] {
				t.Fatalf("packet %d twice, %v", h.Packet, err)
			}
			seen[h.Packet] = true
		}
	}
}

// A client that holds an older secret than the servers goes on with it, and wants to
// read its file again.
func TestAClientBehindARotationWantsItsFile(t *testing.T) {
	both, _ := coreKeys(t, 1, 2)
	_, old := coreKeys(t, 1)
	_, newer := coreKeys(t, 2)
	l := newLone(t, both, old)
	l.c.Submit(10, put("k", "v"), 3600e9, 1)
	l.listen()
	if l.c.WantsKeys() {
		t.Error("it wants its file before it heard anything")
	}
	l.sealer = wire.NewSealer(both)
	p := wire.Packer{Limit: wire.MaxDatagram, Sealer: l.sealer, Header: wire.Header{Src: 1, Dst: wire.ClientNode, Incarnation: 2, Boot: 3, KeyEpoch: 1}}
	r := wire.HelloReply{Nonce: l.nonce, Leader: 1, Term: 3, LogTime: 1, Cluster: [16]byte{1}, Token: 1}
	r.Encode(p.Frame(wire.KindHelloReply, r.Size()))
	l.c.Deliver(11, l.at, p.Flush(l.at, nil)[0].Bytes)
	if !l.c.WantsKeys() {
		t.Error("the servers hold a newer secret, and it does not want its file")
	}
	l.listen()
	l.is("meanwhile", wire.KindRequest)
	if l.last.KeyEpoch != 1 {
		t.Errorf("sealed with secret %d, want 1", l.last.KeyEpoch)
	}
	l.c.Rekey(newer)
	if l.c.WantsKeys() {
		t.Error("it still wants its file")
	}
	l.c.Submit(12, put("k", "w"), 3600e9, 2)
	l.listen()
	if l.last.KeyEpoch != 2 {
		t.Errorf("sealed with secret %d, want 2", l.last.KeyEpoch)
	}
}

// What a server can't read is a hint for the message, and ends nothing by itself.
func TestARefusalOfTheSealIsToldAtTheEnd(t *testing.T) {
	for reason, want := range map[uint8]string{
		wire.MismatchVersion: "version 1", wire.MismatchSealed: "client.secret", wire.MismatchOpen: "leave --secret-file out", wire.MismatchKey: "another cluster's",
	} {
		l := newLone(t, nil, nil)
		l.c.Submit(10, put("k", "v"), 500*ms, 1)
		question := l.c.Out(nil)[0].Bytes
		l.c.Deliver(11, l.at, wire.AppendRefusal(nil, question, reason))
		if len(l.c.Done()) != 0 {
			t.Fatal("a forged hint ended an operation")
		}
		l.c.Tick(501 * ms)
		done := l.c.Done()
		if len(done) != 1 || done[0].Outcome != NotApplied || !strings.Contains(done[0].Err.Error(), want) {
			t.Errorf("reason %d: %+v, want %q", reason, done, want)
		}
	}
}

// A client of another version says, at its end, what both sides speak.
func TestAClientOfAnotherVersionSaysWhatBothSpeak(t *testing.T) {
	l := newLone(t, nil, nil)
	l.c.Submit(10, put("k", "v"), 500*ms, 1)
	l.listen()
	var b [wire.MismatchBytes]byte
	m := wire.Mismatch{Speaks: wire.Versions{Oldest: 2, Newest: 3}, Asked: 1}
	m.Encode(b[:])
	l.c.Deliver(11, l.at, b[:])
	l.c.Tick(501 * ms)
	done := l.c.Done()
	if len(done) != 1 || done[0].Outcome != NotApplied || !strings.Contains(done[0].Err.Error(), "speaks versions 2 to 3 of the protocol, this client "+wire.Spoken().String()) {
		t.Errorf("%+v, want both sides' versions", done)
	}
}

// Frames that only newer servers say are skipped, and what stands beside them is taken.
func TestAClientSkipsFramesOfUnknownKinds(t *testing.T) {
	l := newLone(t, nil, nil)
	l.c.Submit(10, put("k", "v"), 3600e9, 1)
	l.listen()
	p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: wire.ClusterTag([16]byte{1}), Src: 1, Dst: wire.ClientNode, Incarnation: 2, Boot: 3}}
	clear(p.Frame(13, 40))
	clear(p.Frame(46, 0))
	r := wire.HelloReply{Nonce: l.nonce, Leader: 1, Term: 3, LogTime: 1, Cluster: [16]byte{1}, Token: l.token}
	r.Encode(p.Frame(wire.KindHelloReply, r.Size()))
	clear(p.Frame(200, 8))
	l.c.Deliver(11, l.at, p.Flush(l.at, nil)[0].Bytes)
	l.listen()
	l.is("told beside what it does not know", wire.KindRequest)
}
