package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
	"balsa/wire/secret"
	"balsa/wire/udp"
)

// Config is what `balsa serve` is told. Zero values are the defaults.
type Config struct {
	Data         string
	Listen       string          // HOST:PORT; empty: this server's own address of the pool
	Insecure     bool            // serve addresses that are not loopback, unsealed
	SecretFile   string          // the servers'; empty: datagrams are not sealed
	Reload       <-chan struct{} // read SecretFile again; nil: never
	SegmentBytes int64
	Sync         vfs.Mode      // how the log is written
	Dedicated    bool          // the machine does nothing else
	Sole         bool          // the process does nothing else: the loop keeps one of Go's processors, of two or more, to itself while it waits
	Timeout      time.Duration // T
	Heartbeat    time.Duration
	Plain        bool // no offload of the sockets: a datagram is a datagram all the way
	Chaos        bool // drills: see Options.Chaos
	Break        string
	Logger       *slog.Logger
	fs           vfs.FS                               // nil: the operating system's
	Ready        func(n *Node, listen netip.AddrPort) // called once, when the sockets are open
}

// ErrNotLoopback refuses to serve strangers without a seal.
var ErrNotLoopback = errors.New("not a loopback address")

// Serve runs a server until ctx ends (nil) or something fails for good. It is
// the shell around a Node: it waits on the socket, tells the time, and hands a
// leader's batches to a writer. Everything is decided in the Node.
func Serve(ctx context.Context, c Config) error {
	s := shell{config: c, clock: newClock(sinceBoot), finished: make(chan finished, 1), batches: make(chan *wal.Batch, 1), spares: make(chan struct{}, 1),
		ended: make(chan error, 1), stopping: make(chan struct{}), keys: make(chan *wire.Keys, 1)}
	looking, cancelled := context.WithCancel(ctx)
	defer s.names.all.Wait()
	defer cancelled()
	s.names = resolver{lookup: lookUp, told: s.heard, ctx: looking, names: map[string]*name{}}
	if err := s.open(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.socket.Wake)
	defer stop()
	s.guard.timer = time.AfterFunc(time.Hour, func() { s.watch(ctx) })
	defer s.guard.timer.Stop()
	s.workers.Add(2)
	go s.write()
	go s.fill()
	reloading, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.SecretFile != "" && c.Reload != nil {
		s.workers.Go(func() { s.reload(reloading) })
	}
	if c.Ready != nil {
		c.Ready(s.node, s.socket.LocalAddr())
	}
	go s.run(ctx)
	err := <-s.ended
	cancel()
	close(s.batches)
	close(s.spares)
	close(s.stopping)
	if hangs := s.rest(); hangs != nil { // a batch under way ends first: the log is closed after its last write
		return errors.Join(err, hangs, s.socket.Close())
	}
	tellTotals(c.Logger, s.socket, s.node, s.synced)
	return errors.Join(err, s.node.Close(), s.socket.Close())
}

type shell struct {
	config   Config
	node     *Node
	socket   *udp.Socket
	clock    clock
	workers  sync.WaitGroup
	batches  chan *wal.Batch // to the writer: at most one is out
	finished chan finished   // from the writer
	guard    guard
	dedication
	ended    chan error    // from the loop, whichever goroutine it is then
	spares   chan struct{} // asks the filler for the next segment
	filling  bool
	starved  bool          // the last attempt at it failed
	stopping chan struct{} // closed when the loop has ended
	leaving  int64         // since when leadership is being handed over; 0: it is not
	filled   chan error
	keys     chan *wire.Keys // read again
	synced   uint64          // batches handed to the disk
	names    resolver
	heardAt  int64       // Socket.Heard when the deadline had not passed yet
	opened   atomic.Bool // socket is there
}

type finished struct {
	batch *wal.Batch
	err   error
}

func (s *shell) open(ctx context.Context) error {
	c := &s.config
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	if c.fs == nil {
		if c.fs, err = vfs.OSWith(c.Sync); err != nil {
			return err
		}
	}
	n, err := Open(Options{
		FS: c.fs, Dir: c.Data, Resolve: s.names.resolve, Random: random, KeyHash: seededHash(), SegmentBytes: c.SegmentBytes,
		Dedicated: c.Dedicated, Timeout: int64(c.Timeout), Heartbeat: int64(c.Heartbeat), Chaos: c.Chaos, Break: c.Break, Logger: c.Logger,
		Each: together, Keys: keys,
	}, s.now())
	if err != nil {
		return err
	}
	listen := c.Listen
	if listen == "" {
		listen = n.Address()
	}
	addr, err := lookUp(ctx, listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", listen, err), n.Close())
	}
	if keys == nil && !addr.Addr().IsLoopback() && !c.Insecure {
		return errors.Join(fmt.Errorf("listen on %s: %w: without --secret-file only 127.0.0.0/8 and ::1 are served, unless --insecure is said", listen, ErrNotLoopback), n.Close())
	}
	socket, err := udp.Listen(addr, udp.Options{Apart: true, Own: c.Sole, Plain: c.Plain})
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", listen, err), n.Close())
	}
	tellSocket(c.Logger, socket)
	s.node, s.socket, s.filled = n, socket, make(chan error, 1)
	s.opened.Store(true)
	return nil
}

