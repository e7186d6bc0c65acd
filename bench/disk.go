package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"balsa/wal/vfs"
)

// The probe of a disk: every way of making a write durable, in turns, so that the ways can be compared though the disk is
// not the same from one second to the next.

// DiskConfig says what to probe.
type DiskConfig struct {
	Dir      string
	Sizes    []int // bytes of a write, multiples of 4096
	Duration time.Duration
	Trials   int
	Log      io.Writer
}

// diskWay is one way of making a write durable.
type diskWay struct {
	name, about string
	space       diskSpace
	direct      bool // O_DIRECT
	dsync       bool // RWF_DSYNC with the write, instead of fdatasync after it
}

type diskSpace uint8

const (
	spaceZeroed    diskSpace = iota // filled with real zeros before, and overwritten
	spaceAllocated                  // fallocate, never written
	spaceNone                       // the file grows
)

// plainWay is what all others are compared with. The ways into zeros have the names of the modes that a log can be written in.
var plainWay = vfs.Buffered.String()

var diskWays = []diskWay{
	{name: plainWay, about: "pwrite and fdatasync into zeros"},
	{name: vfs.DSync.String(), about: "pwritev2 with RWF_DSYNC into zeros", dsync: true},
	{name: vfs.Direct.String(), about: "O_DIRECT pwrite and fdatasync into zeros", direct: true},
	{name: vfs.DirectDSync.String(), about: "O_DIRECT pwritev2 with RWF_DSYNC into zeros", direct: true, dsync: true},
	{name: "allocated", about: "pwrite and fdatasync into fallocated space", space: spaceAllocated},
	{name: "appending", about: "pwrite and fdatasync at the end of a growing file", space: spaceNone},
}

// DiskRow is one way with one size.
type DiskRow struct {
	Way         string   `json:"way"`
	About       string   `json:"about"`
	Bytes       int      `json:"bytes"`
	PerSecond   float64  `json:"writes_per_s"`
	P50         float64  `json:"p50_us"`
	P99         float64  `json:"p99_us"`
	Max         float64  `json:"max_us"`
	TimesPlain  float64  `json:"times_buffered"` // p50 over that of the plain way, same size
	Journal     *float64 `json:"journal_per_sync"`
	Unsupported string   `json:"unsupported,omitempty"`

	latency *hdrhistogram.Histogram
}

// DiskReport is what a probe found out.
type DiskReport struct {
	Machine Machine   `json:"machine"`
	Dir     string    `json:"dir"`
	Rows    []DiskRow `json:"rows"`
	Best    string    `json:"best"` // way for small writes
	Advice  string    `json:"advice"`
}

// Check says what is wrong with a DiskConfig.
func (c *DiskConfig) Check() error {
	for _, n := range c.Sizes {
		if n < 4096 || n%4096 != 0 || n > 4<<20 {
			return fmt.Errorf("writes of %d bytes, want a multiple of 4096 up to 4 MiB", n)
		}
	}
	switch {
	case len(c.Sizes) == 0:
		return errors.New("no size")
	case c.Trials < 1 || c.Trials > 1000:
		return fmt.Errorf("%d trials, want 1 to 1000", c.Trials)
	case c.Duration < time.Millisecond*time.Duration(c.Trials):
		return fmt.Errorf("a duration of %v, want 1ms or more for each of %d trials", c.Duration, c.Trials)
	}
	return nil
}

// diskFile is the file of one way; a turn begins at its beginning again.
type diskFile struct {
	diskWay
	path string
	file *os.File
	off  int64
}

const diskFileBytes = 16 << 20

