package sim

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"

	"balsa/wal/vfs"
)

// illness is what a disk has: its calls fail, some or all of a kind, once or
// until the process has ended or there is space again.
type illness struct {
	class Class // SyncError, DiskError or DiskFull; nothing is wrong when left is 0
	op    vfs.Op
	skip  int // so many calls that would fail do not
	left  int
	until int64
}

var errInjected = errors.New("injected input/output error")

const forGood = 1 << 30

// ail draws an illness. Each call that a file system has can fail with EIO.
func ail(c Class, r *rand.Rand, now int64) illness {
	ill := illness{class: c, left: 1, until: never}
	switch c {
	case SyncError:
		ill.op = vfs.OpSync
	case DiskError:
		ill.op, ill.skip = vfs.Op(between(r, int64(vfs.OpCreate), int64(vfs.OpLock))), int(between(r, 0, 20))
	case DiskFull:
		ill.left, ill.until = forGood, now+between(r, 500*millisecond, 5*second)
		return ill
	}
	if chance(r, 0.5) {
		ill.left = forGood
	}
	return ill
}

// strikes says whether a call fails now. A full disk refuses what needs new
// space: a file, and bytes of the segment that is being made; the others have theirs.
func (ill *illness) strikes(op vfs.Op, name string, now int64) bool {
	switch {
	case ill.left == 0 || now >= ill.until:
		return false
	case ill.class == DiskFull:
		if op != vfs.OpCreate && !(op == vfs.OpWrite && strings.HasSuffix(path.Base(name), ".tmp")) {
			return false
		}
	case op != ill.op:
		return false
	}
	if ill.skip > 0 {
		ill.skip--
		return false
	}
	ill.left--
	return true
}

// hookDisk lets the disk of this server do what its illness says.
func (s *server) hookDisk() {
	if s.ill.left == 0 {
		s.disk.Fail(nil)
		return
	}
	s.disk.Fail(func(op vfs.Op, name string, _ int64, _ int) error {
		if !s.ill.strikes(op, name, s.now) {
			return nil
		}
		s.hits[s.ill.class]++
		s.met[MarkFailed+Mark(op)-1]++
		return errInjected
	})
}

// recover ends the illness of a process that it has ended; space comes back by itself.
func (s *server) recover() {
	if s.ill.class != DiskFull {
		s.ill = illness{}
	}
}
