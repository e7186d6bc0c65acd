package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"balsa/wire"
	"balsa/wire/udp"
)

// The wire suite measures datagrams on loopback, without servers: what one costs when many leave and arrive at once, by
// the ways that this system has, beside the kernel's bare sendto and recvfrom and the standard library; and how long one takes
// to another process and back, beside a bare ping-pong, by each way that the other end may wait. Cases take turns in short rounds, so that what else the machine does hits all.

// WireConfig says what to measure.
type WireConfig struct {
	Sizes    []int         // bytes of a datagram
	Duration time.Duration // of each row, over all rounds
	Out      string        // directory of report.json; empty: none
	Version  string
	Helper   func(args ...string) *exec.Cmd // a process that ends up in Help
	Log      io.Writer
}

// WireReport is everything a run of the wire suite found out; report.json is exactly this.
type WireReport struct {
	Machine  Machine      `json:"machine"`
	Settings WireSettings `json:"settings"`
	Rows     []WireRow    `json:"rows"`
	Trips    []TripRow    `json:"round_trips"`
}

// WireSettings are what was asked for, and what the system has.
type WireSettings struct {
	Suite        string  `json:"suite"`
	Duration     float64 `json:"duration_s"`
	Burst        int     `json:"burst"`
	Rounds       int     `json:"rounds"`
	Segmentation bool    `json:"segmentation"`
	Coalescing   bool    `json:"coalescing"`
	Started      string  `json:"started"`
	Version      string  `json:"version"`
}

// WireRow is datagrams of one size, sent and received on one thread. Processor time is of both ends.
type WireRow struct {
	Suite     string  `json:"suite"`
	Case      string  `json:"case"` // bare, library, mmsg, offload
	Size      int     `json:"size"`
	PerSecond float64 `json:"datagrams_per_s"`
	CPU       float64 `json:"cpu_ns_per_datagram"`
	TimesBare float64 `json:"times_bare"` // datagrams_per_s over bare's
}

// TripRow is a datagram to another process and back, one at a time.
type TripRow struct {
	Suite     string  `json:"suite"`
	Case      string  `json:"case"` // round-trip-bare, round-trip, -own, -spin
	P50       float64 `json:"p50_us"`
	P90       float64 `json:"p90_us"`
	P99       float64 `json:"p99_us"`
	Max       float64 `json:"max_us"`
	TimesBare float64 `json:"times_bare"`
}

const (
	wireBurst  = 32
	wireRounds = 5
)

// Check says what is wrong with a WireConfig.
func (c *WireConfig) Check() error {
	if c.Duration < 10*time.Millisecond {
		return fmt.Errorf("a duration of %v, want 10ms or more", c.Duration)
	}
	for _, n := range c.Sizes {
		if n < 8 || n > wire.MaxDatagram {
			return fmt.Errorf("datagrams of %d bytes, want 8 to %d", n, wire.MaxDatagram)
		}
	}
	return nil
}

// way is one way to send and receive bursts, and what it took so far.
type way struct {
	name  string
	burst func() error // wireBurst datagrams, sent and received
	close func() error
	sent  int
	spent time.Duration
	cpu   time.Duration
}

// RunWire measures, and writes the report if a directory was named.
func RunWire(ctx context.Context, c WireConfig) (*WireReport, error) {
	r := &WireReport{Machine: describe("/"), Settings: WireSettings{
		Suite: "wire", Duration: c.Duration.Seconds(), Burst: wireBurst, Rounds: wireRounds, Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version,
	}}
	for _, size := range c.Sizes {
		fmt.Fprintf(c.Log, "datagrams of %d bytes\n", size)
		if err := r.bursts(ctx, &c, size); err != nil {
			return nil, err
		}
	}
	fmt.Fprintln(c.Log, "round trips between two processes")
	if err := r.trips(ctx, &c); err != nil {
		return nil, err
	}
	if c.Out == "" {
		return r, nil
	}
	body, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(c.Out, 0o777)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.Out, "report.json"), append(body, '\n'), 0o666)
	}
	return r, err
}

