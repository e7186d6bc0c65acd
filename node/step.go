package node

import (
	"balsa/node/raft"
	"balsa/wal"
	"balsa/wire"
)

// absorb carries out what the core decided since it was last asked, in the
// order that keeps it right: the log's pending batch first, then what may leave
// at once; what must wait for the disk waits with the batch.
func (n *Node) absorb(now int64) {
	e := n.core.Take()
	if e.RoleChanged {
		n.roleChanged(now, e)
	}
	if e.NeedsSync() {
		n.persist.serial = e.Serial
	}
	if e.Hard != nil {
		n.persist.hard = wal.HardState{Term: e.Hard.Term, Vote: e.Hard.Vote}
		n.persist.hardPending = true
		n.log.SetHardState(n.persist.hard)
	}
	for i := range e.Holds {
		n.held.put(&n.views[e.Holds[i].Ref])
	}
	for i := range e.Ops {
		n.logOp(now, &e.Ops[i])
	}
	for i := range e.Send {
		n.send(now, &e.Send[i])
	}
	n.afterSync(now, e.AfterSync)
	n.commit = max(n.commit, e.Commit)
	for i := range e.Reads {
		n.reads.ready(e.Reads[i].Ticket, e.Reads[i].Index)
	}
	if e.ReadsLost {
		n.refuseReads()
	}
}

func (n *Node) logOp(now int64, op *raft.LogOp) {
	if op.Kind == raft.OpTruncate {
		n.log.Truncate(op.From)
		n.tail.truncate(op.From)
		n.persist.written = min(n.persist.written, op.From-1)
		n.persist.inflightEnd = min(n.persist.inflightEnd, op.From-1)
		if n.configurations.truncate(op.From) {
			c := n.inForce() // servers are where they were before
			n.out.learn(&c)
		}
		if n.o.Observe != nil {
			n.o.Observe.Truncated(op.From)
		}
		return
	}
	e := n.bodyOf(now, op)
	kept := n.tail.put(&e)
	var w wal.Entry
	toWAL(kept, &w)
	n.log.Append(&w)
	if n.o.Observe != nil {
		n.o.Observe.Appended(kept.Index, kept.Term, kept.Sum, kept.Kind)
	}
	if op.Entry.Kind == raft.Configuring {
		n.configurationAppended(kept)
	}
}

// bodyOf finds the bytes of an entry that the core accepted: in the datagram
// it came in, among what was held when it came, in what this turn packed, or
// nowhere for a no-op. Our own entries get their log time and their checksum
// here, once, for every server.
func (n *Node) bodyOf(now int64, op *raft.LogOp) wire.Entry {
	r := &op.Entry
	if op.Held || len(n.views) > 0 {
		var e wire.Entry
		if op.Held {
			e = n.held.get(r.Index)
		} else {
			e = n.views[r.Ref]
		}
		if e.Index != r.Index || e.Term != r.Term {
			panic("step: the core kept an entry that neither the message nor the ring holds")
		}
		n.stamp, n.stampAt = max(n.stamp, e.Time), now
		return e
	}
	e := wire.Entry{Index: r.Index, Term: r.Term, Kind: uint8(r.Kind)}
	switch r.Kind {
	case raft.NoOp:
	case raft.Configuring:
		e.Body = n.encodeConfiguration(r.Config)
		e.RawBytes = uint32(len(e.Body))
	default:
		p := &n.pack.entries[r.Ref]
		e.Body = n.pack.bodies[p.from:p.to]
		e.Count, e.RawBytes = p.count, uint32(len(e.Body))
	}
	n.stamp, n.stampAt = n.logTime(now), now
	e.Time = n.stamp
	e.Sum = toWAL(&e, nil)
	return e
}

// logTime is the stamp an entry made now would carry: the last stamp moved on
// by our own monotonic clock, so that a change of leader never makes it jump
// (SAFETY 19). It never falls.
func (n *Node) logTime(now int64) int64 {
	return max(n.stamp+max(now-n.stampAt, 0), 1)
}

// roleChanged tells the log line and the observer of a new leader or its end.
func (n *Node) roleChanged(now int64, e *raft.Effects) {
	n.tellStanding(e)
	switch {
	case e.Role == raft.Leader && n.ledTerm != e.Term:
		n.ledTerm = e.Term
		n.stampAt = now
		n.logger.Info("leading", "term", e.Term, "last_index", n.tail.last)
		n.announce(now)
		if n.o.Observe != nil {
			n.o.Observe.Leader(e.Term)
		}
	case e.Role != raft.Leader && n.ledTerm != 0:
		n.logger.Info("no longer leading", "led_term", n.ledTerm, "term", e.Term, "disk_stalls", n.disk.state == raft.DiskStalled)
		n.ledTerm, n.ledLast = 0, n.tail.last
		n.refuseReads()
	}
	if e.Leader != 0 && e.Leader != n.identity.ID && e.Leader != n.toldLeader {
		n.logger.Info("following", "leader", e.Leader, "term", e.Term)
	}
	n.toldLeader = e.Leader
}

// tellStanding says, once for each time it begins, that this server wants to
// lead: it has held the leader for gone, or was told to take over.
func (n *Node) tellStanding(e *raft.Effects) {
	stands := e.Role == raft.PreCandidate || e.Role == raft.Candidate
	if stands && !n.standing {
		n.logger.Info("standing", "as", e.Role.String(), "term", e.Term, "last_index", n.tail.last)
	}
	n.standing = stands
}
