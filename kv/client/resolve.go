package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"balsa/wire"
	"balsa/wire/secret"
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

// keys reads the secret file; nil without one.
func (cfg *Config) keys() (*wire.Keys, error) {
	if cfg.SecretFile == "" {
		return nil, nil
	}
	k, err := secret.Load(cfg.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return k, nil
}

// rereadPause is the least time between two readings of the secret file, ns.
const rereadPause = int64(500 * time.Millisecond)

// reread reads the secret file again, beside the receiver, because the servers hold a newer secret. While it has none
// of theirs the old ones stay in use.
func (c *Client) reread() {
	k, err := secret.Load(c.secret)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if err == nil {
		c.core.Rekey(k)
	}
}

// SecretEpoch is the number of the newest secret that the client holds, 0 without any: a rotation is over for it when
// that is the cluster's newest.
func (c *Client) SecretEpoch() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.core.cfg.Keys; k != nil {
		return k.Newest()
	}
	return 0
}