func (r *WireReport) bursts(ctx context.Context, c *WireConfig, size int) error {
	runtime.LockOSThread() // whose processor time it is
	defer runtime.UnlockOSThread()
	var ways []*way
	defer func() {
		for _, w := range ways {
			w.close()
		}
	}()
	for _, open := range []func(*WireReport, int) (*way, error){bareWay, libraryWay, mmsgWay, offloadWay} {
		w, err := open(r, size)
		if err != nil {
			return err
		}
		ways = append(ways, w)
	}
	long := c.Duration / wireRounds
	for range wireRounds {
		for _, w := range ways {
			if err := w.round(ctx, long); err != nil {
				return fmt.Errorf("%s, %d bytes: %w", w.name, size, err)
			}
		}
	}
	bare := 0.0
	for _, w := range ways {
		row := WireRow{Suite: "wire", Case: w.name, Size: size, PerSecond: float64(w.sent) / w.spent.Seconds(), CPU: float64(w.cpu) / float64(w.sent)}
		if w.name == "bare" {
			bare = row.PerSecond
		}
		row.TimesBare = row.PerSecond / bare
		r.Rows = append(r.Rows, row)
	}
	return nil
}

func (w *way) round(ctx context.Context, long time.Duration) error {
	if err := w.burst(); err != nil { // warm
		return err
	}
	cpu, began := threadTime(), time.Now()
	for time.Since(began) < long && ctx.Err() == nil {
		if err := w.burst(); err != nil {
			return err
		}
		w.sent += wireBurst
	}
	w.spent += time.Since(began)
	w.cpu += threadTime() - cpu
	return ctx.Err()
}

