package bench

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// WriteHTML writes report.html: one file, no script, nothing fetched, readable without colours.
func (r *Report) WriteHTML(w io.Writer) error { return page.Execute(w, r) }

// Curves is the percentile plot of all rows, as SVG: latency over the quantile, both axes logarithmic, so that the tail
// has as much room as the middle.
func (r *Report) Curves() template.HTML {
	const width, height, left, bottom = 720.0, 320.0, 70.0, 40.0
	least, most := math.Inf(1), 0.0
	for _, row := range r.Rows {
		least, most = min(least, row.P50/2), max(most, row.Max)
	}
	if len(r.Rows) == 0 || most <= 0 {
		return ""
	}
	nines := []float64{50, 90, 99, 99.9, 99.99}
	x := func(q float64) float64 { return left + (width-left-90)*math.Log10(100/(100-q)*0.5)/math.Log10(5000) }
	y := func(us float64) float64 {
		share := math.Log(max(us, least)/least) / math.Log(most/least)
		return (height - bottom) * (1 - share*0.95)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="latency by percentile">`, width, height)
	for _, q := range nines {
		fmt.Fprintf(&s, `<line class="grid" x1="%.1f" x2="%.1f" y1="0" y2="%.1f"/><text x="%.1f" y="%.1f">p%g</text>`, x(q), x(q), height-bottom, x(q)-10, height-bottom+18, q)
	}
	for us := math.Pow(10, math.Ceil(math.Log10(least))); us <= most; us *= 10 {
		fmt.Fprintf(&s, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text x="0" y="%.1f">%s</text>`, left, width-90, y(us), y(us), y(us)+4, duration(us))
	}
	dashes := []string{"", "6 3", "2 3", "8 3 2 3", "12 4"}
	for i, row := range r.Rows {
		if row.latency == nil {
			continue
		}
		var points strings.Builder
		last := 0.0
		for q := 50.0; q < 99.991; q = 100 - (100-q)*0.9 {
			last = y(microseconds(row.latency.ValueAtQuantile(q)))
			fmt.Fprintf(&points, "%.1f,%.1f ", x(q), last)
		}
		fmt.Fprintf(&s, `<polyline points="%s" stroke-dasharray="%s"/><text x="%.1f" y="%.1f">%d clients</text>`, points.String(), dashes[i%len(dashes)], width-86, last+4, row.Clients)
	}
	s.WriteString("</svg>")
	return template.HTML(s.String())
}

// duration writes microseconds for people.
func duration(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.3g s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.3g ms", us/1e3)
	}
	return fmt.Sprintf("%.3g µs", us)
}

func perHundredThousand(row Row) string {
	if row.ServerCPU == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f s", *row.ServerCPU/(row.OpsPerSecond*row.Seconds)*1e5)
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"us": duration, "per": perHundredThousand,
	"times": func(a, b float64) string { return fmt.Sprintf("%.2f", a/b) },
	"n":     func(x float64) string { return fmt.Sprintf("%.0f", x) },
	"two":   func(x float64) string { return fmt.Sprintf("%.2f", x) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>balsa bench {{.Settings.Suite}}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ccc}
th:first-child,td:first-child{text-align:left}svg{width:100%}text{font-size:12px}.grid{stroke:#ddd}
polyline{fill:none;stroke:#0072b2;stroke-width:2}dt{font-weight:600}
</style>
<h1>balsa bench {{.Settings.Suite}}</h1>
<p>{{.Settings.Servers}} servers, {{.Settings.Started}}, version {{.Settings.Version}}. Closed loop: {{.Settings.Loop}}.</p>
<table><thead><tr><th>clients<th>ops/s<th>p50<th>p90<th>p99<th>p99.9<th>max<th>errors<th>times bound<th>times floor<th>server CPU per 100,000</thead>
{{range .Rows}}<tr><td>{{.Clients}}<td>{{n .OpsPerSecond}}<td>{{us .P50}}<td>{{us .P90}}<td>{{us .P99}}<td>{{us .P999}}<td>{{us .Max}}<td>{{.Errors}}<td>{{two .TimesBound}}<td>{{times .OpsPerSecond $.Floor.SyncPerSecond}}<td>{{per .}}
{{end}}</table>
{{.Curves}}
<h2>The floor, in the same run</h2>
<table><thead><tr><th><th>syncs/s<th>sync p50<th>with neighbours<th>UDP round trip<th>raw put<th>raw get</thead>
<tr><td>both<td>{{n .Floor.SyncPerSecond}}<td>{{us .Floor.SyncP50}}<td>{{us .Floor.SyncNeighboursP50}}<td>{{us .Floor.RoundTripP50}}<td>{{us .Floor.RawPutP50}}<td>{{us .Floor.RawGetP50}}
{{with .Floor.Before}}<tr><td>before<td>{{n .SyncPerSecond}}<td>{{us .SyncP50}}<td>{{us .SyncNeighboursP50}}<td>{{us .RoundTripP50}}<td>{{us .RawPutP50}}<td>{{us .RawGetP50}}{{end}}
{{with .Floor.After}}<tr><td>after<td>{{n .SyncPerSecond}}<td>{{us .SyncP50}}<td>{{us .SyncNeighboursP50}}<td>{{us .RoundTripP50}}<td>{{us .RawPutP50}}<td>{{us .RawGetP50}}{{end}}
</table>
<p>Bound: {{.Settings.Bound}}.</p>
<h2>Machine and settings</h2>
<dl><dt>machine<dd>{{.Machine.CPU}}, {{.Machine.Cores}} cores, {{.Machine.Memory}}, {{.Machine.Kernel}}, {{.Machine.FileSystem}}, {{.Machine.Go}}
<dt>work<dd>{{.Settings.Keys}} keys of {{.Settings.KeyBytes}} bytes, values of {{.Settings.ValueSize}} bytes, {{.Settings.Duration}} s a row after {{.Settings.WarmUp}} s of warm-up, seed {{.Settings.Seed}}
<dt>clients<dd>one process, GOMAXPROCS={{.Settings.MaxProcs}}</dl>
</html>
`))
