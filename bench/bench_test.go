package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// asHelper in the environment makes this test binary a helper process.
const asHelper = "TEST_BINARY_IS_BENCH_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(asHelper) != "" {
		if err := Help(os.Args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func testHelper(args ...string) *exec.Cmd {
	binary, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), asHelper+"=1")
	return cmd
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	good := Config{Suite: "commit", Clients: []int{1}, Duration: time.Second, Keys: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"suite":    func(c *Config) { c.Suite = "nothing" },
		"clients":  func(c *Config) { c.Clients = nil },
		"client":   func(c *Config) { c.Clients = []int{1, 0} },
		"duration": func(c *Config) { c.Duration = 0 },
		"warm-up":  func(c *Config) { c.WarmUp = -1 },
		"keys":     func(c *Config) { c.Keys = 0 },
		"value":    func(c *Config) { c.ValueSize = maxValueSize + 1 },
	} {
		c := good
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestKeysAreSixteenBytesAndDiffer(t *testing.T) {
	var k keyBuffer
	if got := string(k.name(98765)); got != "key-000000098765" {
		t.Fatalf("got %q", got)
	}
	if got := string(k.name(0)); got != "key-000000000000" {
		t.Fatalf("got %q", got)
	}
}

func TestOnlyTheWindowCounts(t *testing.T) {
	var operations, failures atomic.Int64
	w := &window{keys: 10, latency: newHistogram(), operate: func(ctx context.Context, key []byte) error {
		if operations.Add(1)%5 == 0 {
			failures.Add(1)
			return errors.New("every fifth fails")
		}
		return nil
	}}
	c := &Config{Suite: "commit", WarmUp: 20 * time.Millisecond, Duration: 50 * time.Millisecond, Seed: 1}
	row, err := w.run(t.Context(), c, []int{os.Getpid()}, 4)
	if err != nil {
		t.Fatal(err)
	}
	counted := w.latency.TotalCount()
	if counted == 0 || counted+row.Errors >= operations.Load() {
		t.Fatalf("%d counted and %d failed of %d: warm-up must not count", counted, row.Errors, operations.Load())
	}
	if row.Errors == 0 || row.Errors >= failures.Load() {
		t.Fatalf("%d errors in the window of %d in all", row.Errors, failures.Load())
	}
	if row.Clients != 4 || row.Seconds < c.Duration.Seconds() || row.ServerCPU == nil {
		t.Fatalf("got %+v", row)
	}
	if got := float64(counted) / row.Seconds; got != row.OpsPerSecond {
		t.Fatalf("%f operations per second, want %f", row.OpsPerSecond, got)
	}
}

func TestARowWithoutASuccessIsAnError(t *testing.T) {
	failure := errors.New("nobody is there")
	w := &window{keys: 1, latency: newHistogram(), operate: func(context.Context, []byte) error { return failure }}
	_, err := w.run(t.Context(), &Config{Suite: "read", Duration: 10 * time.Millisecond}, nil, 1)
	if !errors.Is(err, failure) {
		t.Fatalf("got %v, want %v", err, failure)
	}
}

func TestTheFloorIsMeasuredBesideNeighbours(t *testing.T) {
	c := &Config{Helper: testHelper, Log: &bytes.Buffer{}, Duration: 200 * time.Millisecond}
	dir := t.TempDir()
	f, err := c.floor(t.Context(), dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := f.sample()
	if s.SyncPerSecond <= 0 || s.SyncP50 <= 0 || s.SyncNeighboursP50 <= 0 || s.RoundTripP50 <= 0 || s.RawPutP50 <= 0 || s.RawGetP50 <= 0 {
		t.Fatalf("got %+v", s)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Fatalf("the floor left %v, %v", left, err)
	}
}

func TestAReportIsWholeAsJSONAndReadableAsHTML(t *testing.T) {
	h := newHistogram()
	for i := range int64(1000) {
		h.RecordValue((i + 1) * 1000)
	}
	c := &Config{Suite: "commit", Clients: []int{3}, Duration: time.Second, Keys: 5, ValueSize: 7}
	cpu := 0.5
	row := newRow("commit", 3, 2, h)
	row.ServerCPU = &cpu
	r := &Report{Settings: c.settings(3), Seconds: 1, Rows: []Row{row}}
	run := &floorRun{alone: h, neighbours: h, echo: h, rawPut: h, rawGet: h, syncs: 1000, seconds: 1}
	r.setFloor(run, run)
	var text, page, raw bytes.Buffer
	for _, err := range []error{r.WriteText(&text), r.WriteHTML(&page), r.WriteJSON(&raw)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got map[string]any
	if err := json.Unmarshal(raw.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	floor := got["floor"].(map[string]any)
	for _, field := range []string{"sync_per_s", "sync_p50_us", "sync_neighbours_p50_us", "udp_rtt_p50_us"} {
		if floor[field] == nil {
			t.Errorf("the floor has no %s", field)
		}
	}
	told := got["rows"].([]any)[0].(map[string]any)
	for _, field := range []string{"suite", "case", "clients", "ops_per_s", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "errors",
		"bound_us", "times_bound", "server_cpu_s"} {
		if told[field] == nil {
			t.Errorf("the row has no %s", field)
		}
	}
	// The row and its bound are the same measurement here, of 500 µs at p50.
	if bound, times := told["bound_us"].(float64), told["times_bound"].(float64); bound < 499 || bound > 501 || times != 1 {
		t.Errorf("the bound is %v µs and the row %v times it, want about 500 and 1", bound, times)
	}
	back, err := hdrhistogram.Decode([]byte(told["histogram"].(string)))
	if err != nil || back.TotalCount() != 1000 {
		t.Errorf("the raw histogram does not come back: %v", err)
	}
	if !strings.Contains(page.String(), "<svg") || strings.Contains(page.String(), "http") {
		t.Error("the page has no picture, or fetches something")
	}
	if !strings.Contains(text.String(), "GOMAXPROCS=1") {
		t.Errorf("the table does not say how the clients ran:\n%s", text.String())
	}
}
