package node

import (
	"balsa/node/raft"
	"balsa/wal"
)

// persist is the durability promise: what waits for which batch. One batch is
// with the disk at a time; all that arrives meanwhile is the next one, so
// batching needs no timer.
type persist struct {
	hard        wal.HardState  // the newest given to the log
	serial      uint64         // of the newest effects given to the log
	hardPending bool           // and not yet in a batch
	after       []raft.Message // leave when the pending batch is durable

	inflight       *wal.Batch
	inflightHard   bool
	inflightState  wal.HardState
	inflightSerial uint64
	inflightAfter  []raft.Message

	written     uint64 // entries up to here are in the file: the log can read them
	inflightEnd uint64 // entries of the batch that is out, less what was truncated since
	unpublished bool   // no record says yet that the last batch was synced
	publishAt   int64  // when an idle log says so
}

// publishAfter is how long the log is idle before a sync record proves its
// last batch durable, so that later damage to it is known to be damage. ns.
const publishAfter = 100e6

// afterSync keeps messages until everything decided so far is durable. With
// nothing pending and nothing in flight that is now.
func (n *Node) afterSync(now int64, messages []raft.Message) {
	if len(messages) == 0 {
		return
	}
	switch {
	case n.log.PendingBytes() > 0:
		n.persist.after = append(n.persist.after, messages...)
	case n.persist.inflight != nil:
		n.persist.inflightAfter = append(n.persist.inflightAfter, messages...)
	default:
		for i := range messages {
			n.send(now, &messages[i])
		}
	}
}

// Batch takes the next batch to be written and synced, nil if there is none or
// one is still out. It must come back by Persisted.
func (n *Node) Batch() *wal.Batch {
	p := &n.persist
	if p.inflight != nil || n.err != nil || n.log.PendingBytes() == 0 {
		return nil
	}
	p.inflight = n.log.Take()
	n.pace.batchAt = n.turnAt
	p.inflightEnd, p.inflightSerial = p.inflight.LastIndex, p.serial
	p.inflightHard, p.inflightState, p.hardPending = p.hardPending, p.hard, false
	p.inflightAfter, p.after = p.after, p.inflightAfter[:0]
	return p.inflight
}

// Inline says that whoever drives the node may write and sync the next batch
// itself, for Patience: a follower, which has nothing else to do, and a leader
// with nothing to commit but one entry of few commands, which would only wait. Else a
// leader hands the batch to a writer, so that the next one is being made
// meanwhile (decision 0002).
func (n *Node) Inline() bool {
	if n.persist.inflight != nil {
		return false
	}
	if !n.Leading() || n.tail.last <= n.commit {
		return true
	}
	e := n.tail.get(n.tail.last)
	return n.tail.last == n.commit+1 && e != nil && e.Count <= inlineCommands
}

// inlineCommands is how many commands an entry has whose leader syncs it inside
// its loop. Where more come at once, others come while it is synced.
const inlineCommands = 4

// Patience is how long the loop may be silent for its own sync, ns: a leader no
// longer than it is ever silent.
func (n *Node) Patience() int64 {
	if n.core != nil && n.Leading() {
		return min(inlinePatience, n.pace.heartbeat())
	}
	return inlinePatience
}

const inlinePatience = int64(10e6)

// Persisted says how the batch ended. Only a sync that succeeded lets its
// answers leave; the first one that failed ends the node (SAFETY 14).
func (n *Node) Persisted(now int64, b *wal.Batch, err error) {
	p := &n.persist
	if b != p.inflight {
		panic("persist: a batch came back that was not out")
	}
	if err != nil {
		n.fail(err)
		return
	}
	index, term, synced := b.LastIndex, b.LastTerm, b.NeedsSync
	n.log.Release(b)
	p.inflight = nil
	if !synced {
		return
	}
	p.unpublished, p.publishAt = true, now+publishAfter
	p.written = max(p.written, p.inflightEnd)
	n.pace.own[0].add(now - n.pace.batchAt)
	if n.core == nil {
		n.listPersisted(now)
		return
	}
	if n.o.Observe != nil {
		if p.inflightHard {
			n.o.Observe.Hard(p.inflightState.Term, p.inflightState.Vote)
		}
		n.o.Observe.Synced(index, term)
	}
	for i := range p.inflightAfter {
		n.send(now, &p.inflightAfter[i])
	}
	p.inflightAfter = p.inflightAfter[:0]
	n.core.Synced(now, p.inflightSerial, index, term)
	n.absorb(now)
}

// publish lets an idle log prove its last batch durable.
func (n *Node) publish(now int64) {
	p := &n.persist
	if n.publishable() && now >= p.publishAt {
		p.unpublished = false
		n.log.PublishSynced()
	}
}

func (n *Node) publishable() bool {
	return n.persist.unpublished && n.persist.inflight == nil && n.log.PendingBytes() == 0
}

// persistBatch makes a batch durable, or returns why it is not.
func persistBatch(b *wal.Batch) error {
	if err := b.Write(); err != nil {
		return err
	}
	if !b.NeedsSync {
		return nil
	}
	return b.Sync()
}
