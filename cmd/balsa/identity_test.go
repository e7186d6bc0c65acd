package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire"
)

// Who a server is, shown by processes whose directories are lost: one that is made again under its old id is another
// server, which counts nowhere until `member replace`.

// town is a cluster of processes of which some are lost and found.
type town struct {
	t       *testing.T
	ctx     context.Context
	servers *local.Cluster
	client  *client.Client
}

func startTown(t *testing.T, o local.Options) *town {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	o.Serve = append(o.Serve, "--chaos")
	c := &town{t: t, ctx: ctx, servers: startCluster(t, ctx, o)}
	c.client = clientOf(t, patience, c.servers.Addrs()...)
	return c
}

func (c *town) kill(ids ...int) {
	c.t.Helper()
	for _, id := range ids {
		if err := c.servers.Server(id).Kill(); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *town) start(ids ...int) {
	c.t.Helper()
	for _, id := range ids {
		if err := c.servers.Server(id).Start(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, id := range ids {
		if err := c.servers.Server(id).WaitReady(c.ctx); err != nil {
			c.t.Fatal(err)
		}
	}
}

// wipe loses a server's directory and makes it again with the same command line.
func (c *town) wipe(id int) {
	c.t.Helper()
	c.kill(id)
	if err := c.servers.Remake(c.ctx, c.servers.Server(id)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *town) put(key, value string) {
	c.t.Helper()
	if err := c.client.Put(c.ctx, []byte(key), []byte(value)); err != nil {
		c.t.Fatalf("put %s: %v", key, err)
	}
}

func (c *town) wantValue(key, want string) {
	c.t.Helper()
	if got, err := c.client.Get(c.ctx, []byte(key)); err != nil || string(got) != want {
		c.t.Errorf("get %s: got %q, %v, want %q", key, got, err, want)
	}
}

// change makes a change. One that is refused because a server was started a moment ago, and its leader has not heard it
// yet, is asked for again.
func (c *town) change(ch client.Change) {
	c.t.Helper()
	_, err := c.client.Change(c.ctx, &ch, patience, nil)
	for err != nil && c.ctx.Err() == nil && strings.Contains(err.Error(), "no quorum of the wanted voters") {
		time.Sleep(20 * time.Millisecond)
		_, err = c.client.Change(c.ctx, &ch, patience, nil)
	}
	if err != nil {
		c.t.Fatalf("%s: %v", tellChange(&ch), err)
	}
}

// wantNothingDecided wants that a put is not acknowledged, though two processes run.
func (c *town) wantNothingDecided(why string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 1500*time.Millisecond)
	defer cancel()
	if err := c.client.Put(ctx, []byte("undecided"), []byte(why)); !errors.Is(err, client.ErrUnknown) && !errors.Is(err, client.ErrNotApplied) {
		c.t.Errorf("%s: a put ended with %v, want it refused or unknown", why, err)
	}
	if view, err := local.Ask(c.ctx, c.client); err == nil && view.Leader != 0 {
		reading, cancel := context.WithTimeout(c.ctx, 500*time.Millisecond)
		defer cancel()
		if got, err := c.client.Get(reading, []byte("before")); err == nil {
			c.t.Errorf("%s: a get gave %q, want it refused", why, got)
		}
	}
}

// said is what a server wrote into its log.
func (c *town) said(id int) string {
	text, err := os.ReadFile(c.servers.Server(id).Log)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// waitSaid waits for a line of one of the servers that has all the words, and gives it.
func (c *town) waitSaid(ids []int, words ...string) string {
	c.t.Helper()
	for ; c.ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		for _, id := range ids {
			for line := range strings.SplitSeq(c.said(id), "\n") {
				all := true
				for _, w := range words {
					all = all && strings.Contains(line, w)
				}
				if all {
					return line
				}
			}
		}
	}
	c.t.Fatalf("none of servers %v said %q", ids, words)
	return ""
}

var incarnations = regexp.MustCompile(`got_incarnation=(\d+) want_incarnation=(\d+)`)

// wantBothToldWhy wants the wiped server and one of the others to have said the same two incarnations.
func (c *town) wantBothToldWhy(wiped int, others ...int) {
	c.t.Helper()
	words := []string{"level=ERROR", "member replace", "incarnation"}
	own := incarnations.FindStringSubmatch(c.waitSaid([]int{wiped}, words...))
	theirs := incarnations.FindStringSubmatch(c.waitSaid(others, append(words, "server="+string(rune('0'+wiped)))...))
	if own == nil || theirs == nil || own[1] != theirs[1] || own[2] != theirs[2] || own[1] == own[2] {
		c.t.Errorf("the wiped server said %q, the others %q: want the same got and wanted", own, theirs)
	}
}

// Wiped when the list is made and nothing is committed yet: it had promised to be a voter, and is not that voter.
func TestAServerWipedAtFoundingIsNeverCounted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Open(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Serve: []string{"--chaos"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			tellLogs(t, servers)
		}
	})
	c := &town{t: t, ctx: ctx, servers: servers, client: clientOf(t, patience, servers.Addrs()...)}
	c.start(2, 3)
	c.start(1)
	c.waitSaid([]int{1}, "founding a cluster")
	c.kill(2, 3) // within the first election timeout, if the machine lets us
	c.wipe(2)
	t.Logf("it led before the others were killed: %v", strings.Contains(c.said(1), "msg=leading"))
	c.start(2)
	c.wantBothToldWhy(2, 1)
	c.wantNothingDecided("server 1 and one that was wiped at founding")
	c.start(3)
	c.put("a", "1")
	c.change(client.Change{Verb: wire.VerbReplace, Servers: theServers(2)})
	c.kill(3)
	c.put("b", "2")
	c.wantValue("a", "1")
}

func TestAServerWipedInSteadyStateIsNeverCounted(t *testing.T) {
	c := startTown(t, local.Options{Nodes: 3})
	c.put("before", "1")
	c.wipe(2)
	c.start(2)
	c.wantBothToldWhy(2, 1, 3)
	c.kill(3)
	c.wantNothingDecided("server 1 and one that was wiped")
	c.start(3)
	c.put("a", "1")
	c.change(client.Change{Verb: wire.VerbReplace, Servers: theServers(2)})
	c.kill(3)
	c.put("b", "2")
	c.wantValue("before", "1")
	c.wantValue("a", "1")
}

func TestAServerWipedInTheJointPhaseIsNeverCounted(t *testing.T) {
	c := startTown(t, local.Options{Nodes: 3, Spares: 2})
	c.put("before", "1")
	lead := int(leader(t, c.ctx, c.servers, c.client).ID)
	stays := lead%3 + 1 // of the old set; two that are new come in
	ch := client.Change{Verb: wire.VerbSet, Servers: theServers(uint16(stays), 4, 5), HoldPhase: wire.PhaseJoint, Hold: 10 * time.Minute, Detach: true}
	c.change(ch)
	c.waitPhase(wire.PhaseJoint, 0)
	c.put("joint", "2")
	c.wipe(4)
	c.start(4)
	c.wantBothToldWhy(4, 1, 2, 3)
	c.kill(5)
	c.wantNothingDecided("all old servers, of the new ones one that stays and one that was wiped")
	c.start(5)
	c.put("a", "3")
	c.waitPhase(wire.PhaseStable, lead) // the hold ends with its leader, the next one completes the change
	c.change(client.Change{Verb: wire.VerbReplace, Servers: theServers(4)})
	c.kill(5)
	c.put("b", "4")
	c.wantValue("before", "1")
	c.wantValue("joint", "2")
	c.wantValue("a", "3")
}

// waitPhase waits until whoever leads says that the membership is in a phase. holder is killed if it leads in another: it
// holds that one.
func (c *town) waitPhase(phase uint8, holder int) {
	c.t.Helper()
	for ; c.ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		view, err := local.Ask(c.ctx, c.client)
		if err != nil || view.Leader == 0 {
			continue
		}
		if view.Phase == phase {
			return
		}
		if int(view.Leader) == holder {
			c.kill(holder)
		}
	}
	c.t.Fatalf("the membership never was %s", client.PhaseName(phase))
}

