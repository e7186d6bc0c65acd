package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	wirefault "balsa/wire/fault"
)

// proxyFlags are what the network between is to be like.
type proxyFlags struct {
	loss, dup, reorder, corrupt chance
	delay, jitter               time.Duration
	mtu                         int
	rate                        byteSize
	only                        *choice
	cuts                        []string
}

const proxyHelp = `chaos-proxy stands before one server and is a bad network: servers and clients that are given A for its address reach the
server at B through it. Give the servers' pool the proxies' addresses, and each server its own by serve --listen.

Faults hit both ways, each datagram by itself, unless --only names one. P is a probability, 0.05 or 5%. A datagram takes DELAY and up
to JITTER more, so jitter reorders, too; --reorder holds one back for up to 20 times as long (at least 20ms). Of --mtu, N is the bytes
of the datagram's payload; longer ones vanish without a word, as on a path that drops ICMP. --rate is bytes a second each way; what
would stand in line for more than 200ms is lost. --cut to|from|both[@START][+DURATION] lets nothing pass, from START after the
beginning (at once) for DURATION (for ever); it may be given several times.

The same seed and the same datagrams in the same order meet the same fate. A line on standard input is flags that hold from then on,
instead of all before (an empty line: a perfect network). At the end, at SIGTERM or SIGINT, it tells what it did, and its own jitter.`

func chaosProxyCommand(s *streams) *cobra.Command {
	var listen, to string
	var seed uint64
	o := &proxyFlags{}
	cmd := &cobra.Command{
		Use: "chaos-proxy --listen A --to B", Short: "a bad network before one server, for tests and drills", Args: noWords, Long: proxyHelp,
		Example: "balsa chaos-proxy --listen 127.0.0.1:7201 --to 127.0.0.1:7101 --loss 5% --delay 10ms --jitter 2ms\n" +
			"balsa chaos-proxy --listen 127.0.0.1:7201 --to 127.0.0.1:7101 --cut from@10s+3s --mtu 600",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := proxyAddress("listen", listen)
			if err != nil {
				return err
			}
			b, err := proxyAddress("to", to)
			if err != nil {
				return err
			}
			return runProxy(cmd.Context(), s, o, a, b, seed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "", "HOST:PORT to take datagrams at")
	f.StringVar(&to, "to", "", "HOST:PORT of the server")
	f.Uint64Var(&seed, "seed", 1, "of all chances")
	o.add(f)
	return cmd
}

func (o *proxyFlags) add(f *pflag.FlagSet) {
	*o = proxyFlags{only: newChoice("both", "to", "from")}
	f.Var(&o.loss, "loss", "chance that a datagram is lost")
	f.Var(&o.dup, "dup", "chance that it arrives twice")
	f.Var(&o.reorder, "reorder", "chance that it is held back and overtaken")
	f.Var(&o.corrupt, "corrupt", "chance that one of its bits is flipped")
	f.DurationVar(&o.delay, "delay", 0, "how long it takes")
	f.DurationVar(&o.jitter, "jitter", 0, "and up to how much longer")
	f.IntVar(&o.mtu, "mtu", 0, "longest datagram that passes, bytes")
	f.Var(&o.rate, "rate", "bytes a second that pass, such as 10MiB")
	f.Var(o.only, "only", "the way that the faults but --cut hit: to the server, or from it")
	f.StringArrayVar(&o.cuts, "cut", nil, "to|from|both[@START][+DURATION]: nothing passes")
}

func proxyAddress(flag, text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, usagef("chaos-proxy needs --listen HOST:PORT and --to HOST:PORT")
	}
	a, err := net.ResolveUDPAddr("udp", text)
	if err != nil || a.IP == nil || a.Port == 0 && flag == "to" {
		return netip.AddrPort{}, usagef("--%s %q: want HOST:PORT", flag, text)
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

func runProxy(ctx context.Context, s *streams, o *proxyFlags, listen, to netip.AddrPort, seed uint64) error {
	link, cuts, err := o.network(0)
	if err != nil {
		return err
	}
	p, err := newProxy(listen, to, seed)
	if err != nil {
		return fmt.Errorf("chaos-proxy: %w", err)
	}
	p.set(link, cuts)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	fmt.Fprintf(s.err, "msg=ready listen=%s to=%s seed=%d\n", p.front.LocalAddr(), to, seed)
	go p.obey(s.in, s.err)
	err = p.run(ctx)
	p.tell(s.err)
	return err
}

// obey takes new flags from a stream, a line at a time.
func (p *proxy) obey(in io.Reader, out io.Writer) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o proxyFlags
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.SetOutput(io.Discard)
		o.add(f)
		err := f.Parse(strings.Fields(lines.Text()))
		if err == nil && f.NArg() > 0 {
			err = fmt.Errorf("%q is no flag", f.Arg(0))
		}
		var link [2]wirefault.Link
		var cuts [2][]cut
		if err == nil {
			link, cuts, err = o.network(p.now())
		}
		if err != nil {
			fmt.Fprintf(out, "msg=refused line=%q err=%q\n", lines.Text(), err)
			continue
		}
		p.set(link, cuts)
		fmt.Fprintf(out, "msg=changed line=%q\n", lines.Text())
	}
}

