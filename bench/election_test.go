package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balsa/kv/client"
	"balsa/wire"
)

func TestElectionCasesThatCannotBeTriedAreRefused(t *testing.T) {
	for name, c := range map[string]ElectionConfig{
		"trials":  {Cases: []string{"kill"}},
		"no case": {Trials: 1},
		"case":    {Cases: []string{"kill", "flood"}, Trials: 1},
	} {
		if c.Check() == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	if c := (ElectionConfig{Cases: ElectionCases(), Trials: 1}); c.Check() != nil {
		t.Errorf("all cases: %v", c.Check())
	}
}

func TestASpreadIsOfExactValues(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64((i*37)%100+1)) // 1 to 100, shuffled
	}
	if got, want := spread(values), (Spread{1, 50, 90, 99, 100, 50.5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := spread([]float64{7}), (Spread{7, 7, 7, 7, 7, 7}); got != want {
		t.Errorf("of one: got %+v, want %+v", got, want)
	}
}

func TestAServersLogIsReadByWholeLinesAsItGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.log")
	add := func(text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	l := &serverLog{server: 3, path: path}
	if _, err := l.more(); err == nil {
		t.Error("a missing log was read")
	}
	add("panic: not JSON\n" + `{"time":"2026-01-02T03:04:05.000000006Z","msg":"standing","term":4}` + "\n" + `{"time":"2026-01-02T03:04:05.5Z",`)
	lines, err := l.more()
	if err != nil || len(lines) != 1 || lines[0].Message != "standing" || lines[0].Term != 4 || lines[0].server != 3 || lines[0].Time.Nanosecond() != 6 {
		t.Fatalf("got %+v, %v", lines, err)
	}
	add(`"msg":"leading","term":5}` + "\n")
	if lines, err = l.more(); err != nil || len(lines) != 1 || lines[0].Message != "leading" || lines[0].Term != 5 {
		t.Fatalf("got %+v, %v", lines, err)
	}
}

// at is a moment so many milliseconds after that of the fault.
func at(ms int) time.Time { return time.Unix(1000, int64(ms)*1e6) }

func TestATrialIsReadFromTheServersLines(t *testing.T) {
	said := []logLine{
		{1, at(-5), "standing", 3},  // before the fault
		{1, at(400), "standing", 4}, // the victim, come back: it is not what noticed
		{3, at(60), "standing", 4},  // two notice
		{2, at(50), "standing", 4},
		{3, at(90), "leading", 6}, // its term came first to the log, not to be
		{2, at(80), "leading", 5},
	}
	o := Trial{Victim: 1}
	if err := o.hear(said, at(0), 4); err != nil {
		t.Fatal(err)
	}
	if want := (Trial{Victim: 1, Leader: 2, Term: 5, Detect: 50, Elect: 80, Elections: 2}); o != want {
		t.Errorf("got %+v, want %+v", o, want)
	}
	if err := (&Trial{Victim: 1}).hear(said[:4], at(0), 4); err == nil {
		t.Error("a trial without a new leader passed")
	}
	if got := cutSince([]logLine{{2, at(3), "cut off, as asked", 0}, {1, at(4), "cut off, as asked", 0}}, 1, at(0)); got != at(4) {
		t.Errorf("cut since %v, want %v", got, at(4))
	}
}

// puts makes a probe of what it has done: when each put ended in ms, its term, its outcome.
func puts(list ...probePut) *probe {
	p := &probe{puts: list}
	p.changed.L = &p.mu
	return p
}

func put(ended int, term uint64, o client.Outcome) probePut {
	return probePut{began: at(ended - 1).UnixNano(), ended: at(ended).UnixNano(), term: term, outcome: o}
}

func TestTheOutageIsTheLongestGapBetweenAcknowledgements(t *testing.T) {
	p := puts(
		put(-900, 4, client.Applied), // a gap before the trial is not its own
		put(-10, 4, client.Applied),
		put(1, 4, client.Applied), // acknowledged as the leader fell
		put(200, 0, client.NotApplied),
		put(250, 0, client.Unknown),
		put(301, 5, client.Applied),
		put(310, 5, client.Applied),
		put(2000, 5, client.Applied), // nor is one after it
	)
	var o Trial
	p.judge(&o, at(0), at(305), 4)
	if o.Unavailable != 300 || o.FirstWrite != 301 || o.NotApplied != 1 || o.Unknown != 1 {
		t.Errorf("got %+v, want 300 ms unavailable, a first write at 301 ms, one not applied, one unknown", o)
	}
}

func TestWritesOfANewTermAreWaitedFor(t *testing.T) {
	p := puts(put(1, 4, client.Applied), put(2, 5, client.Applied), put(3, 0, client.NotApplied), put(4, 5, client.Applied))
	if err := p.waitTerm(t.Context(), 4, 2); err != nil {
		t.Errorf("two are there: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.waitTerm(over, 4, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("three are not there: got %v", err)
	}
}

func TestServersHaveSettledWhenAllFollowAndHaveApplied(t *testing.T) {
	good := func() client.ClusterStatus {
		return client.ClusterStatus{Leader: 1, Rows: []client.Row{
			{ID: 1, Alive: true, Role: wire.RoleFollower, Leader: 2, Term: 5, Applied: 90},
			{ID: 2, Alive: true, Role: wire.RoleLeader, Leader: 2, Term: 5, Applied: 91},
		}}
	}
	if s := good(); unsettled(&s, 90) != "" {
		t.Errorf("got %q, want nothing", unsettled(&s, 90))
	}
	for name, spoil := range map[string]func(s *client.ClusterStatus){
		"no leader":    func(s *client.ClusterStatus) { s.Leader = -1 },
		"dead":         func(s *client.ClusterStatus) { s.Rows[0].Alive = false },
		"another term": func(s *client.ClusterStatus) { s.Rows[0].Term = 4 },
		"another lead": func(s *client.ClusterStatus) { s.Rows[0].Leader = 1 },
		"stands":       func(s *client.ClusterStatus) { s.Rows[0].Role = wire.RolePreCandidate },
		"behind":       func(s *client.ClusterStatus) { s.Rows[0].Applied = 89 },
	} {
		s := good()
		spoil(&s)
		if unsettled(&s, 90) == "" {
			t.Errorf("%s: held for settled", name)
		}
	}
}

func TestAnElectionReportIsWholeAsJSONAndReadableAsHTML(t *testing.T) {
	row := newElectionRow("kill", []Trial{
		{Detect: 10, Elect: 20, FirstWrite: 25, Unavailable: 30, Elections: 1}, {Detect: 40, Elect: 50, FirstWrite: 55, Unavailable: 60, Elections: 2}})
	if row.MoreElections != 1 {
		t.Errorf("%d more elections, want 1", row.MoreElections)
	}
	h := newHistogram()
	h.RecordValue(1000)
	run := &floorRun{alone: h, neighbours: h, echo: h, rawPut: h, rawGet: h, syncs: 1000, seconds: 1}
	r := &ElectionReport{Rows: []ElectionRow{row}, Floor: floorOf(run, run)}
	var text, page, raw bytes.Buffer
	for _, err := range []error{r.WriteText(&text), r.WriteHTML(&page), r.WriteJSON(&raw)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(raw.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	told := got.Rows[0]
	for name, want := range map[string]float64{"detect_ms": 40, "elect_ms": 50, "unavailable_ms": 60} {
		s := told[name].(map[string]any)
		if s["max"] != want || s["p50"] == nil || s["p90"] == nil || s["p99"] == nil {
			t.Errorf("%s is %v, want p50, p90, p99 and a max of %g", name, s, want)
		}
	}
	if told["suite"] != "election" || told["case"] != "kill" || told["trials"] != 2.0 || len(told["each"].([]any)) != 2 {
		t.Errorf("got %v", told)
	}
	if n := strings.Count(page.String(), "<circle"); n != 8 || strings.Contains(page.String(), "http") {
		t.Errorf("%d dots, want 8: every time of every trial; and nothing fetched", n)
	}
	if !strings.Contains(text.String(), "unavailable") {
		t.Errorf("the table lacks the outage:\n%s", text.String())
	}
}

func TestALostWriteAndOneAppliedAnywayAreCounted(t *testing.T) {
	p := puts(put(1, 4, client.Applied), put(2, 4, client.Applied), put(3, 4, client.Applied), put(4, 0, client.NotApplied),
		put(5, 0, client.NotApplied), put(6, 0, client.Unknown), put(7, 0, client.Unknown))
	var row ElectionRow
	p.tally([]bool{false, true, false, false, true, false, true}, 1, &row) // the first is of another row
	if row.Acknowledged != 2 || row.Lost != 1 || row.AppliedAnyway != 1 || row.Errors != (ElectionErrors{NotApplied: 2, Unknown: 2}) {
		t.Errorf("got %+v, want 2 acknowledged, 1 lost, 1 applied anyway, 2 not applied, 2 unknown", row)
	}
}