// One server founded alone, and its cluster grew. Made again with the very command line it founded with, it founds no
// second cluster, not even when nobody is there to stop it; and no address gives a wrong answer.
func TestTheFounderWipedFoundsNoSecondCluster(t *testing.T) {
	c := startTown(t, local.Options{Nodes: 1, Spares: 4})
	c.put("alone", "1")
	c.change(client.Change{Verb: wire.VerbAdd, Servers: theServers(2, 3)})
	c.put("three", "2")
	c.wipe(1)
	c.start(1)
	c.wantBothToldWhy(1, 2, 3)
	c.put("later", "3")
	right := map[string]string{"alone": "1", "three": "2", "later": "3"}
	c.askEach("3s", right)
	c.change(client.Change{Verb: wire.VerbReplace, Servers: theServers(1)})
	c.change(client.Change{Verb: wire.VerbAdd, Servers: theServers(4, 5)})
	c.askEach("3s", right)

	c.kill(2, 3, 4, 5)
	c.wipe(1)
	c.start(1)
	c.waitSaid([]int{1}, "founding waits for a server of the pool")
	c.askEach("300ms", map[string]string{"alone": "1"}) // with nobody there
	c.start(2, 3, 4, 5)
	c.put("last", "4")
	right["last"] = "4"
	c.askEach("3s", right)
	if n := strings.Count(c.said(1), "founding a cluster"); n != 1 {
		t.Errorf("server 1 founded %d clusters", n)
	}
}

