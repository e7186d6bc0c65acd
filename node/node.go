// Package node joins the leaves: the log, the wire, the Raft core and the
// store meet here and nowhere else.
//
// A Node is a step machine. It is given datagrams, finished batches and the
// time; it gives back datagrams to send, batches to make durable and its next
// deadline. It starts no goroutine, reads no clock and opens no socket, so the
// simulator drives the very code that production runs; Serve is the thin shell
// that does the waiting.
//
//	datagrams -> inbound -> step -> persist -> outbound -> datagrams
//	                 \         \-> apply -> replies /
//	                  \-> pack (commands of a turn become entries)
//
// Files are ordered as a put meets them: inbound.go, pack.go, step.go,
// persist.go, apply.go, outbound.go, reply.go; turn.go ties them together.
package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/cespare/xxhash/v2"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

// Options say where a node lives and what it is given from outside.
type Options struct {
	FS           vfs.FS
	Dir          string
	Resolve      func(addr string) (netip.AddrPort, error) // a configuration's address to one to send to
	Random       func() uint64                             // unpredictable in production, seeded in the simulator
	KeyHash      func(key []byte) uint64                   // finds keys in the store; seeded in production, so that none can be chosen to be slow; nil: a fixed one
	SegmentBytes int64                                     // of new log segments; 0 is the log's default
	Dedicated    bool                                      // the machine does nothing else: T may be short
	Timeout      int64                                     // T in ns; 0 derives it from what is measured
	Heartbeat    int64                                     // ns a leader is never silent for longer than; 0 follows T
	Resend       int64                                     // ns without progress after which a leader sends again; 0 follows T
	Datagram     int                                       // largest datagram to any address; 0: by the address (loopback or not)
	Keys         *wire.Keys                                // of the servers' secret; nil: datagrams are not sealed
	Chaos        bool                                      // drills: do harm to this node, or hold a phase of a membership change, when asked
	Break        string                                    // with Chaos, a rule to break: see Breakable
	Each         func(n int, do func(i int))               // hands for the recovery of the log: see wal.Options; nil in the simulator
	Logger       *slog.Logger
	Observe      Observer // the simulator's invariants; nil in production
}

// Node is one server: identity, log, core and store, and what is under way
// between them. It has one owner; nothing in it is locked.
type Node struct {
	o        Options
	log      *wal.Log
	identity identity
	boot     uint64
	tag      uint32 // of the cluster in every datagram; 0 while blank
	logger   *slog.Logger
	err      error // the first failure that ends this node

	core  *raft.Core // nil while blank
	store *kv.Store
	tail  tail // the newest entries with their bodies

	founding       founding
	configurations configurations
	ledTerm        uint64 // the term this server leads, 0 when it does not
	ledLast        uint64 // the last entry it proposed when it stopped leading
	turnAt         int64  // when the turn under way began
	now            int64  // what this node was told last
	due            int64  // when the next is due, 0: not known
	toldLeader     uint16 // the leader that the last log line named
	standing       bool   // a log line said that this server stands, and nothing has come of it yet
	twins          []twin
	twinsAsked     uint64   // questions whether a process is alive
	doubtAt        int64    // next time we ask that of our own id
	left           uint64   // the configuration that removed this server; 0: none did, or a later one names it
	addressAt      int64    // when silent servers are next told where this one is
	foreign        []uint16 // servers of another cluster at our servers' addresses, told once

	// Inbound, reused from datagram to datagram.
	entries     []raft.Entry
	views       []wire.Entry
	held        held              // entries that came before those they follow
	parts       *wire.Reassembler // of servers; clients can't take their room
	clientParts *wire.Reassembler
	judged      bool // this datagram's requests: whether they are a repetition is known
	fresh       bool // and they are not

	pack    pack
	reads   reads
	members members
	votes   votes
	pace    pace
	persist persist
	disk    diskState
	applied uint64 // applied <= commit
	commit  uint64 // what the core lets us apply

	stamp   int64 // log time of the newest entry this node knows
	stampAt int64 // when, on our clock, stamp was true; meaningful on a leader

	admission admission

	out     outbound
	clients clients
	chaos   chaos
	askers  askers

	Counters Counters
}

// Open recovers a node from its directory. A directory that no founding has
// reached opens as blank: it answers questions and never votes (SAFETY 7).
func Open(o Options, now int64) (*Node, error) {
	if err := o.checkBreak(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	log, recovery, err := wal.Open(wal.Options{
		FS: o.FS, Dir: o.Dir, SegmentBytes: o.SegmentBytes, Random: o.Random, Each: o.Each,
		Keep: func(kind uint8) bool { return kind == uint8(raft.Configuring) },
	})
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, log: log, boot: o.Random() | 1, logger: o.Logger, store: kv.NewHashing(o.KeyHash), stamp: recovery.LastTime, stampAt: now}
	if err := n.identity.decode(recovery.Founding); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: the identity that init wrote: %w", o.Dir, err), log.Close())
	}
	n.logger = o.Logger.With("id", n.identity.ID)
	n.pace = newPace(&o, now)
	n.parts = wire.NewReassembler(maxReassemblyBytes, maxReassemblySlots)
	n.clientParts = wire.NewReassembler(maxReassemblyBytes, maxReassemblySlots)
	n.initAdmission()
	n.out.init(n)
	n.clients.init()
	n.tail.reset(recovery.Last)
	n.applied = 0
	n.persist.written = recovery.Last
	if recovery.Verdict != wal.Clean {
		n.logger.Warn("the log was not clean", "verdict", recovery.Verdict.String(), "reason", recovery.Reason, "cut_bytes", recovery.CutBytes)
	}
	if n.identity.List == nil {
		n.beginFounding(now)
		return n, nil
	}
	if err := n.startCore(now, recovery, false); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return n, nil
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.KeyHash == nil {
		o.KeyHash = xxhash.Sum64
	}
	return o
}

