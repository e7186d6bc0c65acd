// Package client is the Go client of a balsa cluster. It finds the leader by itself, retries safely, and says of every
// write whether it was applied, was not, or may have been.
//
//	c, err := client.Open(client.Config{Addrs: []string{"127.0.0.1:7101", "127.0.0.1:7102"}})
//	err = c.Put(ctx, []byte("a"), []byte("7"))
//	value, err := c.Get(ctx, []byte("a"))
//
// A write that returned nil was applied exactly once, however often it had to be sent. An error is one of ErrNotFound,
// ErrConflict, ErrNotApplied (it has not taken effect and never will) and ErrUnknown (it may take effect, now or
// later), for errors.Is. Reads are linearizable.
//
// A Client is safe for many goroutines. What they have in flight at once shares datagrams.
package client

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"balsa/kv"
	"balsa/wire"
	"balsa/wire/udp"
)

// Config says where the cluster is.
type Config struct {
	Addrs      []string      // HOST:PORT of servers, any of them is enough; the others are learnt
	SecretFile string        // of a sealed cluster: client.secret or, for drills too, server.secret. Read again when servers have a newer secret
	Timeout    time.Duration // of an operation whose context has no earlier deadline; 0 = 5 s
	OneShot    bool          // for a process that writes once: its session is kept for a minute only
	Plain      bool          // no offload of the socket, should the system's not be right
	// Compression of values of 4 KiB or more that shrink: "s2", also if empty, "zstd" or "none".
	Compression string
}

// Client is the shell around a Core: a socket, one goroutine that receives, and a lock.
//
// Whoever has something to send yields once before it sends, so that all callers who are ready to run add theirs to
// the same datagrams. While the receiver is at work it is the one that sends; a caller that comes while it sleeps
// sends for itself, and for whoever came meanwhile.
type Client struct {
	timeout time.Duration
	secret  string // file
	codec   kv.Codec
	start   time.Time
	socket  *udp.Socket
	over    chan struct{} // closed when the receiver has ended
	helpers sync.WaitGroup
	cancel  context.CancelFunc // of the helpers

	mu       sync.Mutex
	core     *Core
	waiters  []*waiter // by the low half of the token
	free     []*waiter
	flushers int   // somebody will flush before it lets go of the lock for good
	asleep   bool  // the receiver is in Receive
	armed    int64 // and wakes by then
	active   int64 // last Submit
	packets  []wire.Packet
	finished []*waiter // scratch
	probing  map[uint64]chan ProbeDone
	probes   uint64
	changing map[uint64]chan ChangeTold
	changes  uint64
	reading  bool  // the secret file
	readAt   int64 // when it was last begun to be read again
	failure  error // why nothing works any more; ErrClosed after Close
}

// waiter is a caller's place: pooled, and woken through its own channel, which has room for the one word that an
// operation ends with.
type waiter struct {
	token uint64 // low half: place in waiters; high half: generation
	wake  chan struct{}
	done  Done
}

