package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A word that begins with '-' and a digit is a value, but the flag parser would take it for a flag. Such a word travels
// through the parser behind a mark. A mark is a zero byte, which no argument of a process can hold; in the prompt, where
// a quoted word may, every word that begins with one is marked too, so taking one mark off always gives the word back.
const mark = "\x00"

func markWord(word string) string   { return mark + word }
func unmarkWord(word string) string { return strings.TrimPrefix(word, mark) }

func unmarkWords(words []string) []string {
	plain := make([]string, len(words))
	for i, w := range words {
		plain[i] = unmarkWord(w)
	}
	return plain
}

// markValues marks the words of a command line that look like negative numbers, but not those that are the value of a
// flag before them, nor what follows "--".
func markValues(args []string, takesValue func(flag string) bool) []string {
	marked := make([]string, len(args))
	copy(marked, args)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return marked
		case looksNegative(arg):
			marked[i] = markWord(arg)
		case strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && takesValue(arg):
			i++
		}
	}
	return marked
}

func looksNegative(word string) bool {
	return len(word) >= 2 && word[0] == '-' && word[1] >= '0' && word[1] <= '9'
}

// valueFlags tells which flags of any command take the next word as their value.
func valueFlags(root *cobra.Command) func(flag string) bool {
	takes := map[string]bool{}
	note := func(f *pflag.Flag) {
		if f.NoOptDefVal == "" {
			takes["--"+f.Name] = true
			if f.Shorthand != "" {
				takes["-"+f.Shorthand] = true
			}
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return func(flag string) bool { return takes[flag] }
}

// wantsJSON looks for -o json before anything is parsed, so that even a command line that does not parse is answered in
// the form that was asked for.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-o=json", "-ojson", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// nearest is the candidate closest to a mistyped word, or "" when none is close.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+max(2, len(word)/3)
	for _, c := range candidates {
		d := distance(word, c)
		if strings.HasPrefix(c, word) && len(word) > 1 {
			d = min(d, 1)
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if bestDistance >= len(word) && !strings.HasPrefix(best, word) {
		return ""
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between two words.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
