// Command simulate runs seeds of the simulator, as many at once as there are
// processors, and tells which failed and how to see one again.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"balsa/node/sim"
)

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
	flag.Parse()
	if *one != 0 {
		*seeds, *first, *verbose = 1, *one, true
	}
	if *one != 0 && *tell {
		r := sim.RunTold(*one, os.Stdout)
		fmt.Printf("seed %d hash %016x: %s\n%s\n", r.Seed, r.Hash, r.Failure, r.Knobs)
		return
	}
	began := time.Now()
	total := run(*first, *seeds, *verbose, *stop)
	total.report(*seeds, *verbose, time.Since(began))
	if total.failed > 0 {
		os.Exit(1)
	}
}

type total struct {
	passed, failed int
	events         uint64
	operations     int
	faults         int
	elections      int
	hits           [sim.Classes]int
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
	go func() {
		for n := range seeds {
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
		if stop && t.failed > 0 {
			break
		}
	}
	return t
}

func (t *total) add(r sim.Result, verbose bool) {
	t.events += r.Events
	t.operations += r.Operations
	t.faults += r.Faults
	t.elections += r.Elections
	for c, n := range r.Hits {
		t.hits[c] += n
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
	}
	if seeds > 1 || verbose {
		fmt.Printf("%d events, %d operations, %d faults, %d elections in %.1f s; hits: %s\n", t.events, t.operations, t.faults, t.elections, took.Seconds(), hits(t.hits))
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
}