// startCore begins to take part in Raft: the founding list is the
// configuration at index 0, later ones are entries of the log. A fresh one was
// blank until now: it has promised nothing that a restart could have forgotten.
func (n *Node) startCore(now int64, recovery *wal.Recovery, fresh bool) error {
	list, err := wire.DecodeConfiguration(n.identity.List)
	if err != nil {
		return fmt.Errorf("%s: the founding list: %w", n.o.Dir, err)
	}
	start := raft.Start{
		Configs: []raft.IndexedConfiguration{{Index: 0, Configuration: toRaft(&list)}},
		Hard:    raft.HardState{Term: recovery.Hard.Term, Vote: recovery.Hard.Vote},
		Last:    recovery.Last, Voteless: recovery.Voteless, Fresh: fresh, Left: n.identity.Left,
	}
	for _, r := range recovery.Terms {
		start.Terms = append(start.Terms, raft.TermRun{First: r.First, Term: r.Term})
	}
	for _, r := range recovery.Damaged {
		start.Damaged = append(start.Damaged, raft.Range{First: r.First, Last: r.Last})
	}
	n.out.learn(&list)
	n.holdList(&list)
	n.configurations.add(0, n.identity.List)
	if n.o.Observe != nil {
		n.o.Observe.Configured(0, &list)
	}
	for i := range recovery.Kept {
		c, err := wire.DecodeConfiguration(recovery.Kept[i].Body)
		if err != nil {
			return fmt.Errorf("%s: the configuration at index %d: %w", n.o.Dir, recovery.Kept[i].Index, err)
		}
		n.out.learn(&c)
		n.configurations.add(recovery.Kept[i].Index, recovery.Kept[i].Body)
		start.Configs = append(start.Configs, raft.IndexedConfiguration{Index: recovery.Kept[i].Index, Configuration: toRaft(&c)})
	}
	n.tag = wire.ClusterTag(list.Cluster)
	n.out.header.Cluster = n.tag
	n.core = raft.New(raft.Config{
		NewVotersAlone: n.breaks(BreakJoint),
		ID:             n.identity.ID, Incarnation: n.identity.Incarnation, Boot: n.boot, Seed: n.o.Random(),
		Timeout: n.pace.timeout, Heartbeat: n.pace.heartbeat(), Resend: n.pace.resend(),
		WindowBytes: windowBytes, UncommittedBytes: uncommittedBytes,
	}, start, now)
	if left := n.core.Removed(); left != 0 {
		n.noteRemoved(left)
	}
	if recovery.Voteless {
		n.logger.Error("this server neither votes nor leads: its hard state or the identity of its log's tail is gone; bring it back with `balsa member replace`", "reason", recovery.Reason)
	}
	for _, r := range recovery.Damaged {
		n.logger.Warn("entries are damaged here; they will be written again from the leader", "first", r.First, "last", r.Last, "reason", recovery.Reason)
	}
	return nil
}

// Bounds, in bytes unless said otherwise (DESIGN, decision 12).
const (
	windowBytes        = 4 << 20  // in flight to one peer
	uncommittedBytes   = 32 << 20 // proposed and not committed; beyond it commands are refused as busy
	maxReassemblyBytes = 64 << 20
	maxReassemblySlots = 64 // messages
)

// Log gives the shell the log, to prepare its next segment beside the loop.
func (n *Node) Log() *wal.Log { return n.log }

// Err is why this node ended, or nil.
func (n *Node) Err() error { return n.err }

// ID is the server's id, Incarnation what init drew, Boot what this process drew.
func (n *Node) ID() uint16          { return n.identity.ID }
func (n *Node) Incarnation() uint64 { return n.identity.Incarnation }
func (n *Node) Boot() uint64        { return n.boot }

// Address is where the newest configuration of the log, else the pool that init
// was given, says this server is reached.
func (n *Node) Address() string { return string(n.out.addressOf(n.identity.ID)) }

// Blank says that no founding has reached this server: it holds no list.
func (n *Node) Blank() bool { return n.core == nil }

// Leading says that this server leads now.
func (n *Node) Leading() bool { return n.core != nil && n.core.Role() == raft.Leader }

// Store is the state machine, for checks that compare servers.
func (n *Node) Store() *kv.Store { return n.store }

// Core is the Raft core, nil while blank; for status and checks, never to step.
func (n *Node) Core() *raft.Core { return n.core }

// HandOver begins to hand leadership to the best of the others; false when
// there is nothing to hand over or nobody to take it.
func (n *Node) HandOver(now int64) bool {
	if !n.Leading() || n.core.Transfer(now, 0) != nil {
		return false
	}
	n.absorb(now)
	return true
}

// HandedOver says that another server leads and that everything proposed here
// is applied, and so answered.
func (n *Node) HandedOver() bool {
	return !n.Leading() && n.core.Leader() != 0 && n.applied >= n.ledLast
}

// Close releases the log. A batch still with a writer must have come back.
func (n *Node) Close() error { return n.log.Close() }

// fail ends the node with its first error. The shell sees Err and stops.
func (n *Node) fail(err error) {
	if n.err == nil {
		n.err = err
		n.logger.Error("stopping", "err", err)
	}
}
