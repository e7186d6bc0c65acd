package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"balsa/bench"
)

func TestBenchMeasuresAClusterOfItsOwn(t *testing.T) {
	for _, suite := range []string{"commit", "read"} {
		out := t.TempDir()
		text, errs, code := balsa("bench", suite, "--local", "3", "--clients", "1,8", "--duration", "200ms", "--warm-up", "50ms",
			"--keys", "100", "--out", out)
		if code != exitDone {
			t.Fatalf("%s: code %d: %s%s", suite, code, text, errs)
		}
		raw, err := os.ReadFile(filepath.Join(out, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		var r bench.Report
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) != 2 || r.Rows[0].Suite != suite || r.Rows[1].Clients != 8 {
			t.Fatalf("%s: got rows %+v", suite, r.Rows)
		}
		for _, row := range r.Rows {
			if row.OpsPerSecond <= 0 || row.Errors != 0 || row.Bound <= 0 || row.ServerCPU == nil {
				t.Errorf("%s: got %+v", suite, row)
			}
		}
		if _, err := os.Stat(filepath.Join(out, "report.html")); err != nil {
			t.Error(err)
		}
	}
}

func TestBenchMeasuresTheWire(t *testing.T) {
	out := t.TempDir()
	text, errs, code := balsa("bench", "wire", "--size", "100,1200", "--duration", "50ms", "--out", out)
	if code != exitDone {
		t.Fatalf("code %d: %s%s", code, text, errs)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r bench.WireReport
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 8 || len(r.Trips) != 4 {
		t.Fatalf("got %+v, %+v", r.Rows, r.Trips)
	}
	for _, row := range r.Rows {
		if row.PerSecond <= 0 || row.TimesBare <= 0 {
			t.Errorf("got %+v", row)
		}
	}
	for _, row := range r.Trips {
		if row.P50 <= 0 || row.Max < row.P50 {
			t.Errorf("got %+v", row)
		}
	}
	if _, _, code := balsa("bench", "wire", "--size", "7"); code != exitUsage {
		t.Errorf("7 bytes: code %d", code)
	}
}

func TestBenchTakesTheLeaderAwayAndLosesNothing(t *testing.T) {
	out := t.TempDir()
	text, errs, code := balsa("bench", "election", "--case", "kill,partition,transfer", "--trials", "2", "--out", out)
	if code != exitDone {
		t.Fatalf("code %d: %s%s", code, text, errs)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r bench.ElectionReport
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 3 || r.Rows[0].Case != "kill" || r.Rows[1].Case != "partition" || r.Rows[2].Case != "transfer" {
		t.Fatalf("got rows %+v", r.Rows)
	}
	for _, row := range r.Rows {
		if row.Lost != 0 || row.AppliedAnyway != 0 || row.Acknowledged == 0 || len(row.Each) != 2 {
			t.Errorf("%s: got %+v", row.Case, row)
		}
		for _, one := range row.Each {
			if one.Leader == one.Victim || one.Detect <= 0 || one.Elect < one.Detect || one.FirstWrite < one.Elect || one.Unavailable <= 0 {
				t.Errorf("%s: got trial %+v", row.Case, one)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(out, "report.html")); err != nil {
		t.Error(err)
	}
}

func TestBenchJudgesAClusterOverBadNetworks(t *testing.T) {
	for _, more := range [][]string{{"--case", "none,mtu-600"}, {"--case", "loss-30,leader-deaf", "--sealed"}} {
		out := t.TempDir()
		text, errs, code := balsa(append([]string{"bench", "wire", "loss", "--clients", "40", "--duration", "1s", "--warm-up", "200ms", "--timeout", "30s", "--out", out}, more...)...)
		if code != exitDone {
			t.Fatalf("%v: code %d: %s%s", more, code, text, errs)
		}
		raw, err := os.ReadFile(filepath.Join(out, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		var r bench.LossReport
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Rows) != 2 {
			t.Fatalf("%v: got %+v", more, r.Rows)
		}
		for _, row := range r.Rows {
			if row.Wrong != 0 || row.Gets < 4*40 || row.Failed != 0 {
				t.Errorf("%v: got %+v", more, row)
			}
		}
	}
}

func TestBenchCarriesAFileOverItsSendersDeath(t *testing.T) {
	out := t.TempDir()
	text, errs, code := balsa("bench", "wire", "bulk", "--size", "24MiB", "--dir", t.TempDir(), "--out", out)
	if code != exitDone {
		t.Fatalf("code %d: %s%s", code, text, errs)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r bench.BulkReport
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 3 || r.Rows[2].Resumed < 12<<20 || r.Rows[1].Parts <= r.Rows[0].Parts || r.IdleP50 <= 0 {
		t.Errorf("got %+v", r)
	}
}

func TestBenchFloodsAClusterThatGoesOn(t *testing.T) {
	for _, more := range [][]string{nil, {"--sealed"}} {
		out := t.TempDir()
		text, errs, code := balsa(append([]string{"bench", "wire", "flood", "--clients", "16", "--duration", "1500ms", "--out", out}, more...)...)
		if code != exitDone {
			t.Fatalf("%v: code %d: %s%s", more, code, text, errs)
		}
		raw, err := os.ReadFile(filepath.Join(out, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		var r bench.FloodReport
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if r.Wrong != 0 || r.Gets == 0 || r.During == 0 || r.Largest > 1 || r.Sent < 1000 || r.Questions < 200 || r.Most == 0 {
			t.Errorf("%v: got %+v", more, r)
		}
	}
}

func TestBenchCountsTheCallsOfAPut(t *testing.T) {
	out := t.TempDir()
	text, errs, code := balsa("bench", "wire", "calls", "--clients", "1,32", "--duration", "300ms", "--sealed", "--out", out)
	if code != exitDone {
		t.Fatalf("code %d: %s%s", code, text, errs)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r bench.CallsReport
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || !r.Sealed {
		t.Fatalf("got %+v", r)
	}
	for _, row := range r.Rows { // a put is a request, two appends, two answers and a reply, unless it shares them
		if row.Puts == 0 || row.Receives <= 0 || row.Sends <= 0 || row.Batches <= 0 || row.Sent <= 0 || row.SystemCalls <= row.Receives || row.Entries > 1.01 {
			t.Errorf("got %+v", row)
		}
	}
}
