//go:build !linux

package local

import "syscall"

// ownGroup puts a server into a process group of its own. Only Linux ends a child when its parent dies.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func spawn(start func() error) error { return start() }
