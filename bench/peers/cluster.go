package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"balsa/bench"
)

// The suites commit and read against etcd: rounds in which first one cluster and then the other is started, measured and
// stopped, the first one changing from round to round. A bar is the median over the rounds of balsa's operations per
// second over etcd's of the same round.

// clusterConfig says what to measure.
type clusterConfig struct {
	balsa, dir, out    string
	commit, read       numbers
	duration, warmUp   time.Duration
	trials, keys, size int
}

// clusterRow is a row of one round.
type clusterRow struct {
	Subject string `json:"subject"`
	Trial   int    `json:"trial"`
	bench.Row
}

// clusterReport is everything.
type clusterReport struct {
	Machine  bench.Machine `json:"machine"`
	Settings string        `json:"settings"`
	Rows     []clusterRow  `json:"rows"`
	Ratios   []ratio       `json:"ratios"`
}

// ratio compares one case: balsa over etcd.
type ratio struct {
	Suite   string    `json:"suite"`
	Clients int       `json:"clients"`
	Trials  []float64 `json:"trials"`
	Median  float64   `json:"median"`
}

func runCluster(ctx context.Context, args []string) error {
	c := clusterConfig{commit: numbers{1, 64, 512}, read: numbers{1, 256}}
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.StringVar(&c.balsa, "balsa", "bin/balsa", "the binary to measure")
	f.StringVar(&c.dir, "dir", "", "where the servers' data lives")
	f.StringVar(&c.out, "out", "", "a file for the report as JSON")
	f.Var(&c.commit, "commit", "numbers of clients that put")
	f.Var(&c.read, "read", "numbers of clients that get")
	f.DurationVar(&c.duration, "duration", 5*time.Second, "measured time of each row")
	f.DurationVar(&c.warmUp, "warm-up", time.Second, "time before it that does not count")
	f.IntVar(&c.trials, "trials", 3, "rounds")
	f.IntVar(&c.keys, "keys", 100_000, "number of keys")
	f.IntVar(&c.size, "value-size", 100, "bytes of a value")
	form := f.String("o", "text", "text or json")
	if err := f.Parse(args); err != nil {
		return err
	}
	report, err := c.run(ctx)
	if err != nil {
		return err
	}
	if c.out != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err == nil {
			err = os.WriteFile(c.out, text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if *form == "json" {
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	return report.text(os.Stdout)
}

func (c *clusterConfig) run(ctx context.Context) (*clusterReport, error) {
	r := &clusterReport{Machine: bench.Describe(c.dir), Settings: fmt.Sprintf(
		"three servers each, on loopback, each a process; %d keys of 16 bytes, values of %d; closed loop, %v a row after %v; etcd 3.7.3 by its gRPC client, %d connections to the leader",
		c.keys, c.size, c.duration, c.warmUp, etcdConnections)}
	for trial := range c.trials {
		order := []func(context.Context, int, *clusterReport) error{c.etcdRound, c.balsaRound}
		if trial%2 == 1 {
			slices.Reverse(order)
		}
		for _, round := range order {
			if err := round(ctx, trial, r); err != nil {
				return nil, err
			}
		}
	}
	r.compare()
	return r, ctx.Err()
}

func (c *clusterConfig) etcdRound(ctx context.Context, trial int, r *clusterReport) error {
	for _, suite := range []string{"commit", "read"} {
		cluster, err := startEtcd(ctx, c.dir)
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		err = c.etcdRows(ctx, cluster, suite, trial, r)
		cluster.Close()
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
	}
	return nil
}

func (c *clusterConfig) etcdRows(ctx context.Context, cluster *etcdCluster, suite string, trial int, r *clusterReport) error {
	b := &bench.Config{Suite: suite, Duration: c.duration, WarmUp: c.warmUp, Keys: c.keys, ValueSize: c.size, Seed: uint64(trial) + 1, Log: os.Stderr}
	value := make([]byte, c.size)
	random := rand.New(rand.NewPCG(1, 0))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	text := string(value)
	var next atomic.Uint64
	put := func(ctx context.Context, key []byte) error {
		_, err := cluster.clients[next.Add(1)%etcdConnections].Put(ctx, string(key), text)
		return err
	}
	operate, clients := put, c.commit
	if suite == "read" {
		clients = c.read
		operate = func(ctx context.Context, key []byte) error {
			a, err := cluster.clients[next.Add(1)%etcdConnections].Get(ctx, string(key))
			if err == nil && len(a.Kvs) != 1 {
				err = fmt.Errorf("key %s is not there", key)
			}
			return err
		}
	}
	if err := b.Load(ctx, put); err != nil {
		return err
	}
	for _, n := range clients {
		fmt.Fprintf(os.Stderr, "round %d: etcd %s, %d clients\n", trial+1, suite, n)
		row, err := b.ClosedLoop(ctx, cluster.pids(), n, operate)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, clusterRow{"etcd", trial + 1, row})
	}
	return nil
}

// balsaRound runs the suites of the binary itself: their clients are one process, as etcd's are.
func (c *clusterConfig) balsaRound(ctx context.Context, trial int, r *clusterReport) error {
	for suite, clients := range map[string]numbers{"commit": c.commit, "read": c.read} {
		fmt.Fprintf(os.Stderr, "round %d: balsa %s\n", trial+1, suite)
		args := []string{"bench", suite, "--local", "3", "--clients", clients.String(), "--duration", c.duration.String(), "--warm-up", c.warmUp.String(),
			"--keys", fmt.Sprint(c.keys), "--value-size", fmt.Sprint(c.size), "--seed", fmt.Sprint(trial + 1), "-o", "json"}
		cmd := exec.CommandContext(ctx, c.balsa, args...)
		if c.dir != "" {
			cmd.Env = append(os.Environ(), "TMPDIR="+c.dir)
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s %s: %w", c.balsa, strings.Join(args, " "), err)
		}
		var report bench.Report
		if err := json.Unmarshal(out, &report); err != nil {
			return err
		}
		for _, row := range report.Rows {
			r.Rows = append(r.Rows, clusterRow{"balsa", trial + 1, row})
		}
	}
	return nil
}

func (r *clusterReport) rate(subject, suite string, clients, trial int) float64 {
	for _, row := range r.Rows {
		if row.Subject == subject && row.Suite == suite && row.Clients == clients && row.Trial == trial {
			return row.OpsPerSecond
		}
	}
	return 0
}

func (r *clusterReport) compare() {
	for _, row := range r.Rows {
		if row.Subject != "etcd" || row.Trial != 1 {
			continue
		}
		one := ratio{Suite: row.Suite, Clients: row.Clients}
		for trial := 1; r.rate("etcd", row.Suite, row.Clients, trial) > 0; trial++ {
			one.Trials = append(one.Trials, r.rate("balsa", row.Suite, row.Clients, trial)/r.rate("etcd", row.Suite, row.Clients, trial))
		}
		sorted := slices.Sorted(slices.Values(one.Trials))
		one.Median = sorted[len(sorted)/2]
		r.Ratios = append(r.Ratios, one)
	}
}

// bars are what balsa must reach, times etcd.
var bars = map[string]map[int]float64{"commit": {64: 15, 512: 30}, "read": {256: 12}}

func (r *clusterReport) text(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ROUND\tSUITE\tCLIENTS\tSUBJECT\tOPS/S\tP50 µs\tP99\tMAX\tERRORS\tSERVER CPU s per 100,000\t")
	for _, row := range r.Rows {
		cpu := "-"
		if row.ServerCPU != nil {
			cpu = fmt.Sprintf("%.2f", *row.ServerCPU/(row.OpsPerSecond*row.Seconds)*1e5)
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%s\t\n", row.Trial, row.Suite, row.Clients, row.Subject, row.OpsPerSecond, row.P50, row.P99, row.Max, row.Errors, cpu)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "SUITE\tCLIENTS\tTIMES ETCD: MEDIAN\tROUNDS\tBAR\t")
	for _, x := range r.Ratios {
		bar := "-"
		if b := bars[x.Suite][x.Clients]; b > 0 {
			bar = fmt.Sprintf("%.0f", b)
		}
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%s\t\n", x.Suite, x.Clients, x.Median, x.Trials, bar)
	}
	fmt.Fprintf(w, "\n%s\n", r.Settings)
	return w.Flush()
}
