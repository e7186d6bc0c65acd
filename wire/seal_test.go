package wire

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func testSecret(epoch, fill uint8) Secret {
	s := Secret{Epoch: epoch}
	for i := range s.Bytes {
		s.Bytes[i] = fill + uint8(i)
	}
	return s
}

// testKeys are the servers' and the clients' keys of the same epochs.
func testKeys(epochs ...uint8) (servers, clients *Keys) {
	var all, derived []Secret
	for _, e := range epochs {
		all, derived = append(all, testSecret(e, e)), append(derived, testSecret(e, e).ForClients())
	}
	servers, err := NewKeys(true, all)
	if err != nil {
		panic(err)
	}
	if clients, err = NewKeys(false, derived); err != nil {
		panic(err)
	}
	return servers, clients
}

var (
	fromServer = Header{Cluster: 5, Src: 1, Dst: 2, Incarnation: 3, Boot: 4}
	fromClient = Header{Cluster: 5, Src: ClientNode, Dst: 2, Incarnation: 6, Boot: 7, Token: 8}
	toClient   = Header{Cluster: 5, Src: 2, Dst: ClientNode, Incarnation: 9, Boot: 10}
)

// sealed is one datagram with a vote's bytes, numbered from 1 by its packer.
func sealed(p *Packer) []byte {
	v := Vote{Term: 7, LastIndex: 8}
	v.Encode(p.Frame(KindVote, v.Size()))
	return p.Flush(netip.AddrPort{}, nil)[0].Bytes
}

func sealing1(k *Keys, h Header) *Packer {
	return &Packer{Limit: SafeDatagram, Header: h, Sealer: NewSealer(k)}
}

// open is what a receiver does: Peek, then Open. b is not changed.
func open(o *Opener, b []byte) (Header, error) {
	b = slices.Clone(b)
	h, err := Peek(b)
	if err != nil {
		return h, err
	}
	o.Turn()
	frames, err := o.Open(1, &h, b, true)
	if err != nil {
		return h, err
	}
	k, p, ok := frames.Next()
	var v Vote
	if !ok || k != KindVote || v.Decode(p) != nil || v.Term != 7 || v.LastIndex != 8 {
		return h, errors.New("opened, and holds something else")
	}
	return h, nil
}

func TestSealedDatagramsMatchTheirGoldenBytes(t *testing.T) {
	servers, clients := testKeys(3)
	for name, p := range map[string]*Packer{
		"sealed-peer":     sealing1(servers, fromServer),
		"sealed-operator": sealing1(servers, fromClient),
		"sealed-ask":      sealing1(clients, fromClient),
		"sealed-answer":   sealing1(servers, toClient),
	} {
		b := sealed(p)
		checkGolden(t, name, b)
		o := NewOpener(servers)
		if p.Header.Dst == ClientNode {
			o = NewOpener(clients)
		}
		h, err := open(o, b)
		if err != nil || h.Flags&FlagSealed == 0 || h.KeyEpoch != 3 || h.Newest != 3 || h.Packet != 1 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if bytes.Contains(b, []byte{7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("%s: the body can be read", name)
		}
		if _, _, err := Open(b); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: opened without a key: %v", name, err)
		}
	}
}

