package sim

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Code that the simulator drives must depend on nothing but its inputs. This
// is checked on the syntax and types of every file of it: no map order, no
// goroutine, no select, no clock, no randomness but what is handed in.

// driven says which packages, and in them which files are thin shells that
// the simulator does not run.
var driven = []struct {
	path   string
	shells []string
}{
	{"balsa/node/raft", nil},
	{"balsa/kv", nil},
	{"balsa/kv/client", []string{"client.go", "status.go", "chaos.go", "changing.go"}},
	{"balsa/wal", nil},
	{"balsa/node", []string{"serve.go", "guard.go", "clock.go", "resolve.go", "dedicate.go"}},
	{"balsa/node/sim", nil},
}

// forbidden are imports, and names of imports, that bring in the outside.
var forbidden = map[string][]string{
	"time":         {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"math/rand":    nil, // nil: all of it
	"math/rand/v2": {"Int", "IntN", "Int64", "Int64N", "Int32", "Int32N", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN", "Uint", "N", "Float64", "Float32", "NormFloat64", "ExpFloat64", "Perm", "Shuffle"},
	"hash/maphash": nil,
	"crypto/rand":  nil,
	"os":           {"Getpid", "Getenv", "Hostname"},
	"runtime":      {"NumCPU", "GOMAXPROCS", "NumGoroutine", "Gosched"},
	"sync":         {"Pool", "Map", "WaitGroup", "Cond"},
}

func TestSimulatedCodeIsDeterministic(t *testing.T) {
	exports := exportData(t)
	for _, p := range driven {
		files := 0
		for _, finding := range inspectPackage(t, exports, p.path, p.shells, &files) {
			t.Error(finding)
		}
		if files == 0 {
			t.Errorf("%s: no file was looked at", p.path)
		}
	}
}

func TestPurityCheckSeesEachSin(t *testing.T) {
	cases := map[string]string{
		"map range":     "func f(m map[int]int) (k int) { for k = range m { return k }; return }",
		"keys unsorted": "func f(m map[int]int) (a []int) { for k := range m { a = append(a, k) }; return a }",
		"go":            "func f() { go f() }",
		"select":        "func f(c chan int) { select { case <-c: default: } }",
		"clock":         "import \"time\"\nfunc f() int64 { return time.Now().UnixNano() }",
		"global random": "import \"math/rand/v2\"\nfunc f() int { return rand.IntN(3) }",
		"map hash":      "import \"hash/maphash\"\nvar s maphash.Seed",
		"pool":          "import \"sync\"\nvar p sync.Pool",
		"pointer text":  "import \"fmt\"\nfunc f(p *int) string { return fmt.Sprintf(\"%p\", p) }",
	}
	for name, code := range cases {
		if len(inspectSource(t, code)) == 0 {
			t.Errorf("%s: not seen", name)
		}
	}
	fine := map[string]string{
		"sorted keys": "import \"slices\"\nfunc f(m map[int]int) (a []int) { for k := range m { a = append(a, k) }; slices.Sort(a); return a }",
		"cleared":     "func f(m map[int]int) { for k := range m { delete(m, k) } }",
		"own stream":  "import \"math/rand/v2\"\nfunc f(r *rand.Rand) int { return r.IntN(3) }",
		"slices":      "func f(a []int) (n int) { for _, x := range a { n += x }; return }",
	}
	for name, code := range fine {
		if got := inspectSource(t, code); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// exportData maps import paths to the compiler's export files.
func exportData(t *testing.T) types.Importer {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", "balsa/node/sim", "hash/maphash", "math/rand/v2", "sync", "slices", "fmt").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := map[string]string{}
	for _, line := range strings.Fields(string(out)) {
		path, file, _ := strings.Cut(line, "=")
		files[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(files[path])
	})
}

func inspectSource(t *testing.T, code string) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "case.go", "package p\n"+code, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return inspectFiles(t, exportDataOnce(t), fset, "p", []*ast.File{file}, nil)
}

var exportsOnce types.Importer

func exportDataOnce(t *testing.T) types.Importer {
	if exportsOnce == nil {
		exportsOnce = exportData(t)
	}
	return exportsOnce
}

func inspectPackage(t *testing.T, exports types.Importer, path string, shells []string, count *int) []string {
	t.Helper()
	dir := filepath.Join("..", "..", strings.TrimPrefix(path, "balsa/"))
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(source, []byte("//go:build !linux")) || strings.HasSuffix(name, "_other.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		*count++
	}
	return inspectFiles(t, exports, fset, path, files, shells)
}

func inspectFiles(t *testing.T, exports types.Importer, fset *token.FileSet, path string, files []*ast.File, shells []string) []string {
	t.Helper()
	info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: exports, Error: func(error) {}}
	_, err := config.Check(path, fset, files, &info)
	if err != nil {
		t.Logf("%s: %v", path, err)
	}
	var found []string
	for _, file := range files {
		if !slices.Contains(shells, filepath.Base(fset.Position(file.Pos()).Filename)) {
			i := inspector{fset: fset, info: &info}
			i.file(file)
			found = append(found, i.found...)
		}
	}
	return found
}

type inspector struct {
	fset  *token.FileSet
	info  *types.Info
	found []string
}

func (i *inspector) report(n ast.Node, what string) {
	i.found = append(i.found, fmt.Sprintf("%v: %s", i.fset.Position(n.Pos()), what))
}

func (i *inspector) file(file *ast.File) {
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if names, ok := forbidden[path]; ok && names == nil {
			i.report(spec, "imports "+path)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			i.report(n, "starts a goroutine")
		case *ast.SelectStmt:
			i.report(n, "selects")
		case *ast.SelectorExpr:
			i.selector(n)
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.Contains(n.Value, "%p") {
				i.report(n, "prints a pointer")
			}
		case *ast.BlockStmt:
			i.statements(n.List)
		case *ast.CaseClause:
			i.statements(n.Body)
		}
		return true
	})
}

