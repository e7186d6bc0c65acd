package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Proxy is a `balsa chaos-proxy` process. Its network changes by Become.
type Proxy struct {
	addr  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // what it says; closed at its end
}

// StartProxy begins one between two addresses, with these flags, and waits until it is ready.
func StartProxy(binary, listen, to string, flags ...string) (*Proxy, error) {
	cmd := exec.Command(binary, append([]string{"chaos-proxy", "--listen", listen, "--to", to}, flags...)...)
	cmd.SysProcAttr = ownGroup()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := spawn(cmd.Start); err != nil {
		return nil, fmt.Errorf("a chaos-proxy: %w", err)
	}
	p := &Proxy{cmd: cmd, in: in, lines: make(chan string, 64)}
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	if err := p.hear("msg=ready"); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.addr }

// Become gives it other flags, in place of all that it had.
func (p *Proxy) Become(flags string) error {
	if _, err := io.WriteString(p.in, flags+"\n"); err != nil {
		return fmt.Errorf("a chaos-proxy: %w", err)
	}
	return p.hear("msg=changed")
}

// hear waits for a line with these words.
func (p *Proxy) hear(words string) error {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	last := "nothing"
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return fmt.Errorf("a chaos-proxy ended, and said %s", last)
			}
			if strings.Contains(line, words) {
				if _, rest, ok := strings.Cut(line, "listen="); ok && p.addr == "" {
					p.addr, _, _ = strings.Cut(rest, " ")
				}
				return nil
			}
			if last = line; strings.Contains(line, "msg=refused") {
				return fmt.Errorf("a chaos-proxy: %s", line)
			}
		case <-timer.C:
			return fmt.Errorf("a chaos-proxy did not say %s within %v", words, stopGrace)
		}
	}
}

// Close kills it.
func (p *Proxy) Close() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	for range p.lines {
	}
	if err := p.cmd.Wait(); err != nil && !killed(err) {
		return fmt.Errorf("a chaos-proxy: %w", err)
	}
	return nil
}

// Behind is a cluster that is reached, also by its own servers, through a proxy for each of them.
type Behind struct {
	*Cluster
	proxies []*Proxy
}

// RunBehind starts the proxies, all with these flags, and then the servers.
func RunBehind(ctx context.Context, o Options, flags ...string) (*Behind, error) {
	o.Proxied = true
	c, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	b := &Behind{Cluster: c}
	for i, s := range c.Servers() {
		p, err := StartProxy(o.Binary, s.Addr, s.Listen, append(flags, "--seed", strconv.Itoa(i+1))...)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.proxies = append(b.proxies, p)
	}
	if err := c.StartAll(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Become changes the network before one server, or with id 0 before all.
func (b *Behind) Become(id uint16, flags string) error {
	for i, p := range b.proxies {
		if id != 0 && int(id) != i+1 {
			continue
		}
		if err := p.Become(flags); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the servers and then the proxies.
func (b *Behind) Close() error {
	errs := []error{b.Cluster.Close()}
	for _, p := range b.proxies {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