// Open resolves the addresses and opens a socket. It does not wait for a server to answer.
func Open(cfg Config) (*Client, error) {
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("client: no server addresses given, want HOST:PORT of at least one")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	codec, ok := map[string]kv.Codec{"": kv.S2, "s2": kv.S2, "zstd": kv.Zstd, "none": kv.Plain}[cfg.Compression]
	if !ok {
		return nil, fmt.Errorf("client: compression %q, want s2, zstd or none", cfg.Compression)
	}
	addrs, err := resolveAll(cfg.Addrs, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	local := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	for _, a := range addrs {
		if a.Addr().Is6() {
			local = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
	}
	socket, err := udp.Listen(local, udp.Options{Plain: cfg.Plain})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	var random [24]byte
	if _, err := cryptorand.Read(random[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("client: random bytes: %w", err), socket.Close())
	}
	c := &Client{
		timeout: cfg.Timeout, secret: cfg.SecretFile, codec: codec, start: time.Now(), socket: socket, over: make(chan struct{}),
		probing: make(map[uint64]chan ProbeDone), changing: make(map[uint64]chan ChangeTold),
	}
	c.core = NewCore(CoreConfig{
		ID:   binary.LittleEndian.Uint64(random[0:]) | 1,
		Boot: binary.LittleEndian.Uint64(random[8:]), Seed: binary.LittleEndian.Uint64(random[16:]),
		Servers: addrs, Timeout: int64(cfg.Timeout), OneShot: cfg.OneShot, Keys: keys,
	}, c.now())
	helpers, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go c.receive(helpers)
	return c, nil
}

// now is monotonic, in nanoseconds, and not 0.
func (c *Client) now() int64 { return int64(time.Since(c.start)) + 1 }

// Op is an operation for Do: its Op, Key, Value, Old, Limit and FlagOldAbsent.
type Op = kv.Command

// Answer is the result of an operation that was applied.
type Answer struct {
	Status kv.Status // OK, NotFound or Conflict
	Index  uint64    // of the entry; for a get, of the key's last change
	Term   uint64
	Seq    uint16 // place inside the entry
	Value  []byte // get: the value; scan: pairs, see kv.NextPair. The caller's own
	More   bool   // scan: the range has more
}

// Do runs one operation to its end. The error is as that of Put, Get and the others; the answer is valid with a nil
// error, ErrNotFound and ErrConflict.
func (c *Client) Do(ctx context.Context, op *Op) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, &outcomeError{fmt.Sprintf("%s: not applied: %v", op.Op, err), ErrNotApplied, err}
	}
	if len(op.Value) >= kv.PackedLeast && !op.Op.IsRead() {
		packed := *op
		packed.Pack(c.codec)
		op = &packed
	}
	now := c.now()
	deadline := now + int64(c.timeout)
	if d, ok := ctx.Deadline(); ok {
		deadline = min(deadline, int64(d.Sub(c.start)))
	}
	c.mu.Lock()
	if c.failure != nil {
		defer c.mu.Unlock()
		return Answer{}, &outcomeError{fmt.Sprintf("%s: not applied: %v", op.Op, c.failure), ErrNotApplied, c.failure}
	}
	w := c.seat()
	token := w.token
	h := c.core.Submit(now, op, deadline, token)
	c.active = now
	c.flushSoon()
	c.mu.Unlock()
	select {
	case <-w.wake:
	case <-ctx.Done(): // nil for a context without an end: never
		c.abort(ctx, h, token)
		<-w.wake
	}
	d := w.done
	c.mu.Lock()
	c.unseat(w)
	c.mu.Unlock()
	return answer(ctx, &d)
}

func answer(ctx context.Context, d *Done) (Answer, error) {
	r := &d.Result
	a := Answer{Status: r.Status, Index: r.Index, Term: r.Term, Seq: r.Sub, Value: r.Value, More: r.More}
	switch {
	case d.Err != nil:
		if cause := ctx.Err(); cause != nil {
			return Answer{}, fmt.Errorf("%w (%w)", d.Err, cause)
		}
		return Answer{}, d.Err
	case r.Status == kv.NotFound:
		return a, ErrNotFound
	case r.Status == kv.Conflict:
		return a, ErrConflict
	}
	return a, nil
}

func (c *Client) seat() *waiter {
	if n := len(c.free); n > 0 {
		w := c.free[n-1]
		c.free = c.free[:n-1]
		return w
	}
	w := &waiter{token: uint64(len(c.waiters)), wake: make(chan struct{}, 1)}
	c.waiters = append(c.waiters, w)
	return w
}

func (c *Client) unseat(w *waiter) {
	w.token += 1 << 32
	w.done = Done{}
	c.free = append(c.free, w)
}

// abort ends an operation whose context is over.
func (c *Client) abort(ctx context.Context, h Handle, token uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.core.Expire(c.now(), h, token)
	} else {
		c.core.Cancel(c.now(), h, token)
	}
	c.wakeFinished()
}

// flushSoon sends what is queued unless somebody is about to. The lock is held, and let go of for a moment: callers
// that are ready to run get their turn first, and share the datagrams.
func (c *Client) flushSoon() {
	c.wakeFinished()
	if c.flushers > 0 {
		return
	}
	c.flushers++
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	c.flushers--
	c.flush()
}

// flush sends, and sees to it that the receiver wakes in time.
func (c *Client) flush() {
	if c.failure != nil {
		return
	}
	c.packets = c.core.Out(c.packets[:0])
	if len(c.packets) > 0 {
		if err := c.socket.Send(c.packets); err != nil {
			c.fail(err)
			return
		}
	}
	if c.asleep && c.armed > c.core.Deadline()+grain {
		c.socket.Wake()
	}
}