// askEach asks every address by itself: each answer is right, or an error that says why.
func (c *town) askEach(timeout string, right map[string]string) {
	c.t.Helper()
	answers := 0
	for _, s := range c.servers.Servers() {
		for key, want := range right {
			out, errs, code := balsa("get", key, "--cluster", s.Addr, "--timeout", timeout)
			switch {
			case code == exitDone && out == want:
				answers++
			case code == exitNotApplied && (strings.Contains(errs, "no leader among") || strings.Contains(errs, "did not answer")):
			default:
				c.t.Errorf("server %d alone: get %s gave %q, code %d, %s: want %q, or an error that says why", s.ID, key, out, code, errs, want)
			}
		}
	}
	c.t.Logf("%d right answers at %d addresses", answers, len(c.servers.Servers()))
}

// status is what one address alone says of its server.
func (c *town) status(s *local.Server) string {
	c.t.Helper()
	out, errs, code := balsa("status", "--cluster", s.Addr, "--timeout", "20s")
	if code != exitDone {
		c.t.Fatalf("status at server %d: code %d, %s", s.ID, code, errs)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if words := strings.Fields(line); len(words) > 2 && words[1] == s.Addr {
			return words[2]
		}
	}
	c.t.Fatalf("status at server %d names it nowhere: %s", s.ID, out)
	return ""
}

// SAFETY 8: a removed server keeps a marker, and says so when it is asked; it comes back by `member add`, in its old
// directory or in one made anew.
func TestARemovedServerSaysSo(t *testing.T) {
	c := startTown(t, local.Options{Nodes: 3})
	c.put("a", "1")
	third := c.servers.Server(3)
	c.change(client.Change{Verb: wire.VerbRemove, Servers: theServers(3)})
	c.waitSaid([]int{3}, "was removed from its cluster", "member add")
	if role := c.status(third); role != "removed" {
		t.Errorf("it says that it is %s", role)
	}
	c.kill(1, 2, 3)
	c.start(3)
	if role := c.status(third); role != "removed" {
		t.Errorf("after a restart, with nobody there, it says that it is %s", role)
	}
	_, errs, code := balsa("put", "a", "2", "--cluster", third.Addr, "--timeout", "1s")
	if code != exitNotApplied || !strings.Contains(errs, "1 removed from the cluster") {
		t.Errorf("a put to it alone: code %d, %s", code, errs)
	}
	life := c.said(3)
	if life = life[strings.LastIndex(life, "msg=ready"):]; strings.Contains(life, "msg=standing") {
		t.Errorf("it stood for leader:\n%s", life)
	}
	c.start(1, 2)
	for _, again := range []bool{false, true} {
		if again {
			c.change(client.Change{Verb: wire.VerbRemove, Servers: theServers(3)})
			c.wipe(3)
			c.start(3)
		}
		if _, errs, code := balsa("member", "add", "3", "--cluster", third.Addr, "--timeout", "60s"); code != exitDone {
			t.Fatalf("member add 3, asked of itself: code %d, %s", code, errs)
		}
		if role := c.status(third); role != "follower" && role != "leader" {
			t.Errorf("brought back, it says that it is %s", role)
		}
		c.kill(1)
		c.put("a", "3") // by 2 and 3
		c.wantValue("a", "3")
		c.start(1)
	}
}

// All three servers move to other addresses, one at a time, under load: each is stopped, started elsewhere, and
// `member add ID=HOST:PORT` says where it is now.
func TestServersMoveAndNoRequestFails(t *testing.T) {
	c := startTown(t, local.Options{Nodes: 3})
	c.put("a", "1")
	load := startTraffic(t, c.ctx, c.servers)
	for _, s := range c.servers.Servers() {
		load.waitMore(t, c.ctx, 100)
		was := s.Addr
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := s.Move(); err != nil {
			t.Fatal(err)
		}
		c.start(int(s.ID))
		word := fmt.Sprintf("%d=%s", s.ID, s.Addr)
		if _, errs, code := balsa("member", "add", word, "--cluster", strings.Join(append(c.servers.Addrs(), was), ","), "--timeout", "60s"); code != exitDone {
			t.Fatalf("member add %s: code %d, %s", word, code, errs)
		}
		load.waitMore(t, c.ctx, 100)
	}
	load.judge(t)
	load.wantNoneFailed(t)
	for _, s := range c.servers.Servers() { // each new address is enough by itself
		if out, errs, code := balsa("get", "a", "--cluster", s.Addr, "--timeout", "20s"); code != exitDone || out != "1" {
			t.Errorf("get at %s: %q, code %d, %s", s.Addr, out, code, errs)
		}
	}
}
