package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/cespare/xxhash/v2"

	"balsa/wire"
	"balsa/wire/bulk"
	"balsa/wire/udp"
)

// The bulk part of the wire suite carries a file from one process to another, through a chaos-proxy: without loss, with
// it, and with it while the sender is killed half way and another goes on. What arrived is compared with what was sent.
// All the while the sender asks for signs of life over the same socket, ahead of the file's parts: how long they take is
// told beside how long they take on an idle path.

// Passage is a chaos-proxy before an address.
type Passage interface {
	Addr() string
	Become(flags string) error
	Close() error
}

// BulkConfig says what to carry.
type BulkConfig struct {
	Size     int64 // bytes of the file
	Loss     float64
	Datagram int
	Dir      string // where the file and its copy lie
	Out      string // directory of report.json; empty: none
	Version  string
	Helper   func(args ...string) *exec.Cmd // a process that ends up in Help
	Proxy    func(to string) (Passage, error)
	Log      io.Writer
}

// BulkReport is everything found out; report.json is exactly this.
type BulkReport struct {
	Machine  Machine   `json:"machine"`
	Size     int64     `json:"size"`
	Datagram int       `json:"datagram"`
	Started  string    `json:"started"`
	Version  string    `json:"version"`
	IdleP50  float64   `json:"idle_p50_us"` // a sign of life without a transfer
	IdleP99  float64   `json:"idle_p99_us"`
	Rows     []BulkRow `json:"rows"`
}

// BulkRow is one crossing.
type BulkRow struct {
	Suite   string  `json:"suite"`
	Case    string  `json:"case"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"bytes_per_s"`
	Times   float64 `json:"times_lossless"`
	Parts   uint64  `json:"parts_over_needed"` // sent for each that was needed, in thousandths
	LifeP50 float64 `json:"life_p50_us"`
	LifeP99 float64 `json:"life_p99_us"`
	Resumed int64   `json:"resumed_at"` // bytes that were kept when the sender died; 0: it did not
}

// Check says what is wrong with a BulkConfig.
func (c *BulkConfig) Check() error {
	switch {
	case c.Size < 1<<20 || c.Size > 1<<40:
		return fmt.Errorf("a file of %d bytes, want 1MiB to 1TiB", c.Size)
	case c.Loss < 0 || c.Loss > 0.5:
		return fmt.Errorf("a loss of %g, want 0 to 0.5", c.Loss)
	case c.Datagram < wire.MinDatagram || c.Datagram > wire.MaxDatagram:
		return fmt.Errorf("datagrams of %d bytes, want %d to %d", c.Datagram, wire.MinDatagram, wire.MaxDatagram)
	}
	return nil
}

