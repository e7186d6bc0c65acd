package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"balsa/kv"
	"balsa/kv/client"
)

// probe is the one client that writes while servers are harmed: a closed loop of puts, each with a key of its own, each
// kept with when it began, when it ended and what became of it.
type probe struct {
	store *client.Client
	end   context.CancelFunc
	over  sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	puts    []probePut
	wanted  bool // false: the loop is to stand still
	still   bool // and does
}

type probePut struct {
	began, ended int64 // wall clock, ns, as the servers' logs have it
	term         uint64
	outcome      client.Outcome
}

// probeTimeout is far above any outage that a cluster with a majority has: a put that reaches it is told as an error.
const probeTimeout = 20 * time.Second

func startProbe(ctx context.Context, addrs []string) (*probe, error) {
	store, err := client.Open(client.Config{Addrs: addrs, Timeout: probeTimeout})
	if err != nil {
		return nil, err
	}
	p := &probe{store: store, wanted: true}
	p.changed.L = &p.mu
	ctx, p.end = context.WithCancel(ctx)
	p.over.Go(func() { p.loop(ctx) })
	return p, nil
}

func (p *probe) stop() {
	p.end()
	p.changed.Broadcast()
	p.over.Wait()
	p.store.Close()
}

func (p *probe) loop(ctx context.Context) {
	var key keyBuffer
	for n := 0; ; n++ {
		p.mu.Lock()
		for !p.wanted && ctx.Err() == nil {
			p.still = true
			p.changed.Broadcast()
			p.changed.Wait()
		}
		p.still = false
		p.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		name := key.name(n)
		one := probePut{began: time.Now().UnixNano()}
		a, err := p.store.Do(ctx, &client.Op{Op: kv.Put, Key: name, Value: name})
		one.ended, one.term, one.outcome = time.Now().UnixNano(), a.Term, outcomeOf(err)
		p.mu.Lock()
		p.puts = append(p.puts, one)
		p.mu.Unlock()
		p.changed.Broadcast()
	}
}

func outcomeOf(err error) client.Outcome {
	switch {
	case err == nil:
		return client.Applied
	case errors.Is(err, client.ErrUnknown):
		return client.Unknown
	}
	return client.NotApplied
}

// count is how many puts have ended.
func (p *probe) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.puts)
}

// wait returns when done, asked after every put, says so.
func (p *probe) wait(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock() // or it is missed between the question and the wait
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !done() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.changed.Wait()
	}
	return nil
}

// waitTerm returns when so many puts were acknowledged in a term above the one given.
func (p *probe) waitTerm(ctx context.Context, term uint64, count int) error {
	return p.wait(ctx, func() bool {
		found := 0
		for i := len(p.puts) - 1; i >= 0 && found < count; i-- {
			if w := &p.puts[i]; w.outcome == client.Applied {
				if w.term <= term {
					break // terms only rise
				}
				found++
			}
		}
		return found >= count
	})
}

// pause returns when the loop stands still; resume lets it go on.
func (p *probe) pause(ctx context.Context) error {
	p.mu.Lock()
	p.wanted = false
	p.mu.Unlock()
	return p.wait(ctx, func() bool { return p.still })
}

func (p *probe) resume() {
	p.mu.Lock()
	p.wanted = true
	p.mu.Unlock()
	p.changed.Broadcast()
}

// judge fills in what the client saw of a trial: the longest time without an acknowledgement that any part of the trial
// had a share in, and the time from the fault to the first write acknowledged in a new term.
func (p *probe) judge(o *Trial, fault, over time.Time, term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, to := fault.UnixNano(), over.UnixNano()
	last, longest, first := int64(0), int64(0), int64(0)
	for i := range p.puts {
		w := &p.puts[i]
		if w.ended > from && w.began < to {
			switch w.outcome {
			case client.NotApplied:
				o.NotApplied++
			case client.Unknown:
				o.Unknown++
			}
			o.Writes++
		}
		if w.outcome != client.Applied {
			continue
		}
		if last != 0 && w.ended > from && last < to {
			longest = max(longest, w.ended-last)
		}
		if first == 0 && w.ended > from && w.term > term {
			first = w.ended
		}
		last = w.ended
	}
	o.Unavailable, o.FirstWrite = milliseconds(time.Duration(longest)), milliseconds(time.Duration(first-from))
}

// check reads back every put since the first-th, while the loop stands still. Acknowledged ones must be there, those
// that were not applied must not.
func (p *probe) check(ctx context.Context, first int, row *ElectionRow) error {
	there := make([]bool, p.count())
	var key keyBuffer
	strange := 0
	from := append([]byte(nil), key.name(first)...)
	err := p.store.Scan(ctx, []byte("key-"), from, nil, 0, func(k, v []byte) bool {
		n, err := strconv.Atoi(string(k[min(len("key-"), len(k)):]))
		if err != nil || n < 0 || n >= len(there) || string(v) != string(k) {
			strange++
			return true
		}
		there[n] = true
		return true
	})
	if err != nil {
		return fmt.Errorf("reading back what was acknowledged: %w", err)
	}
	if strange > 0 {
		return fmt.Errorf("reading back: %d keys or values that nobody wrote", strange)
	}
	p.tally(there, first, row)
	return nil
}

// tally compares what was acknowledged with what is there.
func (p *probe) tally(there []bool, first int, row *ElectionRow) {
	for i := first; i < len(there); i++ {
		switch o := p.puts[i].outcome; {
		case o == client.Applied:
			row.Acknowledged++
			if !there[i] {
				row.Lost++
			}
		case o == client.Unknown:
			row.Errors.Unknown++
		default:
			row.Errors.NotApplied++
			if there[i] {
				row.AppliedAnyway++
			}
		}
	}
}
