package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var proof = flag.Bool("proof", false, "compare hashes over 50 seeds, with the race detector too")

func seedsToCompare() uint64 {
	if *proof {
		return 50
	}
	return 12
}

func TestSameSeedSameHash(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := uint64(1); seed <= seedsToCompare(); seed++ {
		first, second := Run(seed), Run(seed)
		if first.Failure != "" {
			t.Errorf("seed %d failed: %s", seed, first.Failure)
		}
		if first.Hash != second.Hash || first.Events != second.Events {
			t.Errorf("seed %d: hash %016x after %d events, then %016x after %d", seed, first.Hash, first.Events, second.Hash, second.Events)
		}
		if other, ok := seen[first.Hash]; ok {
			t.Errorf("seeds %d and %d have one hash: it covers nothing", other, seed)
		}
		seen[first.Hash] = seed
	}
}

// Telling what happens must not change it, or a failing seed could not be
// looked at.
func TestTellingChangesNothing(t *testing.T) {
	quiet := Run(3)
	var told strings.Builder
	if loud := RunTold(3, &told); loud.Hash != quiet.Hash || told.Len() == 0 {
		t.Errorf("hash %016x, told (%d bytes) %016x", quiet.Hash, told.Len(), loud.Hash)
	}
}

// Another process, one processor, a collector that runs all the time and,
// with -proof, the race detector: the hashes are the same.
func TestSameHashInAnyProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	args := []string{}
	if *proof {
		args = append(args, "-race")
	}
	program := build(t, args...)
	got := hashes(t, program, "GOMAXPROCS=1", "GOGC=5")
	for seed := uint64(1); seed <= seedsToCompare(); seed++ {
		want := fmt.Sprintf("%016x", Run(seed).Hash)
		if got[fmt.Sprint(seed)] != want {
			t.Errorf("seed %d: hash %s in another process, %s here", seed, got[fmt.Sprint(seed)], want)
		}
	}
}

// The control: with replies sent in the order of a map, the hashes must
// differ, or they prove nothing.
func TestOneMapRangeShows(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	file, err := filepath.Abs("../reply.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bent := strings.Replace(string(source), "for _, c := range n.clients.dirty {", "for _, c := range n.clients.byID {", 1)
	if bent == string(source) {
		t.Fatal("reply.go has changed: this control fits it no more")
	}
	dir := t.TempDir()
	copied, overlay := filepath.Join(dir, "reply.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{file: copied}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{copied: []byte(bent), overlay: b} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := build(t, "-overlay", overlay)
	first, second := hashes(t, program), hashes(t, program)
	differ := 0
	for seed, hash := range first {
		if second[seed] != hash {
			differ++
		}
	}
	if differ == 0 {
		t.Errorf("%d seeds have the same hashes twice though a map's order is in them", len(first))
	}
}

func build(t *testing.T, args ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "simulate")
	args = append(append([]string{"build", "-o", program}, args...), "./simulate")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	return program
}

var hashLine = regexp.MustCompile(`(?m)^seed (\d+) hash (\w+)`)

func hashes(t *testing.T, program string, env ...string) map[string]string {
	t.Helper()
	c := exec.Command(program, "-verbose", "-seeds", fmt.Sprint(seedsToCompare()))
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	found := map[string]string{}
	for _, m := range hashLine.FindAllStringSubmatch(string(out), -1) {
		found[m[1]] = m[2]
	}
	if len(found) != int(seedsToCompare()) {
		t.Fatalf("%d hashes, want %d:\n%s", len(found), seedsToCompare(), out)
	}
	return found
}
