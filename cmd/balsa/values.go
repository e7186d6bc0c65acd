package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	from  []string
}

func newChoice(first string, others ...string) *choice {
	return &choice{first, append([]string{first}, others...)}
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.from, "|") }

func (c *choice) Set(word string) error {
	if !contains(c.from, word) {
		return fmt.Errorf("want %s", strings.Join(c.from, " or "))
	}
	c.value = word
	return nil
}

// byteSize is a flag that takes a number of bytes, also written with KiB, MiB or GiB.
type byteSize int64

var byteUnits = []struct {
	suffix string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}

func (b *byteSize) Type() string { return "size" }

func (b *byteSize) String() string {
	for _, u := range []int{2, 1, 0} {
		if n := int64(*b); n != 0 && n%byteUnits[u].factor == 0 {
			return fmt.Sprintf("%d%s", n/byteUnits[u].factor, byteUnits[u].suffix)
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

func (b *byteSize) Set(text string) error {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.factor {
			break
		}
		*b = byteSize(n * u.factor)
		return nil
	}
	return fmt.Errorf("want a size such as 64MiB")
}

func contains(words []string, word string) bool { return slices.Contains(words, word) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
