package raft

// A disk that stalls. Its server hears, answers and sends as before, so that nobody else could tell: a leader with such a
// disk would lead for ever, holding what it cannot write. What this file promises: such a leader hands over when others
// would do better, and otherwise leads on; a server whose disk stalls does not stand.
//
//	leader, stalled --- others with well disks are a quorum ----> hands over to the best of them
//	      ^  |                                                        |  nobody took it within T
//	      |  `--- they are not: to nobody's gain, so it leads on      v
//	      `---------------- well again                            stops leading: they find the next leader by themselves
//
// A server says with every ack how its disk does. One that was merely slow of late, or has only just recovered, is not
// handed to: when all disks stall together, each sees the others slow before it calls its own stalled, and leadership
// does not go round.

// How a disk does, on the wire in every ack. The caller says so by SetDisk.
const (
	DiskWell    uint8 = iota
	DiskSlow          // a sync takes long, or did a moment ago
	DiskStalled       // it takes so long that another server should lead
)

// SetDisk tells how this server's disk does from now on.
func (c *Core) SetDisk(now int64, disk uint8) {
	c.advance(now)
	if c.disk == DiskStalled && disk != DiskStalled {
		c.stallTried = false
		if c.role != Leader {
			c.resetElection() // who took its place is heard first
		}
	}
	c.disk = disk
}

// SetFull tells that this server's disk has no room for more entries, or has again.
func (c *Core) SetFull(full bool) { c.full = full }

// Full tells a leader that no quorum of its voters has room: what it took now would wait for space, and nobody could say
// for how long. One that has not spoken counts as having room.
func (c *Core) Full() bool {
	return !c.roomy(false) || c.joint && !c.roomy(true)
}

func (c *Core) roomy(old bool) bool {
	voters, room := 0, 0
	count := func(full bool) {
		voters++
		if !full {
			room++
		}
	}
	for i := range c.peers {
		if p := &c.peers[i]; p.votes(old) {
			count(p.full)
		}
	}
	if c.votesIn(old) {
		count(c.full)
	}
	return room > voters/2 || voters == 0
}

// stepStall lets a leader with a stalled disk go, as soon as that helps.
func (c *Core) stepStall() {
	if c.disk != DiskStalled || c.leaving || c.transfer.to != 0 {
		return
	}
	if !c.othersAreWell() {
		c.stallTried = false
		return
	}
	if c.stallTried {
		c.becomeFollower(c.hard.Term, 0)
		return
	}
	c.stallTried = true
	c.beginTransfer(c.successor())
}

// othersAreWell tells whether those heard within T whose disks do well are a quorum, this server not counted.
func (c *Core) othersAreWell() bool {
	return c.wellMajority(false) && (!c.joint || c.wellMajority(true))
}

func (c *Core) wellMajority(old bool) bool {
	voters, well := 0, 0
	for i := range c.peers {
		if p := &c.peers[i]; p.votes(old) {
			voters++
			if p.disk == DiskWell && c.alive(p.id) {
				well++
			}
		}
	}
	if c.votesIn(old) {
		voters++
	}
	return well > voters/2
}
