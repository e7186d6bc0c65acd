package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
)

func write(t *testing.T, f File, off int64, b []byte) {
	t.Helper()
	if n, err := f.WriteAt(b, off); err != nil || n != len(b) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func content(t *testing.T, m FS, name string) []byte {
	t.Helper()
	f, err := m.OpenRead(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

// The real and the remembered file system answer alike.
func TestBothFileSystemsAnswerAlike(t *testing.T) {
	for name, c := range map[string]struct {
		fs  FS
		dir string
	}{"os": {OS, t.TempDir()}, "mem": {NewMem(), "/data"}} {
		t.Run(name, func(t *testing.T) {
			m, dir := c.fs, c.dir+"/a/b"
			if _, err := m.List(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("list: %v", err)
			}
			if _, err := m.Lock(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("lock: %v", err)
			}
			if err := m.MkdirAll(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Open(dir + "/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("open: %v", err)
			}
			if err := m.Remove(dir + "/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("remove: %v", err)
			}
			f, err := m.Create(dir + "/x")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Create(dir + "/x"); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("create: %v", err)
			}
			write(t, f, 5000, []byte("abc"))
			write(t, f, 10, []byte("hello"))
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 10)
			if n, err := f.ReadAt(b, 4998); n != 5 || err != io.EOF || string(b[:5]) != "\x00\x00abc" {
				t.Fatalf("read: %q %d %v", b, n, err)
			}
			if err := m.Rename(dir+"/x", dir+"/y"); err != nil {
				t.Fatal(err)
			}
			if err := m.SyncDir(dir); err != nil {
				t.Fatal(err)
			}
			if names, err := m.List(dir); err != nil || fmt.Sprint(names) != "[y]" {
				t.Fatalf("list: %v %v", names, err)
			}
			ro, err := m.OpenRead(dir + "/y")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ro.WriteAt([]byte("x"), 0); err == nil {
				t.Fatal("written through a reader")
			}
			lock, err := m.Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Lock(dir); !errors.Is(err, ErrLocked) {
				t.Fatalf("locked twice: %v", err)
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			if lock, err = m.Lock(dir); err != nil {
				t.Fatalf("not given back: %v", err)
			}
			lock.Close()
			ro.Close()
			f.Close()
		})
	}
}

func keep(n int) func(int) int { return func(int) int { return n } }

func TestCrashKeepsWhatWasSyncedAndEitherOfTheRest(t *testing.T) {
	m := NewMem()
	m.MkdirAll("/d")
	f, _ := m.Create("/d/f")
	old, now := bytes.Repeat([]byte("o"), 2048), bytes.Repeat([]byte("n"), 2048)
	write(t, f, 0, old)
	f.Sync()
	if names, _ := m.Crash(keep(0)).List("/d"); len(names) != 0 {
		t.Fatalf("a name without a directory sync: %v", names)
	}
	m.SyncDir("/d")
	write(t, f, 0, now)
	if got := content(t, m.Crash(keep(0)), "/d/f"); !bytes.Equal(got, old) {
		t.Fatal("unsynced sectors not lost")
	}
	if got := content(t, m.Crash(keep(1)), "/d/f"); !bytes.Equal(got, now) {
		t.Fatal("unsynced sectors not kept")
	}
	i := 0
	got := content(t, m.Crash(func(int) int { i++; return i & 1 }), "/d/f")
	if want := "nono"; i != 4 || string([]byte{got[0], got[512], got[1024], got[1536]}) != want || got[511] != 'n' {
		t.Fatalf("torn: %d questions, %q", i, got)
	}
	f.Sync()
	if got := content(t, m.Crash(keep(0)), "/d/f"); !bytes.Equal(got, now) {
		t.Fatal("synced sectors lost")
	}
	write(t, f, 2048, now)
	if got := content(t, m.Crash(keep(0)), "/d/f"); len(got) != 2048 {
		t.Fatalf("size %d without a sync", len(got))
	}
}

// After a failed sync the bytes are read back, yet no later sync makes them durable until they are written again.
func TestFailedSyncLosesWhatItWasFor(t *testing.T) {
	m := NewMem()
	f, _ := m.Create("/f")
	write(t, f, 0, []byte("old"))
	f.Sync()
	m.SyncDir("/")
	write(t, f, 0, []byte("new"))
	broken := errors.New("broken")
	m.Fail(func(op Op, name string, off int64, n int) error {
		if op == OpSync && name == "/f" {
			return broken
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	m.Fail(nil)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, m, "/f"); string(got) != "new" {
		t.Fatalf("read %q", got)
	}
	if got := content(t, m.Crash(keep(0)), "/f"); string(got) != "old" {
		t.Fatalf("after a power cut %q", got)
	}
	write(t, f, 0, []byte("new"))
	f.Sync()
	if got := content(t, m.Crash(keep(0)), "/f"); string(got) != "new" {
		t.Fatalf("written again: %q", got)
	}
}

func TestRenameIsDurableWithItsDirectoryOnly(t *testing.T) {
	m := NewMem()
	m.MkdirAll("/d")
	f, _ := m.Create("/d/tmp")
	write(t, f, 0, []byte("x"))
	f.Sync()
	m.SyncDir("/d")
	m.Rename("/d/tmp", "/d/name")
	lost, _ := m.Crash(keep(0)).List("/d")
	kept, _ := m.Crash(keep(1)).List("/d")
	if fmt.Sprint(lost, kept) != "[tmp] [name]" {
		t.Fatal(lost, kept)
	}
}

func TestFlipTurnsOneBit(t *testing.T) {
	m := NewMem()
	f, _ := m.Create("/f")
	write(t, f, 0, make([]byte, 8192))
	m.Flip("/f", 5000, 3)
	got := content(t, m, "/f")
	if got[5000] != 8 {
		t.Fatalf("%#x", got[5000])
	}
	got[5000] = 0
	if !bytes.Equal(got, make([]byte, 8192)) {
		t.Fatal("more than one bit")
	}
}