// Every bit of a datagram is covered: header, body and tag.
func TestASealRefusesEverySingleBitFlip(t *testing.T) {
	servers, clients := testKeys(3, 4)
	for _, p := range []*Packer{sealing1(servers, fromServer), sealing1(clients, fromClient), sealing1(servers, fromClient)} {
		b := sealed(p)
		o := NewOpener(servers)
		for i := range 8 * len(b) {
			b[i/8] ^= 1 << (i % 8)
			if _, err := open(o, b); err == nil {
				t.Fatalf("bit %d flipped, and opened", i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		for n := range b {
			if _, err := open(o, b[:n]); err == nil {
				t.Fatalf("cut to %d bytes, and opened", n)
			}
		}
		if o.Senders() != 0 {
			t.Fatalf("%d senders remembered for datagrams whose seals were wrong", o.Senders())
		}
		if _, err := open(o, b); err != nil {
			t.Fatalf("the datagram itself: %v", err)
		}
	}
}

// What a client holds makes no frame that a server takes for a server's or an
// operator's: whatever it writes into the header, under each of its keys.
func TestAClientsKeysForgeNeitherServersNorOperators(t *testing.T) {
	servers, clients := testKeys(3)
	e := &clients.epochs[0]
	if e.secrets[classPeers] != nil || e.secrets[classOperators] != nil {
		t.Fatal("clients' keys have a secret of servers")
	}
	want := servers.epochs[0].secrets
	for _, have := range e.secrets {
		for _, c := range []class{classPeers, classOperators} {
			if bytes.Equal(have, want[c]) {
				t.Fatalf("a secret of clients is that of %s", classNames[c])
			}
		}
	}
	for _, secret := range [][]byte{e.secrets[classAsks], e.secrets[classAnswers], testSecret(3, 3).ForClients().epochSecret()} {
		var forged Keys
		forged.epochs = []epoch{{number: 3, secrets: [classes][]byte{secret, secret, secret, secret}}}
		for _, h := range []Header{fromServer, fromClient} {
			p := sealing1(&forged, h)
			p.Sealer.operator = true
			o := NewOpener(servers)
			if _, err := open(o, sealed(p)); !errors.Is(err, ErrSeal) {
				t.Errorf("source %d by a client's secret: %v, want ErrSeal", h.Src, err)
			}
		}
	}
}

func (s Secret) epochSecret() []byte { return s.Bytes[:] }

func TestASealIsOfOneProcess(t *testing.T) {
	servers, _ := testKeys(3)
	p := sealing1(servers, fromServer)
	b := sealed(p)
	for what, at := range map[string]int{"source": 8, "destination": 10, "incarnation": 16, "boot": 24, "packet number": 32, "high packet number": 37, "token": 40, "epoch told": 13} {
		c := slices.Clone(b)
		c[at]++
		if _, err := open(NewOpener(servers), c); !errors.Is(err, ErrSeal) {
			t.Errorf("another %s: %v, want ErrSeal", what, err)
		}
	}
	other, _ := testKeys(4)
	if _, err := open(NewOpener(other), b); !errors.Is(err, ErrEpoch) {
		t.Errorf("another epoch: %v, want ErrEpoch", err)
	}
}

func TestEachSealedDatagramIsTakenOnce(t *testing.T) {
	servers, _ := testKeys(3)
	p := sealing1(servers, fromServer)
	o := NewOpener(servers)
	first := slices.Clone(sealed(p))
	for range 2 * WindowPackets {
		b := sealed(p)
		if _, err := open(o, b); err != nil {
			t.Fatal(err)
		}
		if _, err := open(o, b); !errors.Is(err, ErrReplay) {
			t.Fatalf("a copy: %v, want ErrReplay", err)
		}
		p.Reset()
	}
	if _, err := open(o, first); !errors.Is(err, ErrReplay) {
		t.Fatalf("one far behind: %v, want ErrReplay", err)
	}
}

// An acknowledgement that waited for the disk is numbered when it leaves (SAFETY 14):
// behind whatever was sent meanwhile, so it is not old when it comes.
func TestNumbersAreTakenWhenADatagramLeaves(t *testing.T) {
	servers, _ := testKeys(3)
	s := NewSealer(servers)
	held, busy := &Packer{Limit: SafeDatagram, Header: fromServer, Sealer: s}, &Packer{Limit: SafeDatagram, Header: fromServer, Sealer: s}
	o := NewOpener(servers)
	v := Vote{Term: 7, LastIndex: 8}
	v.Encode(held.Frame(KindVote, v.Size()))
	for range 3 * WindowPackets {
		b := sealed(busy)
		if _, err := open(o, b); err != nil {
			t.Fatal(err)
		}
		busy.Reset()
	}
	held.Header.Packet = busy.Header.Packet
	if _, err := open(o, held.Flush(netip.AddrPort{}, nil)[0].Bytes); err != nil {
		t.Errorf("what was held back: %v", err)
	}
}

func TestASealerRefusesToUseANumberTwice(t *testing.T) {
	servers, _ := testKeys(3)
	p := sealing1(servers, fromServer)
	sealed(p)
	p.Header.Packet = 0
	defer func() {
		if recover() == nil {
			t.Error("a packet number was used twice under one key, and nobody noticed")
		}
	}()
	sealed(p)
}

func TestAKeyLastsFor2To32Datagrams(t *testing.T) {
	servers, _ := testKeys(3)
	p := sealing1(servers, fromServer)
	p.Header.Packet = 1<<32 - 2
	o := NewOpener(servers)
	for range 3 {
		if _, err := open(o, sealed(p)); err != nil {
			t.Fatal(err)
		}
	}
	if o.Senders() != 2 {
		t.Errorf("%d keys for numbers on both sides of 2^32, want 2", o.Senders())
	}
}

// The window against a twin that remembers everything: mutant 41.
func TestWindowEqualsItsDumbTwin(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w Window
		seen, top := map[uint64]bool{}, uint64(0)
		high := seed%2 == 1 // at the end of the range, where sums wrap
		for step := range 3000 {
			n := top + 1
			switch r.IntN(8) {
			case 0:
				n = top + uint64(r.IntN(3*WindowPackets))
			case 1: // around the far edge
				n = top - WindowPackets + uint64(r.IntN(5)) - 2
			case 2, 3:
				n = top - uint64(r.IntN(WindowPackets+10))
			case 4:
				n = top - uint64(r.IntN(70))
			}
			if high && step < 2 {
				n = math.MaxUint64 - uint64(r.IntN(3*WindowPackets))
			} else if high && r.IntN(500) == 0 {
				n = math.MaxUint64 - uint64(r.IntN(3))
			} else if !high && n > 1<<63 {
				n = uint64(r.IntN(3))
			}
			want := n != 0 && !seen[n] && (n > top || top-n < WindowPackets)
			if w.Seen(n) == want || w.Take(n) != want {
				t.Fatalf("seed %d step %d: number %d with top %d: new %v, want %v", seed, step, n, top, !want, want)
			}
			if want {
				seen[n], top = true, max(top, n)
			}
			if !w.Seen(n) {
				t.Fatalf("seed %d step %d: number %d was taken and is not seen", seed, step, n)
			}
		}
	}
}

func TestKeysOfTwoEpochsMeet(t *testing.T) {
	for _, c := range []struct {
		name         string
		mine, theirs []uint8
		told         uint8
		want         uint8
	}{
		{"nobody has begun", []uint8{1}, []uint8{1}, 1, 1},
		{"they are ahead and still hold ours", []uint8{1}, []uint8{1, 2}, 2, 1},
		{"we are ahead", []uint8{1, 2}, []uint8{1}, 1, 1},
		{"both hold both", []uint8{1, 2}, []uint8{1, 2}, 2, 2},
		{"they have retired", []uint8{1, 2}, []uint8{2}, 2, 2},
		{"numbers have come around", []uint8{255, 1}, []uint8{255, 1}, 1, 1},
	} {
		mine, _ := testKeys(c.mine...)
		theirs, _ := testKeys(c.theirs...)
		got := mine.Choose(c.told, 0)
		if got != c.want || theirs.find(got) == nil {
			t.Errorf("%s: epoch %d, want %d", c.name, got, c.want)
		}
	}
	mine, _ := testKeys(1, 2)
	if a, b := mine.Choose(0, 0), mine.Choose(0, 1); a == b {
		t.Errorf("to a stranger epoch %d twice, want each in turn", a)
	}
}

func TestRekeyForgetsOnlyWhatIsRetired(t *testing.T) {
	both, _ := testKeys(1, 2)
	newer, _ := testKeys(2)
	p := sealing1(both, fromServer)
	o := NewOpener(both)
	p.Header.KeyEpoch = 1
	old := slices.Clone(sealed(p))
	p.Header.KeyEpoch = 2
	recent := slices.Clone(sealed(p))
	for _, b := range [][]byte{old, recent} {
		if _, err := open(o, b); err != nil {
			t.Fatal(err)
		}
	}
	o.Rekey(newer)
	if _, err := open(o, old); !errors.Is(err, ErrEpoch) {
		t.Errorf("under the retired key: %v, want ErrEpoch", err)
	}
	if _, err := open(o, recent); !errors.Is(err, ErrReplay) {
		t.Errorf("a copy under the key that stayed: %v, want ErrReplay", err)
	}
	p.Sealer.Rekey(newer)
	if _, err := open(o, sealed(p)); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

// Strangers cost no memory, and those who are known are heard beside any number of them.
func TestAFloodLeavesNothingBehind(t *testing.T) {
	servers, clients := testKeys(3)
	o := NewOpener(servers)
	p := sealing1(clients, fromClient)
	known := slices.Clone(sealed(p))
	if _, err := open(o, known); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	garbage := func() []byte {
		b := slices.Clone(known)
		switch r.IntN(4) {
		case 0: // a stranger
			for i := 8; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			le.PutUint16(b[14:], uint16(len(b)-HeaderBytes-TrailerBytes))
			b[12] = 3
		case 1: // a known sender's header
			b[HeaderBytes+r.IntN(40)] ^= byte(1 + r.IntN(255))
			le.PutUint64(b[32:], uint64(2+r.IntN(1000)))
		case 2:
			b = b[:r.IntN(len(b))]
		case 3:
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		}
		return b
	}
	crowd := 0
	for turn := range 500 {
		o.Turn()
		for range 64 {
			b := garbage()
			h, err := Peek(b)
			if err != nil {
				continue
			}
			if _, err := o.Open(int64(turn), &h, b, r.IntN(2) == 0); err == nil {
				t.Fatal("garbage was opened")
			} else if errors.Is(err, ErrCrowd) {
				crowd++
			}
		}
		b := slices.Clone(sealed(p))
		h, _ := Peek(b)
		if _, err := o.Open(int64(turn), &h, b, true); err != nil {
			t.Fatalf("turn %d: a known client: %v", turn, err)
		}
		p.Reset()
	}
	if o.Senders() != 1 {
		t.Errorf("%d senders remembered, want the one that is known", o.Senders())
	}
	if crowd == 0 {
		t.Error("every stranger's seal was tried")
	}
}

// A full table refuses newcomers rather than forget a sender whose token is still good:
// its datagrams could be taken again.
func TestNobodyIsForgottenWhileItsTokenLives(t *testing.T) {
	servers, clients := testKeys(3)
	o := NewOpener(servers)
	o.lanes[classAsks].most = 4
	hear := func(now int64, boot uint64) error {
		h := fromClient
		h.Boot = boot
		b := sealed(sealing1(clients, h))
		g, _ := Peek(b)
		o.Turn()
		_, err := o.Open(now, &g, b, true)
		return err
	}
	for boot := range uint64(4) {
		if err := hear(int64(boot), boot); err != nil {
			t.Fatal(err)
		}
	}
	if err := hear(LaneIdle-1, 9); !errors.Is(err, ErrCrowd) {
		t.Errorf("a fifth while all are fresh: %v, want ErrCrowd", err)
	}
	if err := hear(LaneIdle, 9); err != nil {
		t.Errorf("a fifth when the oldest has expired: %v", err)
	}
	if err := hear(LaneIdle, 1); !errors.Is(err, ErrReplay) {
		t.Errorf("a copy of one that is kept: %v, want ErrReplay", err)
	}
	if o.Senders() != 4 {
		t.Errorf("%d senders, want 4", o.Senders())
	}
}

func TestTokensAreOfOneAddressTimeAndProcess(t *testing.T) {
	a, b := NewTokens([16]byte{1}), NewTokens([16]byte{2})
	here := netip.MustParseAddrPort("192.0.2.1:7")
	now := int64(1000) * tokenWindow
	token := a.Give(now, here)
	for _, c := range []struct {
		what string
		got  Verdict
		want Verdict
	}{
		{"at once", a.Check(now, here, token), Proven},
		{"at the end of its window", a.Check(now+tokenWindow-1, here, token), Proven},
		{"in the next", a.Check(now+tokenWindow, here, token), Stale},
		{"at the end of the next", a.Check(now+2*tokenWindow-1, here, token), Stale},
		{"later", a.Check(now+2*tokenWindow, here, token), Unproven},
		{"by another process", b.Check(now, here, token), Unproven},
		{"from another port", a.Check(now, netip.MustParseAddrPort("192.0.2.1:8"), token), Unproven},
		{"from another address", a.Check(now, netip.MustParseAddrPort("192.0.2.2:7"), token), Unproven},
		{"the same address as IPv6 writes it", a.Check(now, netip.MustParseAddrPort("[::ffff:192.0.2.1]:7"), token), Proven},
		{"none", a.Check(now, here, 0), Unproven},
		{"a wrong one", a.Check(now, here, token^2), Unproven},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
	if LaneIdle < 2*tokenWindow {
		t.Error("a sender may be forgotten while its token is valid")
	}
}

func TestSealingAndOpeningAllocateNothing(t *testing.T) {
	servers, clients := testKeys(3)
	p, o := sealing1(clients, fromClient), NewOpener(servers)
	p.Limit = MaxDatagram
	tokens := NewTokens([16]byte{1})
	here := netip.MustParseAddrPort("192.0.2.1:7")
	out := make([]Packet, 0, 4)
	run := func() {
		p.Reset()
		o.Turn()
		p.Header.Token = tokens.Give(5, here)
		clear(p.Frame(KindRequest, 1100))
		out = p.Flush(here, out[:0])
		h, err := Peek(out[0].Bytes)
		if err != nil || tokens.Check(5, here, h.Token) != Proven {
			t.Fatal(err)
		}
		if _, err := o.Open(5, &h, out[0].Bytes, true); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchmarkSeal(b *testing.B, size int, sealed, opened bool) {
	servers, clients := testKeys(3)
	p := &Packer{Limit: MaxDatagram, Header: fromClient}
	var o *Opener
	if sealed {
		p.Sealer, o = NewSealer(clients), NewOpener(servers)
	}
	out := make([]Packet, 0, 4)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		p.Reset()
		p.Frame(KindRequest, size-HeaderBytes-TrailerBytes-FrameHeaderBytes)
		out = p.Flush(netip.AddrPort{}, out[:0])
		if !opened {
			continue
		}
		var err error
		if sealed {
			var h Header
			h, err = Peek(out[0].Bytes)
			if err == nil {
				_, err = o.Open(5, &h, out[0].Bytes, true)
			}
		} else {
			_, _, err = Open(out[0].Bytes)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHotSeal128(b *testing.B)           { benchmarkSeal(b, 128, true, false) }
func BenchmarkHotSeal1200(b *testing.B)          { benchmarkSeal(b, 1200, true, false) }
func BenchmarkHotSeal60K(b *testing.B)           { benchmarkSeal(b, MaxDatagram, true, false) }
func BenchmarkHotSealAndOpen128(b *testing.B)    { benchmarkSeal(b, 128, true, true) }
func BenchmarkHotSealAndOpen1200(b *testing.B)   { benchmarkSeal(b, 1200, true, true) }
func BenchmarkHotSealAndOpen60K(b *testing.B)    { benchmarkSeal(b, MaxDatagram, true, true) }
func BenchmarkHotCheckAndVerify128(b *testing.B) { benchmarkSeal(b, 128, false, true) }
func BenchmarkHotCheckAndVerify1200(b *testing.B) {
	benchmarkSeal(b, 1200, false, true)
}
func BenchmarkHotCheckAndVerify60K(b *testing.B) { benchmarkSeal(b, MaxDatagram, false, true) }

// BenchmarkStranger is what a datagram of an unknown sender costs to find out.
func BenchmarkStranger(b *testing.B) {
	servers, clients := testKeys(3)
	o := NewOpener(servers)
	p := sealing1(clients, fromClient)
	d := slices.Clone(sealed(p))
	b.ReportAllocs()
	for b.Loop() {
		o.Turn()
		le.PutUint64(d[24:], le.Uint64(d[24:])+1)
		h, _ := Peek(d)
		if _, err := o.Open(5, &h, d, true); err == nil {
			b.Fatal("opened")
		}
	}
}

func BenchmarkHotToken(b *testing.B) {
	t := NewTokens([16]byte{1})
	here := netip.MustParseAddrPort("192.0.2.1:7")
	token := t.Give(5, here)
	b.ReportAllocs()
	for b.Loop() {
		if t.Check(5, here, token) != Proven {
			b.Fatal("unproven")
		}
	}
}
