package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

// lab is a small cluster in one goroutine: real nodes, memory file systems, a
// network that delivers in order unless told to drop. It shows one behaviour at
// a time; the simulator is where faults are mixed.
type lab struct {
	t                testing.TB
	now              int64
	pool             []wire.Server
	nodes            map[uint16]*Node // nil: down
	disks            map[uint16]*vfs.Mem
	random           uint64
	keys, clientKeys *wire.Keys   // nil: not sealed
	sealer           *wire.Sealer // the client's
	opener           *wire.Opener
	packets          uint64 // numbers the client's datagrams
	queue            []flight
	changes          []wire.MemberChangeReply
	answers          []answer                                             // what the client got
	drop             func(from, to uint16, kind wire.Kind) bool           // of datagrams that hold such a frame
	lose             func(to uint16, kind wire.Kind, payload []byte) bool // the same, by what the frame says
	held             map[uint16]*wal.Batch                                // theirs
	datagram         int                                                  // largest datagram of servers started from now on; 0: by the address
	mtu              int                                                  // between servers; longer ones vanish; 0: none
	silent           bool                                                 // dead servers send no ICMP
	stuck            map[uint16]bool                                      // servers whose syncs do not end
	leases           bool                                                 // servers made from now on found a cluster with leases
	ends             error                                                // what may end a server
	ended            []error
	moved            map[uint16]netip.AddrPort // servers that are elsewhere now
	parts            *wire.Reassembler         // the client's; nil: it takes no fragments
}

type flight struct {
	from, to netip.AddrPort
	bytes    []byte
}

type answer struct {
	from   uint16
	kind   wire.Kind
	result kv.Result
	seqs   []uint64
	hello  wire.HelloReply
	status wire.StatusReply
	chaos  wire.ChaosReply
}

const labClient = 9999

func labAddr(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 7000+id)
}

func labID(a netip.AddrPort) uint16 { return a.Port() - 7000 }

// addr is where a server is now, and id who is there.
func (l *lab) addr(id uint16) netip.AddrPort {
	if a, ok := l.moved[id]; ok {
		return a
	}
	return labAddr(id)
}

func (l *lab) id(a netip.AddrPort) uint16 {
	for id, at := range l.moved {
		if at == a {
			return id
		}
	}
	if id := labID(a); l.addr(id) == a {
		return id
	}
	return 0
}

// newLab makes count servers of which the first voters found the cluster.
func newLab(t testing.TB, count, voters int) *lab { return newLabWith(t, count, voters, false) }

func newLabWith(t testing.TB, count, voters int, leases bool) *lab {
	l := emptyLab(t)
	l.leases = leases
	return l.make(count, voters)
}

// newSealedLab is a lab with a secret; its client holds what clients get.
func newSealedLab(t testing.TB, count, voters int) *lab {
	l := emptyLab(t)
	l.keys, l.clientKeys = labKeys(1)
	l.sealer, l.opener = wire.NewSealer(l.clientKeys), wire.NewOpener(l.clientKeys)
	return l.make(count, voters)
}

// labKeys are the servers' and the clients' keys of the same epochs.
func labKeys(epochs ...uint8) (servers, clients *wire.Keys) {
	var all, derived []wire.Secret
	for _, e := range epochs {
		s := wire.Secret{Epoch: e, Bytes: [wire.SecretBytes]byte{e, 1}}
		all, derived = append(all, s), append(derived, s.ForClients())
	}
	servers, err := wire.NewKeys(true, all)
	if err != nil {
		panic(err)
	}
	if clients, err = wire.NewKeys(false, derived); err != nil {
		panic(err)
	}
	return servers, clients
}

func emptyLab(t testing.TB) *lab {
	return &lab{t: t, now: 1, nodes: map[uint16]*Node{}, disks: map[uint16]*vfs.Mem{}, random: 1, stuck: map[uint16]bool{}, held: map[uint16]*wal.Batch{}, moved: map[uint16]netip.AddrPort{}}
}

func (l *lab) make(count, voters int) *lab {
	var first []uint16
	for id := uint16(1); id <= uint16(count); id++ {
		l.pool = append(l.pool, wire.Server{ID: id, Addr: labAddr(id).String()})
		if int(id) <= voters {
			first = append(first, id)
		}
	}
	for id := uint16(1); id <= uint16(count); id++ {
		l.wipe(id, first)
		l.start(id)
	}
	return l
}