// RunBulk carries the file, and writes the report if a directory was named.
func RunBulk(ctx context.Context, c BulkConfig) (*BulkReport, error) {
	r := &BulkReport{Machine: describe(c.Dir), Size: c.Size, Datagram: c.Datagram, Started: time.Now().UTC().Format(time.RFC3339), Version: c.Version}
	file := filepath.Join(c.Dir, "sent")
	sum, err := c.makeFile(file)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file)
	loss := fmt.Sprintf("--loss %g", c.Loss)
	for _, one := range []struct {
		name, flags string
		dies        bool
	}{{"lossless", "", false}, {fmt.Sprintf("loss-%g%%", 100*c.Loss), loss, false}, {"sender-dies", loss, true}} {
		fmt.Fprintf(c.Log, "%s: %s\n", one.name, one.flags)
		row := BulkRow{Suite: "wire-bulk", Case: one.name}
		if err := c.cross(ctx, r, &row, file, sum, one.flags, one.dies); err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		r.Rows = append(r.Rows, row)
		r.Rows[len(r.Rows)-1].Times = row.Rate / r.Rows[0].Rate
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

// makeFile writes bytes of which no two pieces are alike, and gives their sum.
func (c *BulkConfig) makeFile(name string) (uint64, error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	sum := xxhash.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	var word [8]byte
	for at := int64(0); at < c.Size && err == nil; at += 8 {
		binary.LittleEndian.PutUint64(word[:], uint64(at+1)*0x9e3779b97f4a7c15)
		_, err = out.Write(word[:min(8, c.Size-at)])
	}
	err = errors.Join(err, out.Flush())
	return sum.Sum64(), errors.Join(err, f.Close())
}

// cross carries the file once.
func (c *BulkConfig) cross(ctx context.Context, r *BulkReport, row *BulkRow, file string, sum uint64, flags string, dies bool) error {
	copied := filepath.Join(c.Dir, "received")
	defer os.Remove(copied)
	total := strconv.FormatInt(c.Size, 10)
	receiver, err := startHelper(c.Helper("take", copied, total, strconv.Itoa(c.Datagram)))
	if err != nil {
		return err
	}
	defer receiver.end()
	addr, err := receiver.line()
	if err != nil {
		return err
	}
	p, err := c.Proxy(addr)
	if err != nil {
		return err
	}
	defer p.Close()
	if r.IdleP50 == 0 {
		if r.IdleP50, r.IdleP99, err = c.idle(ctx, p.Addr()); err != nil {
			return err
		}
	}
	if err := p.Become(flags); err != nil {
		return err
	}
	began := time.Now()
	senders := 1
	if dies {
		senders = 2
	}
	sent := uint64(0)
	for boot := 1; boot <= senders; boot++ {
		s, err := startHelper(c.Helper("offer", file, total, strconv.Itoa(c.Datagram), p.Addr(), strconv.Itoa(boot)))
		if err != nil {
			return err
		}
		if boot < senders {
			row.Resumed, err = killHalfWay(ctx, s, c.Size)
		} else {
			var parts uint64
			parts, row.LifeP50, row.LifeP99, err = offered(s)
			sent += parts
			s.end()
		}
		if err != nil {
			return err
		}
	}
	row.Seconds = time.Since(began).Seconds()
	row.Rate = float64(c.Size) / row.Seconds
	stride := int64(wire.MaxFrame(c.Datagram)-wire.BulkHeaderBytes) &^ 7
	row.Parts = sent * 1000 / uint64((c.Size-row.Resumed)/stride+1)
	return compare(copied, c.Size, sum)
}

// killHalfWay waits until half of the file is kept, kills the sender, and says what was.
func killHalfWay(ctx context.Context, s *helper, size int64) (int64, error) {
	for ctx.Err() == nil {
		line, err := s.line()
		if err != nil {
			return 0, err
		}
		kept, ok := strings.CutPrefix(line, "kept ")
		if n, err := strconv.ParseInt(kept, 10, 64); ok && err == nil && n >= size/2 {
			if err := s.cmd.Process.Kill(); err != nil {
				return 0, err
			}
			s.end()
			return n, nil
		}
	}
	return 0, ctx.Err()
}

// offered waits for the end of a sender's work.
func offered(s *helper) (parts uint64, p50, p99 float64, err error) {
	for {
		line, err := s.line()
		if err != nil {
			return 0, 0, 0, err
		}
		if rest, ok := strings.CutPrefix(line, "done "); ok {
			_, err = fmt.Sscan(rest, &parts, &p50, &p99)
			return parts, p50, p99, err
		}
	}
}

// idle asks for signs of life for a moment, with nothing else on the way.
func (c *BulkConfig) idle(ctx context.Context, to string) (p50, p99 float64, err error) {
	s, err := startHelper(c.Helper("offer", "", "0", strconv.Itoa(c.Datagram), to, "99"))
	if err != nil {
		return 0, 0, err
	}
	defer s.end()
	_, p50, p99, err = offered(s)
	return p50, p99, errors.Join(err, ctx.Err())
}

func compare(name string, size int64, want uint64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := xxhash.New()
	n, err := io.Copy(sum, f)
	if err == nil && (n != size || sum.Sum64() != want) {
		err = fmt.Errorf("%w: the copy has %d bytes with checksum %x, want %d with %x", ErrWrong, n, sum.Sum64(), size, want)
	}
	return err
}

const (
	bulkTransfer = 7
	lifeEvery    = int64(2e6) // ns
	idleFor      = int64(1e9)
)

// offer is the sender's process: FILE SIZE DATAGRAM TO BOOT; without a file it asks for signs of life only.
func offer(ctx context.Context, args []string, out io.Writer) error {
	size, err1 := strconv.ParseUint(args[1], 10, 64)
	datagram, err2 := strconv.Atoi(args[2])
	to, err3 := netip.ParseAddrPort(args[3])
	boot, err4 := strconv.ParseUint(args[4], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	socket, err := udp.Listen(netip.AddrPortFrom(to.Addr(), 0), udp.Options{})
	if err != nil {
		return err
	}
	defer socket.Close()
	o := &offering{socket: socket, to: to, began: time.Now(), life: newHistogram(), out: out, boot: boot}
	o.packer = wire.Packer{Limit: datagram, Header: wire.Header{Src: 1, Dst: 2, Boot: boot}}
	if args[0] != "" {
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		o.sender = bulk.NewSender(bulk.SenderOptions{Transfer: bulkTransfer, Boot: boot, Total: size, Limit: datagram, Source: file})
	}
	for ctx.Err() == nil && !o.over() {
		if err := o.turn(); err != nil {
			return err
		}
	}
	parts := uint64(0)
	if o.sender != nil {
		parts = o.sender.Sent()
	}
	fmt.Fprintln(out, "done", parts, microseconds(o.life.ValueAtQuantile(50)), microseconds(o.life.ValueAtQuantile(99)))
	return nil
}

// offering is a sender under way.
type offering struct {
	socket  *udp.Socket
	to      netip.AddrPort
	began   time.Time
	boot    uint64
	sender  *bulk.Sender // nil: signs of life only
	packer  wire.Packer
	packets []wire.Packet
	out     io.Writer
	told    int64
	life    *hdrhistogram.Histogram // ns
	asked   int64                   // when a sign of life was asked for last, which is its nonce
}

func (o *offering) now() int64 { return int64(time.Since(o.began)) + 1 }

func (o *offering) over() bool {
	if o.sender == nil {
		return o.now() > idleFor
	}
	return o.sender.Done()
}

// turn takes what is there, and sends what may leave: a sign of life first.
func (o *offering) turn() error {
	until := o.asked + lifeEvery
	if o.sender != nil {
		until = min(until, o.sender.Deadline())
	}
	n, err := o.socket.Receive(o.began.Add(time.Duration(until)))
	if err != nil {
		return err
	}
	for i := range n {
		b, _ := o.socket.Datagram(i)
		o.hear(b)
	}
	now := o.now()
	o.packer.Reset()
	o.packets = o.packets[:0]
	if now >= o.asked+lifeEvery {
		o.asked = now
		f := wire.Probe{AskBoot: o.boot, Nonce: uint64(now)}
		f.Encode(o.packer.Frame(wire.KindProbe, f.Size()))
		o.packets = o.packer.Flush(o.to, o.packets)
	}
	if o.sender != nil {
		if _, err := o.sender.Pack(now, &o.packer); err != nil {
			return err
		}
	}
	o.packets = o.packer.Flush(o.to, o.packets)
	return o.socket.Send(o.packets)
}

func (o *offering) hear(b []byte) {
	_, frames, err := wire.Open(b)
	if err != nil {
		return
	}
	for kind, p, ok := frames.Next(); ok; kind, p, ok = frames.Next() {
		var a wire.BulkAck
		var life wire.ProbeReply
		switch {
		case kind == wire.KindProbeReply && life.Decode(p) == nil && life.EchoBoot == o.boot:
			o.life.RecordValue(max(1, min(o.now()-int64(life.Nonce), longest)))
		case kind == wire.KindBulkAck && a.Decode(p) == nil && o.sender != nil:
			o.sender.Ack(o.now(), &a)
			if kept := int64(a.Floor) * wire.BulkPieceBytes; kept >= o.told+4<<20 {
				o.told = kept
				fmt.Fprintln(o.out, "kept", kept)
			}
		}
	}
}

// take is the receiver's process: FILE SIZE DATAGRAM. It answers until it is ended.
func take(ctx context.Context, args []string, out io.Writer) error {
	size, err1 := strconv.ParseUint(args[1], 10, 64)
	datagram, err2 := strconv.Atoi(args[2])
	file, err3 := os.Create(args[0])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	defer file.Close()
	socket, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Wake)()
	fmt.Fprintln(out, socket.LocalAddr())
	t := &taking{socket: socket, file: file, began: time.Now(), receiver: bulk.NewReceiver(bulk.ReceiverOptions{Transfer: bulkTransfer, Total: size})}
	t.packer = wire.Packer{Limit: datagram, Header: wire.Header{Src: 2, Dst: 1, Boot: 5}}
	for ctx.Err() == nil {
		if err := t.turn(); err != nil {
			return err
		}
	}
	return nil
}

// taking is a receiver under way.
type taking struct {
	socket   *udp.Socket
	file     *os.File
	began    time.Time
	receiver *bulk.Receiver
	from     netip.AddrPort
	packer   wire.Packer
	packets  []wire.Packet
}

func (t *taking) now() int64 { return int64(time.Since(t.began)) + 1 }

// turn answers signs of life first, then what is owed for parts, and writes whole pieces last.
func (t *taking) turn() error {
	until := time.Duration(min(t.receiver.Deadline(), t.now()+int64(time.Second)))
	n, err := t.socket.Receive(t.began.Add(until))
	if err != nil {
		return err
	}
	t.packer.Reset()
	t.packets = t.packets[:0]
	for i := range n {
		var b []byte
		b, t.from = t.socket.Datagram(i)
		t.hear(b)
	}
	t.packets = t.packer.Flush(t.from, t.packets)
	t.receiver.Overflows = uint32(t.socket.Counts().Overflows)
	if a, ok := t.receiver.Ack(t.now()); ok && t.from.IsValid() {
		a.Encode(t.packer.Frame(wire.KindBulkAck, a.Size()))
		t.packets = t.packer.Flush(t.from, t.packets)
	}
	if err := t.socket.Send(t.packets); err != nil {
		return err
	}
	for {
		piece, off, b, ok := t.receiver.Whole()
		if !ok {
			return nil
		}
		if _, err := t.file.WriteAt(b, off); err != nil {
			return err
		}
		t.receiver.Written(t.now(), piece, false)
	}
}

func (t *taking) hear(b []byte) {
	h, frames, err := wire.Open(b)
	if err != nil {
		return
	}
	for kind, p, ok := frames.Next(); ok; kind, p, ok = frames.Next() {
		var f wire.Bulk
		var q wire.Probe
		switch {
		case kind == wire.KindProbe && q.Decode(p) == nil:
			r := wire.ProbeReply{EchoBoot: q.AskBoot, Nonce: q.Nonce}
			r.Encode(t.packer.Frame(wire.KindProbeReply, r.Size()))
		case kind == wire.KindBulk && f.Decode(p) == nil:
			_ = t.receiver.Part(t.now(), h.Boot, &f) // what it refuses is sent again, or never was ours
		}
	}
}

// WriteText writes a table for people.
func (r *BulkReport) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CASE\tSECONDS\tMB/S\tTIMES LOSSLESS\tPARTS\tLIFE P50 µs\tP99\tRESUMED AT MB\t")
	for _, x := range r.Rows {
		fmt.Fprintf(w, "%s\t%.2f\t%.1f\t%.2f\t%.3f\t%.0f\t%.0f\t%.0f\t\n", x.Case, x.Seconds, x.Rate/1e6, x.Times, float64(x.Parts)/1000, x.LifeP50, x.LifeP99, float64(x.Resumed)/1e6)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d bytes in datagrams of %d, process to process through a proxy; each copy was compared with what was sent\nparts: sent for each that is needed; life: a question and its answer over the same socket meanwhile, idle %.0f µs (p99 %.0f)\n",
		r.Size, r.Datagram, r.IdleP50, r.IdleP99)
	return err
}
