package bench

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// LogReport is everything a run of the log's suite found out; report.json is exactly this.
type LogReport struct {
	Machine  Machine     `json:"machine"`
	Settings LogSettings `json:"settings"`
	Seconds  float64     `json:"seconds"` // of each row
	Rows     []LogRow    `json:"rows"`
}

// LogSettings are what was asked for.
type LogSettings struct {
	Suite    string   `json:"suite"`
	Dir      string   `json:"dir"`
	Subjects []string `json:"subjects"`
	Duration float64  `json:"duration_s"`
	Trials   int      `json:"trials"`
	Floor    string   `json:"floor"`
	Burst    string   `json:"burst"`
	Started  string   `json:"started"`
	Version  string   `json:"version"`
}

// LogRow is one subject with one shape in one mode. Of a recovery, a batch is the whole opening.
type LogRow struct {
	Suite            string  `json:"suite"`
	Subject          string  `json:"subject"`
	Mode             string  `json:"mode"`
	Record           int     `json:"record"`
	Batch            int     `json:"batch"`
	RecordsPerSecond float64 `json:"records_per_s"`
	BytesPerSecond   float64 `json:"bytes_per_s"` // of the records; of a recovery, of what it reads
	Bytes            int64   `json:"bytes,omitempty"`
	P50              float64 `json:"p50_us"`
	P90              float64 `json:"p90_us"`
	P99              float64 `json:"p99_us"`
	P999             float64 `json:"p999_us"`
	Max              float64 `json:"max_us"`
	TimesFloor       float64 `json:"times_floor"`     // records per second over the floor's
	P50TimesFloor    float64 `json:"p50_times_floor"` // p50 over the floor's
	Trials           []Turn  `json:"trials"`          // each turn of it, beside the floor's turn of the same round
	Syncs            int64   `json:"syncs"`           // batches
	// Transactions of the file system's journal in the measured time, over the batches; those that a sync asked for
	// apart. Null where there is no journal to be read.
	JournalPerSync   *float64 `json:"journal_per_sync"`
	RequestedPerSync *float64 `json:"journal_requested_per_sync"`
	Histogram        string   `json:"histogram"` // HdrHistogram V2, compressed, base64; in ns
}

// Turn is one turn.
type Turn struct {
	RecordsPerSecond float64 `json:"records_per_s"`
	TimesFloor       float64 `json:"times_floor"`
}

// journalCount is what a journal has counted so far.
type journalCount struct {
	commits, requested int64
	known              bool
}

func (j *journalCount) add(before, after journalCount) {
	if before.known && after.known {
		j.commits += after.commits - before.commits
		j.requested += after.requested - before.requested
		j.known = true
	}
}

func (c *LogConfig) settings() LogSettings {
	s := LogSettings{
		Suite: "wal", Dir: c.Dir, Duration: c.Duration.Seconds(), Trials: c.Trials, Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version,
		Floor: "pwrite and fdatasync of the bare bytes of a batch into a file of 32 MiB filled with zeros before, again and again",
		Burst: fmt.Sprintf("at most %d MiB of records in space that was prepared before, unmeasured; sustained: everything, the making of space included", burstBytes>>20),
	}
	for _, subject := range c.Subjects {
		s.Subjects = append(s.Subjects, subject.Name)
	}
	return s
}

// tabulate makes the rows of a cell; the first contender is the floor.
func tabulate(all []*contender, mode string, shape Shape) []LogRow {
	var rows []LogRow
	for _, s := range all {
		row := LogRow{Suite: "wal", Subject: s.Name, Mode: mode, Record: shape.Record, Batch: shape.Batch}
		row.fill(s.tally)
		rows = append(rows, row)
		floor := &rows[0]
		row.TimesFloor, row.P50TimesFloor = row.RecordsPerSecond/floor.RecordsPerSecond, row.P50/floor.P50
		for k := range row.Trials {
			row.Trials[k].TimesFloor = row.Trials[k].RecordsPerSecond / floor.Trials[k].RecordsPerSecond
		}
		rows[len(rows)-1] = row
	}
	return rows
}

func (r *LogRow) fill(t *tally) {
	h := t.latency
	raw, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		panic(err) // it writes into memory
	}
	r.Histogram, r.Syncs = string(raw), h.TotalCount()
	r.RecordsPerSecond = t.records / t.seconds
	r.BytesPerSecond = r.RecordsPerSecond * float64(r.Record)
	r.P50, r.P90, r.P99 = microseconds(h.ValueAtQuantile(50)), microseconds(h.ValueAtQuantile(90)), microseconds(h.ValueAtQuantile(99))
	r.P999, r.Max = microseconds(h.ValueAtQuantile(99.9)), microseconds(h.Max())
	for _, rate := range t.rates {
		r.Trials = append(r.Trials, Turn{RecordsPerSecond: rate})
	}
	if t.journal.known {
		all, asked := float64(t.journal.commits)/float64(r.Syncs), float64(t.journal.requested)/float64(r.Syncs)
		r.JournalPerSync, r.RequestedPerSync = &all, &asked
	}
}

