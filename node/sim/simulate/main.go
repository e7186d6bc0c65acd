// Command simulate runs seeds of the simulator, as many at once as there are
// processors, and tells which failed and how to see one again.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"balsa/node/sim"
)

// collectAt lets the heap, which is small, grow further between collections than programs usually do.
const collectAt = 400

// seedsForClasses is how many seeds a run needs before a fault class that
// never did anything makes it invalid.
const seedsForClasses = 200

func main() {
	seeds := flag.Uint64("seeds", 100, "how many seeds to run")
	first := flag.Uint64("first", 1, "the first of them")
	one := flag.Uint64("seed", 0, "run only this seed, verbosely")
	verbose := flag.Bool("verbose", false, "a line a seed, and the knobs of those that fail")
	tell := flag.Bool("tell", false, "with -seed: tell what happens")
	stop := flag.Bool("stop", false, "stop at the first failure")
	profile := flag.String("cpuprofile", "", "write a profile of the processors to this file")
	flag.Parse()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if *one != 0 {
		*seeds, *first, *verbose = 1, *one, true
	}
	if *one != 0 && *tell {
		r := sim.RunTold(*one, os.Stdout)
		fmt.Printf("seed %d hash %016x: %s\n%s\n", r.Seed, r.Hash, r.Failure, r.Knobs)
		return
	}
	end, err := profiled(*profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	began := time.Now()
	total := run(*first, *seeds, *verbose, *stop)
	total.report(*seeds, *verbose, time.Since(began))
	end()
	if total.failed > 0 {
		os.Exit(1)
	}
}

// profiled begins a profile, if a file is named for one, and gives what ends it.
func profiled(name string) (end func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

type total struct {
	passed, failed int
	events         uint64
	time           int64 // virtual
	operations     int
	faults         int
	elections      int
	hits           [sim.Classes]int
	met            sim.Met
}

// run plays the seeds on all processors and takes the results in their order,
// so that the output is the same however fast each was.
func run(first, seeds uint64, verbose, stop bool) total {
	workers := uint64(runtime.GOMAXPROCS(0))
	results := make([]chan sim.Result, min(seeds, 4*workers))
	for i := range results {
		results[i] = make(chan sim.Result, 1)
	}
	slots := make(chan struct{}, workers)
	ahead := make(chan struct{}, len(results)) // a result waits in its place until it is taken
	go func() {
		for n := range seeds {
			ahead <- struct{}{}
			slots <- struct{}{}
			go func() {
				r := sim.Run(first + n)
				<-slots
				results[n%uint64(len(results))] <- r
			}()
		}
	}()
	var t total
	for n := range seeds {
		t.add(<-results[n%uint64(len(results))], verbose)
		<-ahead
		if stop && t.failed > 0 {
			break
		}
	}
	return t
}

func (t *total) add(r sim.Result, verbose bool) {
	t.events += r.Events
	t.time += r.Time
	t.operations += r.Operations
	t.faults += r.Faults
	t.elections += r.Elections
	for c, n := range r.Hits {
		t.hits[c] += n
	}
	for m, n := range r.Met {
		t.met[m] += n
	}
	if verbose {
		fmt.Printf("seed %d hash %016x events %d ops %d faults %d\n", r.Seed, r.Hash, r.Events, r.Operations, r.Faults)
	}
	if r.Failure == "" {
		t.passed++
		return
	}
	t.failed++
	fmt.Printf("seed %d failed: %s\n", r.Seed, r.Failure)
	if verbose {
		fmt.Printf("  knobs %s\n  hits %s\n", r.Knobs, hits(r.Hits))
	}
	fmt.Printf("  replay: make sim SEEDS=1 FIRST=%d VERBOSE=1\n", r.Seed)
}

func hits(h [sim.Classes]int) string {
	var b strings.Builder
	for c := range sim.Classes {
		fmt.Fprintf(&b, "%v %d, ", c, h[c])
	}
	return strings.TrimSuffix(b.String(), ", ")
}

func (t *total) report(seeds uint64, verbose bool, took time.Duration) {
	if seeds >= seedsForClasses {
		for c := range sim.Classes {
			if t.hits[c] == 0 {
				fmt.Printf("fault class %v never did anything in %d seeds: this run proves nothing about it\n", c, seeds)
				t.failed++
			}
		}
		for m := range sim.Marks {
			if t.met[m] == 0 {
				fmt.Printf("state %v was never met in %d seeds: this run proves nothing about it\n", m, seeds)
				t.failed++
			}
		}
	}
	if seeds > 1 || verbose {
		simulated := float64(t.time) / 1e9
		fmt.Printf("%d events, %d operations, %d faults, %d elections; hits: %s\n", t.events, t.operations, t.faults, t.elections, hits(t.hits))
		defer fmt.Printf("%.0f simulated seconds in %.1f s: %.0f a second, %.1f seeds a second\n", simulated, took.Seconds(), simulated/took.Seconds(), float64(seeds)/took.Seconds())
	}
	if seeds > 1 || verbose {
		fmt.Printf("met: %s\n", states(&t.met))
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
}

func states(met *sim.Met) string {
	var b strings.Builder
	for m := range sim.Marks {
		fmt.Fprintf(&b, "%v %d, ", m, met[m])
	}
	return strings.TrimSuffix(b.String(), ", ")
}
