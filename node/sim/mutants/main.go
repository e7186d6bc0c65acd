// Command mutants plants known bugs, one at a time, beside the module's own code,
// and tells which seed of the simulator or which test catches each. One that
// survives, or that does not fit the code any more, fails the run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
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
	caught, failed := 0, 0
	for i := range mutants {
		m := &mutants[i]
		if only != 0 && m.number != only {
			continue
		}
		if check {
			if _, err := m.texts(root); err != nil {
				fmt.Printf("mutant %d does not fit: %v\n", m.number, err)
				failed++
			} else {
				caught++
			}
			continue
		}
		if simulate {
			return m.simulate(root, seeds, first)
		}
		began := time.Now()
		by, err := m.hunt(root, seeds, first)
		if err != nil {
			failed++
			fmt.Printf("mutant %d SURVIVED: %s: %v (%.0f s)\n", m.number, m.title, err, time.Since(began).Seconds())
			continue
		}
		caught++
		fmt.Printf("mutant %d caught by %s: %s (%.0f s)\n", m.number, by, m.title, time.Since(began).Seconds())
	}
	fmt.Printf("%d passed, %d failed\n", caught, failed)
	if failed > 0 || caught == 0 {
		return errors.New("not every mutant is caught")
	}
	return nil
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
	return dir, overlay, os.WriteFile(overlay, b, 0o644)
}

var errSurvived = errors.New("nothing sees it")

// hunt tells what catches the mutant: some seeds, the tests, then more seeds.
func (m *mutant) hunt(root string, seeds, first int) (string, error) {
	dir, overlay, err := m.plant(root)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "simulate")
	if out, err := command(root, overlay, 5*time.Minute, "go", "build", "-o", program, "./node/sim/simulate"); err != nil {
		return "", fmt.Errorf("the mutant does not build: %w\n%s", err, out)
	}
	few := seeds
	if m.tests != nil {
		few = min(seeds, 40)
	}
	if by := searched(program, first, few); by != "" {
		return by, nil
	}
	if m.tests != nil {
		if by := tested(root, overlay, m.tests); by != "" {
			return by, nil
		}
		if by := searched(program, first+few, seeds-few); by != "" {
			return by, nil
		}
	}
	return "", errSurvived
}

var (
	failedSeed = regexp.MustCompile(`(?m)^seed (\d+) failed: (\S+)`)
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
)

func searched(program string, first, seeds int) string {
	if seeds <= 0 {
		return ""
	}
	out, err := command("", "", 10*time.Minute, program, "-stop", "-first", fmt.Sprint(first), "-seeds", fmt.Sprint(seeds))
	if err == nil {
		return ""
	}
	if found := failedSeed.FindStringSubmatch(out); found != nil {
		return fmt.Sprintf("seed %s (%s)", found[1], found[2])
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "a seed that does not end"
	}
	if strings.Contains(out, "fault class") {
		return ""
	}
	return "the simulator, which dies: " + lastLine(out)
}

func tested(root, overlay string, packages []string) string {
	args := append([]string{"test", "-count=1", "-timeout=300s"}, packages...)
	out, err := command(root, overlay, 6*time.Minute, "go", args...)
	if err == nil {
		return ""
	}
	if found := failedTest.FindStringSubmatch(out); found != nil {
		return found[1]
	}
	return "the tests of " + strings.Join(packages, " ") + ": " + lastLine(out)
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

func command(dir, overlay string, limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	if overlay != "" {
		c.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	}
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
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
