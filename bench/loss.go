package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"balsa/kv/client"
)

// The loss part of the wire suite puts a bad network before every server, for the other servers and for the clients
// alike, and asks three things of each kind of it: how fast the cluster is, whether any answer was wrong, and whether
// anything stands still. A client is a closed loop of puts of its own keys, and of a get now and then, which must give
// what it wrote last: nobody else writes there. After the window the network is perfect again; everybody must get one
// more put done, and all keys are read back.

// Network is a cluster behind a network that can be made bad.
type Network interface {
	Servers
	Become(id uint16, flags string) error // chaos-proxy's flags, before that server; 0: before all
}

// LossConfig says what to try.
type LossConfig struct {
	Cases      []string // names of LossCases
	Clients    int
	Duration   time.Duration
	WarmUp     time.Duration
	Timeout    time.Duration // of an operation
	ValueSize  int
	Seed       uint64
	SecretFile string // clients'; empty: open
	Out        string // directory of report.json; empty: none
	Version    string
	Start      func(ctx context.Context, name, flags string) (Network, error) // of a case
	Log        io.Writer
}

// lossCase is a kind of network. A leader's flags hold for the middle half of the window.
type lossCase struct{ name, flags, leader string }

var lossCases = []lossCase{
	{"none", "", ""},
	{"loss-1", "--loss 1%", ""},
	{"loss-5", "--loss 5%", ""},
	{"loss-30", "--loss 30%", ""},
	{"dup-10", "--dup 10%", ""},
	{"reorder-20", "--reorder 20%", ""},
	{"mtu-600", "--mtu 600", ""},
	{"leader-deaf", "", "--cut to"},
	{"rtt-100", "--delay 50ms", ""},
}

// LossCases are the names of the networks, in the order they are tried.
func LossCases() (names []string) {
	for _, c := range lossCases {
		names = append(names, c.name)
	}
	return names
}

// LossReport is everything found out; report.json is exactly this.
type LossReport struct {
	Machine  Machine      `json:"machine"`
	Settings LossSettings `json:"settings"`
	Rows     []LossRow    `json:"rows"`
}

// LossSettings are what was asked for.
type LossSettings struct {
	Suite     string  `json:"suite"`
	Servers   int     `json:"servers"`
	Clients   int     `json:"clients"`
	Duration  float64 `json:"duration_s"`
	Timeout   float64 `json:"timeout_s"`
	ValueSize int     `json:"value_size"`
	Sealed    bool    `json:"sealed"`
	Started   string  `json:"started"`
	Version   string  `json:"version"`
}

