package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Class is a kind of fault. Each seed draws a subset of them.
type Class uint8

const (
	Loss Class = iota
	Duplicate
	Reorder
	Delay
	Corrupt
	SmallLink
	Cut
	CutOneWay
	Pause
	Hang
	SyncError
	Kill
	PowerCut
	PowerCutAll
	Rot
	Wipe
	WipeBeforeFounding
	ClientGone
	Membership   // an operator changes who the voters are
	Transfer     // and who leads
	KillLearner  // the leader of a change dies while servers catch up
	KillJoint    // while both majorities decide
	KillFinal    // just after it has left that
	FounderWiped // a cluster of one is grown to three, and the first server wiped
	Forged       // servers that live are said to refuse
	Closed       // servers that do not really refuse
	OldDatagrams // datagrams of any time before arrive again
	OtherCluster // datagrams of another cluster
	ClockDrift   // clocks run apart by up to a tenth
	ClockJump    // a clock jumps ahead, or stands still with its server
	SlowDisk     // syncs take up to 200 times longer
	DiskError    // any call of the file system fails, once or until the process ends
	DiskFull     // there is no space for a while
	AnyServer    // reads and scans are asked of any server
	Replace      // what operators do, counted; never drawn alone
	Cancel
	Refusal
	DryRun
	FollowerRead
	ScanRead
	Clone   // of a data directory: drawn by drawUnbounded alone
	Restore // of an older copy of one
	Classes
)

// drawn says that a class is drawn for itself; others come with one that is.
func (c Class) drawn() bool { return c < Replace }

var classNames = [Classes]string{"loss", "duplicate", "reorder", "delay", "corrupt", "small-link", "cut", "cut-one-way", "pause", "hang",
	"sync-error", "kill", "power-cut", "power-cut-all", "rot", "wipe", "wipe-before-founding", "client-gone",
	"membership", "transfer", "kill-learner", "kill-joint", "kill-final", "founder-wiped", "forged", "closed", "old-datagrams",
	"other-cluster", "clock-drift", "clock-jump", "slow-disk", "disk-error", "disk-full", "any-server", "replace", "cancel", "refusal", "dry-run", "follower-read", "scan", "clone", "restore"}

func (c Class) String() string { return classNames[c] }

// knobs are all that a seed decides before its first event.
type knobs struct {
	Servers, Spares int
	Clients, Keys   int
	Depth           int // operations one client has in flight
	Timeout         int64
	Heartbeat       int64
	Resend          int64
	SegmentBytes    int64
	OpTimeout       int64
	Think           int64
	Length          int64 // virtual time until the ending begins
	OneShot         bool
	Datagram        int     // largest of servers and clients; 0: what loopback carries
	Large           float64 // part of the puts with large values
	Inline          bool    // servers write and sync inside their loop where they may
	DrainFirst      bool    // finished batches are told before, or after, the inbox
	SyncMin         int64
	SyncMax         int64
	DelayMin        int64 // of every link, always
	DelayMax        int64
	Drift           int64 // clocks run apart by up to so many parts per million
	FaultEvery      int64
	ChangeEvery     int64 // about so often an operator asks for something
	StayBroken      bool  // a minority is never healed
	Sealed          bool  // datagrams are sealed, and the secret is changed meanwhile
	Leases          bool  // leaders may serve reads by a lease
	Unbounded       Class // Clone or Restore: safety is not owed; 0: it is
	Late            bool  // that comes when all else is healed
	Faults          [Classes]bool
}

func draw(r *rand.Rand) knobs {
	k := knobs{
		Servers: []int{3, 3, 3, 5, 5, 3, 3, 5, 1, 3}[r.IntN(10)],
		Clients: int(between(r, 4, 8)), Keys: int(between(r, 10, 30)), Depth: int(between(r, 1, 3)),
		Timeout:      between(r, 200, 400) * millisecond,
		Heartbeat:    between(r, 25, 50) * millisecond,
		SegmentBytes: 64 << 10 << r.IntN(3),
		OpTimeout:    between(r, 600, 4000) * millisecond,
		Think:        between(r, 50, 250) * millisecond,
		Length:       between(r, 30, 34) * second,
		OneShot:      chance(r, 0.15), Inline: chance(r, 0.6), DrainFirst: chance(r, 0.7),
		SyncMin: between(r, 50, 500) * microsecond, DelayMin: between(r, 20, 200) * microsecond,
		Drift: between(r, 0, 500), FaultEvery: between(r, 300, 2500) * millisecond,
		StayBroken: chance(r, 0.4),
	}
	k.Resend = k.Heartbeat * 2
	k.SyncMax = k.SyncMin * between(r, 2, 40)
	k.DelayMax = k.DelayMin * between(r, 2, 20)
	if chance(r, 0.4) {
		k.Spares = 1
	}
	if chance(r, 0.3) {
		k.Large = 0.02
	}
	if chance(r, 0.3) {
		k.Datagram = int(between(r, 1200, 9000))
	}
	for c := range Classes {
		k.Faults[c] = c.drawn() && chance(r, 0.4)
	}
	// One of these is always there, so that no seed is a calm one.
	k.Faults[[]Class{Loss, Cut, CutOneWay, Pause, Kill, PowerCut}[r.IntN(6)]] = true
	k.drawOperator(r)
	k.drawLeases(r)
	k.Sealed = chance(r, 0.25)
	return k
}

// drawOperator decides what comes with a change of the membership: a pool to
// choose from, and the times at which its leaders die.
func (k *knobs) drawOperator(r *rand.Rand) {
	k.ChangeEvery = between(r, 300, 4000) * millisecond
	k.Faults[FounderWiped] = k.Faults[FounderWiped] && k.Servers == 1
	k.Faults[Membership] = k.Faults[Membership] || k.Faults[FounderWiped]
	if k.Faults[Membership] {
		k.Spares = max(k.Spares, int(between(r, 5, 7))-k.Servers)
	}
	for _, c := range []Class{KillLearner, KillJoint, KillFinal} {
		k.Faults[c] = k.Faults[c] && k.Faults[Membership]
	}
	if k.Faults[ClockDrift] {
		k.Drift = between(r, 10_000, 100_000)
	}
}

func (k *knobs) String() string {
	var on []string
	for c := range Classes {
		if k.Faults[c] {
			on = append(on, c.String())
		}
	}
	shown := *k
	shown.Faults = [Classes]bool{}
	text := fmt.Sprintf("%+v", shown)
	return text[:strings.Index(text, " Faults:")] + " Faults:" + strings.Join(on, ",") + "}"
}
