package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wal/vfs"
)

// A server writes its log in each of the ways that wal bench measures, is killed, and has what it acknowledged.
func TestServersWriteTheirLogsInEveryMode(t *testing.T) {
	for _, mode := range vfs.Modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			binary, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 1, Serve: []string{"--sync", mode.String(), "--segment-size", "64KiB"}})
			if err != nil && strings.Contains(err.Error(), vfs.ErrUnsupported.Error()) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer servers.Close()
			c, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const puts = 200
			value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 37*i) }
			for i := range puts {
				if err := c.Put(ctx, fmt.Append(nil, i), value(i)); err != nil {
					t.Fatal(err)
				}
			}
			server := servers.Server(1)
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if out, errs, code := balsa("wal", "verify", server.Dir); code != exitDone {
				t.Fatalf("verify: code %d: %s%s", code, out, errs)
			}
			if err := servers.StartAll(ctx); err != nil {
				t.Fatal(err)
			}
			for i := range puts {
				if got, err := c.Get(ctx, fmt.Append(nil, i)); err != nil || !bytes.Equal(got, value(i)) {
					t.Fatalf("value %d: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
}
