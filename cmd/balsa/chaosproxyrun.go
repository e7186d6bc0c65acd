package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"balsa/wire"
	wirefault "balsa/wire/fault"
	"balsa/wire/udp"
)

// proxy stands between whoever sends to one address and one server, and does to their datagrams what a bad network does.
// The faults are wire/fault's, the simulator's own; here are sockets and the clock.
//
// Each sender gets a socket of its own towards the server, so that answers find their way back: a flow. Flows are
// bounded in number, datagrams on their way in bytes; what goes beyond is lost, and told at the end.
type proxy struct {
	front *udp.Socket
	to    netip.AddrPort
	local netip.AddrPort // what flows bind
	began time.Time

	mu    sync.Mutex
	ways  [2]way
	flows map[netip.AddrPort]*flow
	line  wirefault.Line[arrival]
	held  int                     // bytes in the line
	late  *hdrhistogram.Histogram // ns from when a datagram was due until it was sent
	spare [][]byte
	out   []wire.Packet
	wake  chan struct{}
	err   error
	over  sync.WaitGroup
}

// way is one direction.
type way struct {
	wirefault.Link
	random *rand.Rand
	cuts   []cut
	tally
}

// cut is a time in which nothing passes, ns since the start.
type cut struct{ from, until int64 }

// tally counts datagrams of a way.
type tally struct {
	came, sent, twice, corrupt, noRoom uint64
	fates                              [wirefault.Overflow + 1]uint64
}

const (
	toServer   = 0
	fromServer = 1

	maxFlows = 256
	maxHeld  = 64 << 20 // bytes on their way
)

// flow is one sender.
type flow struct {
	client netip.AddrPort
	socket *udp.Socket
	used   int64
}

type arrival struct {
	f     *flow
	way   int
	bytes []byte
}

func newProxy(listen, to netip.AddrPort, seed uint64) (*proxy, error) {
	front, err := udp.Listen(listen, udp.Options{})
	if err != nil {
		return nil, err
	}
	p := &proxy{front: front, to: to, began: time.Now(), flows: map[netip.AddrPort]*flow{}, wake: make(chan struct{}, 1)}
	p.local = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if to.Addr().Is6() {
		p.local = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if to.Addr().IsLoopback() {
		p.local = netip.AddrPortFrom(to.Addr(), 0)
	}
	p.late = hdrhistogram.New(1, int64(time.Minute), 3)
	for i := range p.ways {
		p.ways[i].random = rand.New(rand.NewPCG(seed, uint64(i)))
	}
	return p, nil
}

func (p *proxy) now() int64 { return int64(time.Since(p.began)) }

// set changes what the network is like, from now on.
func (p *proxy) set(link [2]wirefault.Link, cuts [2][]cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.ways {
		p.ways[i].Link, p.ways[i].cuts = link[i], cuts[i]
	}
}

// run carries datagrams until ctx ends (nil) or a socket fails.
func (p *proxy) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p.over.Go(func() { p.keepTime(ctx) })
	p.over.Go(func() {
		p.fail(p.receive(p.front, toServer, p.flowOf))
		stop()
	})
	<-ctx.Done()
	p.mu.Lock()
	p.front.Close()
	for _, f := range p.flows {
		f.socket.Close()
	}
	p.mu.Unlock()
	p.over.Wait()
	return p.err
}

func (p *proxy) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && !errors.Is(err, udp.ErrClosed) {
		p.err = err
	}
}

// receive takes what comes at a socket.
func (p *proxy) receive(s *udp.Socket, way int, whose func(now int64, from netip.AddrPort) *flow) error {
	for {
		n, err := s.Receive(time.Now().Add(time.Minute))
		if err != nil {
			return err
		}
		p.mu.Lock()
		now := p.now()
		for i := range n {
			b, from := s.Datagram(i)
			if f := whose(now, from); f != nil {
				p.take(now, f, way, b)
			}
		}
		p.send(p.now())
		p.mu.Unlock()
		s.Refused(func(netip.AddrPort) {}) // a server that is down: its senders find out by its silence
	}
}

