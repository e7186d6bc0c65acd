package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"balsa/kv/client"
	"balsa/wire"
	"balsa/wire/udp"
)

// The flood part of the wire suite sends the servers whatever a stranger can make, as fast as one thread can, while
// clients work: random bytes, headers with garbage behind them, datagrams of the cluster that were recorded, whole, cut
// short and with flipped bits, and hellos and requests of clients that never hold a token. Recorded ones are repeated
// from strange addresses and from those that they first came from. It asks whether the servers' memory stays bounded,
// whether the clients' answers stay right and nothing stands still, and whether any stranger is answered with more bytes
// than it sent.
//
// A sealed cluster is sent forged frames of servers as well. An open one believes those (docs/threat-model.md).

// FloodConfig says for how long.
type FloodConfig struct {
	Clients    int
	Duration   time.Duration
	Seed       uint64
	SecretFile string // clients'; empty: open
	Out        string // directory of report.json; empty: none
	Version    string
	Start      func(ctx context.Context) (Diverted, error)
	Log        io.Writer
}

// Diverted is a cluster whose servers listen elsewhere than at the addresses that everybody knows: what is sent there
// comes to us, and we hand it on.
type Diverted interface {
	Servers
	Listens() []string                           // where the servers listen, in the order of Addrs
	StartAll(ctx context.Context) error          // none runs before
	Memory(ctx context.Context) ([]int64, error) // resident bytes of each
}

// FloodReport is everything found out; report.json is exactly this.
type FloodReport struct {
	Suite     string  `json:"suite"`
	Machine   Machine `json:"machine"`
	Sealed    bool    `json:"sealed"`
	Clients   int     `json:"clients"`
	Seconds   float64 `json:"seconds"`
	Before    float64 `json:"puts_per_s_before"`
	During    float64 `json:"puts_per_s_during"`
	P99       float64 `json:"p99_ms_during"`
	Silence   float64 `json:"silence_ms_during"`
	Failed    int64   `json:"failed"`
	Gets      int64   `json:"gets"`
	Wrong     int64   `json:"wrong"`
	Sent      uint64  `json:"flood_datagrams"`
	SentBytes uint64  `json:"flood_bytes"`
	Answered  uint64  `json:"answered_bytes"`
	Questions int     `json:"questions"`     // asked one by one before, each compared with its answers
	Largest   float64 `json:"largest_ratio"` // of answered to asked bytes, of any question or address
	Resident  int64   `json:"resident_before"`
	Most      int64   `json:"resident_most"` // of one server
	Started   string  `json:"started"`
	Version   string  `json:"version"`
}

const (
	strangers  = 16
	recorded   = 4096      // datagrams of each relay that are kept
	mostGrowth = 256 << 20 // resident bytes that a flood may cost a server
	questions  = 40        // of each sort, one by one
)

// Check says what is wrong with a FloodConfig.
func (c *FloodConfig) Check() error {
	if c.Clients < 1 || c.Clients > maxClients {
		return fmt.Errorf("%d clients, want 1 to %d", c.Clients, maxClients)
	}
	if c.Duration < 100*time.Millisecond {
		return fmt.Errorf("a duration of %v, want 100ms or more", c.Duration)
	}
	return nil
}

// RunFlood floods, and writes the report if a directory was named. The report is there also with ErrWrong.
func RunFlood(ctx context.Context, c FloodConfig) (r *FloodReport, err error) {
	servers, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	f := &flood{c: &c, random: rand.New(rand.NewPCG(c.Seed, 1)), sealed: c.SecretFile != ""}
	defer func() {
		err = errors.Join(err, servers.Close())
		f.close()
	}()
	if err := f.divert(servers); err != nil {
		return nil, err
	}
	if err := servers.StartAll(ctx); err != nil {
		return nil, err
	}
	r = &FloodReport{Suite: "wire-flood", Machine: describe(servers.Dir()), Sealed: f.sealed, Clients: c.Clients, Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version}
	if err := f.run(ctx, servers, r); err != nil {
		return r, err
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

// flood is a run.
type flood struct {
	c         *FloodConfig
	random    *rand.Rand
	sealed    bool
	targets   []netip.AddrPort // where the servers listen
	relays    []*relay
	strangers []*stranger
	taken     [][]byte // what was recorded, when the flood began
	sent      uint64
	sentBytes uint64
}

func (f *flood) close() {
	for _, r := range f.relays {
		r.close()
	}
	for _, s := range f.strangers {
		s.socket.Close()
		s.over.Wait()
	}
}

// divert stands between everybody and each server.
func (f *flood) divert(servers Diverted) error {
	for i, addr := range servers.Addrs() {
		at, err1 := netip.ParseAddrPort(addr)
		to, err2 := netip.ParseAddrPort(servers.Listens()[i])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		r, err := newRelay(at, to)
		if err != nil {
			return err
		}
		f.relays, f.targets = append(f.relays, r), append(f.targets, to)
	}
	for range strangers {
		s, err := newStranger()
		if err != nil {
			return err
		}
		f.strangers = append(f.strangers, s)
	}
	return nil
}

func (f *flood) run(ctx context.Context, servers Diverted, r *FloodReport) error {
	store, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 20 * time.Second, SecretFile: f.c.SecretFile, Compression: "none"})
	if err != nil {
		return err
	}
	defer store.Close()
	before, err := f.load(ctx, store, nil)
	if err != nil {
		return err
	}
	r.Before = float64(before.latency.TotalCount()) / f.c.Duration.Seconds()
	for _, relay := range f.relays {
		f.taken = append(f.taken, relay.records()...)
	}
	if len(f.taken) == 0 {
		return errors.New("nothing was recorded")
	}
	fmt.Fprintf(f.c.Log, "%d datagrams recorded; questions, one by one\n", len(f.taken))
	if err := f.ask(ctx, r); err != nil {
		return err
	}
	resident, err := servers.Memory(ctx)
	if err != nil {
		return err
	}
	for _, n := range resident {
		r.Resident = max(r.Resident, n)
	}
	fmt.Fprintln(f.c.Log, "the flood")
	during, err := f.load(ctx, store, func(ctx context.Context) error { return f.pour(ctx, servers, r) })
	if err != nil {
		return err
	}
	r.Seconds, r.During = f.c.Duration.Seconds(), float64(during.latency.TotalCount())/f.c.Duration.Seconds()
	r.P99, r.Silence = float64(during.latency.ValueAtQuantile(99))/1e6, float64(during.silence)/1e6
	r.Failed, r.Gets, r.Wrong = during.failed, during.gets, during.wrong
	r.Sent, r.SentBytes = f.sent, f.sentBytes
	return f.judge(r, during.complaint)
}

