package raft

import (
	"errors"
	"testing"
)

// stalled is leader 1 of a configuration with an entry that its own disk does not get, held by all others, whose disks
// do as they are told: by id, those left out are silent.
func stalled(t *testing.T, k Configuration, disks map[uint16]uint8) (*Core, *Effects) {
	t.Helper()
	var by []uint16
	for _, m := range k.Members {
		if m.ID != 1 {
			by = append(by, m.ID)
		}
	}
	c := leading(t, Start{Configs: []IndexedConfiguration{{0, k}}}, by...)
	if err := c.Propose(c.now, &Entry{Kind: Commands, Size: 1}); err != nil {
		t.Fatal(err)
	}
	c.Take() // and no Synced: it hangs
	c.Tick(c.now + c.cfg.Timeout - msec)
	hear(c, disks)
	c.Tick(c.now + 2*msec)
	return c, hearing(c, disks)
}

// hear lets servers acknowledge what the leader has, and say how their disks do; in hearing the leader's own stalls then.
func hear(c *Core, disks map[uint16]uint8) {
	for id := uint16(1); id < 10; id++ {
		if disk, ok := disks[id]; ok {
			m := ack(c, c.log.last)
			if disk == DiskStalled {
				m.Match = 0
			}
			m.Disk = disk
			c.Step(c.now, from(id, m))
		}
	}
}

func hearing(c *Core, disks map[uint16]uint8) *Effects {
	hear(c, disks)
	c.SetDisk(c.now, DiskStalled)
	return c.Take()
}

func TestALeaderWhoseDiskStallsHandsOverToAHealthyVoter(t *testing.T) {
	c, e := stalled(t, voters(1, 2, 3, 4, 5), map[uint16]uint8{2: DiskSlow, 3: DiskStalled, 4: DiskWell, 5: DiskWell})
	if m := sentKind(e, TimeoutNow); m != nil {
		t.Fatalf("handed over to %d, though with two well disks of five nobody could do better", m.To)
	}
	check(t, c, "goes on leading", c.Role(), Leader)
	e = hearing(c, map[uint16]uint8{2: DiskSlow, 3: DiskWell, 4: DiskWell, 5: DiskWell})
	m := sentKind(e, TimeoutNow)
	if m == nil || m.To < 3 {
		t.Fatalf("%+v, want the word to a server with a well disk", m)
	}
	check(t, c, "takes nothing more", errors.Is(c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), ErrTransferring), true)
}

func TestALeaderWhoseDiskStallsStopsLeadingIfNobodyTakesOver(t *testing.T) {
	well := map[uint16]uint8{2: DiskWell, 3: DiskWell}
	c, e := stalled(t, voters(1, 2, 3), well)
	check(t, c, "hands over", sentKind(e, TimeoutNow) != nil, true)
	for until := c.now + c.cfg.Timeout; c.now < until; {
		check(t, c, "until it gives up it leads", c.Role(), Leader)
		c.Tick(max(c.now+1, min(c.Deadline(), until)))
		hearing(c, well)
	}
	c.Tick(c.now + c.cfg.Heartbeat)
	hearing(c, well)
	check(t, c, "then no more", c.Role(), Follower)
	c.Tick(c.now + 10*c.cfg.Timeout)
	check(t, c, "nor does it stand", c.Role(), Follower)
	c.SetDisk(c.now, DiskSlow)
	check(t, c, "stands at once when its disk is back", c.Deadline() <= c.now, false)
	c.Tick(c.Deadline())
	check(t, c, "stands when its disk is back", c.Role(), PreCandidate)
}

func TestALeaderWhoseDiskStallsLeadsOnWithoutAHealthyQuorum(t *testing.T) {
	for _, disks := range []map[uint16]uint8{
		{2: DiskStalled, 3: DiskStalled}, // all stall
		{2: DiskWell, 3: DiskStalled},
		{2: DiskWell, 3: DiskSlow}, // about to
		{2: DiskWell},              // and 3 is gone
	} {
		c, e := stalled(t, voters(1, 2, 3), disks)
		for range 100 {
			if m := sentKind(e, TimeoutNow); m != nil || c.Role() != Leader {
				t.Fatalf("disks %v: told %+v, role %v: there is nobody to hand over to", disks, m, c.Role())
			}
			c.Tick(c.now + c.cfg.Heartbeat)
			e = hearing(c, disks)
		}
	}
	joint := voters(1, 2, 3, 4, 5)
	joint.Old = []uint16{1, 2, 3}
	joint.Members[1].Voter = false // 2 leaves; 3 is of both
	c, _ := stalled(t, joint, map[uint16]uint8{2: DiskStalled, 3: DiskWell, 4: DiskWell, 5: DiskWell})
	check(t, c, "one majority of two does not do", c.Transferring(), uint16(0))
	e := hearing(c, map[uint16]uint8{2: DiskWell, 3: DiskWell, 4: DiskWell, 5: DiskWell})
	check(t, c, "both do", sentKind(e, TimeoutNow) != nil, true)
}

func TestAFollowerSaysHowItsDiskDoes(t *testing.T) {
	c := heard(2, false)
	for _, disk := range []uint8{DiskWell, DiskSlow, DiskStalled, DiskWell} {
		c.SetDisk(c.now, disk)
		c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
		check(t, c, "disk told", sentKind(flush(c), Ack).Disk, disk)
	}
}

func TestASuccessorIsChosenByItsDiskFirst(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	_ = c.Propose(c.now, &Entry{Kind: Commands, Size: 1})
	flush(c)
	behind := ack(c, c.log.last-1)
	c.Step(c.now, from(3, behind))
	m := ack(c, c.log.last)
	m.Disk = DiskStalled
	c.Step(c.now, from(2, m))
	check(t, c, "successor", c.successor(), uint16(3))
}

// Simulator seed 7483: an operator asked again and again for a transfer to a server whose disk hung for ever. Each time the
// leader took no writes for T, and the server could not stand.
func TestLeadershipIsNotHandedToAServerWhoseDiskStalls(t *testing.T) {
	c := leading(t, Start{}, 2, 3)
	hear(c, map[uint16]uint8{2: DiskStalled, 3: DiskWell})
	flush(c)
	check(t, c, "to 2, asked for by name", errors.Is(c.Transfer(c.now, 2), ErrNoSuccessor), true)
	check(t, c, "takes writes", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), nil)
	flush(c)
	check(t, c, "to 3", c.Transfer(c.now, 3), nil)
	check(t, c, "under way", c.Transferring(), uint16(3))
	hear(c, map[uint16]uint8{2: DiskStalled, 3: DiskStalled})
	flush(c)
	check(t, c, "given up as its disk stalls", c.Transferring(), uint16(0))
	check(t, c, "takes writes again", c.Propose(c.now, &Entry{Kind: Commands, Size: 1}), nil)
	check(t, c, "to whoever can", errors.Is(c.Transfer(c.now, 0), ErrNoSuccessor), true)
	check(t, c, "leads on", c.Role(), Leader)
}

func TestTheTimesFollowT(t *testing.T) {
	c := heard(2, false)
	c.SetTimes(40*msec, 4*msec, 20*msec)
	c.Step(c.now, from(1, Message{Kind: Append, Term: 1, Timeout: 40 * msec}))
	check(t, c, "silence is probed after", c.Deadline()-c.now, 10*msec)
	l := leading(t, Start{}, 2, 3)
	l.SetTimes(40*msec, 4*msec, 20*msec)
	acked(l, 2, 3)
	l.Tick(l.Deadline())
	l.Take()
	check(t, l, "next heartbeat after", l.Deadline()-l.now, 4*msec)
}
