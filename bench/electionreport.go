package bench

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// ElectionReport is everything a run of the election suite found out; report.json is exactly this.
type ElectionReport struct {
	Machine  Machine          `json:"machine"`
	Settings ElectionSettings `json:"settings"`
	Seconds  float64          `json:"seconds"` // of all trials together
	Floor    Floor            `json:"floor"`
	Rows     []ElectionRow    `json:"rows"`
}

// ElectionSettings are what was asked for.
type ElectionSettings struct {
	Suite           string   `json:"suite"`
	Cases           []string `json:"cases"`
	Trials          int      `json:"trials"`
	Servers         int      `json:"servers"`
	Profile         string   `json:"profile"`
	ElectionTimeout float64  `json:"election_timeout_ms"` // given to the servers; 0: their own choice
	Heartbeat       float64  `json:"heartbeat_ms"`
	Seed            uint64   `json:"seed"`
	Probe           string   `json:"probe"`
	Started         string   `json:"started"`
	Version         string   `json:"version"`
}

// ElectionRow is all trials of one case. Times are in milliseconds from the fault.
type ElectionRow struct {
	Suite       string `json:"suite"`
	Case        string `json:"case"`
	Trials      int    `json:"trials"`
	Detect      Spread `json:"detect_ms"`      // until the first other server stood
	Elect       Spread `json:"elect_ms"`       // until a server led a new term
	FirstWrite  Spread `json:"first_write_ms"` // until a write of a new term was acknowledged
	Unavailable Spread `json:"unavailable_ms"` // the longest time without an acknowledged write, from before the fault until all are back

	Acknowledged  int            `json:"acknowledged"`   // writes
	Lost          int            `json:"lost"`           // of them, not found at the end
	AppliedAnyway int            `json:"applied_anyway"` // told as not applied, and found at the end
	Errors        ElectionErrors `json:"errors"`
	MoreElections int            `json:"more_elections"` // beyond one a trial
	Each          []Trial        `json:"each"`
}

// ElectionErrors are the probe's writes that were not acknowledged, by what it was told.
type ElectionErrors struct {
	NotApplied int `json:"not_applied"`
	Unknown    int `json:"unknown"`
}

// Trial is one fault.
type Trial struct {
	Victim      uint16  `json:"victim"` // led when it was harmed
	Leader      uint16  `json:"leader"` // the next
	Term        uint64  `json:"term"`   // that it leads
	Detect      float64 `json:"detect_ms"`
	Elect       float64 `json:"elect_ms"`
	FirstWrite  float64 `json:"first_write_ms"`
	Unavailable float64 `json:"unavailable_ms"`
	Elections   int     `json:"elections"` // 1 when the victim's return disturbed nobody
	Writes      int     `json:"writes"`    // of the probe, acknowledged or not
	NotApplied  int     `json:"not_applied"`
	Unknown     int     `json:"unknown"`
}

// Spread tells how the values of all trials lie: exact values, by nearest rank.
type Spread struct {
	Min  float64 `json:"min"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// spread sorts values.
func spread(values []float64) Spread {
	slices.Sort(values)
	rank := func(p float64) float64 { return values[max(int(math.Ceil(p/100*float64(len(values)))), 1)-1] }
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return Spread{values[0], rank(50), rank(90), rank(99), values[len(values)-1], sum / float64(len(values))}
}

const aboutProbe = "closed loop: one client, puts of 16-byte keys and values, each key once, from before the first fault to after the last"

func (c *ElectionConfig) settings(servers Victims) ElectionSettings {
	return ElectionSettings{
		Suite: "election", Cases: c.Cases, Trials: c.Trials, Servers: len(servers.Addrs()), Profile: c.Profile, ElectionTimeout: milliseconds(c.ElectionTimeout),
		Heartbeat: milliseconds(c.Heartbeat), Seed: c.Seed, Probe: aboutProbe, Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version,
	}
}

func newElectionRow(name string, all []Trial) ElectionRow {
	row := ElectionRow{Suite: "election", Case: name, Trials: len(all), Each: all}
	of := func(value func(t *Trial) float64) Spread {
		var values []float64
		for i := range all {
			values = append(values, value(&all[i]))
		}
		return spread(values)
	}
	for _, m := range row.measures() {
		*m.spread = of(m.of)
	}
	for i := range all {
		row.MoreElections += all[i].Elections - 1
	}
	return row
}

// measure is one of the times of a trial.
type measure struct {
	name   string
	spread *Spread
	of     func(t *Trial) float64
}

func (r *ElectionRow) measures() []measure {
	return []measure{
		{"detect", &r.Detect, func(t *Trial) float64 { return t.Detect }},
		{"elect", &r.Elect, func(t *Trial) float64 { return t.Elect }},
		{"first write", &r.FirstWrite, func(t *Trial) float64 { return t.FirstWrite }},
		{"unavailable", &r.Unavailable, func(t *Trial) float64 { return t.Unavailable }},
	}
}

// WriteJSON writes report.json.
func (r *ElectionReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes a table for people.
func (r *ElectionReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tTRIALS\tms\tMIN\tP50\tP90\tP99\tMAX\tMEAN\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		for _, m := range row.measures() {
			s := m.spread
			fmt.Fprintf(w, "%s\t%d\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", row.Case, row.Trials, m.name, s.Min, s.P50, s.P90, s.P99, s.Max, s.Mean)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tACKNOWLEDGED\tLOST\tNOT APPLIED\tUNKNOWN\tAPPLIED ANYWAY\tMORE ELECTIONS\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", row.Case, row.Acknowledged, row.Lost, row.Errors.NotApplied, row.Errors.Unknown,
			row.AppliedAnyway, row.MoreElections)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := r.Floor.writeText(out, r.Machine.FileSystem, r.Settings.Servers); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nprofile %s, election timeout %s, heartbeat %s; times from the fault, in ms; probe: %s\n",
		r.Settings.Profile, given(r.Settings.ElectionTimeout), given(r.Settings.Heartbeat), r.Settings.Probe)
	return err
}

// given is a time that the servers were given, in ms, for people.
func given(ms float64) string {
	if ms == 0 {
		return "by default"
	}
	return fmt.Sprintf("%g ms", ms)
}

// WriteHTML writes report.html: one file, no script, nothing fetched, readable without colours.
func (r *ElectionReport) WriteHTML(w io.Writer) error { return electionPage.Execute(w, r) }

// Dots shows every trial: a line for each case and measure, a dot for each trial, over a logarithmic axis of time.
func (r *ElectionReport) Dots() template.HTML {
	const width, left, step = 760.0, 190.0, 22.0
	least, most := math.Inf(1), 0.0
	lines := 0
	for i := range r.Rows {
		for _, m := range r.Rows[i].measures() {
			least, most = min(least, m.spread.Min), max(most, m.spread.Max)
			lines++
		}
	}
	if lines == 0 || most <= 0 {
		return ""
	}
	least = max(least, 0.1)
	most = max(most, 10*least)
	x := func(ms float64) float64 {
		return left + (width-left-20)*math.Log(max(ms, least)/least)/math.Log(most/least)
	}
	bottom := step*float64(lines) + 10
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="every trial by its times">`, width, bottom+24)
	for ms := math.Pow(10, math.Ceil(math.Log10(least))); ms <= most; ms *= 10 {
		fmt.Fprintf(&s, `<line class="grid" x1="%.1f" x2="%.1f" y1="0" y2="%.1f"/><text x="%.1f" y="%.1f">%s</text>`, x(ms), x(ms), bottom, x(ms)-14, bottom+16, duration(ms*1e3))
	}
	y := step
	for i := range r.Rows {
		row := &r.Rows[i]
		for _, m := range row.measures() {
			fmt.Fprintf(&s, `<text x="0" y="%.1f">%s, %s</text>`, y+4, row.Case, m.name)
			for j := range row.Each {
				fmt.Fprintf(&s, `<circle cx="%.1f" cy="%.1f" r="3"/>`, x(m.of(&row.Each[j])), y)
			}
			y += step
		}
	}
	s.WriteString("</svg>")
	return template.HTML(s.String())
}

