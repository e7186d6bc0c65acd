package vfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever memory bytes lie in, whatever a disk takes, and whatever their offset and length: they are in the file.
func TestDirectWritesTakeAnyMemory(t *testing.T) {
	for _, mode := range []Mode{Direct, DirectDSync} {
		for _, disk := range []struct{ strict, large bool }{{false, false}, {true, false}, {true, true}} {
			name := filepath.Join(t.TempDir(), "f")
			f, m := openDirect(t, name, mode)
			m.strict, m.large = disk.strict, disk.large
			room, want := alignedBytes(2<<20), make([]byte, 4<<20)
			for i := range room {
				room[i] = byte(i*7 + i>>9 + 1)
			}
			at := int64(0)
			for _, skip := range []int{0, 4096, 512, 8, 1} {
				for _, n := range []int{512, 4096, 4608, directRoom, directRoom + 512, 3*directRoom + 1536, 100, 513} {
					p := room[skip : skip+n]
					if at+int64(n) > int64(len(want)) {
						at = 0
					}
					write := f.WriteAt
					if s, ok := f.(SyncWriter); ok {
						write = s.WriteSyncAt
					}
					if got, err := write(p, at); got != n || err != nil {
						t.Fatalf("%s, %d bytes %d past a block to %d: %d, %v", mode, n, skip, at, got, err)
					}
					copy(want[at:], p)
					at += int64(n)
					if n%SectorBytes != 0 {
						at += SectorBytes - at%SectorBytes
					}
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(got, want[:len(got)]) || len(got) < 1<<20 {
				t.Fatalf("%s, %+v: %d bytes, %v: not what was written", mode, disk, len(got), err)
			}
		}
	}
}

// What lies right is written from where it lies.
func TestDirectWritesDoNotCopyWhatLiesRight(t *testing.T) {
	f, m := openDirect(t, filepath.Join(t.TempDir(), "f"), Direct)
	defer f.Close()
	room := alignedBytes(64 << 10)
	if _, err := f.WriteAt(room, 0); err != nil {
		t.Fatal(err)
	}
	if m.room != nil {
		t.Fatal("copied though it lies at a multiple of a block")
	}
	if _, err := f.WriteAt(room[1:513], 0); err != nil || m.room == nil {
		t.Fatalf("%v: not copied though it lies anywhere", err)
	}
}

// openDirect makes a file that is written past the page cache. It skips only where the file system itself refuses such a
// file, asked without our code.
func openDirect(t *testing.T, name string, mode Mode) (File, *modeFile) {
	t.Helper()
	probe, err := os.OpenFile(name+".probe", os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("skipped: the file system of %s has no O_DIRECT: %v", name, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := OSWith(mode)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := f.(*dsyncFile); ok {
		return f, d.modeFile
	}
	return f, f.(*modeFile)
}

// Unless told otherwise, a file that can be written past the page cache is.
func TestAutoIsDirectWhereItCanBe(t *testing.T) {
	if f, m := openDirect(t, filepath.Join(t.TempDir(), "f"), Auto); m.direct == nil {
		t.Fatal("through the page cache")
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
