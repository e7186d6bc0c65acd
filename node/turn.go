package node

import "math"

// Turn ends a turn: what arrived since the last one becomes entries, messages
// and answers. drained says that nothing more waits in the sockets: only then
// may a deadline pass, for a heartbeat that lies in the buffer must be heard
// before its sender is held for dead (SAFETY 4).
func (n *Node) Turn(now int64, drained bool) {
	if n.err != nil {
		return
	}
	n.Counters.Turns++
	n.woke(now)
	n.endCut(now)
	n.turnAt = now
	if n.admission.opener != nil {
		n.admission.opener.Turn()
	}
	if n.core == nil {
		n.foundingTurn(now)
		n.flushReplies()
		n.out.resendLarge(now)
		return
	}
	n.setTimeout(now)
	n.watchDisk(now)
	if drained && now >= n.core.Deadline() {
		n.core.Tick(now)
		n.absorb(now)
	}
	if len(n.founding.unlisted) > 0 && now >= n.founding.spreadAt {
		n.spread(now)
	}
	if n.members.operation != 0 && now >= n.members.askAt {
		n.askIncarnations(now)
	}
	n.tellAddresses(now)
	if left := n.core.Removed(); left != n.left {
		n.noteRemoved(left)
	}
	n.propose(now)
	n.startReads(now)
	n.apply(now)
	n.serveReads()
	n.flushReplies()
	n.tellFragments(now)
	n.out.resendLarge(now)
	n.out.probePaths(now)
	n.publish(now)
}

// Deadline is when Turn must be called at the latest if nothing arrives. It is
// remembered: a turn that comes long after it says that we stood still.
func (n *Node) Deadline() int64 {
	n.due = n.deadline()
	return n.due
}

func (n *Node) deadline() int64 {
	if n.err != nil {
		return math.MaxInt64
	}
	at := min(n.out.largeDeadline(), n.out.pathDeadline())
	if n.publishable() {
		at = min(at, n.persist.publishAt)
	}
	if n.core == nil {
		if n.founding.persisting {
			return at
		}
		return min(at, n.founding.askAt)
	}
	if n.applied < n.commit {
		return 0 // a bounded turn left some entries to apply
	}
	if n.reads.servable(0, n.applied) {
		return 0 // or reads to answer
	}
	if len(n.founding.unlisted) > 0 {
		at = min(at, n.founding.spreadAt)
	}
	if n.members.operation != 0 {
		at = min(at, n.members.askAt)
	}
	return min(at, n.core.Deadline())
}
