package main

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"balsa/kv"
)

func exitStatus(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}

func TestALineOfThePromptSplitsIntoWords(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // nil: a fault
	}{
		{"put a 7", []string{"put", "a", "7"}},
		{"  put\ta   7  ", []string{"put", "a", "7"}},
		{`put "two words" "line\n"`, []string{"put", "two words", "line\n"}},
		{"put `raw \\n` x", []string{"put", `raw \n`, "x"}},
		{`put "\xff\x00" ""`, []string{"put", "\xff\x00", ""}},
		{`put a b"c`, []string{"put", "a", `b"c`}},
		{"put a -5", []string{"put", "a", "-5"}},
		{`put a "-o"`, []string{"put", "a", "-o"}},
		{`put a "\x00-5"`, []string{"put", "a", "\x00-5"}},
		{`put a "unfinished`, nil},
		{`put a "b"c`, nil},
		{`put a "\q"`, nil},
	} {
		words, err := splitWords(c.line)
		if (err == nil) != (c.want != nil) {
			t.Errorf("%s: got error %v", c.line, err)
			continue
		}
		got := unmarkWords(words)
		if strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
			t.Errorf("%s: got %q, want %q", c.line, got, c.want)
		}
	}
}

func TestAQuotedWordIsNeverAFlag(t *testing.T) {
	p := &prompt{}
	c, err := p.parse(`put "--timeout" "-o"`)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.order.key) != "--timeout" || string(c.order.value) != "-o" {
		t.Fatalf("got key %q and value %q", c.order.key, c.order.value)
	}
	if _, err := p.parse("put a -"); codeOf(err) != exitUsage {
		t.Fatalf("a bare - in the prompt: got %v, want wrong usage", err)
	}
	if c, err = p.parse(`put a "-"`); err != nil || string(c.order.value) != "-" {
		t.Fatalf("a quoted -: got %v", err)
	}
}

func TestFlagsStandBeforeOrAfterTheWords(t *testing.T) {
	p := &prompt{}
	for _, line := range []string{"scan --limit 3 --from a pre", "scan pre --from a --limit 3", "scan --from=a pre --limit=3"} {
		c, err := p.parse(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if o := c.order; string(o.key) != "pre" || string(o.from) != "a" || o.to != nil || o.limit != 3 {
			t.Errorf("%s: got %+v", line, o)
		}
	}
}

func TestLimitsAreCheckedAtTheEdge(t *testing.T) {
	p := &prompt{}
	long, huge := strings.Repeat("k", kv.MaxKey), strings.Repeat("v", kv.MaxValue)
	for _, c := range []struct {
		line string
		ok   bool
	}{
		{"put " + long + " v", true},
		{"put " + long + "k v", false},
		{"put k " + huge, true},
		{"put k " + huge + "v", false},
		{`put "" v`, false},
		{`put k ""`, true},
		{"cas k old " + huge + "v", false},
		{"get " + long + "k", false},
		{"scan " + long + "k", false},
		{"scan --limit -1", false},
	} {
		_, err := p.parse(c.line)
		if c.ok != (err == nil) || !c.ok && codeOf(err) != exitUsage {
			t.Errorf("%s: got %v", clip(c.line), err)
		}
	}
}

func TestWordsLikeNegativeNumbersAreValues(t *testing.T) {
	takes := func(flag string) bool { return flag == "--limit" || flag == "-o" }
	got := markValues([]string{"put", "-5", "--limit", "-6", "-o", "-7x", "-x", "--", "-8"}, takes)
	want := []string{"put", mark + "-5", "--limit", "-6", "-o", "-7x", "-x", "--", "-8"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTheNearestWordIsTold(t *testing.T) {
	known := []string{"put", "get", "del", "cas", "scan", "status", "member", "version"}
	for word, want := range map[string]string{
		"putt": "put", "gte": "get", "stauts": "status", "stat": "status", "vers": "version", "xyzzy": "", "q": "", "delete": "del",
	} {
		if got := nearest(word, known); got != want && !(word == "delete" && got == "") {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestSizesReadAndPrintTheSame(t *testing.T) {
	for text, want := range map[string]int64{"64MiB": 64 << 20, "4KiB": 4 << 10, "1GiB": 1 << 30, "512": 512, "512B": 512} {
		var b byteSize
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%s: got %d, %v, want %d", text, b, err, want)
		}
		var again byteSize
		if err := again.Set(b.String()); err != nil || again != b {
			t.Errorf("%s: prints as %s", text, b.String())
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "64MB", "99999999999GiB"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q: got %d, want a fault", text, b)
		}
	}
}
