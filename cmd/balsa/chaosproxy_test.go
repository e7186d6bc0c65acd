package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire/secret"
)

// proxyProcess is a `balsa chaos-proxy`.
type proxyProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
	addr  string
}

func startProxy(t *testing.T, listen, to string, flags ...string) *proxyProcess {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"chaos-proxy", "--listen", listen, "--to", to}, flags...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	p := &proxyProcess{t: t, cmd: cmd, in: in, lines: bufio.NewScanner(said)}
	p.addr = regexp.MustCompile(`listen=(\S+)`).FindStringSubmatch(p.until("msg=ready"))[1]
	return p
}

// until gives the next line with these words.
func (p *proxyProcess) until(words string) string {
	p.t.Helper()
	for p.lines.Scan() {
		if strings.Contains(p.lines.Text(), words) {
			return p.lines.Text()
		}
	}
	p.t.Fatalf("the proxy never said %q", words)
	return ""
}

// become gives it other flags.
func (p *proxyProcess) become(flags string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, flags+"\n"); err != nil {
		p.t.Fatal(err)
	}
	p.until("msg=")
}

// end stops it, and gives the numbers before each word of what it tells of a direction, and of its jitter.
func (p *proxyProcess) end(about string) map[string]int {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(\d+) ([a-z µ]+)`).FindAllStringSubmatch(p.until(about), -1) {
		counts[m[2]], _ = strconv.Atoi(m[1])
	}
	p.until("own jitter")
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the proxy ended with %v", err)
	}
	return counts
}

func dial(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echoServer sends every datagram back.
func echoServer(t *testing.T) string {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// ask sends a datagram and waits for its echo; false: none came for so long.
func ask(t *testing.T, c *net.UDPConn, text string, long time.Duration) bool {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	c.SetReadDeadline(time.Now().Add(long))
	for {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		if string(buf[:n]) == text {
			return true
		}
	}
}

func TestAPerfectProxyCarriesEverySenderToAndFro(t *testing.T) {
	p := startProxy(t, "127.0.0.1:0", echoServer(t))
	for i := range 5 {
		c := dial(t, p.addr)
		for _, n := range []int{1, 1200, 60000} {
			if !ask(t, c, strings.Repeat(strconv.Itoa(i), n), patience) {
				t.Fatalf("sender %d: no echo of %d bytes", i, n)
			}
		}
	}
	if n := p.end("from the server"); n["came"] != 15 || n["sent on"] != 15 || n["lost"] != 0 {
		t.Errorf("got %v", n)
	}
}

func TestAProxyIsTheNetworkThatWasAskedForAndChangesWhenTold(t *testing.T) {
	p := startProxy(t, "127.0.0.1:0", echoServer(t), "--delay", "20ms", "--mtu", "600")
	c := dial(t, p.addr)
	began := time.Now()
	if !ask(t, c, "late", patience) || time.Since(began) < 40*time.Millisecond {
		t.Errorf("there and back in %v, want 40ms at least", time.Since(began))
	}
	long := strings.Repeat("x", 601)
	if ask(t, c, long, 200*time.Millisecond) || !ask(t, c, long[:600], patience) {
		t.Error("601 bytes passed an MTU of 600, or 600 did not")
	}
	p.become("--loss 1 --only from")
	if ask(t, c, "lost", 100*time.Millisecond) {
		t.Error("passed a loss of all")
	}
	p.become("--cut to+300ms")
	if ask(t, c, "cut", 100*time.Millisecond) {
		t.Error("passed a cut")
	}
	for deadline := time.Now().Add(patience); !ask(t, c, "over", 100*time.Millisecond); {
		if time.Now().After(deadline) {
			t.Fatal("a cut never ended")
		}
	}
	p.become("--dup 1 --only to")
	p.become("--nonsense")
	ask(t, c, "twice", patience)
	n := p.end("to the server")
	if n["twice"] != 1 || n["too long"] != 1 || n["cut"] < 1 || n["lost"] != 0 {
		t.Errorf("got %v", n)
	}
}

func TestAProxyRefusesWhatItCannotDo(t *testing.T) {
	for _, flags := range [][]string{
		{"--loss", "2"}, {"--loss", "-1"}, {"--delay", "-1s"}, {"--cut", "sideways"}, {"--cut", "to@x"}, {"--rate", "much"}, {"--mtu=-1"}, {},
	} {
		args := []string{"chaos-proxy"}
		if len(flags) > 0 {
			args = append(args, "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9")
		}
		if text, errs, code := balsa(append(args, flags...)...); code != exitUsage {
			t.Errorf("%v: code %d: %s%s", flags, code, text, errs)
		}
	}
}

// proxied is a cluster whose servers reach each other, and are reached, through proxies with these flags.
func proxied(t *testing.T, flags ...string) (context.Context, *local.Cluster, []*proxyProcess, *client.Client) {
	t.Helper()
	return proxiedIn(t, "", flags...)
}

// proxiedIn is that, sealed with the files of a directory if there is one.
func proxiedIn(t *testing.T, secrets string, flags ...string) (context.Context, *local.Cluster, []*proxyProcess, *client.Client) {
	t.Helper()
	var serve []string
	file := ""
	if secrets != "" {
		serve = []string{"--secret-file", filepath.Join(secrets, secret.ServerFile)}
		file = filepath.Join(secrets, secret.ClientFile)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Open(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Proxied: true, Serve: serve})
	if err != nil {
		t.Fatal(err)
	}
	var proxies []*proxyProcess
	for i, s := range servers.Servers() {
		proxies = append(proxies, startProxy(t, s.Addr, s.Listen, append(flags, "--seed", strconv.Itoa(i+1))...))
	}
	if err := servers.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			tellLogs(t, servers)
		}
	})
	c, err := client.Open(client.Config{Addrs: servers.Addrs(), SecretFile: file, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ctx, servers, proxies, c
}

func TestAClusterWorksThroughBadNetworks(t *testing.T) {
	for name, flags := range map[string]string{
		"loss":      "--loss 30%",
		"all sorts": "--loss 5% --dup 10% --reorder 20% --corrupt 5% --delay 1ms --jitter 2ms",
		"far":       "--delay 25ms",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, _, proxies, c := proxied(t, strings.Fields(flags)...)
			l := startLoad(ctx, c)
			l.waitMore(t, ctx, 50)
			l.end()
			for _, p := range proxies {
				p.become("") // what was written is read back one by one
			}
			l.check(t, ctx)
		})
	}
}

// A leader that is heard and does not hear gives up by itself: nobody else may stand while its heartbeats arrive.
func TestALeaderThatHearsNothingGivesUp(t *testing.T) {
	ctx, servers, proxies, c := proxied(t)
	l := startLoad(ctx, c)
	l.waitMore(t, ctx, 50)
	lead := leader(t, ctx, servers, c)
	proxies[lead.ID-1].become("--cut to")
	l.waitMore(t, ctx, 50)
	proxies[lead.ID-1].become("")
	l.waitMore(t, ctx, 50)
	l.end()
	l.check(t, ctx)
}

// Between servers a path of 600 bytes is found out while they work, and what was packed for more reaches everybody.
func TestServersFindOutASmallPath(t *testing.T) {
	ctx, servers, proxies, c := proxied(t)
	large := []byte(strings.Repeat("large", 4000))
	if err := c.Put(ctx, []byte("large"), large); err != nil {
		t.Fatal(err)
	}
	for _, p := range proxies {
		p.become("--mtu 600")
	}
	for n := range 30 {
		if err := c.Put(ctx, []byte("key-"+strconv.Itoa(n)), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	lead := leader(t, ctx, servers, c)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(lead.Log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), "to_bytes=576") >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the leader never found out")
		}
	}
	for _, p := range proxies {
		p.become("")
	}
	if got, err := c.Get(ctx, []byte("large")); err != nil || string(got) != string(large) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// 512 clients of one process on paths that take 600 bytes, from the beginning, to the servers, from them, or both: every
// put is acknowledged and every get is right, also of values that no such datagram holds.
func TestManyClientsWorkOverASmallPath(t *testing.T) {
	for name, c := range map[string]struct {
		secrets string
		flags   []string
	}{
		"open":   {"", []string{"--mtu", "600"}},
		"sealed": {secrets(t), []string{"--mtu", "600"}},
		"to":     {"", []string{"--mtu", "600", "--only", "to"}},
		"from":   {"", []string{"--mtu", "600", "--only", "from"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, _, _, store := proxiedIn(t, c.secrets, c.flags...)
			const clients = 512
			failed := make([]error, clients)
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() {
					for n := range 2 {
						key, value := fmt.Appendf(nil, "key-%d-%d", i, n), bytes.Repeat([]byte{byte(i)}, 100+i%8*200)
						if failed[i] = store.Put(ctx, key, value); failed[i] != nil {
							return
						}
						if got, err := store.Get(ctx, key); err != nil || !bytes.Equal(got, value) {
							failed[i] = fmt.Errorf("got %d bytes, %w", len(got), err)
							return
						}
					}
				})
			}
			all.Wait()
			if err := errors.Join(failed...); err != nil {
				t.Fatal(err)
			}
		})
	}
}
