package node

import "balsa/node/raft"

// diskState watches how long the batch that is with the disk has been there,
// and tells the core, which hands leadership over from a disk that stalls and
// says to every leader how this one does.
//
//	well ---- a quarter of the bound passes ----> slow ---- the rest ----> stalled
//	  ^                                            ^                         |
//	  `---- for stallMemory no batch took so ------'------ it came back -----'
//
// The bound is T, or some times what syncs usually take if that is longer: a
// leader whose disk is merely as slow as ever is no worse than the next.
type diskState struct {
	state   uint8 // as the core knows it
	bound   int64
	boundAt int64 // when it was last worked out
	badAt   int64 // when the disk was last slow or stalled
	alone   bool  // a log line said that nobody could lead instead
}

const (
	stallFactor = 4     // x the 99.9th percentile of our syncs
	stallLeast  = 100e6 // of the bound, ns: less is not worth another leader, as commits go on with the others' disks
	slowPart    = 4     // of the bound
	stallMemory = 2e9   // ns
	boundEvery  = 100e6 // ns
)

// watchDisk is part of every turn. It needs no deadline of its own: a leader
// turns with every heartbeat it sends, a follower with every one that it hears.
func (n *Node) watchDisk(now int64) {
	d := &n.disk
	n.core.SetFull(n.log.Low())
	if now >= d.boundAt+boundEvery || d.boundAt == 0 {
		d.bound = max(n.pace.timeout, stallFactor*n.pace.own.p999(), stallLeast)
		d.boundAt = now
	}
	age := int64(0)
	if n.persist.inflight != nil {
		age = now - n.pace.batchAt
	}
	state := raft.DiskWell
	switch {
	case age >= d.bound:
		state, d.badAt = raft.DiskStalled, now
	case age >= d.bound/slowPart:
		state, d.badAt = raft.DiskSlow, now
	case d.badAt != 0 && now-d.badAt < stallMemory:
		state = raft.DiskSlow
	}
	if state != d.state {
		was := d.state
		d.state = state
		n.core.SetDisk(now, state)
		n.absorb(now)
		n.tellDisk(was, age)
	}
	n.tellAlone(age)
}

// tellDisk counts a stall and says that it began, or ended.
func (n *Node) tellDisk(was uint8, age int64) {
	switch {
	case n.disk.state == raft.DiskStalled:
		n.Counters.DiskStalls++
		n.logger.Warn("the disk stalls: a sync does not end", "for_ms", age/1e6, "bound_ms", n.disk.bound/1e6, "usual_p999_us", n.pace.own.p999()/1e3,
			"leading", n.Leading(), "handing_over_to", n.core.Transferring(), "disk_stalls", n.Counters.DiskStalls)
		if n.core.Transferring() != 0 {
			n.Counters.StallsHandedOver++
		}
	case was == raft.DiskStalled:
		n.logger.Info("the disk goes on")
		n.disk.alone = false
	}
}

// tellAlone says once for each stall that this server has to lead in spite of
// it.
func (n *Node) tellAlone(age int64) {
	if n.disk.state != raft.DiskStalled || n.disk.alone || !n.Leading() || n.core.Transferring() != 0 {
		return
	}
	n.disk.alone = true
	n.logger.Warn("the disk stalls, and the others whose disks do well are no quorum: leading on", "for_ms", age/1e6)
}
