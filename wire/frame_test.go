package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

type frame interface {
	Size() int
	Encode(p []byte)
	Decode(p []byte) error
}

type sample struct {
	name  string
	kind  Kind
	frame frame
	fresh func() frame
}

func sampleConfiguration(joint bool) Configuration {
	c := Configuration{
		Cluster: [16]byte{1, 2, 3, 15: 16}, Leases: true, Operation: 77,
		Members: []Member{
			{ID: 1, Incarnation: 0x1111, Role: MemberVoter, Addr: "127.0.0.1:7101"},
			{ID: 2, Incarnation: 0x2222, Role: MemberVoter, Addr: "node2:7101"},
			{ID: 7, Incarnation: 0, Role: MemberLearner, Addr: "[::1]:7107"},
		},
	}
	if joint {
		c.Old = []uint16{1, 2, 3}
	}
	return c
}

// sampleTarget has a change under way: 2 is replaced, 7 is to become a voter.
func sampleTarget() Configuration {
	c := sampleConfiguration(true)
	c.Target = []Member{
		{ID: 1, Incarnation: 0x1111, Role: MemberVoter, Addr: "127.0.0.1:7101"},
		{ID: 2, Incarnation: 0x2223, Role: MemberVoter, Addr: "node2:7102"},
		{ID: 7, Incarnation: 0x7777, Role: MemberVoter, Addr: "[::1]:7107"},
	}
	return c
}

func encodeEntries(entries ...Entry) []byte {
	var b []byte
	for i := range entries {
		p := make([]byte, entries[i].Size())
		entries[i].Encode(p)
		b = append(b, p...)
	}
	return b
}

