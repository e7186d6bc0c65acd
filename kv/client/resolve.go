package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// resolveAll turns HOST:PORT into addresses. It fails if one is malformed, or if none can be found.
func resolveAll(addrs []string, timeout time.Duration) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var found []netip.AddrPort
	var failed error
	for _, a := range addrs {
		host, port, err := split(a)
		if err != nil {
			return nil, err
		}
		ap, err := lookup(ctx, host, port)
		if err != nil {
			failed = fmt.Errorf("client: server address %s: %w", a, err)
			continue
		}
		found = append(found, ap)
	}
	if len(found) == 0 {
		return nil, failed
	}
	return found, nil
}

func split(addr string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err == nil && host == "" {
		host = "127.0.0.1"
	}
	n, perr := strconv.ParseUint(service, 10, 16)
	if err != nil || perr != nil || n == 0 {
		return "", 0, fmt.Errorf("client: server address %q: want HOST:PORT", addr)
	}
	return host, uint16(n), nil
}

// lookup prefers IPv4, which every server listens on unless told otherwise.
func lookup(ctx context.Context, host string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range all {
		if a.Unmap().Is4() {
			return netip.AddrPortFrom(a.Unmap(), port), nil
		}
	}
	if len(all) == 0 {
		return netip.AddrPort{}, fmt.Errorf("no address for %s", host)
	}
	return netip.AddrPortFrom(all[0], port), nil
}

// resolve looks up, beside the receiver, the host names that servers named each other by. What is not found now is
// told again by the next answer.
func (c *Client) resolve(ctx context.Context, names []string) {
	defer c.helpers.Done()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for _, name := range names {
		host, port, err := split(name)
		if err != nil {
			continue
		}
		a, err := lookup(ctx, host, port)
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.core.Learn(a)
		c.mu.Unlock()
	}
}
