package local

import (
	"runtime"
	"sync"
	"syscall"
)

// ownGroup puts a server into a process group of its own, so that a Ctrl-C at the prompt does not reach it, and lets
// the kernel end it when the process that started it dies.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// The kernel's word for "the parent died" is "the thread that forked died": so one thread, which lives as long as the
// process, does all the forking.
var (
	spawnOnce sync.Once
	spawnWork chan func()
)

func spawn(start func() error) error {
	spawnOnce.Do(func() {
		spawnWork = make(chan func())
		go func() {
			runtime.LockOSThread()
			for work := range spawnWork {
				work()
			}
		}()
	})
	done := make(chan error, 1)
	spawnWork <- func() { done <- start() }
	return <-done
}