// Measures are the lines of a row's table.
func (r ElectionRow) Measures() (lines []struct {
	Name   string
	Spread Spread
}) {
	for _, m := range r.measures() {
		lines = append(lines, struct {
			Name   string
			Spread Spread
		}{m.name, *m.spread})
	}
	return lines
}

var electionPage = template.Must(template.New("election").Funcs(template.FuncMap{
	"ms": func(x float64) string { return fmt.Sprintf("%.1f", x) },
	"us": duration, "given": given,
	"n": func(x float64) string { return fmt.Sprintf("%.0f", x) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>balsa bench election</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ccc}
th:first-child,td:first-child{text-align:left}svg{width:100%}text{font-size:12px}.grid{stroke:#ddd}
circle{fill:#0072b2;fill-opacity:.4}dt{font-weight:600}
</style>
<h1>balsa bench election</h1>
<p>{{.Settings.Servers}} servers, profile {{.Settings.Profile}}, election timeout {{given .Settings.ElectionTimeout}}, heartbeat {{given .Settings.Heartbeat}}, {{.Settings.Started}}, version {{.Settings.Version}}.
Times in milliseconds, from the fault. Probe: {{.Settings.Probe}}.</p>
<table><thead><tr><th>case<th>trials<th><th>min<th>p50<th>p90<th>p99<th>max<th>mean</thead>
{{range $row := .Rows}}{{range .Measures}}<tr><td>{{$row.Case}}<td>{{$row.Trials}}<td>{{.Name}}{{with .Spread}}<td>{{ms .Min}}<td>{{ms .P50}}<td>{{ms .P90}}<td>{{ms .P99}}<td>{{ms .Max}}<td>{{ms .Mean}}{{end}}
{{end}}{{end}}</table>
{{.Dots}}
<table><thead><tr><th>case<th>acknowledged<th>lost<th>not applied<th>unknown<th>applied anyway<th>more elections</thead>
{{range .Rows}}<tr><td>{{.Case}}<td>{{.Acknowledged}}<td>{{.Lost}}<td>{{.Errors.NotApplied}}<td>{{.Errors.Unknown}}<td>{{.AppliedAnyway}}<td>{{.MoreElections}}
{{end}}</table>
<h2>The floor, in the same run</h2>
<table><thead><tr><th><th>syncs/s<th>sync p50<th>with neighbours<th>UDP round trip<th>raw put<th>raw get</thead>
<tr><td>both<td>{{n .Floor.SyncPerSecond}}<td>{{us .Floor.SyncP50}}<td>{{us .Floor.SyncNeighboursP50}}<td>{{us .Floor.RoundTripP50}}<td>{{us .Floor.RawPutP50}}<td>{{us .Floor.RawGetP50}}
</table>
<p>{{.Machine.CPU}}, {{.Machine.Cores}} cores, {{.Machine.Memory}}, {{.Machine.Kernel}}, {{.Machine.FileSystem}}, {{.Machine.Go}}.</p>
</html>
`))
