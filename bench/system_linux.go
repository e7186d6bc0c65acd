package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func syncData(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }

// ticksPerSecond of the times in /proc: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// processorSeconds is the user and system time that the processes have used so far, all together.
func processorSeconds(pids []int) (float64, error) {
	user, system, err := processorTimes(pids)
	return user + system, err
}

// processorTimes tells the two apart.
func processorTimes(pids []int) (user, system float64, err error) {
	var sums [2]float64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, 0, fmt.Errorf("a server is gone: %w", err)
		}
		_, rest, ok := bytes.Cut(text, []byte(") ")) // the name before it may hold anything
		fields := strings.Fields(string(rest))
		if !ok || len(fields) < 13 {
			return 0, 0, fmt.Errorf("/proc/%d/stat does not read as expected", pid)
		}
		for i, f := range fields[11:13] { // utime, stime
			ticks, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			sums[i] += float64(ticks) / ticksPerSecond
		}
	}
	return sums[0], sums[1], nil
}

// blockingSocket is for blocking system calls on a thread of one's own: the poller of the runtime is not part of the
// floor.
func blockingSocket() (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	// Once in a while the call returns, to see whether it is over.
	wait := unix.Timeval{Usec: 100_000}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			return fd, name.(*unix.SockaddrInet4).Port, nil
		}
	}
	unix.Close(fd)
	return 0, 0, err
}

// fileSystems names the types that servers are likely to stand on.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs (no disk)",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs",
}

func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown: " + err.Error()
	}
	if name, ok := fileSystems[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("type %#x", s.Type)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown: " + err.Error()
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

// procLine is the value of the first line of a /proc file that begins with name.
func procLine(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:"))
		}
	}
	return ""
}

// Describe tells of the machine, and of the file system of a directory.
func Describe(dir string) Machine {
	if dir == "" {
		dir = os.TempDir()
	}
	return describe(dir)
}

func describe(dir string) Machine {
	return Machine{
		CPU: procLine("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: procLine("/proc/meminfo", "MemTotal"),
		Kernel: kernel(), FileSystem: fileSystem(dir), Go: runtime.Version(),
	}
}

// settleDisk writes back what is dirty on a file system.
func settleDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// journalOf reads the counters of the journal that a directory's file system has; known is false where there is none to
// read (XFS, an ext4 without a journal).
func journalOf(dir string) (c journalCount) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return c
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev)))
	if err != nil {
		return c
	}
	found, err := filepath.Glob("/proc/fs/jbd2/" + filepath.Base(device) + "-*/info")
	if err != nil || len(found) != 1 {
		return c
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return c
	}
	n, err := fmt.Sscanf(string(text), "%d transactions (%d requested)", &c.commits, &c.requested)
	c.known = err == nil && n == 2
	return c
}
