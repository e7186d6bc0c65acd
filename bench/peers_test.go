package bench

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var required = regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/\S+) v(\d+)\.(\d+)\.(\d+)`)

// The comparison with other systems is a module of its own, which no test builds: whatever this package needs must stand in
// its go.mod, no older, or the go command refuses to build it.
func TestTheModuleOfThePeersNamesWhatWeNeed(t *testing.T) {
	text, err := os.ReadFile("peers/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string][3]int{}
	for _, m := range required.FindAllStringSubmatch(string(text), -1) {
		there[m[1]] = version(t, strings.Join(m[2:5], "."))
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if .Version}}{{.Path}} {{.Version}}{{end}}{{end}}", "balsa/bench").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	needed := 0
	for line := range strings.Lines(string(out)) {
		path, v, ok := strings.Cut(strings.TrimSpace(line), " v")
		if !ok {
			continue
		}
		needed++
		got, named := there[path]
		want := version(t, v)
		if !named || got[0] < want[0] || got[0] == want[0] && (got[1] < want[1] || got[1] == want[1] && got[2] < want[2]) {
			t.Errorf("bench/peers/go.mod has %s at %v, want %v: go -C bench/peers mod tidy", path, got, want)
		}
	}
	if needed == 0 {
		t.Fatal("nothing is needed: the test looks at nothing")
	}
}

func version(t *testing.T, s string) (v [3]int) {
	if _, err := fmt.Sscanf(s, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		t.Fatalf("version %q: %v", s, err)
	}
	return v
}