// network makes links and cuts of the flags; cuts begin at now.
func (o *proxyFlags) network(now int64) (links [2]wirefault.Link, cuts [2][]cut, err error) {
	if o.delay < 0 || o.jitter < 0 || o.delay > time.Minute || o.jitter > time.Minute {
		return links, cuts, usagef("--delay %v and --jitter %v: want 0 to 1m", o.delay, o.jitter)
	}
	if o.mtu < 0 {
		return links, cuts, usagef("--mtu %d: want a number of bytes", o.mtu)
	}
	link := wirefault.Link{
		Loss: float64(o.loss), Dup: float64(o.dup), Reorder: float64(o.reorder), Corrupt: float64(o.corrupt), MTU: o.mtu, Rate: int64(o.rate),
		DelayMin: int64(o.delay), DelayMax: int64(o.delay + o.jitter), ReorderDelay: max(20*int64(o.delay+o.jitter), 20e6),
	}
	for i, way := range []string{"to", "from"} {
		if o.only.value == "both" || o.only.value == way {
			links[i] = link
		}
	}
	for _, text := range o.cuts {
		which, c, err := parseCut(text, now)
		if err != nil {
			return links, cuts, err
		}
		for i, way := range []string{"to", "from"} {
			if which == "both" || which == way {
				cuts[i] = append(cuts[i], c)
			}
		}
	}
	return links, cuts, nil
}

// parseCut reads WAY[@START][+DURATION].
func parseCut(text string, now int64) (way string, c cut, err error) {
	rest, long, bounded := strings.Cut(text, "+")
	way, start, later := strings.Cut(rest, "@")
	var at, d time.Duration
	if later {
		at, err = time.ParseDuration(start)
	}
	if bounded && err == nil {
		d, err = time.ParseDuration(long)
	}
	if err != nil || at < 0 || d < 0 || !contains([]string{"to", "from", "both"}, way) {
		return "", c, usagef("--cut %q: want to, from or both, then perhaps @START, then perhaps +DURATION, such as to@2s+500ms", text)
	}
	c = cut{now + int64(at), math.MaxInt64}
	if bounded {
		c.until = c.from + int64(d)
	}
	return way, c, nil
}

// chance is a flag that takes a probability, 0.05 or 5%.
type chance float64

func (c *chance) Type() string   { return "P" }
func (c *chance) String() string { return strconv.FormatFloat(float64(*c), 'g', -1, 64) }

func (c *chance) Set(text string) error {
	digits, percent := strings.CutSuffix(text, "%")
	x, err := strconv.ParseFloat(digits, 64)
	if percent {
		x /= 100
	}
	if err != nil || !(x >= 0 && x <= 1) {
		return fmt.Errorf("want a probability, 0 to 1 or 0%% to 100%%")
	}
	*c = chance(x)
	return nil
}