// heard has the loop look again at what it could not do. Any goroutine may say so.
func (s *shell) heard() {
	if s.opened.Load() {
		s.socket.Wake()
	}
}

// tellSocket says what the system gave, and warns where it is less than what a burst of
// all peers and clients needs: what finds no room there is lost, and sent again.
func tellSocket(l *slog.Logger, s *udp.Socket) {
	receive, send := s.Buffers()
	parts, joins := s.Offload()
	l.Info("socket", "listen", s.LocalAddr(), "receive_buffer", receive, "send_buffer", send, "segmentation", parts, "coalescing", joins, "clients_apart", s.Apart())
	if receive > 0 && receive < udp.DefaultBuffer || send > 0 && send < udp.DefaultBuffer { // 0: this system does not say
		l.Warn("the system grants smaller socket buffers than asked for; bursts will be lost and sent again: raise net.core.rmem_max and net.core.wmem_max, or grant CAP_NET_ADMIN",
			"receive_buffer", receive, "send_buffer", send, "want", udp.DefaultBuffer)
	}
}

// tellTotals says at the end what this process has done, for whoever asks what a command costs.
func tellTotals(l *slog.Logger, s *udp.Socket, n *Node, batches uint64) {
	c := s.Counts()
	l.Info("totals", "commands", n.Counters.Commands, "entries", n.Counters.Entries, "turns", n.Counters.Turns, "batches", batches,
		"received", c.Received, "sent", c.Sent, "receive_calls", c.ReceiveCalls, "send_calls", c.SendCalls, "looks", c.Looks, "waits", c.Waits, "joined", c.Joined, "offloaded", c.Offloaded, "lost", c.Lost, "overflows", c.Overflows)
}

func (s *shell) now() int64 { return s.clock.now() }

// loop is the turn in production. It waits in one place, the socket; the
// writer and the end of ctx wake it there.
func (s *shell) loop(ctx context.Context) error {
	n := s.node
	drained := false
	var thread binding
	defer thread.free()
	s.dedication.settle(&s.config)
	for {
		wait := time.Time{} // do not block while something is known to be left
		if drained {
			wait = s.clock.moment(s.until(n.Deadline()))
		}
		count, err := s.socket.Receive(wait)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		now := s.now() // after the datagrams came: a lease that holds at this time was there when they were asked
		for i := range count {
			datagram, from := s.socket.Datagram(i)
			n.Deliver(now, from, datagram)
		}
		s.socket.Refused(func(to netip.AddrPort) { n.Refused(now, to) })
		buffer, _ := s.socket.Buffers()
		n.Socket(buffer, s.socket.Counts().Overflows)
		s.collect(now)
		drained = s.socket.Drained() || s.heardAll(now)
		n.Turn(now, drained)
		if err := s.flush(); err != nil {
			return err
		}
		switch blocked, mine := s.persist(); {
		case !mine:
			return errTaken
		case blocked:
			drained = false // hear what arrived meanwhile before any deadline
		}
		s.harm(ctx)
		s.dedicate(now, &thread)
		s.askSpare()
		if n.Err() != nil {
			return n.Err()
		}
		if ctx.Err() != nil && s.leave(now) {
			n.Farewell(now)
			return s.flush()
		}
	}
}

// heardAll says that all has been heard that lay in the socket when the deadline
// passed, though the socket is never drained: who floods it faster than the loop
// reads must not keep it from heartbeating, or from standing.
func (s *shell) heardAll(now int64) bool {
	heard := s.socket.Heard()
	if now < s.node.deadline() {
		s.heardAt = heard
		return false
	}
	if heard-s.heardAt < s.socket.Capacity() {
		return false
	}
	s.heardAt = heard
	return true
}

// leave hands leadership over before the server stops, so that no request
// fails: it says whether everything that can be done is done. A server that
// does not lead, or finds no successor in time, just stops.
func (s *shell) leave(now int64) bool {
	if s.leaving == 0 {
		s.leaving = now
		if !s.node.HandOver(now) {
			return true
		}
	}
	return s.node.HandedOver() || now-s.leaving > leaveWait
}

// until is how long the loop may wait: not past the end of leaving, also where
// nothing happens any more since the others have stopped, too.
func (s *shell) until(deadline int64) int64 {
	if s.leaving != 0 {
		return min(deadline, s.leaving+leaveWait+1)
	}
	return deadline
}

// leaveWait bounds the stop of a leader, ns.
const leaveWait = 600e6

