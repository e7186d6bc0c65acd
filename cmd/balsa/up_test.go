package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"balsa/cmd/balsa/demo"
)

// upProcess is `balsa up` with its standard input piped.
type upProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

func startUp(t *testing.T, args ...string) *upProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u := &upProcess{cmd: exec.CommandContext(ctx, binary, append([]string{"up"}, args...)...)}
	u.cmd.Stderr = &u.err
	if u.in, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.out = bufio.NewReader(out)
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.in.Close()
		u.cmd.Process.Kill()
		u.cmd.Wait()
	})
	return u
}

// ask writes a line and reads the answer's.
func (u *upProcess) ask(t *testing.T, line string) string {
	t.Helper()
	fmt.Fprintln(u.in, line)
	answer, err := u.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v; it said %s", line, err, u.err.String())
	}
	return strings.TrimSuffix(answer, "\n")
}

// servers are the process ids of its `serve` children.
func (u *upProcess) servers(t *testing.T) []int {
	t.Helper()
	var pids []int
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		var pid, parent int
		var state string
		head, rest, _ := bytes.Cut(text, []byte(" ("))
		rest = rest[bytes.LastIndexByte(rest, ')')+1:]
		fmt.Sscan(string(head), &pid)
		fmt.Sscan(string(rest), &state, &parent)
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if parent == u.cmd.Process.Pid && bytes.Contains(command, []byte("\x00serve\x00--data\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// waitGone returns when none of the processes is there any more.
func waitGone(t *testing.T, pids []int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		left := 0
		for _, pid := range pids {
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !bytes.Contains(state, []byte(") Z ")) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of processes %v are left", left, pids)
		}
	}
}

func TestUpRunsAPipeOnFiveProcessesAndStopsThem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	u := startUp(t, "--dir", dir)
	for _, line := range [][2]string{{"put a 7", "OK"}, {"put b 3", "OK"}, {"put c 6", "OK"}, {"get b", "3"}} {
		if got := u.ask(t, line[0]); got != line[1] {
			t.Fatalf("%s: got %q, want %q", line[0], got, line[1])
		}
	}
	pids := u.servers(t)
	if len(pids) != 5 {
		t.Fatalf("%d serve processes, want 5", len(pids))
	}
	u.in.Close()
	if err := u.cmd.Wait(); err != nil {
		t.Fatalf("up ended with %v: %s", err, u.err.String())
	}
	waitGone(t, pids)

	holders := 0
	for id := 1; id <= 5; id++ {
		var out, errs bytes.Buffer
		code := run([]string{"wal", "dump", filepath.Join(dir, fmt.Sprint(id)), "--key", "c", "-o", "json"}, &streams{nil, &out, &errs})
		if code != exitDone {
			t.Fatalf("wal dump of server %d: code %d, %s", id, code, errs.String())
		}
		if strings.Contains(out.String(), `"key":"c","value":"6"`) {
			holders++
		}
	}
	if holders < 2 {
		t.Fatalf("the value is in %d logs, want at least 2", holders)
	}

	resumed := startUp(t, "--dir", dir)
	if got := resumed.ask(t, "get c"); got != "6" {
		t.Fatalf("resumed: get c gave %q, want 6", got)
	}
}

func TestUpEndsWithTheCodeOfTheLastFailure(t *testing.T) {
	u := startUp(t, "--nodes", "1", "--spares", "0")
	io.WriteString(u.in, "get none\nfrobnicate\nput a 1\nget missing\nput a 2\n")
	u.in.Close()
	out, _ := io.ReadAll(u.out)
	err := u.cmd.Wait()
	if code := exitStatus(err); string(out) != "OK\nOK\n" || code != "3" {
		t.Fatalf("got %q, exit code %s, want 3: %s", out, code, u.err.String())
	}
	if !strings.Contains(u.err.String(), "line 4: get: no such key") {
		t.Fatalf("errors do not name the line: %s", u.err.String())
	}
}

func TestASignalToUpStopsEveryProcess(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			u := startUp(t, "--nodes", "3", "--spares", "0")
			if got := u.ask(t, "put a 1"); got != "OK" {
				t.Fatalf("put: got %q", got)
			}
			pids := u.servers(t)
			if len(pids) != 3 {
				t.Fatalf("%d serve processes, want 3", len(pids))
			}
			dir := dirOf(t, u)
			u.cmd.Process.Signal(signal)
			u.cmd.Wait()
			waitGone(t, pids)
			if signal == syscall.SIGKILL {
				os.RemoveAll(dir)
			} else if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Fatalf("the temporary directory %s is left: %v", dir, err)
			}
		})
	}
}

// dirOf finds the temporary directory in a server's command line.
func dirOf(t *testing.T, u *upProcess) string {
	t.Helper()
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", u.servers(t)[0]))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(string(command), "\x00")
	return filepath.Dir(words[3])
}

func TestThePromptChangesTheMembership(t *testing.T) {
	u := startUp(t)
	for _, step := range []struct{ line, want string }{
		{"put a 1", "OK"},
		{"member add 4 --timeout 30s", "OK"},
		{"member list -o json", `"voters":[1,2,3,4],"learners":[],"joint":false,"old_voters":[],"phase":"stable"`},
		{"member add 5 --hold learner=10m --timeout 30s &", "OK"},
		{"member list -o json", `"voters":[1,2,3,4],"learners":[5],"joint":false,"old_voters":[],"phase":"learner"`},
		{"put b 2", "OK"},
		{"member cancel --timeout 30s", "OK"},
		{"member list -o json", `"voters":[1,2,3,4],"learners":[],"joint":false,"old_voters":[],"phase":"stable"`},
		{"member set 3,4,5 --timeout 30s -o json", `"voters":[3,4,5],"learners":[],"joint":false,"old_voters":[],"phase":"stable","over":true`},
		{"transfer 5 --timeout 30s", "OK"},
		{"status -o json", `"leader":5`},
		{"member remove 3 --dry-run", "2 of the old voters [3 4 5] must be alive"},
		{"get b", "2"},
	} {
		if got := u.ask(t, step.line); !strings.Contains(got, step.want) {
			t.Fatalf("%s: got %q, want %q; it said %s", step.line, got, step.want, u.err.String())
		}
	}
}

func TestTheDemonstrationsHold(t *testing.T) {
	for _, d := range demo.All() {
		t.Run(d.Name, func(t *testing.T) { play(t, exitDone, ": held", "demo", d.Name) })
	}
}

func TestADemonstrationFailsWithoutWhatItShows(t *testing.T) {
	for _, d := range demo.All() {
		if d.Breakable() {
			t.Run(d.Name, func(t *testing.T) { play(t, exitFailed, "it did not hold: ", "demo", d.Name, "--break") })
		}
	}
}

func play(t *testing.T, code int, last string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	got := run(args, &streams{strings.NewReader(""), &out, &errs})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got != code || !strings.Contains(lines[len(lines)-1], last) {
		t.Fatalf("%v: code %d, want %d and %q at the end: %s\n%s", args, got, code, last, errs.String(), out.String())
	}
	t.Log(lines[len(lines)-1])
}
