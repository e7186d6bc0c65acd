package node

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"balsa/kv"
	"balsa/wal/vfs"
	"balsa/wire"
)

// pump carries datagrams between the nodes of a lab in reused memory, so that
// what is counted is what the nodes allocate.
type pump struct {
	l       *lab
	arena   [2][]byte
	flights [2][]flight
	side    int
	packer  wire.Packer
	packets []wire.Packet
	ops     []byte
	key     []byte
	value   []byte
	seq     uint64
	answers int
}

func newPump(l *lab) *pump {
	p := &pump{l: l, value: make([]byte, 100)}
	p.packer = wire.Packer{Header: wire.Header{Src: wire.ClientNode, Incarnation: 77, Cluster: l.leader().tag}, Limit: wire.MaxDatagram, Sealer: l.sealer}
	p.packer.Header.Packet = l.packets
	for i := range p.arena {
		p.arena[i] = make([]byte, 0, 4<<20)
		p.flights[i] = make([]flight, 0, 1024)
	}
	p.key = []byte("0123456789abcdef")
	return p
}

// ask sends count operations in one request to the leader and pumps until all
// are answered.
func (p *pump) ask(op kv.Op, count int) {
	p.ops = p.ops[:0]
	for range count {
		p.seq++
		c := kv.Command{Op: op, Client: 77, Seq: p.seq, Key: p.key}
		p.key[15] = byte(p.seq % 64)
		if op.IsRead() {
			c.Seq |= kv.ReadSeq
		} else {
			c.AckedBelow, c.Value = p.seq, p.value
			if p.seq == 1 {
				c.Flags, c.Registered = kv.FlagRegister, 1
			}
		}
		p.ops = kv.AppendCommand(p.ops, &c)
	}
	r := wire.Request{Count: count, Ops: p.ops}
	p.packer.Reset()
	p.packer.Header.Token = p.l.leader().token(p.l.now, labAddr(labClient))
	r.Encode(p.packer.Frame(wire.KindRequest, r.Size()))
	p.packets = p.packer.Flush(labAddr(p.l.leader().ID()), p.packets[:0])
	p.carry(labAddr(labClient), p.packets)
	for want := p.answers + count; p.answers < want; {
		p.turn()
	}
}

func (p *pump) carry(from netip.AddrPort, packets []wire.Packet) {
	for _, d := range packets {
		at := len(p.arena[p.side])
		p.arena[p.side] = append(p.arena[p.side], d.Bytes...)
		p.flights[p.side] = append(p.flights[p.side], flight{from: from, to: d.To, bytes: p.arena[p.side][at:]})
	}
}

func (p *pump) turn() {
	l := p.l
	queue := p.flights[p.side]
	p.side ^= 1
	p.flights[p.side], p.arena[p.side] = p.flights[p.side][:0], p.arena[p.side][:0]
	l.now += 10e3
	for _, f := range queue {
		if labID(f.to) == labClient {
			p.hear(f.bytes)
		} else if n := l.nodes[labID(f.to)]; n != nil {
			n.Deliver(l.now, f.from, f.bytes)
		}
	}
	for id := uint16(1); id <= uint16(len(l.pool)); id++ {
		n := l.nodes[id]
		n.Turn(l.now, true)
		p.carry(labAddr(id), n.Out())
		for b := n.Batch(); b != nil; b = n.Batch() {
			n.Persisted(l.now, b, persistBatch(b))
			p.carry(labAddr(id), n.Out())
		}
	}
}

// frames opens an answer in place, as a client does.
func (p *pump) frames(datagram []byte) wire.Frames {
	if p.l.keys == nil {
		_, frames, _ := wire.Open(datagram)
		return frames
	}
	h, _ := wire.Peek(datagram)
	frames, err := p.l.opener.Open(p.l.now, &h, datagram, true)
	if err != nil {
		p.l.t.Fatal(err)
	}
	return frames
}

func (p *pump) hear(datagram []byte) {
	frames := p.frames(datagram)
	for {
		kind, payload, ok := frames.Next()
		if !ok {
			return
		}
		var r wire.Reply
		if kind != wire.KindReply || r.Decode(payload) != nil {
			continue
		}
		for rest := r.Results; len(rest) > 0; {
			result, size, err := kv.DecodeResult(rest)
			if err != nil || !result.Status.Applied() {
				p.l.t.Fatalf("got %+v, %v", result, err)
			}
			rest = rest[size:]
			p.answers++
		}
	}
}