// The receiver sleeps to multiples of grain, and while there is work for at most two: so its deadline seldom moves,
// and a caller need not wake it to have its retries noticed.
const (
	grain    = int64(8 * time.Millisecond)
	linger   = int64(time.Second)
	deepNaps = int64(time.Hour)
)

// bedtime is how long the receiver may sleep.
func (c *Client) bedtime(now int64) int64 {
	until := c.core.Deadline()
	if c.core.Outstanding() > 0 || now-c.active < linger {
		until = min(until, now+grain)
	}
	until = min(until, now+deepNaps)
	return (until/grain + 1) * grain
}

// receive is the one goroutine that reads the socket: deliver, wake, yield, flush.
func (c *Client) receive(helpers context.Context) {
	defer close(c.over)
	refused := func(a netip.AddrPort) { c.core.Refused(c.core.now, a) }
	var wake []*waiter
	until := c.now()
	for {
		n, err := c.socket.Receive(c.start.Add(time.Duration(until)))
		c.mu.Lock()
		c.asleep = false
		if err != nil || c.failure != nil {
			c.fail(err)
			c.mu.Unlock()
			return
		}
		now := c.now()
		c.flushers++
		buffer, _ := c.socket.Buffers()
		c.core.Socket(buffer, c.socket.Counts().Overflows)
		for i := range n {
			b, from := c.socket.Datagram(i)
			c.core.Deliver(now, from, b)
			wake = c.collect(wake)
		}
		c.socket.Refused(refused)
		if now >= c.core.Deadline() {
			c.core.Tick(now)
		}
		wake = c.collect(wake)
		names := c.core.Names()
		if c.core.WantsKeys() && !c.reading && now-c.readAt > rereadPause {
			c.reading, c.readAt = true, now
			c.helpers.Go(c.reread)
		}
		c.mu.Unlock()
		for i, w := range wake {
			w.wake <- struct{}{}
			wake[i] = nil
		}
		wake = wake[:0]
		if len(names) > 0 {
			c.helpers.Add(1)
			go c.resolve(helpers, names)
		}
		runtime.Gosched()
		c.mu.Lock()
		c.flushers--
		c.flush()
		until = c.bedtime(c.now())
		c.armed, c.asleep = until, true
		c.mu.Unlock()
	}
}

// collect takes what the core has finished; values are copied, as they lie in the receive buffer.
func (c *Client) collect(wake []*waiter) []*waiter {
	for _, d := range c.core.Done() {
		w := c.waiters[uint32(d.Token)]
		if w.token != d.Token {
			panic("client: an operation ended twice")
		}
		if d.Outcome == Applied && d.Result.Value != nil {
			d.Result.Value = append(make([]byte, 0, len(d.Result.Value)), d.Result.Value...)
		}
		w.done = d
		wake = append(wake, w)
	}
	for _, p := range c.core.Probed() {
		if ch := c.probing[p.Token]; ch != nil {
			delete(c.probing, p.Token)
			ch <- p
		}
	}
	c.tellChanges()
	return wake
}

func (c *Client) wakeFinished() {
	c.finished = c.collect(c.finished[:0])
	for i, w := range c.finished {
		w.wake <- struct{}{}
		c.finished[i] = nil
	}
}

// fail ends everything: all callers get their outcome now.
func (c *Client) fail(err error) {
	if c.failure == nil {
		c.failure = err
	}
	c.core.CancelAll(c.now(), c.failure)
	c.wakeFinished()
	for token, ch := range c.probing {
		delete(c.probing, token)
		close(ch)
	}
	for token := range c.changing {
		c.core.CancelChange(c.now(), token, c.failure)
	}
	c.tellChanges()
}

// Close ends the client. Operations under way end with their outcome as it is known.
func (c *Client) Close() error {
	c.mu.Lock()
	if errors.Is(c.failure, ErrClosed) {
		c.mu.Unlock()
		return ErrClosed
	}
	c.fail(ErrClosed)
	c.failure = ErrClosed
	c.mu.Unlock()
	c.cancel()
	err := c.socket.Close()
	<-c.over
	c.helpers.Wait()
	if err != nil {
		return fmt.Errorf("client: close: %w", err)
	}
	return nil
}
