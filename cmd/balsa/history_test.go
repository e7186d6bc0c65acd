package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// traffic is a steady load of puts and gets on a few keys, and the history of what was asked and told, to be judged at
// its end: is there an order of all of it in which each read gives the newest write? A put whose outcome is unknown may
// be applied at any later time, or never.
type traffic struct {
	began   time.Time
	stop    context.CancelFunc
	all     sync.WaitGroup
	clients []*client.Client
	ended   atomic.Int64 // operations

	mu      sync.Mutex
	told    []porcupine.Operation
	keys    []string // of told
	failed  []string // what did not succeed
	longest time.Duration
}

const (
	trafficClients = 3 // sockets
	trafficWorkers = 3 // goroutines on each
	trafficKeys    = 3 // at a time
	trafficShift   = 600
	requestTimeout = 20 * time.Second
)

// asked is a put of a value or, with an empty one, a get.
type asked struct{ put string }

// startTraffic begins. The clients know one server each, and learn of the others.
func startTraffic(t *testing.T, ctx context.Context, servers *local.Cluster) *traffic {
	t.Helper()
	f := &traffic{began: time.Now()}
	ctx, f.stop = context.WithCancel(ctx)
	for i := range trafficClients {
		c, err := client.Open(client.Config{Addrs: servers.Addrs()[i%servers.Voters():][:1], Timeout: requestTimeout})
		if err != nil {
			t.Fatal(err)
		}
		f.clients = append(f.clients, c)
		for w := range trafficWorkers {
			f.all.Go(func() { f.work(ctx, c, i*trafficWorkers+w) })
		}
	}
	t.Cleanup(f.end)
	return f
}

func (f *traffic) work(ctx context.Context, c *client.Client, worker int) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("key-%d-%d", f.ended.Load()/trafficShift, rand.IntN(trafficKeys))
		var in asked
		if rand.IntN(2) == 0 {
			in.put = fmt.Sprintf("%d.%d", worker, n)
		}
		f.one(c, worker, key, in)
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond) // steady, not as much as there is room for
	}
}

// one makes a request and writes down what became of it.
func (f *traffic) one(c *client.Client, worker int, key string, in asked) {
	op := porcupine.Operation{ClientId: worker, Input: in, Output: ""}
	var err error
	op.Call = int64(time.Since(f.began))
	if in.put != "" {
		err = c.Put(context.Background(), []byte(key), []byte(in.put))
	} else {
		var got []byte
		got, err = c.Get(context.Background(), []byte(key))
		op.Output = string(got)
	}
	op.Return = int64(time.Since(f.began))
	f.ended.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.longest = max(f.longest, time.Duration(op.Return-op.Call))
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		f.failed = append(f.failed, fmt.Sprintf("%v after %v: %v", time.Duration(op.Return).Round(time.Millisecond), time.Duration(op.Return-op.Call).Round(time.Millisecond), err))
		if in.put == "" || !errors.Is(err, client.ErrUnknown) {
			return // it took no effect and told nothing
		}
		op.Return = math.MaxInt64
	}
	f.told, f.keys = append(f.told, op), append(f.keys, key)
}

// waitMore returns when n more operations have ended.
func (f *traffic) waitMore(t *testing.T, ctx context.Context, n int64) {
	t.Helper()
	for want := f.ended.Load() + n; f.ended.Load() < want; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d operations more were not served", n)
		}
	}
}

// end stops the load; again is nothing.
func (f *traffic) end() {
	f.stop()
	f.all.Wait()
	for _, c := range f.clients {
		c.Close()
	}
	f.clients = nil
}

// register is one key as a sequential object: its newest value.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(asked); in.put != "" {
			return true, in.put
		}
		return state == output, state
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(asked); in.put != "" {
			return "put " + in.put
		}
		return fmt.Sprintf("get -> %q", output)
	},
}

// judge ends the load and judges the history, key by key.
func (f *traffic) judge(t *testing.T) {
	t.Helper()
	f.end()
	byKey := map[string][]porcupine.Operation{}
	for i, op := range f.told {
		byKey[f.keys[i]] = append(byKey[f.keys[i]], op)
	}
	for key, history := range byKey {
		switch result := porcupine.CheckOperationsTimeout(register, history, patience); result {
		case porcupine.Illegal:
			t.Errorf("%s: a lost or stale answer: no order of these explains them:", key)
			for i := range history {
				t.Logf("  worker %d, %v to %v: %s", history[i].ClientId, time.Duration(history[i].Call), time.Duration(history[i].Return), register.DescribeOperation(history[i].Input, history[i].Output))
			}
		case porcupine.Unknown:
			t.Errorf("%s: %d operations could not be judged", key, len(history))
		}
	}
	t.Logf("%d operations on %d keys, %d failed, the longest took %v", len(f.told), len(byKey), len(f.failed), f.longest.Round(time.Millisecond))
}

// wantNoneFailed wants every request to have succeeded.
func (f *traffic) wantNoneFailed(t *testing.T) {
	t.Helper()
	for _, text := range f.failed {
		t.Errorf("a request failed, at %s", text)
	}
}

// A judge that finds nothing is worth nothing.
func TestTheJudgeFindsAStaleAnswer(t *testing.T) {
	put := func(call, ret int64, value string) porcupine.Operation {
		return porcupine.Operation{Input: asked{value}, Call: call, Return: ret, Output: ""}
	}
	get := func(call, ret int64, value string) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: asked{}, Call: call, Return: ret, Output: value}
	}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    bool
	}{
		"in order":                     {[]porcupine.Operation{put(1, 2, "a"), get(3, 4, "a"), put(5, 6, "b"), get(7, 8, "b")}, true},
		"stale":                        {[]porcupine.Operation{put(1, 2, "a"), put(3, 4, "b"), get(5, 6, "a")}, false},
		"lost":                         {[]porcupine.Operation{put(1, 2, "a"), get(3, 4, "")}, false},
		"unknown, then seen, later":    {[]porcupine.Operation{put(1, math.MaxInt64, "a"), get(2, 3, ""), get(4, 5, "a")}, true},
		"unknown, seen, then not":      {[]porcupine.Operation{put(1, math.MaxInt64, "a"), get(2, 3, "a"), get(4, 5, "")}, false},
		"never asked":                  {[]porcupine.Operation{put(1, 2, "a"), get(3, 4, "c")}, false},
		"beside each other, either is": {[]porcupine.Operation{put(1, 9, "a"), put(1, 9, "b"), get(10, 11, "a")}, true},
	} {
		if got := porcupine.CheckOperations(register, c.history); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
