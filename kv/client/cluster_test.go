package client

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// A dumb cluster to try the Core on: one committed log and store, three servers of which one at a time leads a term
// with a tail of entries that are not committed yet, and a network that loses, repeats, delays and reorders. What a
// real cluster may do to a client, this one does, as one seed says.

const ms = int64(1e6)

type event struct {
	at   int64
	n    int
	what func()
}
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

type logged struct {
	term  uint64
	bytes []byte
	c     kv.Command
}

type fakeServer struct {
	id       uint16
	addr     netip.AddrPort
	boot     uint64
	term     uint64 // highest seen
	leads    bool
	up       bool
	appended map[[2]uint64]bool // (client, seq) appended in this boot: never refused
	packer   wire.Packer
	assembly *wire.Reassembler
	slow     int64 // that answers to reads and commits take longer
}

type fakeCluster struct {
	t       *testing.T
	rng     *rand.Rand
	now     int64
	events  events
	n       int
	servers []*fakeServer
	id      [16]byte
	term    uint64
	leader  *fakeServer
	tail    []logged
	store   *kv.Store
	ledger  map[string]int // by value: how often a put was executed
	core    *Core
	done    []Done
	faults  bool
	lossy   float64
	busy    float64
	taken   int                                                                  // requests' commands that any server received
	clock   func() int64                                                         // of leaders; nil: now
	member  func(s *fakeServer, q *wire.MemberChange, r *wire.MemberChangeReply) // what a leader answers

	there, back int    // longest datagram that passes to the servers, and from them; 0: any
	passes      int    // what the core told of that
	stride      uint32 // of the last fragment
	asked       int    // its probes
}