// Spread is the least, the median and the greatest ratio to the floor over the rounds.
func (r *LogRow) Spread() string {
	if r.Mode == Recovery || len(r.Trials) == 0 {
		return "-"
	}
	var all []float64
	for _, t := range r.Trials {
		all = append(all, t.TimesFloor)
	}
	slices.Sort(all)
	return fmt.Sprintf("%.2f %.2f %.2f", all[0], all[len(all)/2], all[len(all)-1])
}

// Journal is the count of journal transactions for people: asked for by a sync, and all.
func (r *LogRow) Journal() string {
	if r.JournalPerSync == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f %.4f", *r.RequestedPerSync, *r.JournalPerSync)
}

// WriteJSON writes report.json.
func (r *LogReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes a table for people.
func (r *LogReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "RECORD\tBATCH\tMODE\tSUBJECT\tRECORDS/S\tMB/S\tP50 µs\tP99\tMAX\tTIMES FLOOR\tROUNDS: LEAST MEDIAN MOST\tP50 TIMES FLOOR\tJOURNAL PER SYNC: ASKED ALL\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Mode == Recovery {
			continue
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.2f\t%s\t%.2f\t%s\t\n", row.Record, row.Batch, row.Mode, row.Subject, row.RecordsPerSecond,
			row.BytesPerSecond/1e6, row.P50, row.P99, row.Max, row.TimesFloor, row.Spread(), row.P50TimesFloor, row.Journal())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Mode == Recovery {
			fmt.Fprintf(out, "\nrecovery: %d MB in %s (median of %d): %.0f MB/s, %.0f records/s\n", row.Bytes/1e6, duration(row.P50), len(row.Trials),
				row.BytesPerSecond/1e6, row.RecordsPerSecond)
		}
	}
	_, err := fmt.Fprintf(out, "\nfloor: %s, on %s\nburst: %s\n", r.Settings.Floor, r.Machine.FileSystem, r.Settings.Burst)
	return err
}

// WriteHTML writes report.html: one file, no script, nothing fetched, readable without colours.
func (r *LogReport) WriteHTML(w io.Writer) error { return logPage.Execute(w, r) }

var logPage = template.Must(template.New("wal").Funcs(template.FuncMap{
	"us": duration,
	"n":  func(x float64) string { return fmt.Sprintf("%.0f", x) },
	"mb": func(x float64) string { return fmt.Sprintf("%.1f", x/1e6) },
	// wide is the length of a row's bar, of 100.
	"wide": func(x float64) string { return fmt.Sprintf("%.0f", 100*min(x, 1)) },
	"two":  func(x float64) string { return fmt.Sprintf("%.2f", x) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>balsa bench wal</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ccc}
td.w{text-align:left;min-width:8rem}.b{display:inline-block;height:.8em;background:#0072b2}dt{font-weight:600}
</style>
<h1>balsa bench wal</h1>
<p>{{.Settings.Started}}, version {{.Settings.Version}}. Each batch is written and synced before the next one; all subjects in turns, {{.Settings.Trials}} rounds, {{.Settings.Duration}} s a row.</p>
<table><thead><tr><th>record<th>batch<th>mode<th>subject<th>records/s<th>MB/s<th>p50<th>p99<th>max<th>times floor<th><th>least, median, most<th>journal per sync: asked, all</thead>
{{range .Rows}}{{if ne .Mode "recovery"}}<tr><td>{{.Record}}<td>{{.Batch}}<td>{{.Mode}}<td>{{.Subject}}<td>{{n .RecordsPerSecond}}<td>{{mb .BytesPerSecond}}<td>{{us .P50}}<td>{{us .P99}}<td>{{us .Max}}<td>{{two .TimesFloor}}<td class="w"><span class="b" style="width:{{wide .TimesFloor}}%"></span><td>{{.Spread}}<td>{{.Journal}}
{{end}}{{end}}</table>
{{range .Rows}}{{if eq .Mode "recovery"}}<p>Recovery: {{mb .BytesPerSecond}} MB/s, {{n .RecordsPerSecond}} records/s; {{us .P50}} for {{.Bytes}} bytes.</p>{{end}}{{end}}
<dl><dt>floor<dd>{{.Settings.Floor}}<dt>burst<dd>{{.Settings.Burst}}
<dt>machine<dd>{{.Machine.CPU}}, {{.Machine.Cores}} cores, {{.Machine.Memory}}, {{.Machine.Kernel}}, {{.Machine.FileSystem}}, {{.Machine.Go}}</dl>
</html>
`))
