package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire"
	"balsa/wire/secret"
)

// A sealed cluster, as processes: who is heard, who is told why not, and a change of the secret under load.

// secrets makes the files of a new secret and gives the directory.
func secrets(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := secret.Create(dir, secret.New(newSecret())); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sealedCluster(t *testing.T, serve ...string) (ctx context.Context, servers *local.Cluster, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = secrets(t)
	serve = append(serve, "--secret-file", filepath.Join(dir, secret.ServerFile))
	servers, err = local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Serve: serve})
	if err != nil {
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
	return ctx, servers, dir
}

func sealedClient(t *testing.T, servers *local.Cluster, file string, timeout time.Duration) *client.Client {
	t.Helper()
	c, err := client.Open(client.Config{Addrs: servers.Addrs(), SecretFile: file, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestASealedClusterHearsItsOwnClientsAndTellsOthersWhy(t *testing.T) {
	ctx, servers, dir := sealedCluster(t, "--chaos")
	own := sealedClient(t, servers, filepath.Join(dir, secret.ClientFile), 30*time.Second)
	if err := own.Put(ctx, []byte("a"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("large", 300_000) // in fragments
	if err := own.Put(ctx, []byte("b"), []byte(large)); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"a client's": secret.ClientFile, "the servers'": secret.ServerFile} {
		c := sealedClient(t, servers, filepath.Join(dir, file), 30*time.Second)
		if got, err := c.Get(ctx, []byte("b")); err != nil || string(got) != large {
			t.Errorf("with %s secret: %d bytes, %v", name, len(got), err)
		}
		if s, err := c.Status(ctx); err != nil || s.Leader < 0 {
			t.Errorf("status with %s secret: %+v, %v", name, s, err)
		}
	}
	for _, c := range []struct{ name, file, want string }{
		{"no secret", "", "takes sealed datagrams only"},
		{"another secret", filepath.Join(secrets(t), secret.ClientFile), "does not hold the secret"},
		{"another server's secret", filepath.Join(secrets(t), secret.ServerFile), "does not hold the secret"},
	} {
		stranger := sealedClient(t, servers, c.file, 500*time.Millisecond)
		if err := stranger.Put(ctx, []byte("a"), []byte("2")); !errors.Is(err, client.ErrNotApplied) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("put with %s: %v, want not applied: %s", c.name, err, c.want)
		}
		if _, err := stranger.Get(ctx, []byte("a")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("get with %s: %v", c.name, err)
		}
		if _, err := stranger.Status(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("status with %s: %v", c.name, err)
		}
	}
	if got, err := own.Get(ctx, []byte("a")); err != nil || string(got) != "1" {
		t.Errorf("after the strangers: %q, %v", got, err)
	}
}

func TestDrillsOfASealedServerNeedTheServersSecret(t *testing.T) {
	ctx, servers, dir := sealedCluster(t, "--chaos")
	at := servers.Server(3).Addr
	for file, want := range map[string]string{
		filepath.Join(dir, secret.ClientFile): "server.secret",
		"":                                    "can't read what we send",
	} {
		err := client.Chaos(ctx, at, file, wire.ChaosCrash, 0)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("crash asked with %q: %v, want %q", filepath.Base(file), err, want)
		}
	}
	if !servers.Server(3).Running() {
		t.Fatal("it crashed for who may not ask")
	}
	if err := client.Chaos(ctx, at, filepath.Join(dir, secret.ServerFile), wire.ChaosCut, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := client.Chaos(ctx, at, filepath.Join(dir, secret.ServerFile), wire.ChaosCut, 0); err != nil { // hears it though cut off
		t.Fatal(err)
	}
	if err := client.Chaos(ctx, at, filepath.Join(dir, secret.ServerFile), wire.ChaosCrash, 0); err != nil {
		t.Fatal(err)
	}
	for servers.Server(3).Running() {
		if ctx.Err() != nil {
			t.Fatal("it did not crash")
		}
		time.Sleep(time.Millisecond)
	}
	if err := servers.Server(3).Start(); err != nil { // so that it ends well
		t.Fatal(err)
	}
	if err := servers.Server(3).WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestASecretIsChangedUnderLoadWithoutAFailedRequest: rotate, servers one after the other, retire, servers one after the
// other; what goes on meanwhile is never refused.
func TestASecretIsChangedUnderLoadWithoutAFailedRequest(t *testing.T) {
	ctx, servers, dir := sealedCluster(t)
	c := sealedClient(t, servers, filepath.Join(dir, secret.ClientFile), 30*time.Second)
	if err := c.Put(ctx, []byte("first"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	var done atomic.Int64
	var writers sync.WaitGroup
	writing, stop := context.WithCancel(ctx)
	for w := range 8 {
		writers.Go(func() {
			for n := 0; writing.Err() == nil; n++ {
				if err := c.Put(ctx, fmt.Appendf(nil, "key-%d", w), fmt.Appendf(nil, "%d", n)); err != nil {
					t.Errorf("a put while the secret is changed: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	defer writers.Wait()
	defer stop()
	more := func() {
		for want := done.Load() + 200; done.Load() < want && !t.Failed(); {
			if ctx.Err() != nil {
				t.Fatal("the load stands still")
			}
			time.Sleep(time.Millisecond)
		}
	}
	quiet := &streams{in: strings.NewReader(""), out: &strings.Builder{}, err: &strings.Builder{}}
	taken := 0
	reload := func() {
		taken++
		for _, s := range servers.Servers() {
			s.Reload()
			for told := 0; told < taken; {
				text, _ := os.ReadFile(s.Log)
				if told = strings.Count(string(text), "took other secrets"); ctx.Err() != nil {
					t.Fatalf("server %d did not take the secret", s.ID)
				}
				time.Sleep(time.Millisecond)
			}
			more()
		}
	}
	for range 2 {
		if err := secretRotate(quiet, dir); err != nil {
			t.Fatal(err)
		}
		reload()
		waitNewest(t, ctx, c, dir)
		if err := secretRetire(quiet, dir); err != nil {
			t.Fatal(err)
		}
		reload()
	}
	for _, s := range servers.Servers()[:1] { // one that comes back knows nobody
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := s.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		more()
	}
	stop()
	writers.Wait()
	fresh := sealedClient(t, servers, filepath.Join(dir, secret.ClientFile), 30*time.Second)
	if _, err := fresh.Get(ctx, []byte("first")); err != nil {
		t.Error(err)
	}
	t.Logf("%d puts went on", done.Load())
}

// waitNewest returns when a running client has read the file again: operators wait for that before they retire a secret.
func waitNewest(t *testing.T, ctx context.Context, c *client.Client, dir string) {
	t.Helper()
	f, err := secret.Read(filepath.Join(dir, secret.ClientFile))
	if err != nil {
		t.Fatal(err)
	}
	want := f.Secrets[len(f.Secrets)-1].Epoch
	for c.SecretEpoch() != want {
		if ctx.Err() != nil {
			t.Fatalf("the client holds secret %d, want %d", c.SecretEpoch(), want)
		}
		time.Sleep(time.Millisecond)
	}
}