func newCluster(t *testing.T, seed uint64, cfg CoreConfig) *fakeCluster {
	f := &fakeCluster{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: 1, id: [16]byte{7}, store: kv.New(), ledger: map[string]int{}}
	for i := range 3 {
		f.servers = append(f.servers, &fakeServer{id: uint16(i + 1), boot: f.rng.Uint64(), up: true, appended: map[[2]uint64]bool{},
			addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", 7101+i)), assembly: wire.NewReassembler(64<<20, 64)})
	}
	cfg.ID, cfg.Boot, cfg.Seed = f.rng.Uint64()|1, f.rng.Uint64(), seed
	if cfg.Servers == nil {
		cfg.Servers = []netip.AddrPort{f.servers[0].addr, f.servers[1].addr, f.servers[2].addr}
	}
	f.core = NewCore(cfg, f.now)
	f.lead(f.servers[0])
	return f
}

func (f *fakeCluster) after(d int64, what func()) {
	f.n++
	heap.Push(&f.events, event{f.now + d, f.n, what})
}

// lead begins a term. The tail of the last one survives whole, in part, or not at all.
func (f *fakeCluster) lead(s *fakeServer) {
	if old := f.leader; old != nil {
		old.leads = false
		f.tail = f.tail[:f.rng.IntN(len(f.tail)+1)]
		if f.rng.IntN(2) == 0 {
			old.term = f.term + 1
		}
	}
	f.term++
	f.leader, s.leads, s.term = s, true, f.term
	f.commit()
}

func (f *fakeCluster) logTime() int64 {
	if f.clock != nil {
		return f.clock()
	}
	return f.now
}

// commit applies the tail, an entry a command, and answers those who asked.
func (f *fakeCluster) commit() {
	tail := f.tail
	f.tail = nil
	for _, l := range tail {
		index, _ := f.store.Applied()
		repeat, was := f.store.Cached(l.c.Client, l.c.Seq)
		r := f.store.Apply(&kv.Entry{Index: index + 1, Term: l.term, Kind: kv.KindCommands, Time: f.logTime(), Count: 1, Body: l.bytes})[0]
		if r.Status.Applied() && (!was || repeat.Index != r.Index) {
			f.ledger[string(l.c.Value)]++
		}
		if f.leader != nil && f.leader.up {
			f.reply(f.leader, []kv.Result{r})
		}
	}
}

func (f *fakeCluster) pump() {
	if f.core.Deadline() <= f.now {
		f.core.Tick(f.now)
	}
	for _, p := range f.core.Out(nil) {
		b := slices.Clone(p.Bytes)
		for _, s := range f.servers {
			if s.addr == p.To && (f.there == 0 || len(b) <= f.there) {
				f.send(func() { f.receive(s, b) })
			}
		}
	}
	for _, d := range f.core.Done() {
		d.Result.Value = slices.Clone(d.Result.Value)
		f.done = append(f.done, d)
	}
}

// send delivers none, one or two copies, each in its own time.
func (f *fakeCluster) send(what func()) {
	copies := 1
	if f.faults {
		switch x := f.rng.Float64(); {
		case x < f.lossy:
			copies = 0
		case x < f.lossy+0.15:
			copies = 2
		}
	}
	for range copies {
		d := ms / 10
		if f.faults {
			d += f.rng.Int64N(ms)
			if f.rng.IntN(10) == 0 {
				d += f.rng.Int64N(300 * ms)
			}
		}
		f.after(d, what)
	}
}

func (f *fakeCluster) run(until int64) {
	for f.now < until {
		f.pump()
		next := min(until, max(f.now+1, f.core.Deadline()))
		if len(f.events) > 0 && f.events[0].at <= next {
			e := heap.Pop(&f.events).(event)
			f.now = max(f.now, e.at)
			e.what()
			continue
		}
		f.now = next
	}
	f.pump()
}

func (f *fakeCluster) frame(s *fakeServer, k wire.Kind, size int, encode func([]byte)) {
	s.packer.Limit = wire.MaxDatagram
	if f.passes != 0 && k != wire.KindPathEcho {
		s.packer.Limit = f.passes
	}
	h := &s.packer.Header
	h.Cluster, h.Src, h.Dst, h.Incarnation, h.Boot = wire.ClusterTag(f.id), s.id, wire.ClientNode, uint64(s.id), s.boot
	encode(s.packer.Frame(k, size))
	for _, p := range s.packer.Flush(netip.AddrPort{}, nil) {
		b := slices.Clone(p.Bytes)
		if f.back > 0 && len(b) > f.back {
			continue
		}
		f.send(func() { f.core.Deliver(f.now, s.addr, b) })
	}
	s.packer.Reset()
}

func (f *fakeCluster) reply(s *fakeServer, results []kv.Result) {
	var b []byte
	for i := range results {
		b = kv.AppendResult(b, &results[i])
	}
	r := wire.Reply{Count: len(results), Results: b}
	f.frame(s, wire.KindReply, r.Size(), r.Encode)
}

func (f *fakeCluster) notLeader(s *fakeServer, reason uint8, seqs ...uint64) {
	n := wire.NotLeader{Term: s.term, Count: len(seqs), Seqs: make([]byte, 8*len(seqs)), Reason: reason}
	if f.leader != nil && f.rng.IntN(2) == 0 && s.term >= f.term {
		n.Leader, n.Addr = f.leader.id, []byte(f.leader.addr.String())
	}
	for i, q := range seqs {
		n.PutSeq(i, q)
	}
	f.frame(s, wire.KindNotLeader, n.Size(), n.Encode)
}

func (f *fakeCluster) receive(s *fakeServer, b []byte) {
	h, frames, err := wire.Open(b)
	if err != nil {
		f.t.Fatalf("the core sent %v", err)
	}
	if !s.up {
		return
	}
	for k, p, ok := frames.Next(); ok; k, p, ok = frames.Next() {
		switch k {
		case wire.KindHello:
			f.hello(s, p)
		case wire.KindRequest:
			f.request(s, p)
		case wire.KindMember:
			f.memberChange(s, p)
		case wire.KindPathAsk:
			var q wire.PathAsk
			if q.Decode(p) != nil || len(b) != wire.HeaderBytes+wire.FrameHeaderBytes+(len(p)+7)&^7+wire.TrailerBytes {
				f.t.Fatal("path-ask")
			}
			f.passes = q.Passes
			f.asked++
			e := q.Echo()
			f.frame(s, wire.KindPathEcho, e.Size(), e.Encode)
		case wire.KindFragment:
			var g wire.Fragment
			if g.Decode(p) != nil {
				f.t.Fatal("fragment")
			}
			f.stride = g.Stride
			if w, whole, _ := s.assembly.Add(f.now, &h, &g); whole {
				f.request(s, w.Payload)
			}
			for owed, ok := s.assembly.NextStatus(); ok; owed, ok = s.assembly.NextStatus() {
				f.frame(s, wire.KindFragmentStatus, owed.Status.Size(), owed.Status.Encode)
			}
		}
	}
}

func (f *fakeCluster) hello(s *fakeServer, p []byte) {
	var q wire.Hello
	if q.Decode(p) != nil {
		f.t.Fatal("hello")
	}
	r := wire.HelloReply{Nonce: q.Nonce, Term: s.term, LogTime: f.store.LogTime(), Token: 9, Cluster: f.id}
	if s.leads {
		r.Leader, r.LogTime = s.id, f.logTime()
	} else if f.leader != nil && f.rng.IntN(2) == 0 {
		r.Leader = f.leader.id
	}
	f.frame(s, wire.KindHelloReply, r.Size(), r.Encode)
}

func (f *fakeCluster) request(s *fakeServer, p []byte) {
	var q wire.Request
	if q.Decode(p) != nil {
		f.t.Fatal("request")
	}
	for b := q.Ops; len(b) > 0; {
		c, size, err := kv.DecodeCommand(b)
		if err != nil {
			f.t.Fatal(err)
		}
		whole := slices.Clone(b[:size])
		b = b[size:]
		f.taken++
		key := [2]uint64{c.Client, c.Seq}
		switch {
		case c.Op.IsRead():
			if s.leads && s.slow > 0 {
				again := slices.Clone(p)
				f.after(s.slow, func() { s.slow = 0; f.request(s, again) })
			} else if s.leads {
				value, index, term, ok := f.store.Get(c.Key)
				r := kv.Result{Status: kv.OK, Seq: c.Seq, Index: index, Term: term, Value: value}
				if !ok {
					r.Status = kv.NotFound
				}
				f.reply(s, []kv.Result{r})
			}
		case !s.leads && s.appended[key]:
		case !s.leads:
			f.notLeader(s, 0, c.Seq)
		case f.rng.Float64() < f.busy:
			f.notLeader(s, 1, c.Seq)
		default:
			if r, ok := f.store.Cached(c.Client, c.Seq); ok {
				f.reply(s, []kv.Result{r})
				break
			}
			if s.appended[key] && slices.ContainsFunc(f.tail, func(l logged) bool { return l.c.Client == c.Client && l.c.Seq == c.Seq }) {
				break
			}
			s.appended[key] = true
			view, _, _ := kv.DecodeCommand(whole)
			f.tail = append(f.tail, logged{term: f.term, bytes: whole, c: view})
			d := ms + s.slow
			if f.faults {
				d += f.rng.Int64N(20 * ms)
			}
			f.after(d, func() {
				if f.leader != nil && f.leader.up {
					f.commit()
				}
			})
		}
	}
}

// restart forgets all but what is in the log.
func (f *fakeCluster) restart(s *fakeServer) {
	s.boot, s.up, s.leads = f.rng.Uint64(), true, false
	s.appended = map[[2]uint64]bool{}
	s.packer = wire.Packer{}
}