// TestAPutAndAGetAllocateNothing counts all three servers together, from the
// request's datagram to the reply's.
func TestAPutAndAGetAllocateNothing(t *testing.T) {
	for _, c := range []struct {
		op     kv.Op
		count  int
		leases bool
		sealed bool
	}{{kv.Put, 1, false, false}, {kv.Put, 64, false, false}, {kv.Get, 1, false, false}, {kv.Get, 64, false, false}, {kv.Get, 1, true, false}, {kv.Get, 64, true, false},
		{kv.Put, 1, false, true}, {kv.Put, 64, false, true}, {kv.Get, 64, false, true}} {
		t.Run(fmt.Sprint(c.op, " ", c.count, " leases ", c.leases, " sealed ", c.sealed), func(t *testing.T) {
			l := newDiskLab(t, noSync{vfs.OS}, c.leases, c.sealed)
			l.elect()
			p := newPump(l)
			p.ask(kv.Put, 64)
			for range 1500 { // past the ring of recent entries, so that every slot has its room
				p.ask(c.op, c.count)
			}
			if got := testing.AllocsPerRun(200, func() { p.ask(c.op, c.count) }); got != 0 {
				t.Errorf("%v allocations for %d, want 0", got, c.count)
			}
			if got := l.leader().core.LeaseReads() > 0; got != c.leases {
				t.Errorf("served by a lease: %v", got)
			}
		})
	}
}

// noSync leaves out the waiting: allocations are counted, not durability.
type noSync struct{ vfs.FS }

type noSyncFile struct{ vfs.File }

func (f noSync) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return noSyncFile{file}, err
}

func (f noSync) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	return noSyncFile{file}, err
}

func (noSyncFile) Sync() error { return nil }

// newDiskLab is a lab on the real file system, whose files allocate nothing
// that memory's would.
func newDiskLab(t testing.TB, disk vfs.FS, leases, sealed bool) *lab {
	l := newLab(t, 0, 0)
	if sealed {
		l = newSealedLab(t, 0, 0)
	}
	for id := uint16(1); id <= 3; id++ {
		l.pool = append(l.pool, wire.Server{ID: id, Addr: labAddr(id).String()})
	}
	for id := uint16(1); id <= 3; id++ {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := Init(InitOptions{FS: disk, Dir: dir, ID: id, Pool: append([]wire.Server(nil), l.pool...), Random: l.next, SegmentBytes: 64 << 20, Leases: leases}); err != nil {
			t.Fatal(err)
		}
		n, err := Open(Options{FS: disk, Dir: dir, Resolve: netip.ParseAddrPort, Random: l.next, SegmentBytes: 64 << 20, Keys: l.keys}, l.now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		l.nodes[id] = n
	}
	return l
}

func benchmarkPump(b *testing.B, op kv.Op, count int, sealed bool) {
	l := newDiskLab(b, noSync{vfs.OS}, false, sealed) // the processor's part
	l.elect()
	p := newPump(l)
	p.ask(kv.Put, 64)
	for range 1500 { // as above
		p.ask(op, count)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.ask(op, count)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/op1")
}

func BenchmarkHotPut1(b *testing.B)        { benchmarkPump(b, kv.Put, 1, false) }
func BenchmarkHotPut64(b *testing.B)       { benchmarkPump(b, kv.Put, 64, false) }
func BenchmarkHotGet1(b *testing.B)        { benchmarkPump(b, kv.Get, 1, false) }
func BenchmarkHotGet64(b *testing.B)       { benchmarkPump(b, kv.Get, 64, false) }
func BenchmarkHotSealedPut1(b *testing.B)  { benchmarkPump(b, kv.Put, 1, true) }
func BenchmarkHotSealedPut64(b *testing.B) { benchmarkPump(b, kv.Put, 64, true) }
func BenchmarkHotSealedGet64(b *testing.B) { benchmarkPump(b, kv.Get, 64, true) }
