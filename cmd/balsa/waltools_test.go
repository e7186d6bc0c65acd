package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
)

// makelog DIR [ENTRIES] [OTHERS]: a log with the same bytes each time, of so many entries, of which the last so many are of
// another term and hold other keys.
func makelog(ts *testscript.TestScript, neg bool, args []string) {
	numbers := []int{6, 0}
	if neg || len(args) < 1 || len(args) > 3 {
		ts.Fatalf("usage: makelog DIR [ENTRIES] [OTHERS]")
	}
	for i, text := range args[1:] {
		numbers[i] = int(text[0] - '0')
	}
	ts.Check(writeLog(ts.MkAbs(args[0]), numbers[0], numbers[1]))
}

func writeLog(dir string, entries, others int) error {
	salt := uint64(1)
	o := wal.Options{FS: vfs.OS, Dir: dir, SegmentBytes: wal.MinSegmentBytes, Random: func() uint64 { salt += 2; return salt }}
	if err := wal.Create(o, []byte("founding")); err != nil {
		return err
	}
	l, err := openLog(o)
	if err != nil {
		return err
	}
	defer l.Close()
	term := uint64(1)
	l.SetHardState(wal.HardState{Term: term, Vote: 1})
	for i := range entries {
		key := "user/" + string(rune('a'+i))
		if i >= entries-others {
			term, key = 2, "other"
		}
		c := kv.Command{Op: kv.Put, Client: 7, Seq: uint64(i + 1), AckedBelow: 1, Key: []byte(key), Value: []byte(strings.Repeat("v", 1+100*i))}
		body := kv.AppendCommand(nil, &c)
		l.Append(&wal.Entry{Index: l.Last() + 1, Term: term, Kind: kindCommands, Count: 1, RawBytes: uint32(len(body)), Time: int64(i), Body: body})
		if err := commitLog(l); err != nil {
			return err
		}
	}
	l.PublishSynced()
	return commitLog(l)
}

// openLog opens a log in this process, in which other tests start processes: one that was just forked has, for a moment,
// the lock that is given back here.
func openLog(o wal.Options) (*wal.Log, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		l, _, err := wal.Open(o)
		if !errors.Is(err, vfs.ErrLocked) || time.Since(began) > patience {
			return l, err
		}
	}
}

func commitLog(l *wal.Log) error {
	b := l.Take()
	if b == nil {
		return nil
	}
	defer l.Release(b)
	if err := b.Write(); err != nil {
		return err
	}
	return b.Sync()
}

// A follower prints what a live log gets, record by record, and ends with its signal.
func TestTailFollowsALiveLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := writeLog(dir, 3, 0); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(wal.Options{FS: vfs.OS, Dir: dir, SegmentBytes: wal.MinSegmentBytes, Random: func() uint64 { return 99 }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "wal", "tail", dir, "-n", "1", "-f", "--type", "entry")
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		var text strings.Builder
		b := make([]byte, 4096)
		for {
			n, err := read.Read(b)
			text.Write(b[:n])
			for {
				line, rest, ok := strings.Cut(text.String(), "\n")
				if !ok {
					break
				}
				lines <- line
				text.Reset()
				text.WriteString(rest)
			}
			if err != nil {
				return
			}
		}
	}()
	expect := func(what string) {
		t.Helper()
		for range 2 { // the record, then its command
			select {
			case line := <-lines:
				if strings.Contains(line, what) {
					return
				}
			case <-time.After(patience):
				t.Fatalf("no line with %q", what)
			}
		}
		t.Fatalf("no line with %q", what)
	}
	expect("user/c")
	for i, key := range []string{"first", "second"} {
		c := kv.Command{Op: kv.Put, Client: 7, Seq: uint64(10 + i), AckedBelow: 1, Key: []byte(key), Value: []byte("x")}
		body := kv.AppendCommand(nil, &c)
		l.Append(&wal.Entry{Index: l.Last() + 1, Term: 1, Kind: kindCommands, Count: 1, RawBytes: uint32(len(body)), Body: body})
		if err := commitLog(l); err != nil {
			t.Fatal(err)
		}
		expect(key)
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("tail ended with %v", err)
	}
}