// libraryWay is the standard library: a call for each datagram, on the runtime's poller.
func libraryWay(_ *WireReport, size int) (*way, error) {
	here := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	x, err := net.ListenUDP("udp4", here)
	if err != nil {
		return nil, err
	}
	y, err := net.ListenUDP("udp4", here)
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	_ = y.SetReadBuffer(4 << 20) // a burst may be large; refused, it is told by what is lost
	to := y.LocalAddr().(*net.UDPAddr).AddrPort()
	out, in := make([]byte, size), make([]byte, size)
	return &way{name: "library", close: func() error { return errors.Join(x.Close(), y.Close()) }, burst: func() error {
		for range wireBurst {
			if _, err := x.WriteToUDPAddrPort(out, to); err != nil {
				return err
			}
		}
		if err := y.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		for range wireBurst {
			if _, _, err := y.ReadFromUDPAddrPort(in); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

func mmsgWay(_ *WireReport, size int) (*way, error) {
	return socketWay("mmsg", size, udp.Options{Plain: true}, nil)
}

func offloadWay(r *WireReport, size int) (*way, error) {
	return socketWay("offload", size, udp.Options{}, r)
}

func socketWay(name string, size int, o udp.Options, r *WireReport) (*way, error) {
	here := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	x, err := udp.Listen(here, o)
	if err != nil {
		return nil, err
	}
	y, err := udp.Listen(here, o)
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	if r != nil {
		r.Settings.Segmentation, r.Settings.Coalescing = x.Offload()
	}
	out := slices.Repeat([]wire.Packet{{To: y.LocalAddr(), Bytes: make([]byte, size)}}, wireBurst)
	return &way{name: name, close: func() error { return errors.Join(x.Close(), y.Close()) }, burst: func() error {
		if err := x.Send(out); err != nil {
			return err
		}
		for got := 0; got < wireBurst; {
			n, err := y.Receive(time.Time{})
			if err == nil && n == 0 {
				err = fmt.Errorf("%d of %d datagrams arrived", got, wireBurst)
			}
			if err != nil {
				return err
			}
			got += n
		}
		return nil
	}}, nil
}

// echoWay is how the other end of a round trip waits: on the runtime's poller as a client, past it as a server, or
// spinning first as one with a processor of its own.
type echoWay struct {
	trip, helper string
	options      udp.Options
	spin         time.Duration
}

// echoes are the ways in which the other end of a round trip waits.
var echoes = []echoWay{
	{"round-trip", "echo", udp.Options{}, 0},
	{"round-trip-own", "echo-own", udp.Options{Own: true}, 0},
	{"round-trip-spin", "echo-spin", udp.Options{Own: true}, 200 * time.Microsecond},
}

// trips measures all round trips in turns.
func (r *WireReport) trips(ctx context.Context, c *WireConfig) error {
	bare, ours := newHistogram(), make([]*hdrhistogram.Histogram, len(echoes))
	raw := Config{Helper: c.Helper}
	for i := range ours {
		ours[i] = newHistogram()
	}
	for range wireRounds {
		h, err := raw.raw(ctx, "", 0, c.Duration/wireRounds)
		if err != nil {
			return err
		}
		bare.Merge(h)
		for i, e := range echoes {
			if err := c.pings(ctx, e.helper, ours[i], c.Duration/wireRounds); err != nil {
				return err
			}
		}
	}
	r.trip("round-trip-bare", bare, bare)
	for i, e := range echoes {
		r.trip(e.trip, ours[i], bare)
	}
	return nil
}

func (r *WireReport) trip(name string, h, bare *hdrhistogram.Histogram) {
	r.Trips = append(r.Trips, TripRow{
		Suite: "wire", Case: name, P50: microseconds(h.ValueAtQuantile(50)), P90: microseconds(h.ValueAtQuantile(90)), P99: microseconds(h.ValueAtQuantile(99)),
		Max: microseconds(h.Max()), TimesBare: float64(h.ValueAtQuantile(50)) / float64(bare.ValueAtQuantile(50)),
	})
}

// pings asks an echo in another process, over our sockets, one datagram at a time.
func (c *WireConfig) pings(ctx context.Context, helper string, latency *hdrhistogram.Histogram, long time.Duration) error {
	h, err := startHelper(c.Helper(helper))
	if err != nil {
		return err
	}
	defer h.end()
	line, err := h.line()
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(line)
	if err != nil {
		return fmt.Errorf("an echo's address: %w", err)
	}
	s, err := udp.Listen(netip.AddrPortFrom(to.Addr(), 0), udp.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	ask := []wire.Packet{{To: to, Bytes: make([]byte, floorRecord)}}
	began := time.Now()
	for time.Since(began) < long && ctx.Err() == nil {
		start := time.Now()
		if err := s.Send(ask); err != nil {
			return err
		}
		n, err := s.Receive(start.Add(100 * time.Millisecond))
		if err != nil {
			return err
		}
		if n > 0 {
			latency.RecordValue(min(int64(time.Since(start)), longest))
		}
	}
	return ctx.Err()
}

// echo is the other end of it, in a process of its own.
func echo(ctx context.Context, helper string, out io.Writer) error {
	e := echoes[slices.IndexFunc(echoes, func(e echoWay) bool { return e.helper == helper })]
	s, err := udp.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0), e.options)
	if err != nil {
		return err
	}
	s.Spin(e.spin)
	defer context.AfterFunc(ctx, s.Wake)()
	fmt.Fprintln(out, s.LocalAddr())
	var answers []wire.Packet
	for ctx.Err() == nil {
		n, err := s.Receive(time.Now().Add(time.Second))
		if err != nil {
			return err
		}
		answers = answers[:0]
		for i := range n {
			b, from := s.Datagram(i)
			answers = append(answers, wire.Packet{To: from, Bytes: b})
		}
		if err := s.Send(answers); err != nil {
			return err
		}
	}
	return s.Close()
}

// WriteText writes tables for people.
func (r *WireReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tBYTES\tDATAGRAMS/S\tCPU ns\tTIMES BARE\t")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.2f\t\n", row.Case, row.Size, row.PerSecond, row.CPU, row.TimesBare)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tP50 µs\tP90\tP99\tMAX\tTIMES BARE\t")
	for _, t := range r.Trips {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.0f\t%.2f\t\n", t.Case, t.P50, t.P90, t.P99, t.Max, t.TimesBare)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s := &r.Settings
	_, err := fmt.Fprintf(out, "\nloopback, bursts of %d, %d rounds in turns; a datagram's cost is of sending and receiving it, on one thread, without a wake-up\nbare: sendto and recvfrom, a call a datagram; library: the same by the standard library; mmsg: a call a burst; offload: segmentation %v, coalescing %v\nround trips: the other end waits on the runtime's poller, as clients do; own: past it, as servers do; spin: looks for 0.2 ms before it waits, as the dedicated profile does\n",
		s.Burst, s.Rounds, s.Segmentation, s.Coalescing)
	return err
}
