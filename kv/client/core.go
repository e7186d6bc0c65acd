package client

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"balsa/kv"
	"balsa/wire"
)

// Times of the core, in nanoseconds.
const (
	retryMin     = int64(20 * time.Millisecond)
	retryMax     = int64(500 * time.Millisecond)
	overtakeMin  = int64(time.Millisecond)       // how much later something answered must have been sent
	unsure       = int64(500 * time.Millisecond) // without a round trip that is certain
	lateMin      = int64(8 * time.Millisecond)   // the shell's grain: sooner would wake its receiver for every operation
	helloMin     = int64(20 * time.Millisecond)
	helloMax     = int64(250 * time.Millisecond)
	helloAgain   = int64(time.Second)      // between two questions to a leader that answers
	sessionIdle  = int64(30 * time.Second) // nothing outstanding for so long: register anew
	oneShotUse   = int64(20 * time.Second) // no new command in a one-shot session after so long
	registerUse  = kv.Horizon / 2          // no registration with a log time told longer ago
	never        = int64(1<<63 - 1)
	statusResend = int64(50 * time.Millisecond)
)

const (
	attempts   = 12 // retry lists: commands sent once, twice, ..., twelve times or more
	maxServers = 64 // known ones; more are not learnt
)

// CoreConfig is what a Core needs to begin.
type CoreConfig struct {
	ID      uint64 // client id of the first session, random and not zero
	Boot    uint64 // random, of this process
	Seed    uint64 // of all later randomness
	Servers []netip.AddrPort
	Timeout int64      // for operations submitted with deadline 0, nanoseconds; 0 = 5 s
	OneShot bool       // sessions for a single command: kept for the horizon only
	Keys    *wire.Keys // of a sealed cluster; nil: an open one
	Limit   int        // largest datagram; 0 = wire.MaxDatagram to loopback addresses, wire.SafeDatagram to others
}

// Core is the client as a step machine: datagrams, time and operations go in; datagrams, outcomes and the next
// deadline come out. It has no clock, no goroutine and no socket, so that the simulator runs the same code as a user.
//
// The order of a turn is free; after any of Submit, Cancel, Deliver, Refused and Tick the caller takes Out and Done.
//
// A write is sent only to a server that said of itself that it leads a term, and is bound to that term
// (kv.Command.Term). Its identity (client, seq) is fixed when it is first sent; all its copies carry the same.
type Core struct {
	cfg CoreConfig
	rng *rand.Rand
	now int64

	servers []*server
	names   []string // addresses of servers that are host names, for the shell to resolve
	cluster [16]byte // pinned by the first answer; zero before
	leader  *server  // the one with the newest claim; nil when none holds
	hello   struct {
		due   int64 // next round; never = no need
		pause int64
		now   bool // a round leaves with the next Out
	}
	logTime   int64 // newest log time told
	logTimeAt int64 // when, by our clock

	ops       []op
	free      int32
	wondered  int64 // when a late answer last made us ask who leads
	repeats   list  // queued, sent before: ahead of all others
	writes    list  // queued, oldest first
	reads     list
	large     list // queued, too large for a datagram
	flying    [attempts]list
	byEnd     list // all by deadline
	live      int
	seqs      table // of writes
	readSeqs  table
	session   *session
	firstID   uint64
	lastWrite int64 // when a write last ended

	packet    uint64 // number of the last datagram, to whatever server
	sealer    *wire.Sealer
	opener    *wire.Opener // nil without keys
	wantsKeys bool

	srtt, rttvar int64
	measuredAt   int64 // when an answer last told how long one takes, for certain
	transfers    []*transfer
	assembly     *wire.Reassembler
	messages     uint64
	probes       []*probe
	probed       []ProbeDone
	changes      []*change
	told         []ChangeTold
	pending      []*server   // with frames of this turn
	alone        wire.Packer // of datagrams that nothing else shares
	batch        []int32     // scratch

	done, doneSpare []Done
	Counters        Counters
}

// Counters of what a client has seen, for people and tests.
type Counters struct {
	Sent, Resent, Refusals, Hellos, Dropped, Duplicates uint64
}

// Outcome is what is known of an operation when it ends.
type Outcome uint8

const (
	Applied    Outcome = 1 // Result is its answer, once and for all
	NotApplied Outcome = 2 // and never will be
	Unknown    Outcome = 3 // it may be applied, now or later; never for a read
)

func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case NotApplied:
		return "not applied"
	}
	return "unknown"
}

// Done is the end of one operation. Result.Value is valid until the next Deliver.
type Done struct {
	Token   uint64
	Outcome Outcome
	Result  kv.Result
	Err     error // nil when applied; wraps ErrNotApplied or ErrUnknown and says what to do next
}

