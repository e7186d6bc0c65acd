package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
)

const pageBytes = 8 * SectorBytes

// page is a piece of a file. A sector is clean (on disk as it is here), dirty (written since the last sync), or
// stale (its sync failed: the kernel forgot that it is not on disk). old holds what the disk has of the last two.
type page struct {
	live         [pageBytes]byte
	old          *[pageBytes]byte
	dirty, stale uint8
}

// inode is a file's content. A nil page is zeros, on disk too.
type inode struct {
	id       uint64
	size     int64
	diskSize int64
	pages    []*page
	changed  []int64 // pages with a dirty sector, each once, in the order of their first write
}

var zeroPage [pageBytes]byte

func (f *inode) page(n int64) *page {
	for int64(len(f.pages)) <= n {
		f.pages = append(f.pages, nil)
	}
	if f.pages[n] == nil {
		f.pages[n] = new(page)
	}
	return f.pages[n]
}

func (f *inode) readAt(p []byte, off int64) int {
	if off >= f.size {
		return 0
	}
	if max := f.size - off; int64(len(p)) > max {
		p = p[:max]
	}
	for done := 0; done < len(p); {
		n, at := (off+int64(done))/pageBytes, (off+int64(done))%pageBytes
		src := zeroPage[at:]
		if n < int64(len(f.pages)) && f.pages[n] != nil {
			src = f.pages[n].live[at:]
		}
		done += copy(p[done:], src)
	}
	return len(p)
}

func (f *inode) writeAt(p []byte, off int64) {
	for len(p) > 0 {
		n, at := off/pageBytes, off%pageBytes
		k := min(int64(len(p)), pageBytes-at)
		f.writePage(n, at, p[:k])
		p, off = p[k:], off+k
		if off > f.size {
			f.size = off
		}
	}
}

func (f *inode) writePage(n, at int64, p []byte) {
	if (n >= int64(len(f.pages)) || f.pages[n] == nil) && bytes.Equal(p, zeroPage[:len(p)]) {
		return // zeros over zeros
	}
	g := f.page(n)
	if g.old == nil {
		g.old = new([pageBytes]byte)
	}
	before := g.dirty
	for s := at / SectorBytes; s <= (at+int64(len(p))-1)/SectorBytes; s++ {
		bit := uint8(1) << s
		if (g.dirty|g.stale)&bit == 0 {
			copy(g.old[s*SectorBytes:(s+1)*SectorBytes], g.live[s*SectorBytes:])
		}
		g.dirty |= bit
		g.stale &^= bit
	}
	if before == 0 {
		f.changed = append(f.changed, n)
	}
	copy(g.live[at:], p)
}

func (f *inode) sync() {
	for _, n := range f.changed {
		f.pages[n].dirty = 0
	}
	f.changed = f.changed[:0]
	f.diskSize = f.size
}

// syncRange makes the whole sectors within a range durable, and no other.
func (f *inode) syncRange(off, n int64) {
	left := f.changed[:0]
	for _, k := range f.changed {
		g := f.pages[k]
		for s := range int64(pageBytes / SectorBytes) {
			if at := k*pageBytes + s*SectorBytes; at >= off && at+SectorBytes <= off+n {
				g.dirty &^= 1 << s
			}
		}
		if g.dirty != 0 {
			left = append(left, k)
		}
	}
	f.changed = left
	f.diskSize = f.size
}

// syncFailed leaves the sectors readable and never to be written back.
func (f *inode) syncFailed() {
	for _, n := range f.changed {
		f.pages[n].stale |= f.pages[n].dirty
		f.pages[n].dirty = 0
	}
	f.changed = f.changed[:0]
}

func (f *inode) clone() *inode {
	c := &inode{id: f.id, size: f.size, diskSize: f.size, pages: make([]*page, len(f.pages))}
	for i, g := range f.pages {
		if g != nil {
			c.pages[i] = &page{live: g.live}
		}
	}
	return c
}

func (f *inode) crash(choose func(n int) int) *inode {
	c := f.clone()
	if f.size != f.diskSize && choose(2) == 0 {
		c.size, c.diskSize = f.diskSize, f.diskSize
	}
	for i, g := range f.pages {
		if g == nil || g.dirty|g.stale == 0 {
			continue
		}
		for s := range int64(pageBytes / SectorBytes) {
			if (g.dirty|g.stale)>>s&1 == 1 && choose(2) == 0 {
				copy(c.pages[i].live[s*SectorBytes:(s+1)*SectorBytes], g.old[s*SectorBytes:])
			}
		}
	}
	// What lies past the end must be zeros if the file grows again.
	if last := c.size / pageBytes; last < int64(len(c.pages)) {
		if c.pages[last] != nil {
			clear(c.pages[last].live[c.size%pageBytes:])
		}
		clear(c.pages[last+1:])
		c.pages = slices.Clip(c.pages[:last+1])
	}
	return c
}

// memFile is an open file of a Mem.
type memFile struct {
	mem      *Mem
	name     string
	node     *inode
	readOnly bool
	closed   bool
}

var errReadOnly = errors.New("opened for reading only")

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.mem.ask(OpRead, f.name, off, len(p)); err != nil {
		return 0, err
	}
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrClosed}
	}
	n := f.node.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.mem.ask(OpWrite, f.name, off, len(p)); err != nil {
		return 0, err
	}
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrClosed}
	}
	if f.readOnly {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: errReadOnly}
	}
	f.node.writeAt(p, off)
	return len(p), nil
}

func (f *memFile) Sync() error {
	err := f.mem.ask(OpSync, f.name, 0, 0)
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err != nil {
		f.node.syncFailed()
		return err
	}
	if f.closed {
		return &fs.PathError{Op: "sync", Path: f.name, Err: fs.ErrClosed}
	}
	f.node.sync()
	return nil
}

// memDSyncFile is a memFile that implements SyncWriter and WriteBacker.
type memDSyncFile struct{ *memFile }

// WriteBack implements WriteBacker by nothing: what is on its way may be lost yet.
func (f memDSyncFile) WriteBack(int64, int64) error { return nil }

// WriteSyncAt implements SyncWriter. To Mem.Fail it is a write, then a sync.
func (f memDSyncFile) WriteSyncAt(p []byte, off int64) (int, error) {
	n, err := f.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	err = f.mem.ask(OpSync, f.name, off, n)
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err != nil {
		f.node.syncFailed()
		return n, err
	}
	f.node.syncRange(off, int64(n))
	return n, nil
}

func (f *memFile) Size() (int64, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return f.node.size, nil
}

func (f *memFile) Close() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
