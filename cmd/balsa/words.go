package main

import (
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"balsa/kv"
)

// order is one parsed command on the store: what both a command line and a line of the prompt become.
type order struct {
	word   string // put get del cas scan
	key    []byte // scan: the prefix
	value  []byte // cas: the new value
	old    []byte
	absent bool   // cas: the key must be absent
	from   []byte // scan: nil when not given
	to     []byte
	limit  int // scan: 0 is without a limit
}

// read says whether the order changes nothing.
func (o *order) read() bool { return o.word == "get" || o.word == "scan" }

// storeWord is a word on the store: its usage and how many words it takes.
type storeWord struct {
	name, usage, about, example string
	least, most                 int
}

var storeWords = []storeWord{
	{"put", "put KEY VALUE", "set a key", "balsa put colour green\nbalsa put photo - < photo.jpg", 2, 2},
	{"get", "get KEY", "read a key's value", "balsa get colour\nbalsa get colour -o json", 1, 1},
	{"del", "del KEY", "delete a key", "balsa del colour", 1, 1},
	{"cas", "cas KEY OLD NEW", "set a key if its value is OLD", "balsa cas colour green blue\nbalsa cas lock --absent mine", 2, 3},
	{"scan", "scan [PREFIX]", "list keys in order", "balsa scan user/ --limit 10\nbalsa scan --from a --to m", 0, 1},
}

func findStoreWord(name string) *storeWord {
	for i := range storeWords {
		if storeWords[i].name == name {
			return &storeWords[i]
		}
	}
	return nil
}

// storeFlags are the flags of the words on the store. They are parsed with the words, marked where they need it.
type storeFlags struct {
	from, to string
	limit    int
	absent   bool
	set      *pflag.FlagSet
}

func (f *storeFlags) register(word string, set *pflag.FlagSet) {
	f.set = set
	switch word {
	case "scan":
		set.StringVar(&f.from, "from", "", "first key to list")
		set.StringVar(&f.to, "to", "", "list keys below this one")
		set.IntVar(&f.limit, "limit", 0, "list at most this many keys (0: all)")
	case "cas":
		set.BoolVar(&f.absent, "absent", false, "the key must not exist; OLD is left out")
	}
}

// parseOrder makes an order of a word and what follows it. Limits are checked here, at the edge. stdin gives the value
// that is written as a bare "-"; a quoted one arrives marked and is a value like any other.
func parseOrder(w *storeWord, marked []string, f *storeFlags, stdin func() ([]byte, error)) (*order, error) {
	words := unmarkWords(marked)
	if f.absent && len(words) == 3 {
		return nil, usagef("cas --absent takes KEY NEW: the key must not exist, so there is no OLD")
	}
	if len(words) < w.least || len(words) > w.most || w.name == "cas" && !f.absent && len(words) != 3 {
		return nil, usagef("usage: %s (got %s)", w.usage, count(len(words), "word"))
	}
	o := &order{word: w.name, absent: f.absent, limit: f.limit}
	if len(words) > 0 {
		o.key = []byte(words[0])
	}
	if w.name == "scan" {
		return o, o.bounds(f)
	}
	if err := checkKey(o.key); err != nil {
		return nil, err
	}
	values := make([][]byte, len(words)-1)
	piped := false
	for i, word := range words[1:] {
		values[i] = []byte(word)
		if marked[i+1] != "-" {
			continue
		}
		if piped {
			return nil, usagef("%s: standard input gives one value, - stands there twice", w.name)
		}
		piped = true
		value, err := stdin()
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	for _, v := range values {
		if err := checkValue(v); err != nil {
			return nil, err
		}
	}
	if len(values) > 0 {
		o.value = values[len(values)-1]
	}
	if len(values) > 1 {
		o.old = values[0]
	}
	return o, nil
}

func (o *order) bounds(f *storeFlags) error {
	if o.limit < 0 {
		return usagef("scan: --limit is %d, want 0 or more", o.limit)
	}
	if f.set != nil && f.set.Changed("from") {
		o.from = []byte(unmarkWord(f.from))
	}
	if f.set != nil && f.set.Changed("to") {
		o.to = []byte(unmarkWord(f.to))
	}
	for _, b := range [][]byte{o.key, o.from, o.to} {
		if len(b) > kv.MaxKey {
			return usagef("a key has at most %d bytes, got %d", kv.MaxKey, len(b))
		}
	}
	return nil
}

func checkKey(key []byte) error {
	if len(key) == 0 {
		return usagef("a key has at least one byte, got an empty one")
	}
	if len(key) > kv.MaxKey {
		return usagef("a key has at most %d bytes (4 KiB), got %d", kv.MaxKey, len(key))
	}
	return nil
}

func checkValue(value []byte) error {
	if len(value) > kv.MaxValue {
		return usagef("a value has at most %d bytes (8 MiB), got %d", kv.MaxValue, len(value))
	}
	return nil
}

// readValue reads a value from standard input, one byte more than a value may have at most, so that too much is noticed
// and never held.
func readValue(r io.Reader) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(r, kv.MaxValue+1))
	if err == nil && len(value) > kv.MaxValue {
		return nil, usagef("a value has at most %d bytes (8 MiB), standard input has more", kv.MaxValue)
	}
	return value, err
}

// splitWords takes a line of the prompt apart: words between blanks, each bare or a Go string. A quoted word is never a
// flag, nor a bare word that begins with '-' and a digit: those come back marked.
func splitWords(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" {
			return words, nil
		}
		if line[0] != '"' && line[0] != '`' {
			word := line
			if end := strings.IndexFunc(line, unicode.IsSpace); end >= 0 {
				word = line[:end]
			}
			line = line[len(word):]
			if looksNegative(word) || strings.HasPrefix(word, mark) {
				word = markWord(word)
			}
			words = append(words, word)
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, usagef("a quote that does not end, or is no Go string: %s", clip(line))
		}
		line = line[len(quoted):]
		if line != "" && !unicode.IsSpace(rune(line[0])) {
			return nil, usagef("a blank must follow the quoted word %s", clip(quoted))
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, usagef("no Go string: %s", clip(quoted))
		}
		if strings.HasPrefix(word, "-") || strings.HasPrefix(word, mark) {
			word = markWord(word)
		}
		words = append(words, word)
	}
}

// clip shortens what a message quotes.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