// NewCore makes a core at time now, in nanoseconds on any clock that does not go back.
func NewCore(cfg CoreConfig, now int64) *Core {
	if cfg.Timeout <= 0 {
		cfg.Timeout = int64(5 * time.Second)
	}
	c := &Core{cfg: cfg, now: now, rng: rand.New(rand.NewPCG(cfg.Seed, cfg.ID)), free: none, firstID: cfg.ID}
	// Numbers begin at a random place, so that an answer to an earlier process at this address matches nothing.
	c.seqs.start(c.rng.Uint64N(1<<48) + 1)
	c.readSeqs.start(c.rng.Uint64N(1<<48) + 1)
	for _, l := range []*list{&c.repeats, &c.writes, &c.reads, &c.large, &c.byEnd} {
		*l = emptyList
	}
	for i := range c.flying {
		c.flying[i] = emptyList
	}
	c.hello.due = never
	c.lastWrite = now
	c.assembly = wire.NewReassembler(assemblyBytes, assemblySlots)
	c.messages = c.rng.Uint64()
	if cfg.Keys != nil {
		c.sealer, c.opener = wire.NewSealer(cfg.Keys), wire.NewOpener(cfg.Keys)
	}
	for _, a := range cfg.Servers {
		c.Learn(a)
	}
	return c
}

// Handle names a submitted operation until it is Done.
type Handle int32

// Submit takes an operation; op gives Op, Key, Value, Old, Limit and the flags of these, which stay the caller's and must
// not change until it is done; the core sets the rest. deadline is absolute, 0 = now + Timeout. token comes back in
// Done. An operation that breaks a limit is done at once.
func (c *Core) Submit(now int64, cmd *kv.Command, deadline int64, token uint64) Handle {
	c.now = max(c.now, now)
	h := c.take()
	o := &c.ops[h]
	o.cmd = *cmd
	o.cmd.Flags &= kv.FlagOldAbsent | kv.FlagPacked
	o.cmd.Client, o.cmd.Seq, o.cmd.AckedBelow, o.cmd.Registered, o.cmd.Term = 0, 1, 1, 0, 0
	o.token, o.submitted, o.deadline = token, now, deadline
	if deadline == 0 {
		o.deadline = now + c.cfg.Timeout
	}
	c.insertByEnd(h)
	err := o.cmd.Check()
	o.cmd.Seq = 0 // given when it is first sent
	if err != nil {
		c.finish(h, NotApplied, kv.Result{}, limitError(&o.cmd, err))
		return Handle(h)
	}
	c.enqueue(h)
	if c.leader == nil {
		c.discover()
	}
	return Handle(h)
}

// Cancel ends an operation early: its Done follows, as at its deadline. Nothing happens when it is done already and
// token is not that of the operation.
func (c *Core) Cancel(now int64, h Handle, token uint64) {
	c.now = max(c.now, now)
	if int(h) < len(c.ops) && c.ops[h].state != stateFree && c.ops[h].token == token {
		c.giveUp(int32(h), ErrCanceled)
	}
}

// Expire is Cancel for an operation whose time is over by its caller's clock: it ends as at its deadline, and says what
// was tried.
func (c *Core) Expire(now int64, h Handle, token uint64) {
	c.now = max(c.now, now)
	if int(h) < len(c.ops) && c.ops[h].state != stateFree && c.ops[h].token == token {
		c.giveUp(int32(h), nil)
	}
}

// CancelAll ends all operations, for the cause given.
func (c *Core) CancelAll(now int64, cause error) {
	c.now = max(c.now, now)
	for c.byEnd.front != none {
		c.giveUp(c.byEnd.front, cause)
	}
}

// Tick does what is due. Call it when now >= Deadline().
func (c *Core) Tick(now int64) {
	c.now = max(c.now, now)
	for c.byEnd.front != none && c.ops[c.byEnd.front].deadline <= c.now {
		c.giveUp(c.byEnd.front, nil)
	}
	for i := range c.flying {
		for h := c.flying[i].front; h != none && c.ops[h].due <= c.now; h = c.flying[i].front {
			c.enqueue(h)
			c.Counters.Resent++
			c.discover()
		}
	}
	if c.hello.due <= c.now {
		c.hello.now = true
		if !c.needsServers() {
			c.hello.now, c.hello.due = false, never
		}
	}
	c.wonder()
	c.tickTransfers()
	c.tickProbes()
	c.tickChanges()
}

// Deadline is when Tick wants to be called next.
func (c *Core) Deadline() int64 {
	d := c.hello.due
	if h := c.byEnd.front; h != none {
		d = min(d, c.ops[h].deadline)
	}
	for i := range c.flying {
		if h := c.flying[i].front; h != none {
			d = min(d, c.ops[h].due)
		}
	}
	d = min(d, c.wonderAt(), c.pathDeadline())
	for _, t := range c.transfers {
		d = min(d, t.deadline())
	}
	for _, p := range c.probes {
		d = min(d, p.resend, p.deadline)
	}
	for _, g := range c.changes {
		d = min(d, g.resend, g.deadline)
	}
	return d
}

// Done returns what has ended since the last call; the slice is reused by the call after the next.
func (c *Core) Done() []Done {
	d := c.done
	c.done, c.doneSpare = c.doneSpare[:0], d
	return d
}

// Outstanding is the number of operations not yet done.
func (c *Core) Outstanding() int { return c.live }

// needsServers says whether anything waits for a leader, or for a word from a silent one.
func (c *Core) needsServers() bool { return c.live > 0 || len(c.changes) > 0 }