func (l *lab) next() uint64 {
	l.random += 0x9e3779b97f4a7c15
	z := l.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// wipe gives a server a new, blank directory.
func (l *lab) wipe(id uint16, voters []uint16) {
	l.disks[id] = vfs.NewMem()
	err := Init(InitOptions{FS: l.disks[id], Dir: "d", ID: id, Pool: append([]wire.Server(nil), l.pool...), Voters: append([]uint16(nil), voters...), SegmentBytes: 256 << 10, Random: l.next, Leases: l.leases})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) start(id uint16) *Node {
	n, err := Open(Options{FS: l.disks[id], Dir: "d", Resolve: netip.ParseAddrPort, Random: l.next, SegmentBytes: 256 << 10, Datagram: l.datagram, Keys: l.keys}, l.now)
	if err != nil {
		l.t.Fatalf("open %d: %v", id, err)
	}
	l.nodes[id] = n
	return n
}

// kill ends a server as kill -9 does: what was written stays.
func (l *lab) kill(id uint16) {
	l.nodes[id], l.held[id] = nil, nil
	l.disks[id].ReleaseLocks()
}

func (l *lab) each(visit func(id uint16, n *Node)) {
	for id := uint16(1); id <= uint16(len(l.pool)); id++ {
		if n := l.nodes[id]; n != nil {
			visit(id, n)
		}
	}
}

// turn delivers all that is under way, makes batches durable and lets time
// pass to the next deadline, at most by step.
func (l *lab) turn(step int64) {
	queue := l.queue
	l.queue = nil
	l.tellPieces()
	for _, f := range queue {
		if n := l.nodes[l.id(f.to)]; n != nil {
			n.Deliver(l.now, f.from, f.bytes)
			for i := range f.bytes {
				f.bytes[i] = 0xee // it was borrowed
			}
		} else if l.id(f.to) == labClient {
			l.hear(f)
		} else if sender := l.nodes[l.id(f.from)]; sender != nil && !l.silent {
			sender.Refused(l.now, f.to) // as the kernel of a machine whose process is gone
		}
	}
	at := l.now + step
	l.each(func(id uint16, n *Node) {
		n.Turn(l.now, true)
		l.collect(id, n)
		for b := l.batch(id, n); b != nil; b = l.batch(id, n) {
			n.Persisted(l.now, b, persistBatch(b))
			l.collect(id, n)
			n.Turn(l.now, true)
			l.collect(id, n)
		}
		if err := n.Err(); err != nil {
			if l.ended = append(l.ended, err); l.ends == nil || !errors.Is(err, l.ends) {
				l.t.Fatalf("server %d: %v", id, err)
			}
			l.kill(id)
			return
		}
		at = min(at, max(n.Deadline(), l.now))
	})
	if len(l.queue) > 0 {
		at = l.now + 10e3
	}
	l.now = max(at, l.now+1000)
}

// batch is the next batch that ends; that of a stuck server does not, until it
// is stuck no more.
func (l *lab) batch(id uint16, n *Node) *wal.Batch {
	b := l.held[id]
	if b == nil {
		b = n.Batch()
	}
	l.held[id] = nil
	if l.stuck[id] {
		l.held[id], b = b, nil
	}
	return b
}

func (l *lab) collect(id uint16, n *Node) {
	for _, p := range n.Out() {
		if (l.drop != nil || l.lose != nil) && l.dropped(id, p) {
			continue
		}
		if l.mtu > 0 && len(p.Bytes) > l.mtu && labID(p.To) != labClient {
			continue
		}
		l.queue = append(l.queue, flight{from: l.addr(id), to: p.To, bytes: append([]byte(nil), p.Bytes...)})
	}
}

func (l *lab) dropped(id uint16, p wire.Packet) bool {
	_, frames, err := l.open(append([]byte(nil), p.Bytes...))
	if err != nil {
		l.t.Fatalf("server %d sent what does not open: %v", id, err)
	}
	for {
		kind, payload, ok := frames.Next()
		if !ok {
			return false
		}
		if l.drop != nil && l.drop(id, l.id(p.To), kind) || l.lose != nil && l.lose(l.id(p.To), kind, payload) {
			return true
		}
	}
}

// until turns until done, at most within of virtual time.
func (l *lab) until(within int64, what string, done func() bool) {
	l.t.Helper()
	for end := l.now + within; !done(); {
		if l.now > end {
			l.t.Fatalf("not within %d ms: %s", within/1e6, what)
		}
		l.turn(5e6)
	}
}

func (l *lab) leader() *Node {
	var best *Node
	l.each(func(_ uint16, n *Node) {
		if n.Leading() && (best == nil || n.core.Term() > best.core.Term()) {
			best = n
		}
	})
	return best
}

func (l *lab) elect() *Node {
	l.t.Helper()
	l.until(10e9, "a leader that applied its no-op", func() bool { n := l.leader(); return n != nil && n.applied > 0 })
	return l.leader()
}

// tell sends frames from the client.
func (l *lab) tell(to uint16, cluster uint32, kind wire.Kind, size int, encode func(p []byte)) {
	p := wire.Packer{Header: wire.Header{Src: wire.ClientNode, Incarnation: 77, Cluster: cluster, Packet: l.packets}, Limit: wire.MaxDatagram, Sealer: l.sealer}
	if n := l.nodes[to]; n != nil {
		p.Header.Token = n.token(l.now, labAddr(labClient))
	}
	encode(p.Frame(kind, size))
	packets := p.Flush(l.addr(to), nil)
	l.packets = p.Header.Packet
	for _, d := range packets {
		l.queue = append(l.queue, flight{from: labAddr(labClient), to: d.To, bytes: append([]byte(nil), d.Bytes...)})
	}
}

// open reads any datagram of the lab, also one that was read before.
func (l *lab) open(b []byte) (wire.Header, wire.Frames, error) {
	if l.keys == nil {
		return wire.Open(b)
	}
	h, err := wire.Peek(b)
	if err != nil {
		return h, wire.Frames{}, err
	}
	frames, err := wire.NewOpener(l.keys).Open(l.now, &h, b, false)
	return h, frames, err
}

// token is what a client at that address was told.
func (n *Node) token(now int64, a netip.AddrPort) uint64 { return n.admission.tokens.Give(now, a) }

func (l *lab) request(to uint16, ops ...kv.Command) {
	var r wire.Request
	for i := range ops {
		ops[i].Client = 77
		if !ops[i].Op.IsRead() {
			ops[i].AckedBelow = max(ops[i].AckedBelow, 1)
			ops[i].Flags |= kv.FlagRegister
			ops[i].Registered = 1
		}
		r.Ops = kv.AppendCommand(r.Ops, &ops[i])
		r.Count++
	}
	l.tell(to, l.nodes[to].tag, wire.KindRequest, r.Size(), r.Encode)
}

// tellPieces acknowledges the fragments that the client got.
func (l *lab) tellPieces() {
	if l.parts == nil {
		return
	}
	for owed, ok := l.parts.NextStatus(); ok; owed, ok = l.parts.NextStatus() {
		if n := l.nodes[owed.To.Src]; n != nil {
			l.tell(owed.To.Src, n.tag, wire.KindFragmentStatus, owed.Status.Size(), owed.Status.Encode)
		}
	}
}

func (l *lab) hear(f flight) {
	_, frames, err := l.open(f.bytes)
	if err != nil {
		l.t.Fatal(err)
	}
	h, _ := wire.Peek(f.bytes)
	for {
		kind, p, ok := frames.Next()
		if !ok {
			return
		}
		if kind == wire.KindFragment && l.parts != nil {
			var piece wire.Fragment
			if err := piece.Decode(p); err != nil {
				l.t.Fatal(err)
			}
			whole, ok, err := l.parts.Add(l.now, &h, &piece)
			if err != nil {
				l.t.Fatal(err)
			}
			if !ok {
				continue
			}
			kind, p = whole.Kind, slices.Clone(whole.Payload)
		}
		a := answer{from: l.id(f.from), kind: kind}
		switch kind {
		case wire.KindReply:
			var r wire.Reply
			if err := r.Decode(p); err != nil {
				l.t.Fatal(err)
			}
			for rest := r.Results; len(rest) > 0; {
				result, size, err := kv.DecodeResult(rest)
				if err != nil {
					l.t.Fatal(err)
				}
				a.result, rest = result, rest[size:]
				l.answers = append(l.answers, a)
			}
			continue
		case wire.KindNotLeader:
			var r wire.NotLeader
			err = r.Decode(p)
			for i := range r.Count {
				a.seqs = append(a.seqs, r.Seq(i))
			}
		case wire.KindHelloReply:
			err = a.hello.Decode(p)
		case wire.KindMemberReply:
			var r wire.MemberChangeReply
			if err = r.Decode(p); err == nil {
				r.Configuration, r.Text = slices.Clone(r.Configuration), slices.Clone(r.Text)
				l.changes = append(l.changes, r)
			}
		case wire.KindStatusReply:
			err = a.status.Decode(p)
		case wire.KindChaosReply:
			err = a.chaos.Decode(p)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		l.answers = append(l.answers, a)
	}
}

// result turns until the operation with seq is answered by a result.
func (l *lab) result(seq uint64) kv.Result {
	l.t.Helper()
	var found *kv.Result
	l.until(5e9, fmt.Sprintf("an answer to %d", seq), func() bool {
		for i := range l.answers {
			if l.answers[i].kind == wire.KindReply && l.answers[i].result.Seq == seq {
				found = &l.answers[i].result
			}
		}
		return found != nil
	})
	return *found
}
