package main

import (
	"fmt"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

// What a server does with a damaged tail of which nothing proves whether it was ever synced, shown by processes.

// settled writes a little, waits until every server has all of it, and kills them at once.
func settled(t *testing.T) *town {
	c := startTown(t, local.Options{Nodes: 3})
	for i := range 5 {
		c.put(fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	for same := false; !same; time.Sleep(10 * time.Millisecond) {
		if c.ctx.Err() != nil {
			t.Fatal("the servers never had the same")
		}
		view, err := local.Ask(c.ctx, c.client)
		same = err == nil && len(view.Rows) == 3
		for i := range view.Rows {
			r := &view.Rows[i]
			same = same && r.Alive && r.Last == view.Rows[0].Last && r.Applied == r.Last
		}
	}
	c.kill(1, 2, 3)
	return c
}

// unproven gives the last entry of a killed server's log, after it has cut what follows it there: idle records, which
// may be lost, and which alone would prove it.
func (c *town) unproven(id int) recordJSON {
	c.t.Helper()
	dir := c.servers.Server(id).Dir
	all := records(c.t, dir)
	last := len(all) - 1
	for ; last >= 0 && all[last].Type == "sync"; last-- {
	}
	if last < 0 || all[last].Type != "entry" {
		c.t.Fatalf("server %d: the log ends with %+v", id, all[len(all)-1])
	}
	if last+1 < len(all) {
		c.harm(id, all[last+1].Segment, all[last+1].Offset, "--cut")
	}
	return all[last]
}

func (c *town) harm(id int, segment string, offset int64, how ...string) {
	c.t.Helper()
	args := append([]string{"wal", "damage", c.servers.Server(id).Dir, "--segment", segment, "--offset", fmt.Sprint(offset)}, how...)
	if _, errs, code := balsa(args...); code != exitDone {
		c.t.Fatalf("damage: code %d: %s", code, errs)
	}
}

func (c *town) wantVerdict(id, code int) {
	c.t.Helper()
	if out, errs, got := balsa("wal", "verify", c.servers.Server(id).Dir); got != code {
		c.t.Fatalf("verify of server %d: code %d, want %d: %s%s", id, got, code, out, errs)
	}
}

func (c *town) wantAll() {
	c.t.Helper()
	for i := range 5 {
		c.wantValue(fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
}

// Two of three lose the body of the last acknowledged entry, and know which one it was. They vote as if they had it, do not lead,
// and are sent it again: service returns with no operator.
func TestADamagedTailOfKnownIdentityHealsByItself(t *testing.T) {
	c := settled(t)
	var lost recordJSON
	for _, id := range []int{1, 2} {
		lost = c.unproven(id)
		c.harm(id, lost.Segment, lost.Offset+wal.HeaderBytes+5, "--flip", "3")
		c.wantVerdict(id, wal.Suspect.ExitCode())
	}
	c.start(1, 2, 3)
	c.put("service", "is back")
	c.wantAll()
	c.waitSaid([]int{3}, "msg=leading")
	for _, id := range []int{1, 2} {
		c.waitSaid([]int{id}, "the log was not clean", "verdict=suspect")
		c.waitSaid([]int{id}, "entries are damaged here", fmt.Sprintf("first=%d last=%d", lost.Index, lost.Index))
		for again := false; !again; time.Sleep(10 * time.Millisecond) {
			if c.ctx.Err() != nil {
				t.Fatalf("server %d was never sent entry %d again", id, lost.Index)
			}
			for _, r := range records(t, c.servers.Server(id).Dir, "--type", "entry") {
				again = again || r.Rewrite && r.Index == lost.Index && r.Sum == lost.Sum
			}
		}
	}
	c.kill(3) // what is left are the two that had lost it
	c.put("by", "1 and 2")
	c.wantAll()
	c.kill(1, 2)
	for _, id := range []int{1, 2} {
		if out, errs, code := balsa("wal", "diff", c.servers.Server(id).Dir, c.servers.Server(3).Dir); code != exitDone {
			t.Errorf("diff of servers %d and 3: code %d: %s%s", id, code, out, errs)
		}
	}
}

// A server loses so much of its last batch that nothing tells what it was. It never votes, leads or acknowledges again, and says so;
// the others serve; `member replace` brings it back.
func TestADamagedTailOfUnknownIdentityNeverCounts(t *testing.T) {
	c := settled(t)
	lost := c.unproven(1)
	end := (lost.Offset + lost.Size + 511) &^ 511
	for at := lost.Offset &^ 511; at < end; at += 40 {
		if err := wal.Flip(vfs.OS, c.servers.Server(1).Dir, lost.Segment, at, 2); err != nil {
			t.Fatal(err)
		}
	}
	c.wantVerdict(1, wal.Suspect.ExitCode())
	c.start(1, 2, 3)
	c.put("before", "2 and 3")
	c.wantAll()
	c.waitSaid([]int{1}, "neither votes nor leads", "member replace")
	c.kill(2)
	c.wantNothingDecided("server 3 and one that lost its memory")
	c.start(2)
	c.put("after", "2 and 3")
	c.wipe(1)
	c.start(1)
	c.change(client.Change{Verb: wire.VerbReplace, Servers: theServers(1)})
	c.kill(2)
	c.put("by", "1 and 3")
	c.wantAll()
	c.wantValue("after", "2 and 3")
}
