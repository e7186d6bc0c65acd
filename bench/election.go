package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"

	"balsa/kv/client"
	"balsa/wire"
)

// The election suite takes the leader away, again and again, while a client writes all the while, and measures three
// times from the moment of the fault: until another server stands for leader, until one leads, and for how long the
// client got nothing acknowledged. The first two are read from the servers' own log lines, the third from the client;
// all are of one machine's clock.
//
// A trial begins when all servers are there and follow one leader, and ends when the old leader is back, caught up and
// follows the new one: what its return disturbs belongs to the trial.

// Victims are servers that were started for the trials. Their logs are JSON.
type Victims interface {
	Servers
	LogFile(id uint16) string                     // a line each of JSON, over all its lives
	Kill(id uint16) error                         // SIGKILL; returns when the process is gone
	Terminate(id uint16) error                    // SIGTERM; returns when the process has ended, by itself and with 0
	Pause(id uint16)                              // SIGSTOP
	Resume(id uint16)                             // SIGCONT
	Restart(ctx context.Context, id uint16) error // starts it again and waits until it is ready
	Cut(ctx context.Context, id uint16) error     // silently, until Mend
	Mend(ctx context.Context, id uint16) error
}

// ElectionCases are the faults, in the order they are tried.
func ElectionCases() []string { return []string{"kill", "pause", "partition", "transfer"} }

// ElectionConfig says what to try.
type ElectionConfig struct {
	Cases           []string
	Trials          int // of each case
	Seed            uint64
	Profile         string        // of the servers, for the report
	ElectionTimeout time.Duration // that the servers were given, for the report; 0: none
	Heartbeat       time.Duration
	Out             string // directory of the report's files; empty: none
	Version         string
	Start           func(ctx context.Context) (Victims, error)
	Helper          func(args ...string) *exec.Cmd // a process that ends up in Help
	Log             io.Writer                      // progress, for people
}

const maxTrials = 10_000

// Check says what is wrong with an ElectionConfig.
func (c *ElectionConfig) Check() error {
	if c.Trials < 1 || c.Trials > maxTrials {
		return fmt.Errorf("%d trials, want 1 to %d", c.Trials, maxTrials)
	}
	if len(c.Cases) == 0 {
		return errors.New("no case")
	}
	for _, name := range c.Cases {
		if !slices.Contains(ElectionCases(), name) {
			return fmt.Errorf("no case %q, want of %v", name, ElectionCases())
		}
	}
	return nil
}

// RunElection measures and gives the report, whose files are written when Out is set.
func RunElection(ctx context.Context, c ElectionConfig) (*ElectionReport, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	fmt.Fprintln(c.Log, "starting the servers")
	servers, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	report, err := c.measure(ctx, servers)
	if closed := servers.Close(); err == nil && closed != nil {
		err = fmt.Errorf("stopping the servers: %w", closed)
	}
	if err != nil {
		return nil, err
	}
	if c.Out != "" {
		err = saveReport(c.Out, report)
	}
	return report, err
}

func (c *ElectionConfig) measure(ctx context.Context, servers Victims) (*ElectionReport, error) {
	r := &ElectionReport{Machine: describe(servers.Dir()), Settings: c.settings(servers)}
	floor := Config{Helper: c.Helper, Log: c.Log, Duration: min(time.Second, time.Duration(c.Trials)*50*time.Millisecond)}
	before, err := floor.floor(ctx, servers.Dir(), len(servers.Addrs())-1)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	t := &trials{servers: servers, config: c, random: rand.New(rand.NewPCG(c.Seed, 0))}
	began := time.Now()
	if r.Rows, err = t.run(ctx); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	after, err := floor.floor(ctx, servers.Dir(), len(servers.Addrs())-1)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	r.Floor = floorOf(before, after)
	return r, nil
}

// trials is a run: all cases on one cluster, with one client that writes from the first trial to the last.
type trials struct {
	servers Victims
	config  *ElectionConfig
	random  *rand.Rand
	status  *client.Client
	probe   *probe
	logs    []*serverLog // a server each, by id
}

// Times of a trial. None is waited out where there is something to wait for.
const (
	patience     = 60 * time.Second // for any one step; beyond it the run fails
	pollStatus   = 20 * time.Millisecond
	quietAtLeast = 50 * time.Millisecond // between the last trial and the next fault
	quietRange   = 100 * time.Millisecond
	writesAfter  = 20 // acknowledged in the new term before the old leader returns
)

