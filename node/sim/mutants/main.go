// Command mutants plants known bugs, one at a time, beside the module's own code,
// and tells which seed of the simulator or which test catches each. One that
// survives, or that does not fit the code any more, fails the run.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// mutant is one planted bug. Numbers to 100 are those of the survey's list of
// mutants, from 101 on they are ours, for the rules of safety.
type mutant struct {
	number int
	title  string
	detect string   // what should see it
	tests  []string // packages whose tests are run too; nil: seeds alone
	edits  []edit
}

// edit replaces the one place where old stands in file by new.
type edit struct{ file, old, new string }

func main() {
	only := flag.Int("only", 0, "run only the mutant of this number")
	seeds := flag.Int("seeds", 500, "how many seeds may look for a mutant")
	first := flag.Int("first", 1, "the first of them")
	simulate := flag.Bool("sim", false, "with -only: run all seeds on the mutant and show them, as make sim does")
	alone := flag.Bool("alone", false, "let only the seeds look, not the tests")
	check := flag.Bool("check", false, "only check that each mutant fits the code")
	flag.Parse()
	if *alone {
		for i := range mutants {
			mutants[i].tests = nil
		}
	}
	err := run(*only, *seeds, *first, *simulate, *check)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(only, seeds, first int, simulate, check bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	var chosen []*mutant
	for i := range mutants {
		if only == 0 || mutants[i].number == only {
			chosen = append(chosen, &mutants[i])
		}
	}
	if simulate {
		for _, m := range chosen {
			return m.simulate(root, seeds, first)
		}
	}
	began := time.Now()
	failed := 0
	for verdict := range judged(chosen, root, seeds, first, check) {
		if verdict.text != "" {
			fmt.Println(verdict.text)
		}
		if verdict.failed {
			failed++
		}
	}
	fmt.Printf("%d passed, %d failed (%.0f s)\n", len(chosen)-failed, failed, time.Since(began).Seconds())
	if failed > 0 || len(chosen) == 0 {
		return errors.New("not every mutant is caught")
	}
	return nil
}

type verdict struct {
	text   string
	failed bool
}

// judged hunts mutants, as many at once as there are processors, and gives a
// verdict on each as soon as there is one.
func judged(chosen []*mutant, root string, seeds, first int, check bool) <-chan verdict {
	verdicts, slots := make(chan verdict), make(chan struct{}, runtime.NumCPU())
	var hunts sync.WaitGroup
	hunts.Go(func() {
		for _, m := range chosen {
			slots <- struct{}{}
			hunts.Go(func() {
				verdicts <- m.judge(root, seeds, first, check)
				<-slots
			})
		}
	})
	go func() {
		hunts.Wait()
		close(verdicts)
	}()
	return verdicts
}

func (m *mutant) judge(root string, seeds, first int, check bool) verdict {
	if check {
		if _, err := m.texts(root); err != nil {
			return verdict{fmt.Sprintf("mutant %d does not fit: %v", m.number, err), true}
		}
		return verdict{}
	}
	began := time.Now()
	by, err := m.hunt(root, seeds, first)
	took := time.Since(began).Seconds()
	if err != nil {
		return verdict{fmt.Sprintf("mutant %d SURVIVED: %s: %v (%.0f s)", m.number, m.title, err, took), true}
	}
	return verdict{fmt.Sprintf("mutant %d caught by %s: %s (%.0f s)", m.number, by, m.title, took), false}
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// texts gives the changed files by name, as they are with the bug in them.
func (m *mutant) texts(root string) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range m.edits {
		text, ok := texts[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has %d places like %q, want exactly one", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return texts, nil
}

// plant gives a directory with the changed files, and a file that tells the go
// command to read them in place of the module's own. The module itself is left
// alone.
func (m *mutant) plant(root string) (dir, overlay string, err error) {
	texts, err := m.texts(root)
	if err != nil {
		return "", "", err
	}
	if dir, err = os.MkdirTemp("", fmt.Sprintf("mutant-%d-", m.number)); err != nil {
		return "", "", err
	}
	replace := map[string]string{}
	for file, text := range texts {
		copied := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
			return "", "", errors.Join(err, os.RemoveAll(dir))
		}
		replace[filepath.Join(root, file)] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", "", errors.Join(err, os.RemoveAll(dir))
	}
	overlay = filepath.Join(dir, "overlay.json")
	err = errors.Join(os.WriteFile(overlay, b, 0o644), os.WriteFile(filepath.Join(dir, limiter), []byte(limitScript), 0o755))
	return dir, overlay, err
}

// limiter runs a program that ends when it has used so much of a processor, which
// is the same on a busy machine: a mutant may make a test or a seed endless.
const (
	limiter     = "limit"
	limitScript = "#!/bin/sh\nulimit -t 300\nexec \"$@\"\n"
	outOfTime   = "signal: killed"
)

var errSurvived = errors.New("nothing sees it")

// fewSeeds is how many look before the tests do, where seeds should see the mutant.
const fewSeeds = 50

// hunt tells what catches the mutant: what should see it looks first, and then
// the others, the many seeds last.
func (m *mutant) hunt(root string, seeds, first int) (string, error) {
	dir, overlay, err := m.plant(root)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	testsLook := m.tests != nil
	if testsLook && strings.HasPrefix(m.detect, "tests") {
		if by, err := tested(root, overlay, m.tests); err != nil || by != "" {
			return by, err
		}
		testsLook = false
	}
	program := filepath.Join(dir, "simulate")
	if out, err := command(root, overlay, "go", "build", "-o", program, "./node/sim/simulate"); err != nil {
		return "", fmt.Errorf("the mutant does not build: %w\n%s", err, out)
	}
	few := 0
	if testsLook {
		few = min(seeds, fewSeeds)
		if by := searched(program, first, few); by != "" {
			return by, nil
		}
		if by, err := tested(root, overlay, m.tests); err != nil || by != "" {
			return by, err
		}
	}
	if by := searched(program, first+few, seeds-few); by != "" {
		return by, nil
	}
	return "", errSurvived
}

var (
	failedSeed = regexp.MustCompile(`(?m)^seed (\d+) failed: (\S+)`)
	panicked   = regexp.MustCompile(`(?m)^balsa/\S+\.(Test\w+)\(`)
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
)

func searched(program string, first, seeds int) string {
	if seeds <= 0 {
		return ""
	}
	out, err := command("", "", filepath.Join(filepath.Dir(program), limiter), program, "-stop", "-first", fmt.Sprint(first), "-seeds", fmt.Sprint(seeds))
	if err == nil {
		return ""
	}
	if found := failedSeed.FindStringSubmatch(out); found != nil {
		return fmt.Sprintf("seed %s (%s)", found[1], found[2])
	}
	if err.Error() == outOfTime {
		return "a seed that does not end"
	}
	if strings.Contains(out, "fault class") || strings.Contains(out, "was never met") {
		return ""
	}
	return "the simulator, which dies: " + lastLine(out)
}

func tested(root, overlay string, packages []string) (string, error) {
	args := append([]string{"test", "-count=1", "-failfast", "-timeout=2h", "-exec=" + filepath.Join(filepath.Dir(overlay), limiter)}, packages...)
	out, err := command(root, overlay, "go", args...)
	switch {
	case err == nil:
		return "", nil
	case strings.Contains(out, "[build failed]"):
		return "", fmt.Errorf("the mutant does not build:\n%s", out)
	}
	if found := failedTest.FindStringSubmatch(out); found != nil {
		return found[1], nil
	}
	if strings.Contains(out, outOfTime) {
		return "a test that does not end", nil
	}
	if found := panicked.FindStringSubmatch(out); found != nil {
		return found[1] + ", which panics", nil
	}
	return "the tests of " + strings.Join(packages, " ") + ": " + lastLine(out), nil
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

func command(dir, overlay, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOMAXPROCS=1") // others are hunted beside it
	if overlay != "" {
		c.Env = append(c.Env, "GOFLAGS=-overlay="+overlay)
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

// simulate shows the seeds on the mutant, as they are shown without one.
func (m *mutant) simulate(root string, seeds, first int) error {
	dir, overlay, err := m.plant(root)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("mutant %d: %s\n", m.number, m.title)
	c := exec.Command("go", "run", "-overlay", overlay, "./node/sim/simulate", "-verbose", "-first", fmt.Sprint(first), "-seeds", fmt.Sprint(seeds))
	c.Dir, c.Stdout, c.Stderr = root, os.Stdout, os.Stderr
	return c.Run()
}