// ProbeDisk writes in every way and says which is best here. It leaves nothing behind.
func ProbeDisk(ctx context.Context, c DiskConfig) (*DiskReport, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	place, err := os.MkdirTemp(c.Dir, "bench-disk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(place)
	report := &DiskReport{Machine: describe(place), Dir: c.Dir}
	for _, size := range c.Sizes {
		fmt.Fprintf(c.Log, "writes of %d bytes\n", size)
		rows, err := c.size(ctx, place, size)
		if err != nil {
			return nil, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	report.judge()
	return report, nil
}

func (c *DiskConfig) size(ctx context.Context, place string, size int) ([]DiskRow, error) {
	rows := make([]DiskRow, len(diskWays))
	journals := make([]journalCount, len(diskWays))
	data := alignedBuffer(size)
	for trial := range c.Trials {
		for k := range diskWays {
			i := (k + trial) % len(diskWays)
			way := diskWays[i]
			if trial == 0 {
				rows[i] = DiskRow{Way: way.name, About: way.about, Bytes: size, latency: newHistogram()}
			}
			if rows[i].Unsupported != "" {
				continue
			}
			f := &diskFile{diskWay: way, path: filepath.Join(place, way.name)}
			err := f.turn(ctx, data, c.Duration/time.Duration(c.Trials), place, &rows[i], &journals[i])
			if err != nil && (way.direct || way.dsync || way.space == spaceAllocated) && ctx.Err() == nil && notSupported(err) {
				rows[i].Unsupported, err = err.Error(), nil
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
		}
	}
	for i := range rows {
		rows[i].fill(&journals[i])
		rows[i].TimesPlain = rows[i].P50 / rows[0].P50
	}
	return rows, nil
}

func (f *diskFile) turn(ctx context.Context, data []byte, long time.Duration, place string, row *DiskRow, journal *journalCount) error {
	if err := f.open(); err != nil {
		return err
	}
	defer f.close()
	if err := settleDisk(place); err != nil {
		return err
	}
	before := journalOf(place)
	began := time.Now()
	last := began
	for last.Sub(began) < long && ctx.Err() == nil {
		if f.off+int64(len(data)) > diskFileBytes {
			if f.space != spaceZeroed {
				break // to write there again would not be the same
			}
			f.off = 0
		}
		if err := f.write(data); err != nil {
			return err
		}
		f.off += int64(len(data))
		now := time.Now()
		row.latency.RecordValue(min(int64(now.Sub(last)), longest))
		last = now
	}
	journal.add(before, journalOf(place))
	return ctx.Err()
}

func (f *diskFile) close() {
	f.file.Close()
	if f.space != spaceZeroed {
		os.Remove(f.path)
	}
}

func (r *DiskRow) fill(j *journalCount) {
	h := r.latency
	if h.TotalCount() == 0 {
		return
	}
	r.P50, r.P99, r.Max = microseconds(h.ValueAtQuantile(50)), microseconds(h.ValueAtQuantile(99)), microseconds(h.Max())
	r.PerSecond = 1e9 / h.Mean()
	if j.known {
		n := float64(j.commits) / float64(h.TotalCount())
		r.Journal = &n
	}
}

// worthIt is the part of the usual way's time that another must save before it is advised: less is noise.
const worthIt = 0.05

// judge picks the best way for the smallest size measured: that is what a log's sync mostly is.
func (r *DiskReport) judge() {
	best := 0
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Bytes == r.Rows[0].Bytes && row.Unsupported == "" && row.P50 > 0 && row.P50 < r.Rows[best].P50 && diskWays[i].space == spaceZeroed {
			best = i
		}
	}
	usual := r.usual()
	if r.Rows[best].P50 > (1-worthIt)*r.Rows[usual].P50 {
		best = usual
	}
	r.Best = r.Rows[best].Way
	if best == usual {
		r.Advice = fmt.Sprintf("%s, as the log does unless told otherwise: no other way saves more than %.0f %% at %d bytes", r.Rows[best].About, worthIt*100, r.Rows[0].Bytes)
	} else {
		r.Advice = fmt.Sprintf("%s takes %.2f of the time of %s at %d bytes: balsa serve --sync %s", r.Rows[best].About, r.Rows[best].P50/r.Rows[usual].P50, r.Rows[usual].About, r.Rows[0].Bytes, r.Best)
	}
	for i := range diskWays {
		if row := &r.Rows[i]; diskWays[i].space == spaceNone && row.P50 > 0 {
			r.Advice += fmt.Sprintf("; prepared space saves %.0f %% over appending", 100*(1-r.Rows[0].P50/row.P50))
		}
	}
}

// usual is the row, of the smallest size, of what the log does unless it is told otherwise.
func (r *DiskReport) usual() int {
	for i := range diskWays {
		if row := &r.Rows[i]; row.Way == vfs.Direct.String() && row.Unsupported == "" && row.P50 > 0 {
			return i
		}
	}
	return 0
}

// WriteJSON writes the report as one object.
func (r *DiskReport) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes a table for people.
func (r *DiskReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BYTES\tWAY\tP50 µs\tP99\tMAX\tWRITES/S\tTIMES BUFFERED\tJOURNAL PER SYNC\tHOW")
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Unsupported != "" {
			fmt.Fprintf(w, "%d\t%s\t-\t-\t-\t-\t-\t-\t%s: %s\n", row.Bytes, row.Way, row.About, row.Unsupported)
			continue
		}
		journal := "-"
		if row.Journal != nil {
			journal = fmt.Sprintf("%.3f", *row.Journal)
		}
		fmt.Fprintf(w, "%d\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%s\t%s\n", row.Bytes, row.Way, row.P50, row.P99, row.Max, row.PerSecond, row.TimesPlain, journal, row.About)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nbest on this %s: %s (%s)\n", r.Machine.FileSystem, r.Best, r.Advice)
	return err
}
