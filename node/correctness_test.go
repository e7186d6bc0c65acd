package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The page of rules and traps is a promise: each row names tests and planted bugs that exist, and only what waits for
// bases may name none.
func TestEveryRuleAndTrapNamesItsTests(t *testing.T) {
	tests, mutants := named(t, "_test.go", `(?m)^func (Test\w+)\(`), named(t, ".go", `(?m)^\t\{(\d+), "`)
	page, err := os.ReadFile("../docs/correctness.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, traps, _ := strings.Cut(string(page), "## The traps")
	for _, part := range []struct {
		name, text string
		rows       int
		later      string // numbers of rows that may name no test
	}{{"rule", rules, 21, " 15 17 "}, {"trap", traps, 28, " 27 "}} {
		for n := 1; n <= part.rows; n++ {
			row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*$`, n)).FindString(part.text)
			names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(row, -1)
			if row == "" || len(names) == 0 && !strings.Contains(part.later, fmt.Sprintf(" %d ", n)) {
				t.Errorf("%s %d names no test: %q", part.name, n, row)
			}
			for _, name := range names {
				if !tests[name[1]] {
					t.Errorf("%s %d: there is no %s", part.name, n, name[1])
				}
			}
			for _, number := range listed(row) {
				if !mutants[number] {
					t.Errorf("%s %d: there is no mutant %s", part.name, n, number)
				}
			}
		}
	}
}

// named gathers what the pattern's group finds in the project's files.
func named(t *testing.T, suffix, pattern string) map[string]bool {
	found, expression := map[string]bool{}, regexp.MustCompile(pattern)
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, suffix) {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range expression.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d names found: %v", len(found), err)
	}
	return found
}

// listed are the numbers of a row's last column: 1, 4–6 are 1, 4 and 6.
func listed(row string) []string {
	columns := strings.Split(strings.TrimRight(row, "| "), "|")
	last := columns[len(columns)-1]
	if _, err := strconv.Atoi(strings.TrimSpace(strings.FieldsFunc(last+" ", func(r rune) bool { return r == ',' || r == '–' })[0])); err != nil {
		return nil
	}
	return regexp.MustCompile(`\d+`).FindAllString(last, -1)
}