func samples() []sample {
	conf := sampleConfiguration(false)
	list := AppendConfiguration(nil, &conf)
	servers := AppendServers(nil, []Server{{1, "127.0.0.1:7101"}, {9, ""}})
	entries := encodeEntries(
		Entry{Index: 8, Term: 3, Kind: 2, Codec: 1, Group: 0, Count: 2, RawBytes: 10, Time: 12345, Sum: 0xabcdef, Body: []byte("0123456789")},
		Entry{Index: 9, Term: 3, Kind: 1, Time: 12346, Sum: 7})
	return []sample{
		{"append", KindAppend, &Append{Term: 3, PrevIndex: 7, PrevTerm: 2, Commit: 6, Round: 5, Seq: 4, Timeout: 1e8, Leases: true, Count: 2, Entries: entries}, func() frame { return new(Append) }},
		{"heartbeat", KindAppend, &Append{Term: 3, PrevIndex: 9, PrevTerm: 3, Commit: 9, Round: 6, Seq: 5, Timeout: 1e8, Entries: []byte{}}, func() frame { return new(Append) }},
		{"ack", KindAck, &Ack{Term: 3, EchoBoot: 99, EchoRound: 5, EchoSeq: 4, Match: 9, Last: 12, RejectPrev: 7, Hint: 5, HintTerm: 2, EchoTimeout: 1e8, Reject: true, Full: true, Disk: 2, Held: [2]uint64{5, 1 << 63}}, func() frame { return new(Ack) }},
		{"vote", KindVote, &Vote{Pre: true, Transfer: true, Term: 4, LastIndex: 9, LastTerm: 3, Probe: 1, AskBoot: 98}, func() frame { return new(Vote) }},
		{"vote-reply", KindVoteReply, &VoteReply{Granted: true, Term: 4, EchoBoot: 98, Reason: 3, LastIndex: 9, LastTerm: 3}, func() frame { return new(VoteReply) }},
		{"timeout-now", KindTimeoutNow, &TimeoutNow{Term: 4, LastIndex: 9, AskBoot: 98}, func() frame { return new(TimeoutNow) }},
		{"probe", KindProbe, &Probe{AskBoot: 98, Nonce: 1, Term: 4}, func() frame { return new(Probe) }},
		{"probe-reply", KindProbeReply, &ProbeReply{EchoBoot: 98, Nonce: 1, Term: 4, Leads: true}, func() frame { return new(ProbeReply) }},
		{"join", KindJoin, &Join{AskBoot: 98, Term: 4, Cluster: [16]byte{1, 2}, Incarnation: 6, List: list}, func() frame { return new(Join) }},
		{"address", KindAddress, &Address{Index: 9, Addr: []byte("10.0.0.7:7101")}, func() frame { return new(Address) }},
		{"read-ask", KindReadAsk, &ReadAsk{AskBoot: 98, Nonce: 7, Term: 4}, func() frame { return new(ReadAsk) }},
		{"read-answer", KindReadAnswer, &ReadAnswer{EchoBoot: 98, Nonce: 7, Term: 4, Index: 9}, func() frame { return new(ReadAnswer) }},
		{"found-ask", KindFoundAsk, &FoundAsk{AskBoot: 97, Pad: 16}, func() frame { return new(FoundAsk) }},
		{"found-answer", KindFoundAnswer, &FoundAnswer{EchoBoot: 97, List: list}, func() frame { return new(FoundAnswer) }},
		{"found-answer-blank", KindFoundAnswer, &FoundAnswer{EchoBoot: 97, Blank: true, List: []byte{}}, func() frame { return new(FoundAnswer) }},
		{"found-list", KindFoundList, &FoundList{List: list}, func() frame { return new(FoundList) }},
		{"hello", KindHello, &Hello{Nonce: 42, Pad: 16}, func() frame { return new(Hello) }},
		{"hello-reply", KindHelloReply, &HelloReply{Nonce: 42, Leader: 1, LeaderAddr: []byte("127.0.0.1:7101"), Term: 4, LogTime: 1e9, Token: 5, Cluster: [16]byte{1}, Servers: servers}, func() frame { return new(HelloReply) }},
		{"hello-reply-removed", KindHelloReply, &HelloReply{Nonce: 42, LeaderAddr: []byte{}, Term: 4, LogTime: 1e9, Token: 5, Removed: true, Cluster: [16]byte{1}, Servers: []byte{}}, func() frame { return new(HelloReply) }},
		{"request", KindRequest, &Request{Count: 2, Ops: []byte("two operations..")}, func() frame { return new(Request) }},
		{"reply", KindReply, &Reply{Count: 1, Results: []byte("a result")}, func() frame { return new(Reply) }},
		{"not-leader", KindNotLeader, &NotLeader{Term: 4, Leader: 1, Addr: []byte("127.0.0.1:7101"), Count: 2, Seqs: []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"), Reason: 1}, func() frame { return new(NotLeader) }},
		{"status", KindStatus, &Status{Nonce: 43}, func() frame { return new(Status) }},
		{"status-reply", KindStatusReply, &StatusReply{Nonce: 43, ID: 2, Role: RoleLeader, Leader: 2, Term: 4, Last: 9, Commit: 8, Applied: 7, Configuration: list, Servers: servers}, func() frame { return new(StatusReply) }},
		{"status-reply-removed", KindStatusReply, &StatusReply{Nonce: 43, ID: 3, Role: RoleRemoved, Term: 4, Last: 9, Commit: 8, Applied: 7, Configuration: []byte{}, Servers: []byte{}}, func() frame { return new(StatusReply) }},
		{"member", KindMember, &MemberChange{Nonce: 44, Operation: 45, Hold: 1e10, Verb: VerbAdd, DryRun: true, HoldPhase: 1, Servers: servers}, func() frame { return new(MemberChange) }},
		{"member-reply", KindMemberReply, &MemberChangeReply{Nonce: 44, Operation: 45, Index: 9, Term: 4, Leader: 1, Outcome: 1, Phase: 2, Configuration: list, Text: []byte("done")}, func() frame { return new(MemberChangeReply) }},
		{"chaos", KindChaos, &Chaos{Nonce: 46, Duration: 2e9, Verb: ChaosCut}, func() frame { return new(Chaos) }},
		{"chaos-reply", KindChaosReply, &ChaosReply{Nonce: 46, Outcome: ChaosBegun}, func() frame { return new(ChaosReply) }},
		{"token", KindToken, &Token{Token: 47}, func() frame { return new(Token) }},
		{"path-ask", KindPathAsk, &PathAsk{AskBoot: 96, Nonce: 5, Passes: 1200, Pad: 16}, func() frame { return new(PathAsk) }},
		{"path-echo", KindPathEcho, &PathEcho{EchoBoot: 96, Nonce: 5, Pad: 24}, func() frame { return new(PathEcho) }},
		{"fragment", KindFragment, &Fragment{Message: 1, Kind: KindRequest, Total: 300, Offset: 256, Stride: 256, Body: bytes.Repeat([]byte{7}, 44)}, func() frame { return new(Fragment) }},
		{"fragment-status", KindFragmentStatus, &FragmentStatus{Message: 1, EchoBoot: 96, Have: 256, Grant: 4096, Bitmap: [16]byte{0: 3, 15: 128}, Overflows: 7, Latest: 512, Done: true}, func() frame { return new(FragmentStatus) }},
		{"path-probe", KindPathProbe, &PathProbe{AskBoot: 96, Nonce: 5, Pad: 24}, func() frame { return new(PathProbe) }},
		{"path-answer", KindPathAnswer, &PathAnswer{EchoBoot: 96, Nonce: 5}, func() frame { return new(PathAnswer) }},
		{"bulk", KindBulk, &Bulk{Transfer: 7, Number: 9, Total: BulkPieceBytes + 300, Sum: 0xfeed, Piece: 1, Offset: 256, Stride: 256, Body: bytes.Repeat([]byte{3}, 44)}, func() frame { return new(Bulk) }},
		{"bulk-ack", KindBulkAck, &BulkAck{Transfer: 7, EchoBoot: 96, Largest: 9, Floor: 1, Kept: 5, Overflows: 2, Delay: 100, Bitmap: [4]uint64{1, 0, 0, 1 << 63}}, func() frame { return new(BulkAck) }},
		{"mismatch", 0, &Mismatch{Speaks: Versions{1, 1}, Asked: 9}, func() frame { return new(Mismatch) }},
		{"mismatch-two", 0, &Mismatch{Speaks: Versions{2, 3}, Asked: 1}, func() frame { return new(Mismatch) }},
		{"mismatch-key", 0, &Mismatch{Speaks: Versions{1, 1}, Asked: 1, Reason: MismatchKey}, func() frame { return new(Mismatch) }},
	}
}

func encode(f frame) []byte {
	p := bytes.Repeat([]byte{0xff}, f.Size()) // what the buffer held before must not show
	f.Encode(p)
	return p
}

func TestFramesRoundTripAndMatchTheirGoldenBytes(t *testing.T) {
	for _, s := range samples() {
		p := encode(s.frame)
		got := s.fresh()
		if err := got.Decode(p); err != nil {
			t.Errorf("%s: decode: %v", s.name, err)
		} else if !reflect.DeepEqual(got, s.frame) {
			t.Errorf("%s: decoded\n%+v, want\n%+v", s.name, got, s.frame)
		}
		checkGolden(t, s.name, p)
	}
}

func checkGolden(t *testing.T, name string, p []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	var b strings.Builder
	for len(p) > 0 {
		n := min(16, len(p))
		b.WriteString(hex.EncodeToString(p[:n]) + "\n")
		p = p[n:]
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s: bytes changed, which needs another Version:\n%swant\n%s", name, b.String(), want)
	}
}

func TestEveryCutOfAFrameIsAnErrorOrReencodesToItself(t *testing.T) {
	for _, s := range samples() {
		p := encode(s.frame)
		for n := range p {
			f := s.fresh()
			if f.Decode(p[:n]) == nil && !bytes.Equal(encode(f), p[:n]) {
				t.Errorf("%s cut to %d bytes: decoded to something else", s.name, n)
			}
		}
	}
}

func TestReservedBytesMustBeZero(t *testing.T) {
	at := map[string]int{"append": 61, "ack": 98, "vote": 39, "vote-reply": 34, "probe-reply": 25, "found-answer": 9, "hello": 9, "hello-reply": 51,
		"request": 4, "reply": 7, "not-leader": 14, "status-reply": 45, "member": 27, "member-reply": 36, "chaos": 17, "chaos-reply": 9, "fragment": 24, "fragment-status": 49}
	for _, s := range samples() {
		i, ok := at[s.name]
		if !ok {
			continue
		}
		p := encode(s.frame)
		p[i] = 1
		if err := s.fresh().Decode(p); !errors.Is(err, ErrReserved) {
			t.Errorf("%s with byte %d set: %v, want ErrReserved", s.name, i, err)
		}
	}
}

func TestOpenRefusesEverySingleBitFlip(t *testing.T) {
	p := Packer{Limit: SafeDatagram, Header: Header{Cluster: 5, Src: 1, Dst: 2, Incarnation: 3, Boot: 4}}
	v := Vote{Term: 7}
	v.Encode(p.Frame(KindVote, v.Size()))
	b := p.Flush(netip.AddrPort{}, nil)[0].Bytes
	if h, _, err := Open(b); err != nil || h.Packet != 1 || h.Src != 1 || h.Boot != 4 {
		t.Fatalf("open: %+v, %v", h, err)
	}
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if _, _, err := Open(b); err == nil {
			t.Errorf("bit %d flipped, and opened", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for n := range b {
		if _, _, err := Open(b[:n]); err == nil {
			t.Errorf("cut to %d bytes, and opened", n)
		}
	}
}

func TestADatagramHasItsGoldenBytes(t *testing.T) {
	p := Packer{Limit: SafeDatagram, Header: Header{Cluster: ClusterTag([16]byte{1}), Src: 1, Dst: ClientNode, Incarnation: 3, Boot: 4, Packet: 8, Token: 6}}
	copy(p.Frame(KindStatus, 8), "12345678")
	copy(p.Frame(KindRequest, 9), "123456789")
	checkGolden(t, "datagram", p.Flush(netip.AddrPort{}, nil)[0].Bytes)
}

func TestPackerFillsDatagramsAndKeepsThemUntilReset(t *testing.T) {
	for _, limit := range []int{MinDatagram, 1199, SafeDatagram, MaxDatagram} {
		p := Packer{Limit: limit}
		if p.Frame(KindRequest, MaxFrame(limit)+1) != nil {
			t.Errorf("limit %d: a frame above MaxFrame was taken", limit)
		}
		for range 2 {
			var out []Packet
			want := 0
			for i := range 300 {
				size := (i * 37) % min(1000, MaxFrame(limit)+1)
				if room := p.Room(); p.open > 0 && size <= room {
					before := len(p.done)
					p.Frame(KindRequest, size)
					if len(p.done) != before {
						t.Fatalf("limit %d: room %d, yet %d bytes began another datagram", limit, room, size)
					}
					clear(p.slabs[p.slab][p.used+p.open-pad8(size):][:size])
				} else {
					clear(p.Frame(KindRequest, size))
				}
				want++
				if i%50 == 49 {
					out = p.Flush(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(i)), out)
				}
			}
			got := 0
			for _, d := range out {
				if len(d.Bytes) > limit {
					t.Fatalf("limit %d: a datagram of %d bytes", limit, len(d.Bytes))
				}
				_, frames, err := Open(d.Bytes)
				if err != nil {
					t.Fatalf("limit %d: %v", limit, err)
				}
				for {
					k, _, ok := frames.Next()
					if !ok {
						break
					}
					if k != KindRequest {
						t.Fatalf("kind %v", k)
					}
					got++
				}
				if frames.Err() != nil {
					t.Fatal(frames.Err())
				}
			}
			if got != want {
				t.Errorf("limit %d: %d frames came out, %d went in", limit, got, want)
			}
			p.Reset()
		}
	}
}

func TestPacketNumbersAreTakenAtFlushAndNeverRepeat(t *testing.T) {
	p := Packer{Limit: MinDatagram}
	seen := map[uint64]bool{}
	for range 3 {
		for range 10 {
			clear(p.Frame(KindRequest, 300))
		}
		for _, d := range p.Flush(netip.AddrPort{}, nil) {
			h, _, err := Open(d.Bytes)
			if err != nil || h.Packet == 0 || seen[h.Packet] {
				t.Fatalf("packet %d, %v", h.Packet, err)
			}
			seen[h.Packet] = true
		}
		p.Reset()
	}
	if len(seen) != 30 {
		t.Errorf("%d packets, want 30", len(seen))
	}
}

func TestAMismatchIsNeverLongerThanTheQuestionNorAnswered(t *testing.T) {
	question := make([]byte, 100)
	le.PutUint16(question, Magic)
	question[2] = 9
	if _, _, err := Open(question); !errors.Is(err, ErrVersion) {
		t.Fatalf("open: %v, want ErrVersion", err)
	}
	for n := range question {
		a := AppendMismatch(nil, question[:n])
		if len(a) > n {
			t.Fatalf("%d bytes asked, %d answered", n, len(a))
		}
		if n < MismatchBytes {
			continue
		}
		var m Mismatch
		if _, _, err := Open(a); !errors.Is(err, ErrMismatch) {
			t.Fatalf("open of the answer: %v", err)
		}
		if err := m.Decode(a); err != nil || m.Speaks != Spoken() || m.Asked != 9 {
			t.Fatalf("answer %+v, %v", m, err)
		}
		if len(AppendMismatch(nil, append(a, make([]byte, 100)...))) != 0 {
			t.Fatal("a mismatch was answered")
		}
	}
}

func TestConfigurationsAreDecodedStrictly(t *testing.T) {
	for name, want := range map[string]Configuration{
		"configuration": sampleConfiguration(false), "configuration-joint": sampleConfiguration(true), "configuration-target": sampleTarget(),
	} {
		shuffled := want
		shuffled.Members = []Member{want.Members[2], want.Members[0], want.Members[1]}
		if want.Target != nil {
			shuffled.Target = []Member{want.Target[1], want.Target[2], want.Target[0]}
		}
		b := AppendConfiguration([]byte("odd"), &shuffled)[3:]
		got, err := DecodeConfiguration(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		for n := range b {
			if _, err := DecodeConfiguration(b[:n]); err == nil {
				t.Errorf("cut to %d of %d bytes, and decoded", n, len(b))
			}
		}
		if _, err := DecodeConfiguration(append(b[:len(b):len(b)], make([]byte, 8)...)); err == nil {
			t.Error("bytes behind the end passed")
		}
		checkGolden(t, name, b)
	}
	for what, spoil := range map[string]func(c *Configuration){
		"no member":     func(c *Configuration) { c.Members = nil },
		"id 0":          func(c *Configuration) { c.Members[0].ID = 0 },
		"id of clients": func(c *Configuration) { c.Members[0].ID = ClientNode },
		"id twice":      func(c *Configuration) { c.Members[1].ID = 1 },
		"no role":       func(c *Configuration) { c.Members[0].Role = 0 },
		"no address":    func(c *Configuration) { c.Members[0].Addr = "" },
		"a line break":  func(c *Configuration) { c.Members[0].Addr = "a\nb:1" },
		"long address":  func(c *Configuration) { c.Members[0].Addr = strings.Repeat("a", MaxAddr+1) },
		"too many":      func(c *Configuration) { c.Members = make([]Member, MaxMembers+1) },
		"joint of none": func(c *Configuration) { c.Old = []uint16{} },
		"old twice":     func(c *Configuration) { c.Old = []uint16{3, 3} },
		"empty target":  func(c *Configuration) { c.Target = []Member{} },
		"target twice":  func(c *Configuration) { c.Target[1].ID = 1 },
		"learner aim":   func(c *Configuration) { c.Target[1].Role = MemberLearner },
		"too long": func(c *Configuration) {
			c.Members, c.Target = nil, nil
			for i := range MaxMembers {
				c.Members = append(c.Members, Member{ID: uint16(i + 1), Role: 1, Addr: strings.Repeat("a", MaxAddr)})
			}
			c.Target = c.Members
		},
	} {
		c := sampleTarget()
		spoil(&c)
		if err := c.Check(); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%s: %v, want ErrConfiguration", what, err)
		}
	}
	largest := Configuration{Old: make([]uint16, MaxMembers)}
	for i := range MaxMembers {
		largest.Members = append(largest.Members, Member{ID: uint16(i + 1), Role: 1, Addr: strings.Repeat("a", MaxAddr)})
		largest.Old[i] = uint16(i + 1)
	}
	if n := len(AppendConfiguration(nil, &largest)); n > MaxEntryBody {
		t.Errorf("the largest configuration has %d bytes, an entry takes %d", n, MaxEntryBody)
	}
}

func TestServersRoundTrip(t *testing.T) {
	want := []Server{{3, "b:1"}, {1, ""}, {MaxNode, strings.Repeat("x", MaxAddr)}}
	b := AppendServers([]byte{1}, want)[1:]
	got, err := DecodeServers(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := DecodeServers(b[:n]); err == nil {
			t.Errorf("cut to %d bytes, and decoded", n)
		}
	}
}

func TestCodecsDoNotAllocate(t *testing.T) {
	buf := make([]byte, 4096)
	var (
		a    Append
		ack  Ack
		v    Vote
		r    Request
		n    NotLeader
		s    StatusReply
		f    Fragment
		fs   FragmentStatus
		hr   HelloReply
		e    Entry
		p    = Packer{Limit: MaxDatagram}
		out  = make([]Packet, 0, 8)
		data = map[string][]byte{}
	)
	for _, s := range samples() {
		data[s.name] = encode(s.frame)
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	for name, run := range map[string]func(){
		"append":      func() { must(a.Decode(data["append"])); a.Encode(buf) },
		"ack":         func() { must(ack.Decode(data["ack"])); ack.Encode(buf) },
		"vote":        func() { must(v.Decode(data["vote"])); v.Encode(buf) },
		"request":     func() { must(r.Decode(data["request"])); r.Encode(buf) },
		"not leader":  func() { must(n.Decode(data["not-leader"])); n.Encode(buf) },
		"status":      func() { must(s.Decode(data["status-reply"])); s.Encode(buf) },
		"fragment":    func() { must(f.Decode(data["fragment"])); f.Encode(buf) },
		"frag status": func() { must(fs.Decode(data["fragment-status"])); fs.Encode(buf) },
		"hello reply": func() { must(hr.Decode(data["hello-reply"])); hr.Encode(buf) },
		"entry": func() {
			var err error
			e, _, err = DecodeEntry(data["append"][AppendHeaderBytes:])
			must(err)
			e.Encode(buf)
		},
		"garbage": func() { _ = a.Decode(buf[:70]); _, _, _ = Open(buf) },
		"datagram": func() {
			p.Reset()
			for range 3 {
				ack.Encode(p.Frame(KindAck, ack.Size()))
			}
			out = p.Flush(netip.AddrPort{}, out[:0])
			_, frames, err := Open(out[0].Bytes)
			must(err)
			for {
				_, b, ok := frames.Next()
				if !ok {
					break
				}
				must(ack.Decode(b))
			}
		},
	} {
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Datagrams that another follows are equal when they are to be, and what is in them is the same.
func TestFullDatagramsAreMadeEqual(t *testing.T) {
	for _, even := range []bool{false, true} {
		p := Packer{Limit: 1400, Header: Header{Src: 1, Dst: 2}, Even: even}
		const frames = 40
		for i := range frames {
			f := Address{Index: uint64(i), Addr: bytes.Repeat([]byte("a"), 100+i*37%150)}
			f.Encode(p.Frame(KindAddress, f.Size()))
		}
		all := p.Flush(netip.AddrPort{}, nil)
		sizes, got, pads := map[int]int{}, 0, 0
		for i, d := range all {
			if i < len(all)-1 {
				sizes[len(d.Bytes)]++
			}
			_, in, err := Open(d.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			for k, payload, ok := in.Next(); ok; k, payload, ok = in.Next() {
				var f Address
				switch {
				case k == KindPad && zero(payload):
					pads++
				case k != KindAddress || f.Decode(payload) != nil || f.Index != uint64(got):
					t.Fatalf("a frame of kind %v, address %d", k, got)
				default:
					got++
				}
			}
			if in.Err() != nil {
				t.Fatal(in.Err())
			}
		}
		if got != frames || even && (len(sizes) != 1 || sizes[1400] == 0 || pads == 0) || !even && (pads > 0 || len(sizes) < 2) {
			t.Errorf("even %v: %d frames, %d pads, sizes %v", even, got, pads, sizes)
		}
	}
}

// A packer that begins small holds no more than it needs, and loses nothing where a datagram moves to a larger slab.
func TestAPackersMemoryGrowsWithWhatItHolds(t *testing.T) {
	for name, c := range map[string]struct {
		limit int
		sizes []int
		most  int // bytes held after it
	}{
		"a small answer":               {MaxDatagram, []int{100}, leastSlab},
		"many small ones":              {MaxDatagram, slices.Repeat([]int{100}, 100), 16 << 10},
		"one that fills a datagram":    {MaxDatagram, []int{MaxFrame(MaxDatagram)}, slabBytes},
		"small and large ones":         {MaxDatagram, []int{10, 3000, 9000, 50_000, 10, 60_000, 10, 10}, 4 * slabBytes},
		"a small path":                 {SafeDatagram, slices.Repeat([]int{300}, 50), slabBytes + leastSlab},
		"a small path, full datagrams": {SafeDatagram, slices.Repeat([]int{MaxFrame(SafeDatagram), 40}, 200), 8 * slabBytes},
	} {
		for _, even := range []bool{false, true} {
			p := Packer{Limit: c.limit, Even: even}
			for range 3 { // the second finds what the first has left
				for i, size := range c.sizes {
					f := p.Frame(KindReply, size)
					for j := range f {
						f[j] = byte(i + j)
					}
				}
				next := 0
				for _, d := range p.Flush(netip.AddrPort{}, nil) {
					_, frames, err := Open(d.Bytes)
					if err != nil || len(d.Bytes) > c.limit {
						t.Fatalf("%s: %d bytes, %v", name, len(d.Bytes), err)
					}
					for k, f, ok := frames.Next(); ok; k, f, ok = frames.Next() {
						if k == KindPad {
							continue
						}
						if len(f) != c.sizes[next] || len(f) > 0 && (f[0] != byte(next) || f[len(f)-1] != byte(next+len(f)-1)) {
							t.Fatalf("%s: frame %d is not as it was written", name, next)
						}
						next++
					}
				}
				if next != len(c.sizes) || p.Held() > c.most {
					t.Errorf("%s: %d frames of %d, %d bytes held", name, next, len(c.sizes), p.Held())
				}
				p.Reset()
			}
		}
	}
}