// load is a window of the clients' work, with something beside it.
func (f *flood) load(ctx context.Context, store *client.Client, beside func(context.Context) error) (*lossRun, error) {
	l := &lossRun{c: &LossConfig{Clients: f.c.Clients, Duration: f.c.Duration, WarmUp: 100 * time.Millisecond, ValueSize: 100}, store: store, latency: newHistogram()}
	for i := range f.c.Clients {
		o := &owner{id: uint64(i), random: rand.New(rand.NewPCG(f.c.Seed, uint64(i)))}
		if beside != nil {
			o.id += 1 << 19 // keys of its own
		}
		l.owners = append(l.owners, o)
	}
	beginning, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		if beside == nil {
			ended <- nil
			return
		}
		ended <- beside(beginning)
	}()
	err := l.window(ctx, nil, &lossCase{})
	stop()
	return l, errors.Join(err, <-ended)
}

// ask sends one datagram at a time from a stranger and counts what comes back of it.
func (f *flood) ask(ctx context.Context, r *FloodReport) error {
	s := f.strangers[0]
	for sort := range sorts {
		for range questions {
			b := f.make(sort, nil)
			if len(b) == 0 {
				continue
			}
			heard := s.heard.Load()
			to := f.targets[f.random.IntN(len(f.targets))]
			if err := s.socket.Send([]wire.Packet{{To: to, Bytes: b}}); err != nil {
				return err
			}
			if err := pause(ctx, 3*time.Millisecond); err != nil {
				return err
			}
			s.sent.Add(uint64(len(b)))
			r.Questions++
			r.Largest = max(r.Largest, float64(s.heard.Load()-heard)/float64(len(b)))
		}
	}
	return nil
}

// pour sends at full rate until ctx ends, and looks at the servers' memory meanwhile.
func (f *flood) pour(ctx context.Context, servers Diverted, r *FloodReport) error {
	arena := make([]byte, 0, 4<<20)
	var packets []wire.Packet
	for next := time.Now(); ctx.Err() == nil; {
		if time.Now().After(next) {
			next = time.Now().Add(200 * time.Millisecond)
			resident, err := servers.Memory(ctx)
			if err != nil {
				return err
			}
			for _, n := range resident {
				r.Most = max(r.Most, n)
			}
		}
		arena, packets = arena[:0], packets[:0]
		s := f.strangers[f.random.IntN(strangers)]
		bytes := 0
		for range udp.Batch {
			at := len(arena)
			if arena = f.make(f.random.IntN(sorts), arena); len(arena) == at {
				continue
			}
			bytes += len(arena) - at
			packets = append(packets, wire.Packet{To: f.targets[f.random.IntN(len(f.targets))], Bytes: arena[at:]})
		}
		if err := s.socket.Send(packets); err != nil {
			return err
		}
		s.sent.Add(uint64(bytes))
		f.sent, f.sentBytes = f.sent+uint64(len(packets)), f.sentBytes+uint64(bytes)
		n, b := f.relays[f.random.IntN(len(f.relays))].repeat(f.random)
		f.sent, f.sentBytes = f.sent+n, f.sentBytes+b
	}
	return nil
}

// Sorts of datagrams that strangers send.
const (
	sortNoise = iota
	sortHeader
	sortCut
	sortFlipped
	sortRepeated
	sortHello
	sortRequest
	sortForged
	sorts
)

