package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balsa/kv"
	"balsa/wire"
	"balsa/wire/udp"
)

// loneServer answers on a real socket as a leader whose entries are committed at once.
type loneServer struct {
	socket  *udp.Socket
	store   *kv.Store
	packer  wire.Packer
	parts   *wire.Reassembler
	pieces  *wire.Fragmenter
	message uint64
	mute    bool // takes requests and never answers them
	over    chan struct{}
	changed int          // requests for an addition
	taken   atomic.Int64 // bytes of the commands that came
}

func startLone(t *testing.T, mute bool) *loneServer {
	t.Helper()
	socket, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &loneServer{socket: socket, store: kv.New(), mute: mute, over: make(chan struct{}), parts: wire.NewReassembler(64<<20, 64)}
	s.packer.Limit = wire.MaxDatagram
	s.packer.Header = wire.Header{Cluster: wire.ClusterTag([16]byte{1}), Src: 1, Dst: wire.ClientNode, Incarnation: 5, Boot: 6}
	s.pieces = wire.NewFragmenter(wire.FragmenterOptions{Boot: 6, Limit: wire.MaxDatagram})
	go s.serve()
	t.Cleanup(func() {
		_ = socket.Close()
		<-s.over
	})
	return s
}

func (s *loneServer) addr() string { return s.socket.LocalAddr().String() }

func (s *loneServer) serve() {
	defer close(s.over)
	for {
		now := time.Now()
		n, err := s.socket.Receive(now.Add(5 * time.Millisecond))
		if err != nil {
			return
		}
		var out []wire.Packet
		for i := range n {
			b, from := s.socket.Datagram(i)
			h, frames, err := wire.Open(b)
			if err != nil {
				continue
			}
			for k, p, ok := frames.Next(); ok; k, p, ok = frames.Next() {
				s.take(now.UnixNano(), &h, k, p)
			}
			s.pieces.Pack(now.UnixNano(), &s.packer)
			out = s.packer.Flush(from, out)
		}
		_ = s.socket.Send(out)
		s.packer.Reset()
	}
}

func (s *loneServer) frame(k wire.Kind, size int, encode func([]byte)) {
	if p := s.packer.Frame(k, size); p != nil {
		encode(p)
		return
	}
	p := make([]byte, size)
	encode(p)
	s.message++
	s.pieces.Add(time.Now().UnixNano(), s.message, k, p)
}

func (s *loneServer) take(now int64, h *wire.Header, k wire.Kind, p []byte) {
	switch k {
	case wire.KindHello:
		var q wire.Hello
		_ = q.Decode(p)
		r := wire.HelloReply{Nonce: q.Nonce, Leader: 1, Term: 3, LogTime: max(1, s.store.LogTime()), Token: 4, Cluster: [16]byte{1}}
		s.frame(wire.KindHelloReply, r.Size(), r.Encode)
	case wire.KindStatus:
		var q wire.Status
		_ = q.Decode(p)
		index, term := s.store.Applied()
		r := wire.StatusReply{Nonce: q.Nonce, ID: 1, Role: wire.RoleLeader, Leader: 1, Term: term, Last: index}
		s.frame(wire.KindStatusReply, r.Size(), r.Encode)
	case wire.KindFragment:
		var f wire.Fragment
		_ = f.Decode(p)
		if w, whole, _ := s.parts.Add(now, h, &f); whole {
			s.take(now, h, w.Kind, w.Payload)
		}
		for owed, ok := s.parts.NextStatus(); ok; owed, ok = s.parts.NextStatus() {
			s.frame(wire.KindFragmentStatus, owed.Status.Size(), owed.Status.Encode)
		}
	case wire.KindFragmentStatus:
		var f wire.FragmentStatus
		_ = f.Decode(p)
		s.pieces.Status(now, &f)
	case wire.KindMember:
		var q wire.MemberChange
		_ = q.Decode(p)
		r := wire.MemberChangeReply{Nonce: q.Nonce, Operation: q.Operation, Leader: 1, Term: 3, Outcome: wire.OutcomeBegun, Phase: wire.PhaseLearner}
		if q.Verb == wire.VerbAdd {
			s.changed++
		}
		switch {
		case q.Verb != wire.VerbAdd:
		case s.changed == 2:
			r.Phase = wire.PhaseJoint
		case s.changed == 3:
			r.Outcome, r.Phase, r.Index = wire.OutcomeDone, wire.PhaseStable, 9
		}
		s.frame(wire.KindMemberReply, r.Size(), r.Encode)
	case wire.KindRequest:
		if !s.mute {
			s.request(p)
		}
	}
}

func (s *loneServer) request(p []byte) {
	var q wire.Request
	_ = q.Decode(p)
	var answers []byte
	count := 0
	for b := q.Ops; len(b) > 0; count++ {
		c, size, err := kv.DecodeCommand(b)
		if err != nil {
			panic(err)
		}
		r := kv.Result{Status: kv.OK, Seq: c.Seq}
		switch c.Op {
		case kv.Get:
			value, index, term, ok := s.store.Get(c.Key)
			if r.Value, r.Index, r.Term = value, index, term; !ok {
				r.Status = kv.NotFound
			}
		case kv.Scan:
			r.More = s.store.Scan(c.Key, c.Value, c.Old, int(c.Limit), 100, func(k, v []byte) bool {
				r.Value = kv.AppendPair(r.Value, k, v)
				return true
			})
		default:
			index, _ := s.store.Applied()
			r = s.store.Apply(&kv.Entry{Index: index + 1, Term: 3, Kind: kv.KindCommands, Time: int64(index) + 1, Count: 1, Body: b[:size]})[0]
		}
		b = b[size:]
		s.taken.Add(int64(size))
		answers = kv.AppendResult(answers, &r)
	}
	r := wire.Reply{Count: count, Results: answers}
	s.frame(wire.KindReply, r.Size(), r.Encode)
}

