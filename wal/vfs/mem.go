package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"
)

// Op names a call of FS or File, for Mem.Fail.
type Op uint8

// The calls that Mem.Fail can make fail.
const (
	OpCreate Op = iota + 1
	OpOpen
	OpRead
	OpWrite
	OpSync
	OpRemove
	OpRename
	OpList
	OpMkdir
	OpSyncDir
	OpLock
)

func (o Op) String() string {
	names := [...]string{"", "create", "open", "read", "write", "sync", "remove", "rename", "list", "mkdir", "syncdir", "lock"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown"
}

// Mem is a file system in memory with a crash model by sector. It is deterministic: the same calls and the same
// choices leave the same bytes. Safe for many goroutines. Directories are durable as soon as they are made.
//
// Space that holds only zeros takes no memory, and a sync costs what was written since the last one.
type Mem struct {
	mu    sync.Mutex
	files map[string]*inode // as processes see it
	disk  map[string]*inode // as the last SyncDir of each directory left it
	moves []move            // changes of directories since, in order
	dirs  map[string]bool
	locks map[string]*memLock
	hook  func(op Op, name string, off int64, n int) error
	made  uint64
	dsync bool
}

// move is a change of a directory: name now means file (nil: nothing), and from is gone if it is not empty.
type move struct {
	name, from string
	file       *inode
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{files: map[string]*inode{}, disk: map[string]*inode{}, dirs: map[string]bool{"/": true, ".": true}, locks: map[string]*memLock{}}
}

// Fail sets the hook that is asked before every call; an error from it is the call's result. A write that fails
// changes nothing. A sync that fails loses what it should have made durable, as Linux does: the bytes stay
// readable, and no later sync covers them until they are written again.
func (m *Mem) Fail(hook func(op Op, name string, off int64, n int) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// WithDSync has files that are made or opened from now on write and sync in one call (SyncWriter), as OSWith(DSync)
// does, and be written back (WriteBacker); clones and what a crash leaves stay so.
func (m *Mem) WithDSync() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dsync = true
	return m
}

func (m *Mem) file(name string, f *inode, readOnly bool) File {
	file := &memFile{mem: m, name: name, node: f, readOnly: readOnly}
	if m.dsync {
		return memDSyncFile{file}
	}
	return file
}

// ask must be called without the lock, so that a hook may look into the Mem.
func (m *Mem) ask(op Op, name string, off int64, n int) error {
	m.mu.Lock()
	hook := m.hook
	m.mu.Unlock()
	if hook == nil {
		return nil
	}
	if err := hook(op, name, off, n); err != nil {
		return &fs.PathError{Op: op.String(), Path: name, Err: err}
	}
	return nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	name = path.Clean(name)
	if err := m.ask(OpCreate, name, 0, 0); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if !m.dirs[path.Dir(name)] {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrNotExist}
	}
	m.made++
	f := &inode{id: m.made}
	m.files[name] = f
	m.moves = append(m.moves, move{name: name, file: f})
	return m.file(name, f, false), nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenRead implements FS.
func (m *Mem) OpenRead(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, readOnly bool) (File, error) {
	name = path.Clean(name)
	if err := m.ask(OpOpen, name, 0, 0); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return m.file(name, f, readOnly), nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	name = path.Clean(name)
	if err := m.ask(OpRemove, name, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.files, name)
	m.moves = append(m.moves, move{name: name})
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	if err := m.ask(OpRename, from, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[from]
	if f == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(m.files, from)
	m.files[to] = f
	m.moves = append(m.moves, move{name: to, from: from, file: f})
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	dir = path.Clean(dir)
	if err := m.ask(OpList, dir, 0, 0); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	var names []string
	for name := range m.files {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	for name := range m.dirs {
		if name != dir && path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	sort.Strings(names)
	return names, nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	dir = path.Clean(dir)
	if err := m.ask(OpMkdir, dir, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.dirs[dir] {
		m.dirs[dir] = true
		dir = path.Dir(dir)
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	dir = path.Clean(dir)
	if err := m.ask(OpSyncDir, dir, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.moves[:0]
	for _, v := range m.moves {
		if path.Dir(v.name) == dir {
			v.apply(m.disk)
		} else {
			left = append(left, v)
		}
	}
	m.moves = left
	return nil
}

func (v move) apply(names map[string]*inode) {
	if v.from != "" && names[v.from] == v.file {
		delete(names, v.from)
	}
	if v.file == nil {
		delete(names, v.name)
	} else {
		names[v.name] = v.file
	}
}

type memLock struct {
	mem *Mem
	dir string
}

// Lock implements FS.
func (m *Mem) Lock(dir string) (io.Closer, error) {
	dir = path.Clean(dir)
	if err := m.ask(OpLock, dir, 0, 0); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: fs.ErrNotExist}
	}
	if m.locks[dir] != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, ErrLocked)
	}
	l := &memLock{m, dir}
	m.locks[dir] = l
	return l, nil
}

func (l *memLock) Close() error {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	if l.mem.locks[l.dir] == l {
		delete(l.mem.locks, l.dir)
	}
	return nil
}

// ReleaseLocks forgets all locks, as the end of the process that held them does.
func (m *Mem) ReleaseLocks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.locks)
}

// Crash returns what a power cut now could leave: all that was synced, and of every sector, file size and change
// of a directory that was not, the one or the other, as choose(2) says: 0 lost, 1 kept. The order of the questions
// depends on nothing but the calls made before. Locks and the hook are not taken over; m stays as it is.
func (m *Mem) Crash(choose func(n int) int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem()
	after.made, after.dsync = m.made, m.dsync
	for dir := range m.dirs {
		after.dirs[dir] = true
	}
	names := make(map[string]*inode, len(m.disk))
	for name, f := range m.disk {
		names[name] = f
	}
	for _, v := range m.moves {
		if choose(2) == 1 {
			v.apply(names)
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	copies := make(map[*inode]*inode, len(sorted)) // two names may be left for one file
	for _, name := range sorted {
		f := names[name]
		if copies[f] == nil {
			copies[f] = f.crash(choose)
		}
		after.files[name] = copies[f]
		after.disk[name] = copies[f]
	}
	return after
}

// Clone returns the file system as a process sees it now, all of it durable: to try something on a copy.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem()
	after.made, after.dsync = m.made, m.dsync
	for dir := range m.dirs {
		after.dirs[dir] = true
	}
	for name, f := range m.files {
		c := f.clone()
		after.files[name] = c
		after.disk[name] = c
	}
	return after
}

// Flip turns over one bit of a file, as rot does: nothing else takes notice. It panics when there is no such byte.
func (m *Mem) Flip(name string, off int64, bit uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[path.Clean(name)]
	if f == nil || off < 0 || off >= f.size {
		panic(fmt.Sprintf("vfs: flip %s at %d: no such byte", name, off))
	}
	f.page(off / pageBytes).live[off%pageBytes] ^= 1 << (bit & 7)
}