// collect takes what the writer and the filler finished.
func (s *shell) collect(now int64) {
	select {
	case f := <-s.finished:
		s.node.Persisted(now, f.batch, f.err)
	default:
	}
	select {
	case err := <-s.filled:
		s.filling = false
		if err != nil && !s.starved {
			s.config.Logger.Warn("the next log segment cannot be prepared; writes are refused before this one is full", "err", err)
		} else if err == nil && s.starved {
			s.config.Logger.Info("the next log segment is prepared again")
		}
		s.starved = err != nil
	default:
	}
	select {
	case k := <-s.keys:
		s.node.Rekey(k)
	default:
	}
}

// ErrClientSecret refuses to serve with what clients have.
var ErrClientSecret = errors.New("a client's secret")

// keys reads the servers' secret; nil without one.
func (c *Config) keys() (*wire.Keys, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	k, err := secret.Load(c.SecretFile)
	if err == nil && !k.Servers() {
		return nil, fmt.Errorf("secret file %s: %w: servers need server.secret", c.SecretFile, ErrClientSecret)
	}
	return k, err
}

// reload reads the secret file again when it is told to. A file that can't be used
// changes nothing.
func (s *shell) reload(ctx context.Context) {
	for {
		select {
		case <-s.config.Reload:
		case <-ctx.Done():
			return
		}
		k, err := s.config.keys()
		if err != nil {
			s.config.Logger.Error("the secret file was not taken; what was read before stays", "err", err)
			continue
		}
		select {
		case s.keys <- k:
			s.socket.Wake()
		case <-ctx.Done():
			return
		}
	}
}

func (s *shell) flush() error {
	if out := s.node.Out(); len(out) > 0 {
		if err := s.socket.Send(out); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// persist starts the next batch: inline on a follower, whose acknowledgements
// leave at once, by the writer on a leader. It says whether it blocked, and
// whether the loop is still this goroutine's.
func (s *shell) persist() (blocked, mine bool) {
	n := s.node
	inline := n.Inline()
	b := n.Batch()
	if b == nil {
		return false, true
	}
	s.synced++
	if !inline {
		s.batches <- b
		return false, true
	}
	mine, err := s.guarded(b)
	if !mine {
		return true, false
	}
	if errors.Is(err, wal.ErrFull) {
		s.batches <- b // the writer has the time to wait for space
		return true, true
	}
	n.Persisted(s.now(), b, err)
	if s.flush() != nil {
		return true, true // the next receive tells
	}
	return true, true
}

// write is the writer: one batch after another, each in the file and synced
// before the loop hears of it.
func (s *shell) write() {
	defer s.workers.Done()
	for b := range s.batches {
		s.finished <- finished{batch: b, err: s.whenSpace(b, persistBatch(b))}
		s.socket.Wake()
	}
}

// whenSpace goes on with a batch for which the disk had no space, until it has.
func (s *shell) whenSpace(b *wal.Batch, err error) error {
	for errors.Is(err, wal.ErrFull) && s.wait(spaceWait) {
		err = persistBatch(b)
	}
	return err
}

// spaceWait is how long a full disk is left alone before the next attempt.
const spaceWait = 100 * time.Millisecond

// wait says whether the time has passed without the server being stopped.
func (s *shell) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}

// askSpare has the next segment zeroed beside the loop when there is none.
func (s *shell) askSpare() {
	if !s.filling && s.node.Log().NeedsSpare() {
		s.filling = true
		s.spares <- struct{}{}
	}
}

func (s *shell) fill() {
	defer s.workers.Done()
	for range s.spares {
		err := s.fillAll()
		if err != nil {
			s.wait(spaceWait)
		}
		s.filled <- err
		s.socket.Wake()
	}
}

// fillAll makes what is asked for in small pieces: as fast as the log fills the
// active segment, and at leisure when it does not, so that the disk is the
// writer's.
func (s *shell) fillAll() error {
	log := s.node.Log()
	for log.NeedsSpare() {
		if err := log.Fill(); err != nil {
			return err
		}
		if !log.FillDue() && !s.wait(fillRest) {
			return nil
		}
	}
	return nil
}

// fillRest is the pause after a piece that nobody waits for: 50 MB/s at most.
const fillRest = 5 * time.Millisecond

// together lends the log's recovery as many hands as there are.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// harm does what only the process can do to itself of what a chaos request
// asked. The answer has left.
func (s *shell) harm(ctx context.Context) {
	if s.node.chaos.crash {
		os.Exit(crashCode)
	}
	if d := s.node.chaos.pauseTaken(); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// crashCode is what a shell tells of a process that SIGKILL ended.
const crashCode = 137

// random draws what must not be guessed: incarnations, boots, cluster ids.
func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: the runtime ends the process rather than return weak bytes
	return binary.LittleEndian.Uint64(b[:])
}

// Random is the source that production gives Init.
func Random() uint64 { return random() }

// seededHash is the hash of Go's own maps, with a seed of its own.
func seededHash() func(key []byte) uint64 {
	seed := maphash.MakeSeed()
	return func(key []byte) uint64 { return maphash.Bytes(seed, key) }
}
