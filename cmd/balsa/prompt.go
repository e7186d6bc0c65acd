package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/reeflective/readline"
	"github.com/reeflective/readline/inputrc"
)

// promptPatience is what a prompt or a completion may wait for the cluster.
const promptPatience = 200 * time.Millisecond

// longestHistory is the longest line that history keeps: no large values.
const longestHistory = 4 << 10

// interactive is the prompt on a terminal.
func (p *prompt) interactive(ctx context.Context) error {
	shell := readline.NewShell(inputrc.WithApp("balsa"))
	shell.Config.Set("enable-bracketed-paste", true) // else a paste is redrawn key by key
	who := ""
	shell.Prompt.Primary(func() string { return who }) // at each key
	shell.Completer = func(line []rune, cursor int) readline.Completions { return p.complete(ctx, string(line[:cursor])) }
	if h := openHistory(); h != nil {
		shell.History.Delete()
		shell.History.Add("balsa", h)
	}
	code := exitDone
	for ctx.Err() == nil {
		who = p.who(ctx)
		text, err := shell.Readline()
		if errors.Is(err, readline.ErrInterrupt) {
			continue
		}
		if err != nil {
			break
		}
		lines := strings.Split(strings.ReplaceAll(text, "\r", "\n"), "\n")
		for _, line := range lines {
			if len(lines) > 1 && strings.TrimSpace(line) != "" {
				fmt.Fprintln(p.streams.err, "> "+clip(line))
			}
			switch failed, quit := p.line(ctx, line); {
			case quit:
				return endCode(code)
			case failed != exitDone:
				code = failed
			}
		}
	}
	return endCode(code)
}

// endCode: whoever typed has seen each failure; a prompt on a terminal ends well.
func endCode(int) error { return nil }

// line carries out one typed line; Ctrl-C ends it and not the prompt.
func (p *prompt) line(ctx context.Context, text string) (code int, quit bool) {
	c, err := p.parse(text)
	if errors.Is(err, errQuit) {
		return exitDone, true
	}
	if err == nil && c == nil {
		return exitDone, false
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT)
		_, tty := terminal(p.streams.out)
		err = p.perform(ctx, c, p.streams.out, tty)
		stop()
	}
	return tell(p.streams.err, err, p.json || c != nil && c.json, 0), false
}

// who is the prompt itself: the leader and its term.
func (p *prompt) who(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, promptPatience)
	defer cancel()
	leader, term := leaderOf(ctx, p.client)
	if leader == 0 {
		return "balsa (no leader)> "
	}
	return fmt.Sprintf("balsa (leader %d, term %d)> ", leader, term)
}

// complete offers words, and keys that begin as the one that is being typed.
func (p *prompt) complete(ctx context.Context, typed string) readline.Completions {
	words := strings.Fields(typed)
	if len(words) == 0 || len(words) == 1 && !strings.HasSuffix(typed, " ") {
		var all []string
		for _, w := range storeWords {
			all = append(all, w.name, w.about)
		}
		all = append(all, "status", "who leads, who is there", "member", "list or change voters, learners and the pool", "transfer", "hand leadership over", "help", "what can be typed", "quit", "leave")
		return readline.CompleteValuesDescribed(all...)
	}
	prefix := ""
	if !strings.HasSuffix(typed, " ") {
		prefix = words[len(words)-1]
		words = words[:len(words)-1]
	}
	switch {
	case words[0] == "member":
		return readline.CompleteValues(memberNames()...)
	case findStoreWord(words[0]) == nil || len(words) > 1:
		return readline.Completions{}
	}
	ctx, cancel := context.WithTimeout(ctx, promptPatience)
	defer cancel()
	a, err := p.carryOut(ctx, &order{word: "scan", key: []byte(prefix), limit: 50})
	if err != nil {
		return readline.Completions{}
	}
	var keys []string
	for _, pair := range a.pairs {
		if printable(pair.key) && !strings.ContainsAny(string(pair.key), " \t\"`") {
			keys = append(keys, string(pair.key))
		}
	}
	return readline.CompleteValues(keys...)
}

// history keeps typed lines in a file that only its owner reads; a line that begins with a blank is not kept, nor one
// with a large value.
type history struct{ readline.History }

func (h history) Write(line string) (int, error) {
	if strings.HasPrefix(line, " ") || len(line) > longestHistory {
		return h.Len(), nil
	}
	return h.History.Write(line)
}

// openHistory gives nil where there is no place for a history; the prompt works without.
func openHistory() readline.History {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(home, ".local", "state")
	}
	dir = filepath.Join(dir, "balsa")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil
	}
	path := filepath.Join(dir, "history")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil
	}
	file.Close()
	source, err := readline.NewHistoryFromFile(path)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return history{source}
}