// LossRow is one network. Latencies and the rate are of puts in the window.
type LossRow struct {
	Suite     string  `json:"suite"`
	Case      string  `json:"case"`
	Flags     string  `json:"flags"`
	PerSecond float64 `json:"puts_per_s"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	Failed    int64   `json:"failed"`     // operations that ended without an answer, in all
	Unknown   int64   `json:"unknown"`    // of them: puts of which nobody knows
	Gets      int64   `json:"gets"`       // that were compared, in all
	Wrong     int64   `json:"wrong"`      // gets that gave what was not there
	Silence   float64 `json:"silence_ms"` // longest time in the window in which no operation ended
	Recovered float64 `json:"recovered_s"`
	Complaint string  `json:"complaint,omitempty"` // the first wrong answer
	Failure   string  `json:"failure,omitempty"`   // the first that failed
}

// Check says what is wrong with a LossConfig.
func (c *LossConfig) Check() error {
	if len(c.Cases) == 0 {
		return errors.New("no case")
	}
	for _, name := range c.Cases {
		if !slices.Contains(LossCases(), name) {
			return fmt.Errorf("no case %q, want of %v", name, LossCases())
		}
	}
	switch {
	case c.Clients < 1 || c.Clients > maxClients:
		return fmt.Errorf("%d clients, want 1 to %d", c.Clients, maxClients)
	case c.Duration < 100*time.Millisecond:
		return fmt.Errorf("a duration of %v, want 100ms or more", c.Duration)
	case c.Timeout < 100*time.Millisecond:
		return fmt.Errorf("a timeout of %v, want 100ms or more", c.Timeout)
	case c.ValueSize < ownedBytes || c.ValueSize > maxValueSize:
		return fmt.Errorf("values of %d bytes, want %d to %d", c.ValueSize, ownedBytes, maxValueSize)
	}
	return nil
}

// ErrWrong says that a row has wrong answers, or that something stood still.
var ErrWrong = errors.New("the cluster did not do what it promises")

// RunLoss measures, a cluster a row, and writes the report if a directory was named. The report is there also with ErrWrong.
func RunLoss(ctx context.Context, c LossConfig) (*LossReport, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := &LossReport{Settings: LossSettings{Suite: "wire-loss", Clients: c.Clients, Duration: c.Duration.Seconds(), Timeout: c.Timeout.Seconds(), ValueSize: c.ValueSize,
		Sealed: c.SecretFile != "", Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version}}
	var wrong error
	for _, one := range lossCases {
		if !slices.Contains(c.Cases, one.name) {
			continue
		}
		fmt.Fprintf(c.Log, "%s: %s%s\n", one.name, one.flags, one.leader)
		row, err := c.row(ctx, r, &one)
		if err != nil && !errors.Is(err, ErrWrong) {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		if err != nil && wrong == nil {
			wrong = fmt.Errorf("%s: %w", one.name, err)
		}
		r.Rows = append(r.Rows, row)
	}
	if c.Out == "" {
		return r, wrong
	}
	body, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(c.Out, 0o777)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.Out, "report.json"), append(body, '\n'), 0o666)
	}
	return r, errors.Join(wrong, err)
}

func (c *LossConfig) row(ctx context.Context, r *LossReport, one *lossCase) (row LossRow, err error) {
	servers, err := c.Start(ctx, one.name, one.flags)
	if err != nil {
		return row, err
	}
	defer func() {
		if closed := servers.Close(); closed != nil && err == nil {
			err = fmt.Errorf("stopping the servers: %w", closed)
		}
	}()
	if r.Machine == (Machine{}) {
		r.Machine, r.Settings.Servers = describe(servers.Dir()), len(servers.Addrs())
	}
	store, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: c.Timeout, SecretFile: c.SecretFile, Compression: "none"})
	if err != nil {
		return row, err
	}
	defer store.Close()
	l := &lossRun{c: c, store: store, latency: newHistogram()}
	for i := range c.Clients {
		l.owners = append(l.owners, &owner{id: uint64(i), random: rand.New(rand.NewPCG(c.Seed, uint64(i)))})
	}
	row = LossRow{Suite: "wire-loss", Case: one.name, Flags: one.flags + one.leader}
	if err := l.window(ctx, servers, one); err != nil {
		return row, err
	}
	row.PerSecond = float64(l.latency.TotalCount()) / c.Duration.Seconds()
	ms := func(ns int64) float64 { return float64(ns) / 1e6 }
	row.P50, row.P99, row.Max = ms(l.latency.ValueAtQuantile(50)), ms(l.latency.ValueAtQuantile(99)), ms(l.latency.Max())
	row.Silence = ms(l.silence)
	err = l.aftermath(ctx, servers, &row)
	row.Failed, row.Unknown, row.Gets, row.Wrong, row.Complaint, row.Failure = l.failed, l.unknown, l.gets, l.wrong, l.complaint, l.failure
	if err == nil && row.Wrong > 0 {
		err = fmt.Errorf("%w: %s", ErrWrong, row.Complaint)
	}
	return row, err
}

// lossRun is one row under way.
type lossRun struct {
	c      *LossConfig
	store  *client.Client
	owners []*owner
	phase  atomic.Int32

	mu        sync.Mutex
	latency   *hdrhistogram.Histogram // ns, of puts in the window
	ended     time.Time               // when an operation last did, in the window
	silence   int64
	failed    int64
	unknown   int64
	gets      int64
	wrong     int64
	complaint string
	failure   string
}

// window runs the load, and the harm to the leader in the midst of it.
func (l *lossRun) window(ctx context.Context, servers Network, one *lossCase) error {
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	for _, o := range l.owners {
		all.Go(func() {
			for l.phase.Load() != over && stopping.Err() == nil {
				l.once(stopping, o)
			}
		})
	}
	err := pause(ctx, l.c.WarmUp)
	l.mu.Lock()
	l.ended = time.Now()
	l.mu.Unlock()
	l.phase.Store(counting)
	if err == nil {
		err = l.harm(ctx, servers, one)
	}
	l.mu.Lock()
	l.silence = max(l.silence, int64(time.Since(l.ended)))
	l.mu.Unlock()
	l.phase.Store(over)
	all.Wait()
	return err
}

func (l *lossRun) harm(ctx context.Context, servers Network, one *lossCase) error {
	if one.leader == "" {
		return pause(ctx, l.c.Duration)
	}
	if err := pause(ctx, l.c.Duration/4); err != nil {
		return err
	}
	s, err := l.store.Status(ctx)
	for began := time.Now(); err == nil && s.Leader < 0; s, err = l.store.Status(ctx) {
		if time.Since(began) > patience {
			return errors.New("no server leads")
		}
	}
	if err != nil {
		return err
	}
	if err := servers.Become(s.Rows[s.Leader].ID, one.leader); err != nil {
		return err
	}
	if err := pause(ctx, l.c.Duration/2); err != nil {
		return err
	}
	if err := servers.Become(0, one.flags); err != nil {
		return err
	}
	return pause(ctx, l.c.Duration/4)
}

// aftermath: over a perfect network everybody puts once more, and all is read back.
func (l *lossRun) aftermath(ctx context.Context, servers Network, row *LossRow) error {
	if err := servers.Become(0, ""); err != nil {
		return err
	}
	began := time.Now()
	for what, do := range map[string]func(context.Context, *owner) error{"put": l.put, "get": l.get} {
		var all sync.WaitGroup
		stuck := make([]error, len(l.owners))
		for i, o := range l.owners {
			all.Go(func() {
				for key := range ownedKeys {
					o.key = key
					for stuck[i] = do(ctx, o); stuck[i] != nil && time.Since(began) < patience && ctx.Err() == nil; {
						stuck[i] = do(ctx, o)
					}
					if what == "put" {
						return
					}
				}
			})
		}
		all.Wait()
		if err := errors.Join(stuck...); err != nil {
			return fmt.Errorf("%w: a %s did not succeed within %v of a perfect network: %w", ErrWrong, what, patience, err)
		}
		if what == "put" {
			row.Recovered = time.Since(began).Seconds()
		}
	}
	return nil
}

// owner is a client: it alone writes its keys.
type owner struct {
	id     uint64
	random *rand.Rand
	turn   int
	key    int
	last   [ownedKeys]uint64   // the version that was acknowledged last, 0: none
	open   [ownedKeys][]uint64 // versions that may be there, or come to be
	next   uint64
	value  []byte
}

const (
	ownedKeys  = 4
	ownedBytes = 24 // of a value: owner, version, and their sum
	getEvery   = 8
)

func (l *lossRun) once(ctx context.Context, o *owner) {
	o.turn++
	o.key = o.random.IntN(ownedKeys)
	if o.turn%getEvery == 0 {
		_ = l.get(ctx, o) // counted
		return
	}
	_ = l.put(ctx, o)
}

func (o *owner) name() []byte { return fmt.Appendf(nil, "owner-%06d-%d", o.id, o.key) }

// fill writes a version's value.
func (o *owner) fill(version uint64, size int) []byte {
	o.value = slices.Grow(o.value[:0], size)[:size]
	binary.LittleEndian.PutUint64(o.value[0:], o.id)
	binary.LittleEndian.PutUint64(o.value[8:], version)
	binary.LittleEndian.PutUint64(o.value[16:], o.id^version*0x9e3779b97f4a7c15)
	for i := ownedBytes; i < size; i++ {
		o.value[i] = byte(version) + byte(i)
	}
	return o.value
}

func (l *lossRun) put(ctx context.Context, o *owner) error {
	o.next++
	version := o.next
	began := time.Now()
	err := l.store.Put(ctx, o.name(), o.fill(version, l.c.ValueSize))
	l.note(began, err, true)
	switch {
	case err == nil:
		o.last[o.key] = version
	case !errors.Is(err, client.ErrNotApplied):
		o.open[o.key] = append(o.open[o.key], version)
	}
	return err
}

func (l *lossRun) get(ctx context.Context, o *owner) error {
	began := time.Now()
	value, err := l.store.Get(ctx, o.name())
	missing := errors.Is(err, client.ErrNotFound)
	if missing {
		err = nil
	}
	l.note(began, err, false)
	if err != nil {
		return err
	}
	version := uint64(0)
	whole := missing
	if !missing && len(value) == l.c.ValueSize {
		version = binary.LittleEndian.Uint64(value[8:])
		whole = slices.Equal(value, o.fill(version, l.c.ValueSize))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gets++
	if whole && (version == o.last[o.key] || slices.Contains(o.open[o.key], version)) {
		return nil
	}
	if l.wrong++; l.complaint == "" {
		l.complaint = fmt.Sprintf("%s has version %d (whole: %v) of %d bytes, want %d or one of %v", o.name(), version, whole, len(value), o.last[o.key], o.open[o.key])
	}
	return nil
}

// note counts an operation that has ended.
func (l *lossRun) note(began time.Time, err error, put bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		if l.failed++; l.failure == "" {
			l.failure = err.Error()
		}
		if put && !errors.Is(err, client.ErrNotApplied) {
			l.unknown++
		}
	}
	if l.phase.Load() != counting || err != nil {
		return
	}
	l.silence = max(l.silence, int64(now.Sub(l.ended)))
	l.ended = now
	if put {
		l.latency.RecordValue(min(int64(now.Sub(began)), longest))
	}
}

// WriteText writes a table for people.
func (r *LossReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tPUTS/S\tP50 ms\tP99\tMAX\tSILENCE\tFAILED\tUNKNOWN\tGETS\tWRONG\tRECOVERED s\t")
	for _, x := range r.Rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t%.2f\t\n", x.Case, x.PerSecond, x.P50, x.P99, x.Max, x.Silence, x.Failed, x.Unknown, x.Gets, x.Wrong, x.Recovered)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, x := range r.Rows {
		if x.Failure != "" {
			fmt.Fprintf(out, "%s: the first failure: %s\n", x.Case, x.Failure)
		}
	}
	s := &r.Settings
	_, err := fmt.Fprintf(out, "\n%d servers, each behind a proxy of its own for everybody, %d clients of one process, values of %d bytes, %gs a row, sealed: %v\nsilence: the longest time in which no operation ended; failed: without an answer for %gs, or refused; unknown: puts of those\nrecovered: until every client had one more put done over a perfect network; then all keys were read back\n",
		s.Servers, s.Clients, s.ValueSize, s.Duration, s.Sealed, s.Timeout)
	return err
}
