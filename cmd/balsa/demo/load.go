package demo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"balsa/kv/client"
)

// loadPatience is what a request of the load may take before it counts as failed.
const loadPatience = 2 * time.Second

// load is a few clients that put and get without pause, each its own key, and check what they read.
type load struct {
	client *client.Client
	stop   context.CancelFunc
	all    sync.WaitGroup
	served atomic.Int64

	mu      sync.Mutex
	failed  error // the first
	longest time.Duration
}

const loadClients = 4

// startLoad begins a load on the cluster.
func (s *stage) startLoad(ctx context.Context) (*load, error) {
	c, err := client.Open(client.Config{Addrs: s.cluster.Addrs(), Timeout: loadPatience})
	if err != nil {
		return nil, err
	}
	l := &load{client: c}
	ctx, l.stop = context.WithCancel(ctx)
	for i := range loadClients {
		l.all.Go(func() { l.run(ctx, i) })
	}
	return l, nil
}

func (l *load) run(ctx context.Context, worker int) {
	key := []byte(fmt.Sprintf("load-%d", worker))
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprint(n)
		l.one(ctx, "put", func() error { return l.client.Put(context.Background(), key, []byte(value)) })
		l.one(ctx, "get", func() error {
			got, err := l.client.Get(context.Background(), key)
			if err == nil && string(got) != value {
				return fmt.Errorf("got %q, want %q", got, value)
			}
			return err
		})
	}
}

func (l *load) one(ctx context.Context, what string, request func() error) {
	began := time.Now()
	err := request()
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, took)
	if err == nil {
		l.served.Add(1)
	} else if l.failed == nil && ctx.Err() == nil {
		l.failed = fmt.Errorf("%s under load: %w", what, err)
	}
}

// waitMore returns when n more requests were served, or one has failed.
func (l *load) waitMore(ctx context.Context, n int64) error {
	for want := l.served.Load() + n; l.served.Load() < want; {
		if err := l.failure(); err != nil {
			return err
		}
		if err := rest(ctx); err != nil {
			return fmt.Errorf("%d requests more under load: %w", n, err)
		}
	}
	return l.failure()
}

func (l *load) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// end stops the load and wants that no request failed.
func (l *load) end(s *stage) error {
	l.stop()
	l.all.Wait()
	l.client.Close()
	if l.failed != nil {
		return l.failed
	}
	s.say("%d puts and gets were served meanwhile, none failed, the longest took %d ms", l.served.Load(), l.longest.Milliseconds())
	return nil
}

// rest is the pause between two looks at something.
func rest(ctx context.Context) error {
	select {
	case <-time.After(leaderPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
