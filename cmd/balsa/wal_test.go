package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// balsa runs one command line in this process.
func balsa(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = run(args, &streams{strings.NewReader(""), &o, &e})
	return o.String(), e.String(), code
}

// writtenLog is the directory of a server that wrote a few entries, the last one of several sectors, and was killed.
func writtenLog(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := local.Run(ctx, local.Options{Binary: binary, Dir: t.TempDir(), Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	c, err := client.Open(client.Config{Addrs: servers.Addrs(), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, value := range []string{"one", "two", "three", strings.Repeat("four", 600)} {
		if err := c.Put(ctx, []byte("key"), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	server := servers.Server(1)
	if _, errs, code := balsa("wal", "damage", server.Dir, "--segment", "000000000001.wal", "--offset", "5000", "--flip", "1"); code != exitFailed || !strings.Contains(errs, "in use") {
		t.Fatalf("damage beside a live server: code %d, %s", code, errs)
	}
	if out, errs, code := balsa("wal", "verify", server.Dir); code != exitDone {
		t.Fatalf("verify beside a live server: code %d, %s%s", code, out, errs)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	return server.Dir
}

// records are what dump prints as JSON.
func records(t *testing.T, dir string, flags ...string) []recordJSON {
	t.Helper()
	out, errs, code := balsa(append([]string{"wal", "dump", dir, "-o", "json"}, flags...)...)
	if code != exitDone {
		t.Fatalf("dump: code %d, %s", code, errs)
	}
	var all []recordJSON
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var r recordJSON
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestVerifyTellsTornFromCorruptByItsExitCode(t *testing.T) {
	dir := writtenLog(t)
	entries := records(t, dir, "--key", "key")
	if len(entries) < 4 { // more where a put was sent twice: the session drops the repeat, the log has it
		text, _, _ := balsa("wal", "dump", dir)
		t.Fatalf("%d entries with the key, want 4:\n%s", len(entries), text)
	}
	first, last := entries[0], entries[len(entries)-1]
	if first.Ops[0].Op != "put" || first.Ops[0].Key != "key" || *first.Ops[0].Value != "one" || !first.Synced {
		t.Fatalf("the first entry reads %+v", first)
	}
	for _, c := range []struct {
		name   string
		at     recordJSON
		offset int64
		damage []string
		want   int
		says   string
	}{
		{"untouched", last, 0, nil, 0, "clean"},
		{"the end cut off inside the last batch", last, 1024, []string{"--cut"}, 10, "torn"},
		{"a bit of a synced record", first, 100, []string{"--flip", "3"}, 11, "corrupt"},
		{"zeros in a synced record", first, 64, []string{"--zero", "16"}, 11, "corrupt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			verify(t, copied, c.at, c.offset, c.damage, c.want, c.says)
		})
	}
	t.Run("a bit of the last batch, which nothing proves", func(t *testing.T) {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		// What follows the last entry would prove it: without that, it is the end of the log.
		all := records(t, copied)
		if end := all[len(all)-1]; end.Offset > last.Offset {
			verify(t, copied, last, last.Size, []string{"--cut"}, 0, "clean")
		}
		verify(t, copied, last, 600, []string{"--flip", "0"}, 14, "suspect")
	})
}

func verify(t *testing.T, dir string, at recordJSON, offset int64, damage []string, want int, says string) {
	t.Helper()
	if damage != nil {
		args := append([]string{"wal", "damage", dir, "--segment", at.Segment, "--offset", fmt.Sprint(at.Offset + offset)}, damage...)
		if _, errs, code := balsa(args...); code != exitDone {
			t.Fatalf("damage: code %d, %s", code, errs)
		}
	}
	out, errs, code := balsa("wal", "verify", dir)
	if code != want || !strings.Contains(out, says) {
		t.Fatalf("verify: code %d, want %d and %q: %s%s", code, want, says, out, errs)
	}
	if _, _, again := balsa("wal", "verify", dir, "-o", "json"); again != want {
		t.Fatalf("verify -o json: code %d, want %d", again, want)
	}
	// dump goes on past any damage, in both forms.
	if text, errs, code := balsa("wal", "dump", dir); code != exitDone || !strings.Contains(text, "founding") {
		t.Fatalf("dump: code %d, %s", code, errs)
	}
	bad := 0
	for _, r := range records(t, dir) {
		if r.Verdict != "" {
			bad++
		}
	}
	if want != 0 && bad == 0 {
		t.Fatalf("verify gives %d, but dump marks no record", want)
	}
}
