package raft

import "testing"

// follower is server 2 of three, and the Append that its leader 1 sends it.
func follower() (*Core, Message) {
	c := New(Config{ID: 2, Incarnation: 2000, Boot: 2, Seed: 1, Timeout: 100 * msec, Heartbeat: 10 * msec},
		Start{Configs: []IndexedConfiguration{{Configuration: voters(1, 2, 3)}}}, 0)
	return c, Message{Kind: Append, From: 1, To: 2, FromIncarnation: c.inForce().member(1).Incarnation, FromBoot: 1, Term: 1, Round: 1, Seq: 1, Timeout: 100 * msec}
}

// probed gives the first moment at which the leader is probed.
func probed(t *testing.T, c *Core) int64 {
	for now := c.Deadline(); now < 100*msec; now = c.Deadline() {
		c.Tick(now)
		for _, m := range c.Take().Send {
			if m.Kind == Probe && m.To == 1 {
				return now
			}
		}
	}
	t.Fatal("the leader was never probed")
	return 0
}

func TestASilentLeaderIsProbedEarlierAfterEntriesThanAfterAHeartbeat(t *testing.T) {
	c, m := follower()
	c.Step(msec, &m)
	e := c.Take()
	c.Synced(msec, e.Serial, 0, 0) // the term
	c.Take()
	if at := probed(t, c); at != msec+25*msec {
		t.Errorf("after a heartbeat: probed at %d ms, want 26", at/msec)
	}
	c, m = follower()
	m.Entries = []Entry{{Index: 1, Term: 1, Kind: NoOp, Size: 64}}
	c.Step(msec, &m)
	e = c.Take()
	c.Synced(msec, e.Serial, 1, 1)
	c.Take()
	if at := probed(t, c); at != msec+5*msec {
		t.Errorf("after entries: probed at %d ms, want 6", at/msec)
	}
}
