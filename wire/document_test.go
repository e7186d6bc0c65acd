package wire

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const document = "../docs/wire-protocol.md"

// place is a field as the document draws it: "name width", what its bits mean behind a colon.
type place struct {
	name    string
	at, n   int
	meaning string
}

// section gives the lines below a heading, up to the next one.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, below, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("the document has no %q", heading)
	}
	if i := strings.Index(below, "\n#"); i >= 0 {
		below = below[:i]
	}
	return below
}

// drawing gives the first indented block of a section, without its indentation; "" if it has none.
func drawing(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, line[4:])
		} else if len(lines) > 0 {
			break
		}
	}
	return strings.Join(lines, "")
}

var (
	drawnLine  = regexp.MustCompile(`^ *(\d+)  (.*)\n?$`)
	drawnField = regexp.MustCompile(`^(.*?) (\d+)([:,] .*)?$`)
)

// fields reads a drawing: each line begins at the offset where the one before ends, and what has no width ends it.
func fields(t *testing.T, what, drawn string) (all []place, size int) {
	t.Helper()
	for line := range strings.Lines(drawn) {
		m := drawnLine.FindStringSubmatch(line)
		if m == nil {
			continue // goes on with the line before
		}
		if at, _ := strconv.Atoi(m[1]); at != size {
			t.Errorf("%s: %q stands at %d, what is before it ends at %d", what, m[2], at, size)
		}
		for _, f := range strings.Split(m[2], " | ") {
			w := drawnField.FindStringSubmatch(f)
			if w == nil {
				return all, size
			}
			n, _ := strconv.Atoi(w[2])
			all = append(all, place{name: w[1], at: size, n: n, meaning: w[3]})
			size += n
		}
	}
	return all, size
}

// flagsOf gives the bits that a drawing lists: ": 1 pre-vote, 2 granted".
func flagsOf(meaning string) (bits uint8) {
	for _, f := range strings.Split(strings.TrimPrefix(meaning, ": "), ", ") {
		n, err := strconv.Atoi(strings.Fields(f)[0])
		if err == nil {
			bits |= uint8(n)
		}
	}
	return bits
}

func readDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every kind that we name has its row in the document's table and its section, and no other has.
func TestTheDocumentNamesEveryKind(t *testing.T) {
	text := readDocument(t)
	var want, rows, sections []string
	for k := range 256 {
		if Kind(k).Known() {
			want = append(want, fmt.Sprintf("%v %d", Kind(k), k))
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z-]+) \| (\d+) \| .+ \|$`).FindAllStringSubmatch(section(t, text, "## Frames"), -1) {
		rows = append(rows, m[1]+" "+m[2])
	}
	for _, m := range regexp.MustCompile(`(?m)^### ([a-z-]+) \((\d+)\)$`).FindAllStringSubmatch(text, -1) {
		sections = append(sections, m[1]+" "+m[2])
	}
	if !slices.Equal(rows, want) {
		t.Errorf("the table has\n%v, want\n%v", rows, want)
	}
	if !slices.Equal(sections, want) {
		t.Errorf("the sections are\n%v, want\n%v", sections, want)
	}
}

// The document draws each frame as long as its encoder makes it, what is drawn as zero is written so and must be, and a
// flag that is not drawn is refused.
func TestTheDocumentDrawsWhatIsEncoded(t *testing.T) {
	text := readDocument(t)
	dissect, err := os.ReadFile(dissector)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples() {
		heading := "### Another version"
		if s.kind != 0 {
			heading = fmt.Sprintf("### %v (%d)", s.kind, s.kind)
		}
		drawn, size := fields(t, s.name, drawing(section(t, text, heading)))
		if want := s.fresh().Size(); size != want {
			t.Errorf("%s: %d bytes are drawn before what varies, want %d", s.name, size, want)
		}
		if head := fmt.Sprintf("[%d] = { name = %q, rest = %d,", s.kind, s.kind, size); s.kind != 0 && !strings.Contains(string(dissect), head) {
			t.Errorf("%s: the dissector has no %s", s.name, head)
		}
		encoded := encode(s.frame)
		for _, f := range drawn {
			for i := f.at; i < f.at+f.n; i++ {
				wrong := slices.Clone(encoded)
				switch {
				case f.name == "zero":
					wrong[i] ^= 1
				case f.name == "flags":
					wrong[i] = ^flagsOf(f.meaning)
				default:
					continue
				}
				if f.name == "zero" && encoded[i] != 0 {
					t.Errorf("%s: byte %d is drawn as zero, and is %d", s.name, i, encoded[i])
				}
				if s.fresh().Decode(wrong) == nil {
					t.Errorf("%s: byte %d (%s) is %#x, and taken", s.name, i, f.name, wrong[i])
				}
			}
		}
	}
	for heading, want := range map[string]int{"### Header": HeaderBytes, "### Trailer": TrailerBytes, "### Frame": FrameHeaderBytes, "### Entry, inside append": EntryHeaderBytes,
		"### Configuration": configurationHeaderBytes, "### Servers": 8} {
		if _, size := fields(t, heading, drawing(section(t, text, heading))); size != want {
			t.Errorf("%s: %d bytes are drawn before what varies, want %d", heading, size, want)
		}
	}
}

// The comment of each frame's type draws it as the document does.
func TestTheCommentsDrawWhatTheDocumentDraws(t *testing.T) {
	text := readDocument(t)
	files := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(files, name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
	}
	p, err := doc.NewFromFiles(files, parsed, "balsa/wire")
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	for _, typ := range p.Types {
		comments[typ.Name] = strings.ReplaceAll("\n"+typ.Doc, "\n\t", "\n    ")
	}
	headings := map[string]string{"Header": "### Header", "Frames": "### Frame", "Entry": "### Entry, inside append", "Mismatch": "### Another version", "Configuration": "### Configuration"}
	for _, s := range samples() {
		if s.kind != 0 {
			headings[reflect.TypeOf(s.frame).Elem().Name()] = fmt.Sprintf("### %v (%d)", s.kind, s.kind)
		}
	}
	for name, heading := range headings {
		drawn, inComment := drawing(section(t, text, heading)), drawing(comments[name])
		if strings.TrimSpace(drawn) != strings.TrimSpace(inComment) {
			t.Errorf("the comment of %s draws\n%s\nand %s\n%s", name, inComment, heading, drawn)
		}
	}
}
