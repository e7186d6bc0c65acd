package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is one `balsa serve` process, or the place for one. It is safe for several goroutines.
type Server struct {
	ID     uint16
	Addr   string // HOST:PORT
	Listen string // where it listens, if not at its address of the pool
	Dir    string // its data directory
	Log    string // what it says on standard error, appended over its lives

	options *Options

	mu  sync.Mutex
	run *life // nil before the first Start
}

// life is one run of the process, from Start to its end.
type life struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when the process has said msg=ready
	gone  chan struct{} // closed when the process has ended; err and tail stand then
	err   error
	said  *watcher
}

func newServer(c *Cluster, id uint16, addr string) *Server {
	name := strconv.Itoa(int(id))
	return &Server{ID: id, Addr: addr, Dir: filepath.Join(c.dir, name), Log: filepath.Join(c.dir, name+".log"), options: &c.options}
}

// Start begins a new process; it does not wait until it is ready.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil && !ended(s.run.gone) {
		return fmt.Errorf("server %d runs already, process %d", s.ID, s.run.cmd.Process.Pid)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l := &life{ready: make(chan struct{}), gone: make(chan struct{})}
	l.said = &watcher{log: log, ready: l.ready}
	args := append([]string{"serve", "--data", s.Dir}, s.options.Serve...)
	if s.Listen != "" {
		args = append(args, "--listen", s.Listen)
	}
	l.cmd = exec.Command(s.options.Binary, args...)
	l.cmd.Env = s.options.Environ
	l.cmd.Stderr = l.said
	l.cmd.SysProcAttr = ownGroup()
	if err := spawn(l.cmd.Start); err != nil {
		log.Close()
		return fmt.Errorf("server %d: %w", s.ID, err)
	}
	go func() {
		l.err = l.cmd.Wait()
		log.Close()
		close(l.gone)
	}()
	s.run = l
	return nil
}

// Move gives a server that does not run another free address, to listen on from its next start. The pool that `init`
// was told stays as it is, and who else has to know is not told.
func (s *Server) Move() error {
	if s.Running() {
		return fmt.Errorf("server %d runs: it moves from one start to the next", s.ID)
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return err
	}
	s.Addr, s.Listen = addrs[0], addrs[0]
	return nil
}

// WaitReady returns when the process has said that it is ready, or with what it said when it ended instead.
func (s *Server) WaitReady(ctx context.Context) error {
	l := s.life()
	if l == nil {
		return fmt.Errorf("server %d was never started", s.ID)
	}
	select {
	case <-l.ready:
		return nil
	case <-l.gone:
		return fmt.Errorf("server %d ended before it was ready (%s): %s", s.ID, state(l), l.said.last())
	case <-ctx.Done():
		return fmt.Errorf("server %d was not ready in time: %w: %s", s.ID, ctx.Err(), l.said.last())
	}
}

// Kill is kill -9: it returns when the process is gone. A server that does not run is left as it is.
func (s *Server) Kill() error { return s.signalAndWait(syscall.SIGKILL) }

// Stop is SIGTERM: it returns when the process is gone, with an error unless it ended with 0.
func (s *Server) Stop() error {
	s.Terminate()
	return s.stopBy(time.Now().Add(stopGrace))
}

// Terminate sends SIGTERM and does not wait.
func (s *Server) Terminate() { s.signal(syscall.SIGTERM) }

// Pause and Resume are SIGSTOP and SIGCONT.
func (s *Server) Pause()  { s.signal(syscall.SIGSTOP) }
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// Reload is SIGHUP: the server reads its secret file again.
func (s *Server) Reload() { s.signal(syscall.SIGHUP) }

// Running says whether the process is there.
func (s *Server) Running() bool { return s.Pid() != 0 }

// Pid is the process id, or 0 when the server does not run.
func (s *Server) Pid() int {
	l := s.life()
	if l == nil || ended(l.gone) {
		return 0
	}
	return l.cmd.Process.Pid
}

func (s *Server) life() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

func (s *Server) signal(sig syscall.Signal) {
	if l := s.life(); l != nil && !ended(l.gone) {
		l.cmd.Process.Signal(sig) // a process that ended meanwhile is what was wanted
	}
}

func (s *Server) signalAndWait(sig syscall.Signal) error {
	l := s.life()
	if l == nil || ended(l.gone) {
		return nil
	}
	if err := l.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("server %d: %w", s.ID, err)
	}
	<-l.gone
	return nil
}

// stopBy waits for the end of a process that was told to stop, and kills it when it does not.
func (s *Server) stopBy(deadline time.Time) error {
	l := s.life()
	if l == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-l.gone:
	case <-timer.C:
		s.signalAndWait(syscall.SIGKILL)
		return fmt.Errorf("server %d did not stop within %v of SIGTERM and was killed", s.ID, stopGrace)
	}
	if killed(l.err) || l.err == nil {
		return nil
	}
	return fmt.Errorf("server %d ended badly (%s): %s", s.ID, state(l), l.said.last())
}

func ended(gone <-chan struct{}) bool {
	select {
	case <-gone:
		return true
	default:
		return false
	}
}

func state(l *life) string {
	if l.cmd.ProcessState == nil {
		return "no state"
	}
	return l.cmd.ProcessState.String()
}

// killed says whether a process ended by a SIGKILL, as a test or a demonstration wanted it.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// watcher passes a server's log on to its file, looks for the ready line, and keeps the last lines for messages.
type watcher struct {
	log   *os.File
	ready chan struct{}

	mu      sync.Mutex
	isReady bool
	partial []byte // the line that is not complete yet
	tail    []string
}

// tailLines is how many of a server's last lines a message quotes.
const tailLines = 4

// Write never fails: an error would close the server's standard error, and its next line would kill it. So where the
// file cannot be written, on a full disk, what the server said is lost, and the server lives.
func (w *watcher) Write(p []byte) (int, error) {
	w.see(p)
	w.log.Write(p)
	return len(p), nil
}

func (w *watcher) see(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, p...)
	for {
		line, rest, ok := bytes.Cut(w.partial, []byte{'\n'})
		if !ok {
			return
		}
		w.line(string(line))
		w.partial = append(w.partial[:0], rest...)
	}
}

func (w *watcher) line(line string) {
	if !w.isReady && (strings.Contains(line, "msg=ready") || strings.Contains(line, `"msg":"ready"`)) {
		w.isReady = true
		close(w.ready)
	}
	w.tail = append(w.tail, line)
	if len(w.tail) > tailLines {
		w.tail = w.tail[1:]
	}
}

func (w *watcher) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.tail) == 0 {
		return "it said nothing"
	}
	return strings.Join(w.tail, "; ")
}
