package node

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ours says which of our packages each package may import. A package that is
// missing here fails the test: a new room needs a place in the house first.
// "*" allows any but cmd.
var ours = map[string][]string{
	"balsa/wal/vfs":           {},
	"balsa/wire":              {},
	"balsa/kv":                {},
	"balsa/node/raft":         {},
	"balsa/wal":               {"balsa/wal/vfs"},
	"balsa/wire/udp":          {"balsa/wire"},
	"balsa/wire/fault":        {"balsa/wire"},
	"balsa/wire/bulk":         {"balsa/wire"},
	"balsa/kv/client":         {"balsa/kv", "balsa/wire", "balsa/wire/udp"},
	"balsa/node":              {"balsa/node/raft", "balsa/wal", "balsa/wal/vfs", "balsa/wire", "balsa/wire/udp", "balsa/kv"},
	"balsa/node/sim":          {"balsa/node", "balsa/node/raft", "balsa/wal", "balsa/wal/vfs", "balsa/wire", "balsa/wire/udp", "balsa/wire/fault", "balsa/kv", "balsa/kv/client"},
	"balsa/node/sim/simulate": {"balsa/node/sim"},
	"balsa/node/sim/mutants":  {"balsa/node/sim"},
	"balsa/bench":             {"*"},
	"balsa/cmd/balsa":         {"*", "balsa/cmd/balsa/local", "balsa/cmd/balsa/demo"},
	"balsa/cmd/balsa/local":   {"*"},
	"balsa/cmd/balsa/demo":    {"*", "balsa/cmd/balsa/local"},
}

// banned keeps the pure core pure: time and seeds come in as arguments, work
// comes out.
var banned = map[string][]string{
	"balsa/node/raft": {"net", "net/netip", "os", "time", "sync", "sync/atomic", "context", "log", "log/slog", "math/rand", "math/rand/v2"},
}

func TestImportsGoOneWay(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(name, "go.mod")); d.IsDir() && name != ".." && err == nil {
			return filepath.SkipDir // a module of its own, which nothing of ours can import
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		pkg := path.Join("balsa", filepath.ToSlash(filepath.Dir(strings.TrimPrefix(name, "../"))))
		seen[pkg] = true
		checkImports(t, pkg, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range []string{"balsa/wal", "balsa/wire", "balsa/kv", "balsa/node/raft", "balsa/node"} {
		if !seen[leaf] {
			t.Errorf("the walk did not meet %s: it checks nothing", leaf)
		}
	}
}

func checkImports(t *testing.T, pkg, name string) {
	allowed, known := ours[pkg]
	if !known {
		t.Errorf("%s: package %s has no row in the table of allowed imports", name, pkg)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		if slices.Contains(banned[pkg], imported) {
			t.Errorf("%s: %s may not import %s", name, pkg, imported)
		}
		if imported != "balsa" && !strings.HasPrefix(imported, "balsa/") {
			continue
		}
		anything := slices.Contains(allowed, "*") && !strings.HasPrefix(imported, "balsa/cmd") && (imported != "balsa/bench" || strings.HasPrefix(pkg, "balsa/cmd"))
		if !anything && !slices.Contains(allowed, imported) {
			t.Errorf("%s: %s may not import %s", name, pkg, imported)
		}
	}
}
