package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// The leader is stopped with its lease, another takes over and a value changes; a read that lies in the old leader's
// socket as it goes on must not see the old one.
func TestAStoppedLeaderWithALeaseNeverAnswersWithAnOldValue(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Init: initFlags(true)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	writer, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	for round := range 3 {
		stopOldLeader(ctx, t, servers, writer, round)
	}
	text, errs, code := balsa("member", "list", "--cluster", strings.Join(servers.Addrs(), ","))
	if code != exitDone || !strings.Contains(text, "reads by lease") {
		t.Errorf("member list: %d %s%s", code, text, errs)
	}
	text, _, _ = balsa("member", "list", "-o", "json", "--cluster", strings.Join(servers.Addrs(), ","))
	if !strings.Contains(text, `"leases":true`) {
		t.Errorf("member list -o json: %s", text)
	}
}

func stopOldLeader(ctx context.Context, t *testing.T, servers *local.Cluster, writer *client.Client, round int) {
	t.Helper()
	key := []byte("k")
	before, after := fmt.Sprint("before ", round), fmt.Sprint("after ", round)
	if err := writer.Put(ctx, key, []byte(before)); err != nil {
		t.Fatal(err)
	}
	reader, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := reader.Get(ctx, key); err != nil || string(got) != before {
		t.Fatalf("got %q, %v", got, err)
	}
	id, _ := leaderOf(ctx, writer)
	if id == 0 {
		t.Fatal("no leader")
	}
	old := servers.Servers()[id-1]
	old.Pause()
	defer old.Resume()
	if err := writer.Put(ctx, key, []byte(after)); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() { // to whom led when this client last heard of it
		got, err := reader.Get(ctx, key)
		answer <- fmt.Sprintf("%s %v", got, err)
	}()
	time.Sleep(time.Millisecond)
	old.Resume()
	if got := <-answer; got != after+" <nil>" {
		t.Errorf("round %d: got %q", round, got)
	}
}
