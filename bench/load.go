package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"balsa/kv/client"
)

// longest is the largest latency that a histogram tells apart, in ns.
const longest = int64(2 * time.Minute)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }

// operation is what a client of the loop does again and again with some key.
type operation func(ctx context.Context, key []byte) error

// row measures one number of clients: load the keys, warm up, count.
func (c *Config) row(ctx context.Context, servers Servers, clients int) (Row, error) {
	fmt.Fprintf(c.Log, "%s, %d clients\n", c.Suite, clients)
	store, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 10 * time.Second})
	if err != nil {
		return Row{}, err
	}
	defer store.Close()
	value := make([]byte, c.ValueSize)
	random := rand.New(rand.NewPCG(c.Seed, 0))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	put := func(ctx context.Context, key []byte) error { return store.Put(ctx, key, value) }
	operate := operation(put)
	if c.Suite == "read" {
		operate = func(ctx context.Context, key []byte) error { _, err := store.Get(ctx, key); return err }
	}
	if err := c.load(ctx, put); err != nil {
		return Row{}, fmt.Errorf("loading %d keys: %w", c.Keys, err)
	}
	return c.ClosedLoop(ctx, servers.Pids(), clients, operate)
}

// ClosedLoop measures one row with any operation: how other systems come under the same clients. pids are the servers.
func (c *Config) ClosedLoop(ctx context.Context, pids []int, clients int, operate func(ctx context.Context, key []byte) error) (Row, error) {
	w := &window{operate: operate, keys: c.Keys, latency: newHistogram()}
	return w.run(ctx, c, pids, clients)
}

// Load writes every key once by any operation.
func (c *Config) Load(ctx context.Context, put func(ctx context.Context, key []byte) error) error {
	return c.load(ctx, put)
}

// loaders is how many clients write the keys before a row is measured.
const loaders = 256

// load writes every key once, so that gets find them and puts meet keys that exist.
func (c *Config) load(ctx context.Context, put operation) error {
	var next atomic.Int64
	failed := make([]error, loaders)
	var all sync.WaitGroup
	for i := range loaders {
		all.Go(func() {
			var key keyBuffer
			for n := next.Add(1) - 1; n < int64(c.Keys) && failed[i] == nil; n = next.Add(1) - 1 {
				failed[i] = put(ctx, key.name(int(n)))
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// window is the counted time of one row. An operation counts if it began and ended within it.
type window struct {
	operate operation
	keys    int
	phase   atomic.Int32

	mu      sync.Mutex
	latency *hdrhistogram.Histogram // ns
	errors  int64
	failure error // the first one
}

const (
	warming = int32(iota)
	counting
	over
)

func (w *window) run(ctx context.Context, c *Config, pids []int, clients int) (Row, error) {
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { w.client(stopping, rand.New(rand.NewPCG(c.Seed, uint64(i)+1))) })
	}
	err := pause(ctx, c.WarmUp)
	cpuBefore, cpuErr := processorSeconds(pids)
	began := time.Now()
	w.phase.Store(counting)
	if err == nil {
		err = pause(ctx, c.Duration)
	}
	w.phase.Store(over)
	seconds := time.Since(began).Seconds()
	cpuAfter, cpuErr2 := processorSeconds(pids)
	all.Wait()
	for _, e := range []error{err, cpuErr, cpuErr2} {
		if e != nil {
			return Row{}, e
		}
	}
	row := newRow(c.Suite, clients, seconds, w.latency)
	row.Errors = w.errors
	if w.latency.TotalCount() == 0 {
		return Row{}, fmt.Errorf("no operation succeeded, the first failure: %w", w.failure)
	}
	if pids != nil {
		cpu := cpuAfter - cpuBefore
		row.ServerCPU = &cpu
	}
	return row, nil
}

// client is one closed loop: the next operation begins when the last has ended.
func (w *window) client(ctx context.Context, random *rand.Rand) {
	var key keyBuffer
	for {
		phase := w.phase.Load()
		if phase == over || ctx.Err() != nil {
			return
		}
		began := time.Now()
		err := w.operate(ctx, key.name(random.IntN(w.keys)))
		took := time.Since(began)
		if phase != counting || w.phase.Load() != counting {
			continue
		}
		w.mu.Lock()
		if err == nil {
			w.latency.RecordValue(min(int64(took), longest))
		} else if w.errors++; w.failure == nil {
			w.failure = err
		}
		w.mu.Unlock()
	}
}

// keyBuffer makes the 16-byte names of keys without allocating.
type keyBuffer [16]byte

func (k *keyBuffer) name(n int) []byte {
	copy(k[:], "key-")
	for i := len(k) - 1; i >= 4; i-- {
		k[i] = byte('0' + n%10)
		n /= 10
	}
	return k[:]
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
