package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	fuse "github.com/hanwen/go-fuse/v2/fs"
	kernel "github.com/hanwen/go-fuse/v2/fuse"

	"balsa/wal/vfs"
)

// power is the supply of several disks. When it is cut no call of any is under way, and every later one fails: the same
// moment for all of them.
//
//	server --pwrite, fdatasync--> kernel --FUSE--> powerDisk --> vfs.Mem, which knows what was synced
type power struct {
	mu  sync.RWMutex
	off bool
}

// powerDisk is a file system that a real process has its files on, and that keeps of unsynced writes, after a cut,
// whichever sectors it likes. It has one directory.
type powerDisk struct {
	power    *power
	mem      *vfs.Mem
	server   *kernel.Server
	unsynced atomic.Int64 // bytes written since the last sync of their file, about
}

// syncTakes makes syncs as slow as a disk's, so that a cut finds writes that none covers yet.
const syncTakes = 500 * time.Microsecond

// mountPower mounts mem at dir, or skips the test where that cannot be done.
func mountPower(t *testing.T, p *power, mem *vfs.Mem, dir string) *powerDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a FUSE file system needs root")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("no FUSE here: %v", err)
	} else {
		f.Close()
	}
	d := &powerDisk{power: p, mem: mem}
	var atOnce time.Duration
	options := &fuse.Options{EntryTimeout: &atOnce, AttrTimeout: &atOnce,
		MountOptions: kernel.MountOptions{DirectMountStrict: true, FsName: "balsa-power", MaxWrite: 256 << 10}}
	server, err := fuse.Mount(dir, &powerDir{disk: d}, options)
	if err != nil {
		t.Fatalf("mount %s: %v", dir, err)
	}
	d.server = server
	return d
}

// do runs one call while there is power.
func (d *powerDisk) do(call func() error) syscall.Errno {
	d.power.mu.RLock()
	defer d.power.mu.RUnlock()
	if d.power.off {
		return syscall.EIO
	}
	err := call()
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return 0
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, fs.ErrExist):
		return syscall.EEXIST
	}
	return syscall.EIO
}

// cut ends the power of all disks at one moment, if it comes soon at one when each has writes that no sync covers, and
// returns what each of them holds when it is there again.
func (p *power) cut(disks []*powerDisk, choose func(n int) int) []*vfs.Mem {
	p.mu.Lock()
	for range 2000 {
		if !slices.ContainsFunc(disks, func(d *powerDisk) bool { return d.unsynced.Load() == 0 }) {
			break
		}
		p.mu.Unlock()
		time.Sleep(50 * time.Microsecond)
		p.mu.Lock()
	}
	p.off = true
	p.mu.Unlock()
	var left []*vfs.Mem
	for _, d := range disks {
		left = append(left, d.mem.Crash(choose))
	}
	return left
}

// powerDir is the directory.
type powerDir struct {
	fuse.Inode
	disk *powerDisk
}

func (n *powerDir) Lookup(ctx context.Context, name string, out *kernel.EntryOut) (*fuse.Inode, syscall.Errno) {
	if child := n.GetChild(name); child != nil {
		return child, child.Operations().(*powerFile).tell(&out.Attr)
	}
	file := &powerFile{disk: n.disk}
	if errno := n.disk.do(func() (err error) { file.file, err = n.disk.mem.Open("/" + name); return err }); errno != 0 {
		return nil, errno
	}
	return n.NewInode(ctx, file, fuse.StableAttr{Mode: syscall.S_IFREG}), file.tell(&out.Attr)
}

func (n *powerDir) Create(ctx context.Context, name string, flags, _ uint32, out *kernel.EntryOut) (*fuse.Inode, fuse.FileHandle, uint32, syscall.Errno) {
	file := &powerFile{disk: n.disk}
	if errno := n.disk.do(func() (err error) { file.file, err = n.disk.mem.Create("/" + name); return err }); errno != 0 {
		return nil, nil, 0, errno
	}
	return n.NewInode(ctx, file, fuse.StableAttr{Mode: syscall.S_IFREG}), nil, kernel.FOPEN_DIRECT_IO, file.tell(&out.Attr)
}

func (n *powerDir) Readdir(context.Context) (fuse.DirStream, syscall.Errno) {
	var entries []kernel.DirEntry
	errno := n.disk.do(func() error {
		names, err := n.disk.mem.List("/")
		for _, name := range names {
			if name != "" && name != "." && name != "/" {
				entries = append(entries, kernel.DirEntry{Name: name, Mode: syscall.S_IFREG})
			}
		}
		return err
	})
	return fuse.NewListDirStream(entries), errno
}

func (n *powerDir) Unlink(_ context.Context, name string) syscall.Errno {
	return n.disk.do(func() error { return n.disk.mem.Remove("/" + name) })
}

func (n *powerDir) Rename(_ context.Context, name string, _ fuse.InodeEmbedder, to string, _ uint32) syscall.Errno {
	return n.disk.do(func() error { return n.disk.mem.Rename("/"+name, "/"+to) })
}

// Fsync of the directory makes its names durable.
func (n *powerDir) Fsync(context.Context, fuse.FileHandle, uint32) syscall.Errno {
	return n.disk.do(func() error { return n.disk.mem.SyncDir("/") })
}

// powerFile is a file, under whatever name.
type powerFile struct {
	fuse.Inode
	disk *powerDisk
	file vfs.File
}

// Open has the kernel keep no page of it: what a process reads and writes comes and goes at once.
func (n *powerFile) Open(context.Context, uint32) (fuse.FileHandle, uint32, syscall.Errno) {
	return nil, kernel.FOPEN_DIRECT_IO, 0
}

func (n *powerFile) Getattr(_ context.Context, _ fuse.FileHandle, out *kernel.AttrOut) syscall.Errno {
	return n.tell(&out.Attr)
}

func (n *powerFile) tell(a *kernel.Attr) syscall.Errno {
	return n.disk.do(func() error {
		size, err := n.file.Size()
		a.Mode, a.Size, a.Nlink = syscall.S_IFREG|0o644, uint64(size), 1
		return err
	})
}

// Setattr takes a mode or times, which the log does not read, and cuts nothing.
func (n *powerFile) Setattr(ctx context.Context, h fuse.FileHandle, in *kernel.SetAttrIn, out *kernel.AttrOut) syscall.Errno {
	if _, cut := in.GetSize(); cut {
		return syscall.ENOTSUP
	}
	return n.Getattr(ctx, h, out)
}

func (n *powerFile) Read(_ context.Context, _ fuse.FileHandle, p []byte, off int64) (kernel.ReadResult, syscall.Errno) {
	var got int
	errno := n.disk.do(func() (err error) { got, err = n.file.ReadAt(p, off); return err })
	return kernel.ReadResultData(p[:got]), errno
}

func (n *powerFile) Write(_ context.Context, _ fuse.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	var took int
	errno := n.disk.do(func() (err error) {
		took, err = n.file.WriteAt(p, off)
		n.disk.unsynced.Add(int64(took))
		return err
	})
	return uint32(took), errno
}

func (n *powerFile) Fsync(context.Context, fuse.FileHandle, uint32) syscall.Errno {
	time.Sleep(syncTakes)
	return n.disk.do(func() error {
		n.disk.unsynced.Store(0)
		return n.file.Sync()
	})
}
