package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrResolving says that an address is being looked up: the next attempt, a
// moment later, may know it.
var ErrResolving = errors.New("being looked up")

// resolver gives the loop addresses from memory. Names are looked up beside it,
// as the answer may take many seconds, and again when they have been known for a
// while, as a host may move: until then, and while nobody answers, what is known
// stays.
type resolver struct {
	lookup func(ctx context.Context, addr string) (netip.AddrPort, error)
	told   func() // something was found out; any goroutine
	ctx    context.Context
	all    sync.WaitGroup

	mu    sync.Mutex
	names map[string]*name
}

// name is what is known of HOST:PORT.
type name struct {
	to    netip.AddrPort // not valid: nothing
	err   error          // of the last look-up
	at    time.Time      // when it ended
	asked bool           // one is under way
}

const (
	nameAgain   = time.Second      // after a look-up that failed
	nameRefresh = 10 * time.Second // after one that did not
	nameTime    = 5 * time.Second  // that one may take
	maxNames    = 1024             // more than any configuration and pool have
)

// resolve is Options.Resolve. A number is its own answer.
func (r *resolver) resolve(addr string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(addr); err == nil {
		return to, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[addr]
	if n == nil {
		if len(r.names) >= maxNames {
			clear(r.names) // whoever is under way still ends, and tells nobody
		}
		n = &name{err: ErrResolving}
		r.names[addr] = n
	}
	again := nameAgain
	if n.err == nil {
		again = nameRefresh
	}
	if !n.asked && time.Since(n.at) >= again && r.ctx.Err() == nil {
		n.asked = true
		r.all.Go(func() { r.find(addr, n) })
	}
	if n.to.IsValid() {
		return n.to, nil
	}
	return n.to, n.err
}

func (r *resolver) find(addr string, n *name) {
	ctx, cancel := context.WithTimeout(r.ctx, nameTime)
	defer cancel()
	to, err := r.lookup(ctx, addr)
	r.mu.Lock()
	n.err, n.at, n.asked = err, time.Now(), false
	if err == nil {
		n.to = to
	}
	r.mu.Unlock()
	r.told()
}

// lookUp asks the system for an address, numbers and names of ports included. IPv4 comes first, as
// with the standard library.
func lookUp(ctx context.Context, addr string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(addr); err == nil {
		return to, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var best netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap(); !best.IsValid() || ip.Is4() && !best.Is4() {
			best = ip
		}
	}
	if !best.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("%s: no address", host)
	}
	return netip.AddrPortFrom(best, uint16(port)), nil
}