func open(t *testing.T, timeout time.Duration, addrs ...string) *Client {
	t.Helper()
	c, err := Open(Config{Addrs: addrs, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestManyGoroutinesShareAClient: each does its own puts and gets; run it with -race.
func TestManyGoroutinesShareAClient(t *testing.T) {
	s := startLone(t, false)
	c := open(t, 20*time.Second, s.addr())
	ctx := context.Background()
	var all sync.WaitGroup
	for g := range 64 {
		all.Go(func() {
			key := []byte(fmt.Sprint("key", g))
			for i := range 50 {
				value := fmt.Append(nil, g, "-", i)
				if err := c.Put(ctx, key, value); err != nil {
					t.Error(err)
					return
				}
				if got, err := c.Get(ctx, key); err != nil || !bytes.Equal(got, value) {
					t.Errorf("get %s: %q, %v; want %q", key, got, err, value)
					return
				}
			}
		})
	}
	all.Wait()
	if n := c.core.Counters; n.Sent < 64*50*2 {
		t.Errorf("sent %d commands", n.Sent)
	}
}

func TestOperations(t *testing.T) {
	s := startLone(t, false)
	c := open(t, 20*time.Second, s.addr())
	ctx := context.Background()
	want := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := c.Get(ctx, []byte("a"))
	want("get of nothing", err, ErrNotFound)
	want("delete of nothing", c.Delete(ctx, []byte("a")), ErrNotFound)
	want("cas absent", c.CompareAndSwap(ctx, []byte("a"), nil, []byte("1")), nil)
	want("cas absent again", c.CompareAndSwap(ctx, []byte("a"), nil, []byte("2")), ErrConflict)
	want("cas", c.CompareAndSwap(ctx, []byte("a"), []byte("1"), []byte{}), nil)
	want("cas of the empty value", c.CompareAndSwap(ctx, []byte("a"), []byte{}, []byte("3")), nil)
	want("too large", c.Put(ctx, []byte("a"), make([]byte, kv.MaxValue+1)), ErrLimit)
	large := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	want("large put", c.Put(ctx, []byte("b"), large), nil)
	if got, err := c.Get(ctx, []byte("b")); err != nil || !bytes.Equal(got, large) {
		t.Errorf("large get: %d bytes, %v", len(got), err)
	}
	if took := s.taken.Load(); took > int64(len(large)/4) {
		t.Errorf("a value that shrinks took %d bytes on its way", took)
	}
	want("delete", c.Delete(ctx, []byte("b")), nil)
	for i := range 20 {
		want("put", c.Put(ctx, fmt.Appendf(nil, "s%02d", i), []byte("0123456789")), nil)
	}
	var keys []string
	want("scan", c.Scan(ctx, []byte("s"), []byte("s02"), []byte("s18"), 0, func(k, v []byte) bool {
		keys = append(keys, string(k))
		return true
	}), nil)
	if len(keys) != 16 || keys[0] != "s02" || keys[15] != "s17" || !slices.IsSorted(keys) {
		t.Errorf("scan over pages: %v", keys)
	}
}

func TestStatusTellsTheSilentAndTheRefused(t *testing.T) {
	s := startLone(t, false)
	dead, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	gone := dead.LocalAddr().String()
	_ = dead.Close()
	c := open(t, 10*time.Second, s.addr(), gone)
	status, err := c.Status(context.Background())
	if err != nil || len(status.Rows) != 2 || status.Leader < 0 || status.Rows[status.Leader].ID != 1 {
		t.Fatalf("%+v, %v", status, err)
	}
	if row := status.Rows[1-status.Leader]; row.Alive || row.Addr != gone {
		t.Errorf("the dead server's row: %+v", row)
	}
	if _, err := open(t, 10*time.Second, gone).Status(context.Background()); err == nil || !strings.Contains(err.Error(), "no server answers") {
		t.Errorf("status of nobody: %v", err)
	}
}

// TestContextEndsAnOperation: a write that was sent is unknown, one that was not is not applied, and both say why.
func TestContextEndsAnOperation(t *testing.T) {
	s := startLone(t, true)
	c := open(t, time.Minute, s.addr())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Put(ctx, []byte("a"), []byte("b")) }()
	for sent := false; !sent; {
		c.mu.Lock()
		sent = c.core.Counters.Sent > 0
		c.mu.Unlock()
	}
	cancel()
	if err := <-ended; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled after it was sent: %v", err)
	}
	if err := c.Put(ctx, []byte("a"), []byte("b")); !errors.Is(err, ErrNotApplied) || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before it was sent: %v", err)
	}
	go func() { ended <- c.Put(context.Background(), []byte("a"), []byte("b")) }()
	for sent := false; !sent; {
		c.mu.Lock()
		sent = c.core.Counters.Sent > 1 && c.core.Outstanding() > 0
		c.mu.Unlock()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("closed under way: %v", err)
	}
	if err := c.Put(context.Background(), []byte("a"), nil); !errors.Is(err, ErrClosed) || !errors.Is(c.Close(), ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestOpenRefusesBadAddresses(t *testing.T) {
	for _, addrs := range [][]string{nil, {"nowhere"}, {"1.2.3.4:x"}, {"1.2.3.4:0"}} {
		if c, err := Open(Config{Addrs: addrs}); err == nil {
			_ = c.Close()
			t.Errorf("%q: opened", addrs)
		}
	}
}