// make appends a datagram of a sort to b.
func (f *flood) make(sort int, b []byte) []byte {
	at := len(b)
	whole := f.taken[f.random.IntN(len(f.taken))]
	switch sort {
	case sortNoise:
		return f.noise(b, f.random.IntN(1500))
	case sortHeader:
		b = append(b, whole[:wire.HeaderBytes]...)
		b = f.noise(b, 8*f.random.IntN(150))
		binary.LittleEndian.PutUint16(b[at+14:], uint16(max(0, len(b)-at-wire.HeaderBytes-wire.TrailerBytes)))
		return b
	case sortCut:
		return append(b, whole[:f.random.IntN(len(whole))]...)
	case sortFlipped:
		b = append(b, whole...)
		b[at+f.random.IntN(len(whole))] ^= 1 << f.random.IntN(8)
		return b
	case sortRepeated:
		return append(b, whole...)
	}
	return append(b, f.frame(sort)...)
}

func (f *flood) noise(b []byte, n int) []byte {
	for ; n >= 8; n -= 8 {
		b = binary.LittleEndian.AppendUint64(b, f.random.Uint64())
	}
	for range n {
		b = append(b, byte(f.random.Uint32()))
	}
	return b
}

// frame is a datagram with a right checksum: a client's without a token or with a wrong one, or in a sealed cluster a server's.
func (f *flood) frame(sort int) []byte {
	whole, err := wire.Peek(f.taken[f.random.IntN(len(f.taken))])
	if err != nil {
		return nil
	}
	p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: whole.Cluster, Src: wire.ClientNode, Incarnation: f.random.Uint64() | 1,
		Boot: f.random.Uint64(), Packet: f.random.Uint64() >> 20, Token: f.random.Uint64() * uint64(f.random.IntN(2))}}
	switch sort {
	case sortHello:
		h := wire.Hello{Nonce: f.random.Uint64(), Pad: 8 * f.random.IntN(70)}
		h.Encode(p.Frame(wire.KindHello, h.Size()))
	case sortRequest:
		kind := wire.KindHello + wire.Kind(f.random.IntN(int(wire.KindFragmentStatus-wire.KindHello)+1))
		copy(p.Frame(kind, 200), f.noise(nil, 200))
	case sortForged:
		if !f.sealed {
			return nil
		}
		p.Header.Src, p.Header.Incarnation, p.Header.Boot = whole.Src, whole.Incarnation, whole.Boot
		v := wire.Vote{Term: 1 << 40, LastIndex: 1 << 40, LastTerm: 1 << 39, Transfer: true}
		v.Encode(p.Frame(wire.KindVote, v.Size()))
	}
	return p.Flush(netip.AddrPort{}, nil)[0].Bytes
}

func (f *flood) judge(r *FloodReport, complaint string) error {
	for _, s := range f.strangers {
		heard, sent := s.heard.Load(), s.sent.Load()
		r.Answered += heard
		if sent > 0 {
			r.Largest = max(r.Largest, float64(heard)/float64(sent))
		}
	}
	switch {
	case r.Wrong > 0:
		return fmt.Errorf("%w: %s", ErrWrong, complaint)
	case r.Largest > 1:
		return fmt.Errorf("%w: a stranger was answered with %.2f times what it sent", ErrWrong, r.Largest)
	case r.Most-r.Resident > mostGrowth:
		return fmt.Errorf("%w: a server has %d MiB, %d before the flood", ErrWrong, r.Most>>20, r.Resident>>20)
	case r.During == 0:
		return fmt.Errorf("%w: no put was done during the flood", ErrWrong)
	}
	return nil
}

// stranger is an address that never proves itself: it hears, and answers nothing.
type stranger struct {
	socket      *udp.Socket
	sent, heard atomic.Uint64 // bytes
	over        sync.WaitGroup
}

func newStranger() (*stranger, error) {
	socket, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		return nil, err
	}
	s := &stranger{socket: socket}
	s.over.Go(func() {
		for {
			n, err := socket.Receive(time.Now().Add(time.Minute))
			if err != nil {
				return
			}
			for i := range n {
				b, _ := socket.Datagram(i)
				s.heard.Add(uint64(len(b)))
			}
			socket.Refused(func(netip.AddrPort) {})
		}
	})
	return s, nil
}

// WriteText writes it for people.
func (r *FloodReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "PUTS/S BEFORE\tDURING\tP99 ms\tSILENCE ms\tFAILED\tGETS\tWRONG\tFLOOD/S\tMB/S\tLARGEST ANSWER\tRESIDENT MiB\tMOST\t")
	fmt.Fprintf(w, "%.0f\t%.0f\t%.1f\t%.0f\t%d\t%d\t%d\t%.0f\t%.0f\t%.2f\t%d\t%d\t\n", r.Before, r.During, r.P99, r.Silence, r.Failed, r.Gets, r.Wrong,
		float64(r.Sent)/r.Seconds, float64(r.SentBytes)/r.Seconds/1e6, r.Largest, r.Resident>>20, r.Most>>20)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%gs, %d clients, sealed: %v. largest answer: bytes that a stranger heard over bytes that it sent, of %d single questions and of %d addresses in the flood; at most 1\n",
		r.Seconds, r.Clients, r.Sealed, r.Questions, strangers)
	return err
}