func (i *inspector) selector(s *ast.SelectorExpr) {
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return
	}
	if p, ok := i.info.Uses[x].(*types.PkgName); ok && slices.Contains(forbidden[p.Imported().Path()], s.Sel.Name) {
		i.report(s, "uses "+p.Imported().Path()+"."+s.Sel.Name)
	}
}

// statements looks for a range over a map whose order can leave: anything but
// deleting, or gathering keys that the next statement sorts.
func (i *inspector) statements(list []ast.Stmt) {
	for k, statement := range list {
		r, ok := statement.(*ast.RangeStmt)
		if !ok {
			continue
		}
		kind := i.info.Types[r.X].Type
		if kind == nil {
			i.report(r, "ranges over something of unknown type")
			continue
		}
		if _, isMap := kind.Underlying().(*types.Map); !isMap {
			continue
		}
		if onlyDeletes(r.Body) || k+1 < len(list) && gathers(r.Body) && sorts(list[k+1]) {
			continue
		}
		i.report(r, "ranges over a map in its order")
	}
}

func onlyDeletes(b *ast.BlockStmt) bool {
	for _, s := range b.List {
		e, ok := s.(*ast.ExprStmt)
		if !ok || callee(e.X) != "delete" {
			return false
		}
	}
	return true
}

func gathers(b *ast.BlockStmt) bool {
	for _, s := range b.List {
		if inner, ok := s.(*ast.IfStmt); ok && inner.Else == nil && inner.Init == nil && gathers(inner.Body) {
			continue
		}
		a, ok := s.(*ast.AssignStmt)
		if !ok || len(a.Rhs) != 1 || callee(a.Rhs[0]) != "append" {
			return false
		}
	}
	return true
}

func sorts(s ast.Stmt) bool {
	e, ok := s.(*ast.ExprStmt)
	if !ok {
		return false
	}
	name := callee(e.X)
	return strings.HasPrefix(name, "slices.Sort") || strings.HasPrefix(name, "sort.")
}

func callee(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}
