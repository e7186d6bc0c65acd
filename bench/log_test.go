package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"balsa/wal/vfs"
)

func TestALogThatCannotBeMeasuredIsRefused(t *testing.T) {
	good := LogConfig{Records: []int{128}, Batches: []int{1}, Modes: []string{Burst}, Duration: time.Second, Trials: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *LogConfig){
		"records": func(c *LogConfig) { c.Records = []int{7} }, "batches": func(c *LogConfig) { c.Batches = []int{0} },
		"no batch": func(c *LogConfig) { c.Batches = nil }, "mode": func(c *LogConfig) { c.Modes = []string{"fast"} },
		"trials": func(c *LogConfig) { c.Trials = 0 }, "duration": func(c *LogConfig) { c.Trials = 101 },
		"recovery": func(c *LogConfig) { c.Recovery = -1 },
	} {
		c := good
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// countingLog is a log that only counts.
type countingLog struct {
	batches, bursts, ends *int
	room                  int
}

func (l *countingLog) Append([][]byte) error {
	time.Sleep(time.Millisecond)
	*l.batches++
	l.room--
	return nil
}
func (l *countingLog) Begin(burst bool) error {
	if burst {
		*l.bursts++
		l.room = 3
	}
	return nil
}
func (l *countingLog) End() error   { *l.ends++; return nil }
func (l *countingLog) Spent() bool  { return l.room == 0 }
func (l *countingLog) Close() error { return nil }

func TestABurstEndsWithThePreparedSpace(t *testing.T) {
	var batches, bursts, ends int
	c := LogConfig{
		Dir: t.TempDir(), Records: []int{64}, Batches: []int{4}, Modes: []string{Burst}, Duration: 20 * time.Millisecond, Trials: 2,
		Subjects: []Subject{{"counting", func(string, Shape) (Log, error) {
			return &countingLog{batches: &batches, bursts: &bursts, ends: &ends}, nil
		}}},
	}
	report, err := RunLog(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if batches == 0 || batches > 3*bursts || ends != bursts {
		t.Fatalf("%d batches in %d bursts of at most 3, %d ended", batches, bursts, ends)
	}
	row := report.Rows[1]
	if row.Subject != "counting" || row.Syncs != int64(batches) || len(row.Trials) != 2 || row.Record != 64 || row.Batch != 4 {
		t.Fatalf("got %+v", row)
	}
}

func TestTheLogIsMeasuredBesideItsFloor(t *testing.T) {
	dir := t.TempDir()
	report, err := RunLog(t.Context(), LogConfig{
		Dir: dir, Records: []int{128}, Batches: []int{64}, Modes: []string{Burst, Sustained}, Duration: 40 * time.Millisecond, Trials: 2,
		Recovery: 1 << 20, Subjects: []Subject{BalsaLog(1<<20, vfs.Auto)}, Out: dir + "/out",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != 2*2+1 {
		t.Fatalf("%d rows", len(report.Rows))
	}
	for _, row := range report.Rows {
		if row.Suite != "wal" || row.RecordsPerSecond <= 0 || row.P50 <= 0 || row.P99 < row.P50 {
			t.Errorf("got %+v", row)
		}
		if row.Mode != Recovery && (row.TimesFloor <= 0 || row.Subject == "floor" && row.TimesFloor != 1) {
			t.Errorf("got %+v", row)
		}
	}
	if last := report.Rows[len(report.Rows)-1]; last.Mode != Recovery || last.Bytes < 1<<20 || last.BytesPerSecond <= 0 {
		t.Errorf("got %+v", last)
	}
	var text, page, raw bytes.Buffer
	for _, err := range []error{report.WriteText(&text), report.WriteHTML(&page), report.WriteJSON(&raw)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var again LogReport
	if err := json.Unmarshal(raw.Bytes(), &again); err != nil || len(again.Rows) != len(report.Rows) {
		t.Fatalf("%v, %d rows", err, len(again.Rows))
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("%v: left behind: %v", err, left)
	}
}

func TestADiskIsProbedInEveryWay(t *testing.T) {
	dir := t.TempDir()
	report, err := ProbeDisk(t.Context(), DiskConfig{Dir: dir, Sizes: []int{4096}, Duration: 20 * time.Millisecond, Trials: 2, Log: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != len(diskWays) || report.Best == "" || report.Advice == "" {
		t.Fatalf("got %+v", report)
	}
	for _, row := range report.Rows {
		if row.Unsupported == "" && (row.P50 <= 0 || row.PerSecond <= 0) {
			t.Errorf("got %+v", row)
		}
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatalf("%v: left behind: %v", err, left)
	}
}