func (t *trials) run(ctx context.Context) (rows []ElectionRow, err error) {
	if t.status, err = client.Open(client.Config{Addrs: t.servers.Addrs(), Timeout: patience}); err != nil {
		return nil, err
	}
	defer t.status.Close()
	for i := range t.servers.Addrs() {
		t.logs = append(t.logs, &serverLog{server: uint16(i + 1), path: t.servers.LogFile(uint16(i + 1))})
	}
	if t.probe, err = startProbe(ctx, t.servers.Addrs()); err != nil {
		return nil, err
	}
	defer t.probe.stop()
	for _, name := range t.config.Cases {
		fmt.Fprintf(t.config.Log, "%s, %d trials\n", name, t.config.Trials)
		row, err := t.row(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// row is all trials of one case, and the check that nothing acknowledged was lost in them.
func (t *trials) row(ctx context.Context, name string) (ElectionRow, error) {
	first := t.probe.count()
	var all []Trial
	for n := range t.config.Trials {
		one, err := t.trial(ctx, name)
		if err != nil {
			return ElectionRow{}, fmt.Errorf("trial %d: %w", n+1, err)
		}
		all = append(all, one)
	}
	row := newElectionRow(name, all)
	if err := t.probe.pause(ctx); err != nil {
		return row, err
	}
	err := t.probe.check(ctx, first, &row)
	t.probe.resume()
	return row, err
}

func (t *trials) trial(ctx context.Context, name string) (Trial, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	victim, term, err := t.choose(ctx)
	if err != nil {
		return Trial{}, err
	}
	fault := time.Now()
	if err := t.harm(ctx, name, victim); err != nil {
		return Trial{}, err
	}
	if err := t.probe.waitTerm(ctx, term, writesAfter); err != nil {
		return Trial{}, fmt.Errorf("%d acknowledged writes in a term above %d: %w", writesAfter, term, err)
	}
	if err := t.mend(ctx, name, victim); err != nil {
		return Trial{}, err
	}
	if _, _, err := t.settle(ctx); err != nil {
		return Trial{}, err
	}
	over := time.Now()
	said, err := t.lines()
	if err != nil {
		return Trial{}, err
	}
	if name == "partition" { // not when we asked, but when it was done
		fault = cutSince(said, victim, fault)
	}
	one := Trial{Victim: victim}
	if err := one.hear(said, fault, term); err != nil {
		return Trial{}, err
	}
	t.probe.judge(&one, fault, over, term)
	return one, nil
}

// choose gives the leader and its term, at a moment that lies anywhere between two heartbeats.
func (t *trials) choose(ctx context.Context) (leader uint16, term uint64, err error) {
	for {
		if leader, term, err = t.settle(ctx); err != nil {
			return 0, 0, err
		}
		if err := pause(ctx, quietAtLeast+time.Duration(t.random.Int64N(int64(quietRange)))); err != nil {
			return 0, 0, err
		}
		said, err := t.lines() // of what was said before the fault, only a newer leader counts
		if err != nil || !slices.ContainsFunc(said, func(l logLine) bool { return l.Message == "leading" && l.Term > term }) {
			return leader, term, err
		}
	}
}

// settle waits until all servers are there, agree on the leader and have applied what it had when they were asked
// first; it gives the leader and its term.
func (t *trials) settle(ctx context.Context) (leader uint16, term uint64, err error) {
	target := uint64(0)
	why := "no server answered"
	for {
		s, err := t.status.Status(ctx)
		if err == nil {
			if target == 0 && s.Leader >= 0 {
				target = s.Rows[s.Leader].Commit
			}
			if why = unsettled(&s, target); why == "" {
				return s.Rows[s.Leader].ID, s.Rows[s.Leader].Term, nil
			}
		}
		if err := pause(ctx, pollStatus); err != nil {
			return 0, 0, fmt.Errorf("the servers did not settle: %s: %w", why, err)
		}
	}
}

// unsettled says what is missing before a trial may begin, or nothing.
func unsettled(s *client.ClusterStatus, target uint64) string {
	if s.Leader < 0 {
		return "nobody leads"
	}
	leader := &s.Rows[s.Leader]
	for i := range s.Rows {
		r := &s.Rows[i]
		switch {
		case !r.Alive:
			return fmt.Sprintf("server %d does not answer", r.ID)
		case r.Term != leader.Term || r.Leader != leader.ID || r.Role != wire.RoleLeader && r.Role != wire.RoleFollower:
			return fmt.Sprintf("server %d does not follow server %d in term %d", r.ID, leader.ID, leader.Term)
		case r.Applied < target || target == 0:
			return fmt.Sprintf("server %d has applied up to %d of %d", r.ID, r.Applied, target)
		}
	}
	return ""
}

func (t *trials) harm(ctx context.Context, name string, victim uint16) error {
	switch name {
	case "kill":
		return t.servers.Kill(victim)
	case "pause":
		t.servers.Pause(victim)
		return nil
	case "partition":
		return t.servers.Cut(ctx, victim)
	case "transfer":
		return t.servers.Terminate(victim)
	}
	panic("bench: no case " + name)
}

func (t *trials) mend(ctx context.Context, name string, victim uint16) error {
	switch name {
	case "kill", "transfer":
		return t.servers.Restart(ctx, victim)
	case "pause":
		t.servers.Resume(victim)
		return nil
	case "partition":
		return t.servers.Mend(ctx, victim)
	}
	panic("bench: no case " + name)
}

// lines are what all servers have said since the last call.
func (t *trials) lines() (all []logLine, err error) {
	for _, l := range t.logs {
		said, err := l.more()
		if err != nil {
			return nil, err
		}
		all = append(all, said...)
	}
	return all, nil
}

// cutSince is when the victim said that it is cut off; when it was asked, if that line is missing.
func cutSince(said []logLine, victim uint16, asked time.Time) time.Time {
	for _, l := range said {
		if l.server == victim && l.Message == "cut off, as asked" {
			return l.Time
		}
	}
	return asked
}

// hear finds in the servers' lines who stood and who led after the fault.
func (o *Trial) hear(said []logLine, fault time.Time, term uint64) error {
	stood, led := time.Time{}, time.Time{}
	for _, l := range said {
		if l.server == o.Victim && l.Term <= term || l.Time.Before(fault) {
			continue
		}
		switch {
		case l.Message == "standing" && l.server != o.Victim && (stood.IsZero() || l.Time.Before(stood)):
			stood = l.Time
		case l.Message == "leading" && l.Term > term:
			o.Elections++
			if led.IsZero() || l.Time.Before(led) {
				led, o.Leader, o.Term = l.Time, l.server, l.Term
			}
		}
	}
	if stood.IsZero() || led.IsZero() {
		return fmt.Errorf("writes were acknowledged in a term above %d, but no server's log says that it stood and led", term)
	}
	o.Detect, o.Elect = milliseconds(stood.Sub(fault)), milliseconds(led.Sub(fault))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