// flowOf is the flow of a sender, a new one if need be. The lock is held.
func (p *proxy) flowOf(now int64, from netip.AddrPort) *flow {
	if f := p.flows[from]; f != nil {
		f.used = now
		return f
	}
	if len(p.flows) == maxFlows {
		var oldest *flow
		for _, f := range p.flows {
			if oldest == nil || f.used < oldest.used {
				oldest = f
			}
		}
		delete(p.flows, oldest.client)
		oldest.socket.Close()
	}
	s, err := udp.Listen(p.local, udp.Options{})
	if err != nil {
		p.ways[toServer].noRoom++
		return nil
	}
	f := &flow{client: from, socket: s, used: now}
	p.flows[from] = f
	p.over.Go(func() {
		// It returns by an error, which ends the flow: its sender is a new one when it sends again.
		_ = p.receive(s, fromServer, func(now int64, _ netip.AddrPort) *flow { f.used = now; return f })
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.flows[from] == f {
			delete(p.flows, from)
		}
		s.Close()
	})
	return f
}

// take decides what becomes of a datagram. The lock is held.
func (p *proxy) take(now int64, f *flow, which int, b []byte) {
	w := &p.ways[which]
	w.came++
	w.Cut = false
	for _, c := range w.cuts {
		w.Cut = w.Cut || c.from <= now && now < c.until
	}
	arrivals, fate := w.Carry(w.random, now, len(b))
	w.fates[fate]++
	for i := range arrivals {
		if p.held+len(b) > maxHeld {
			w.noRoom++
			continue
		}
		d := arrival{f, which, append(p.buffer(), b...)}
		if i > 0 {
			w.twice++
		}
		if arrivals[i].Corrupt {
			w.corrupt++
			arrivals[i].Apply(d.bytes)
		}
		p.held += len(b)
		p.line.Add(now+arrivals[i].Delay, d)
	}
}

func (p *proxy) buffer() []byte {
	if n := len(p.spare); n > 0 {
		b := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return b[:0]
	}
	return nil
}

// send sends all that is due; runs of one socket's in one call. The lock is held.
func (p *proxy) send(now int64) {
	var s *udp.Socket
	flush := func() {
		if len(p.out) > 0 {
			_ = s.Send(p.out) // a flow that is closed: lost
		}
		for _, d := range p.out {
			p.held -= len(d.Bytes)
			if len(p.spare) < 1024 {
				p.spare = append(p.spare, d.Bytes)
			}
		}
		p.out = p.out[:0]
	}
	for {
		d, at, ok := p.line.Take(now)
		if !ok {
			break
		}
		to, socket := p.to, d.f.socket
		if d.way == fromServer {
			to, socket = d.f.client, p.front
		}
		if socket != s || len(p.out) == udp.Batch {
			flush()
			s = socket
		}
		p.out = append(p.out, wire.Packet{To: to, Bytes: d.bytes})
		p.ways[d.way].sent++
		p.late.RecordValue(max(1, min(p.now()-at, int64(time.Minute))))
	}
	flush()
	select {
	case p.wake <- struct{}{}: // the line may begin with another one now
	default:
	}
}

// coarse is what timers of the runtime are trusted with: they may be a millisecond late.
const coarse = 1500 * time.Microsecond

// keepTime sends what becomes due while nothing comes in.
func (p *proxy) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		p.mu.Lock()
		if p.line.Next() <= p.now() {
			p.send(p.now())
		}
		wait := time.Duration(min(p.line.Next(), 1<<60) - p.now())
		p.mu.Unlock()
		if wait <= 0 {
			continue
		}
		if wait <= coarse {
			nap(min(wait, 200*time.Microsecond)) // short, as something earlier may come in
			continue
		}
		timer.Reset(min(wait-coarse+200*time.Microsecond, time.Hour))
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
		}
	}
}

// tell says what was done, and how exact it was.
func (p *proxy) tell(out io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, name := range [...]string{"to the server", "from the server"} {
		t := &p.ways[i].tally
		fmt.Fprintf(out, "%s: %d came, %d sent on, %d lost, %d twice, %d corrupted, %d cut, %d too long, %d over the rate, %d without room\n",
			name, t.came, t.sent, t.fates[wirefault.Lost], t.twice, t.corrupt, t.fates[wirefault.IsCut], t.fates[wirefault.TooLong], t.fates[wirefault.Overflow], t.noRoom)
	}
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	fmt.Fprintf(out, "own jitter, added to what was asked for: p50 %.0f µs, p99 %.0f µs, max %.0f µs of %d datagrams\n",
		us(p.late.ValueAtQuantile(50)), us(p.late.ValueAtQuantile(99)), us(p.late.Max()), p.late.TotalCount())
}
