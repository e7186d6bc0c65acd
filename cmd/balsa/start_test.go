package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// serveProcess starts `balsa serve` and gives its standard error, line by line.
func serveProcess(t *testing.T, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, binary, append([]string{"serve"}, args...)...)
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
	return cmd, bufio.NewScanner(said)
}

// waitSaid returns when a line has all the words.
func waitSaid(t *testing.T, lines *bufio.Scanner, words ...string) {
	t.Helper()
	var all []string
	for lines.Scan() {
		found := 0
		for _, w := range words {
			if strings.Contains(lines.Text(), w) {
				found++
			}
		}
		if found == len(words) {
			return
		}
		all = append(all, lines.Text())
	}
	t.Fatalf("never said %q, but\n%s", words, strings.Join(all, "\n"))
}

func TestAServerInUseIsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 1, Spares: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	first, second := servers.Server(1), servers.Server(2)
	if _, errs, code := balsa("serve", "--data", first.Dir); code != exitFailed || !strings.Contains(errs, "in use") {
		t.Errorf("a directory in use: code %d, %s", code, errs)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := balsa("serve", "--data", second.Dir, "--listen", first.Addr); code != exitFailed || !strings.Contains(errs, "address in use") || !strings.Contains(errs, first.Addr) {
		t.Errorf("an address in use: code %d, %s", code, errs)
	}
	if _, errs, code := balsa("serve", "--data", second.Dir, "--listen", "0.0.0.0:0"); code != exitUsage {
		t.Errorf("port 0: code %d, %s", code, errs)
	}
	if _, errs, code := balsa("serve", "--data", second.Dir, "--listen", "0.0.0.0:7101"); code != exitFailed || !strings.Contains(errs, "--insecure") {
		t.Errorf("all addresses without a secret: code %d, %s", code, errs)
	}
}

func TestAFirstVoterThatCannotBeReachedIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "1")
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0") // it is there and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	own, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pool := "1=" + own.LocalAddr().String() + ",2=" + silent.LocalAddr().String()
	if _, errs, code := balsa("init", "--data", dir, "--id", "1", "--cluster", pool); code != exitDone {
		t.Fatalf("init: code %d, %s", code, errs)
	}
	own.Close()
	_, lines := serveProcess(t, "--data", dir)
	waitSaid(t, lines, "msg=ready")
	waitSaid(t, lines, "cannot be reached", silent.LocalAddr().String())
	_, errs, code := balsa("put", "a", "1", "--cluster", own.LocalAddr().String(), "--timeout", "500ms")
	if code != exitNotApplied || !strings.Contains(errs, "not founded") {
		t.Errorf("put to a cluster that is not founded: code %d, %s", code, errs)
	}
}

func TestADirectoryMadeForAnotherClusterIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	c, err := client.Open(client.Config{Addrs: servers.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := waitLeader(ctx, c); err != nil {
		t.Fatal(err)
	}
	// Server 1 is made again with the same command line: it must not found a second cluster.
	first := servers.Server(1)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, errs, code := balsa("init", "--data", again, "--id", "1", "--cluster", servers.Pool()); code != exitDone {
		t.Fatalf("init: code %d, %s", code, errs)
	}
	_, lines := serveProcess(t, "--data", again)
	waitSaid(t, lines, "a cluster exists", "member replace")
}
