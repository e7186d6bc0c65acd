package kv

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// checkGolden compares bytes with testdata/golden/NAME.hex, or writes that with -update.
func checkGolden(t *testing.T, name string, p []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	var b strings.Builder
	for len(p) > 0 {
		n := min(16, len(p))
		b.WriteString(hex.EncodeToString(p[:n]) + "\n")
		p = p[n:]
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s: bytes changed, which needs another version of the wire and of the log:\n%swant\n%s", name, b.String(), want)
	}
}

// sampleCommands has each operation, and each flag.
func sampleCommands() map[string]Command {
	some := []byte{}
	packed := append([]byte{byte(S2), 0, 0, 0, 0x00, 0x10, 0, 0}, "a block"...) // 4,096 bytes when unpacked
	zstd := append([]byte{byte(Zstd), 0, 0, 0, 0x00, 0x20, 0, 0}, "another block"...)
	return map[string]Command{
		"command-put":          {Op: Put, Client: 0x1122334455667788, Seq: 300, AckedBelow: 298, Term: 7, Key: []byte("key"), Value: []byte("value"), Old: some},
		"command-put-register": {Op: Put, Flags: FlagRegister | FlagOneShot, Client: 5, Seq: 1, AckedBelow: 1, Registered: 1e18, Key: []byte("key"), Value: some, Old: some},
		"command-put-packed":   {Op: Put, Flags: FlagPacked, Client: 5, Seq: 2, AckedBelow: 1, Key: []byte("key"), Value: packed, Old: some},
		"command-del":          {Op: Delete, Client: 5, Seq: 3, AckedBelow: 1, Term: 7, Key: []byte("key"), Value: some, Old: some},
		"command-cas":          {Op: CompareAndSwap, Client: 5, Seq: 4, AckedBelow: 1, Key: []byte("key"), Value: []byte("new"), Old: []byte("old value")},
		"command-cas-absent":   {Op: CompareAndSwap, Flags: FlagOldAbsent | FlagPacked, Client: 5, Seq: 5, AckedBelow: 5, Key: []byte("key"), Value: zstd, Old: some},
		"command-get":          {Op: Get, Client: 5, Seq: ReadSeq | 1, Key: []byte("key"), Value: some, Old: some},
		"command-scan":         {Op: Scan, Client: 5, Seq: ReadSeq | 2, Key: []byte("prefix"), Value: []byte("prefix-a"), Old: []byte("prefix-z"), Limit: 10},
	}
}

func TestCommandsMatchTheirGoldenBytes(t *testing.T) {
	for name, c := range sampleCommands() {
		b := AppendCommand([]byte("odd"), &c)[3:]
		if got, size, err := DecodeCommand(append(bytes.Clone(b), 1, 2, 3)); err != nil || size != len(b) || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: decoded %+v, %d bytes, %v; want\n%+v, %d bytes", name, got, size, err, c, len(b))
		}
		checkGolden(t, name, b)
	}
}

func TestResultsMatchTheirGoldenBytes(t *testing.T) {
	pairs := AppendPair(AppendPair(nil, []byte("a"), []byte("value")), []byte("key 2"), nil)
	for name, r := range map[string]Result{
		"result-put":      {Status: OK, Sub: 3, Seq: 300, Index: 9, Term: 7},
		"result-get":      {Status: OK, Seq: ReadSeq | 1, Index: 9, Term: 7, Value: []byte("value")},
		"result-scan":     {Status: OK, More: true, Seq: ReadSeq | 2, Index: 9, Term: 7, Value: pairs},
		"result-conflict": {Status: Conflict, Seq: 4, Index: 10, Term: 7},
		"result-early":    {Status: EarlyRegistration, Seq: 1},
	} {
		b := AppendResult([]byte("odd"), &r)[3:]
		if got, size, err := DecodeResult(append(bytes.Clone(b), 1, 2, 3)); err != nil || size != len(b) || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: decoded %+v, %d bytes, %v; want\n%+v, %d bytes", name, got, size, err, r, len(b))
		}
		checkGolden(t, name, b)
	}
}

func TestPairsMatchTheirGoldenBytes(t *testing.T) {
	b := AppendPair(AppendPair(nil, []byte("a"), []byte("value")), []byte("key 2"), nil)
	checkGolden(t, "pairs", b)
	for _, want := range [][2]string{{"a", "value"}, {"key 2", ""}} {
		key, value, rest, ok := NextPair(b)
		if !ok || string(key) != want[0] || string(value) != want[1] {
			t.Errorf("%q, %q, %v; want %q", key, value, ok, want)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}

func TestPartsMatchTheirGoldenBytes(t *testing.T) {
	b := AppendPart(nil, 70000, 32760, []byte("a piece"))
	checkGolden(t, "part", b)
	if total, offset, piece, ok := DecodePart(b); !ok || total != 70000 || offset != 32760 || string(piece) != "a piece" {
		t.Errorf("%d, %d, %q, %v", total, offset, piece, ok)
	}
}

// The document draws each layout as long as it is before what varies, line behind line.
func TestTheDocumentDrawsWhatIsEncoded(t *testing.T) {
	text, err := os.ReadFile("../docs/wire-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	line, width := regexp.MustCompile(`(?m)^ {4} ?(\d+)  (.*)$`), regexp.MustCompile(`^.*? (\d+)([:,] .*)?$`)
	for heading, want := range map[string]int{"Command": CommandHeaderBytes, "Result": ResultHeaderBytes, "Part": PartHeaderBytes, "Packed value": packedHeaderBytes,
		"Pairs": PairSize(nil, nil)} {
		_, below, ok := strings.Cut(string(text), "\n### "+heading+"\n")
		if !ok {
			t.Fatalf("no section %q", heading)
		}
		below, _, _ = strings.Cut(below, "\n#")
		size := 0
		for _, m := range line.FindAllStringSubmatch(below, -1) {
			if m[1] != strconv.Itoa(size) {
				t.Errorf("%s: %q stands at %s, what is before it ends at %d", heading, m[2], m[1], size)
			}
			for _, f := range strings.Split(m[2], " | ") {
				if w := width.FindStringSubmatch(f); w != nil {
					n, _ := strconv.Atoi(w[1])
					size += n
				}
			}
		}
		if size != want {
			t.Errorf("%s: %d bytes are drawn before what varies, want %d", heading, size, want)
		}
	}
}
