package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"balsa/kv/client"
)

// The prompt reads the same words as the command line, one command a line. On a terminal it edits lines (prompt.go);
// from a pipe it keeps many commands in flight where order allows it (pipeline.go). Both come here to parse a line and
// to carry it out.

func replCommand(s *streams) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use: "repl", Short: "the prompt: commands one a line, also from a pipe", Args: noWords,
		Example: "balsa repl --cluster 127.0.0.1:7101\nprintf 'put a 1\\nget a\\n' | balsa repl",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.dial(false)
			if err != nil {
				return err
			}
			defer c.Close()
			p := newPrompt(c, s, flags.json(), flags.timeout)
			return p.run(cmd.Context())
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// prompt is one session of commands on one client.
type prompt struct {
	client   *client.Client
	carryOut func(ctx context.Context, o *order) (*answer, error)
	streams  *streams
	json     bool
	timeout  time.Duration
}

func newPrompt(c *client.Client, s *streams, asJSON bool, timeout time.Duration) *prompt {
	do := func(ctx context.Context, o *order) (*answer, error) { return carryOut(ctx, c, o) }
	return &prompt{client: c, carryOut: do, streams: s, json: asJSON, timeout: timeout}
}

// errQuit ends a prompt.
var errQuit = errors.New("quit")

// run reads to the end of the input. It ends with the code of the last command that failed, each told already.
func (p *prompt) run(ctx context.Context) error {
	if _, ok := terminal(p.streams.in); ok {
		return p.interactive(ctx)
	}
	if code := p.piped(ctx); code != exitDone {
		return &fault{code: code}
	}
	return nil
}

// command is one parsed line.
type command struct {
	order   *order                                       // nil for what is not an order on the store
	other   func(ctx context.Context, w io.Writer) error // status, member list, help
	json    bool
	timeout time.Duration
}

// parse makes a command of a line: nil for an empty line or a comment, errQuit for the words that end the prompt.
func (p *prompt) parse(line string) (*command, error) {
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return nil, nil
	}
	words, err := splitWords(line)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	c := &command{}
	output := newChoice("text", "json")
	if p.json {
		output.value = "json"
	}
	set := pflag.NewFlagSet(words[0], pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.VarP(output, "output", "o", "")
	set.DurationVar(&c.timeout, "timeout", p.timeout, "")
	var own storeFlags
	own.register(words[0], set)
	var change changeFlags
	detach := false
	if words[0] == "member" || words[0] == "transfer" {
		change.register(set)
		words, detach = cutAmpersand(words)
	}
	if err := set.Parse(words[1:]); err != nil {
		return nil, usagef("%s: %s", words[0], strings.ReplaceAll(err.Error(), mark, ""))
	}
	c.json = output.value == "json"
	if w := findStoreWord(words[0]); w != nil {
		c.order, err = parseOrder(w, set.Args(), &own, noStandardInput)
		return c, err
	}
	if words[0] == "member" && set.Arg(0) != "list" || words[0] == "transfer" {
		c.other, err = p.changeWord(words[0], unmarkWords(set.Args()), &change, detach, c)
		return c, err
	}
	c.other, err = p.otherWord(words[0], unmarkWords(set.Args()), c.json)
	return c, err
}

// cutAmpersand takes a trailing & off: the line returns at once, and what it began goes on.
func cutAmpersand(words []string) ([]string, bool) {
	end := len(words) - 1
	word, cut := strings.CutSuffix(words[end], "&")
	if !cut || end == 0 {
		return words, false
	}
	if word == "" {
		return words[:end], true
	}
	return append(slices.Clone(words[:end]), word), true
}

// changeWord makes a command of a line that changes the membership or the leader.
func (p *prompt) changeWord(word string, words []string, f *changeFlags, detach bool, c *command) (func(context.Context, io.Writer) error, error) {
	w := &transferWord
	if word == "member" {
		if len(words) == 0 {
			return nil, usagef("member needs one of: %s", strings.Join(memberNames(), ", "))
		}
		if w = findMemberWord(words[0]); w == nil {
			if near := nearest(words[0], memberNames()); near != "" {
				return nil, usagef("unknown command %q of member; nearest is %q", clip(words[0]), near)
			}
			return nil, usagef("unknown command %q of member, want one of: %s", clip(words[0]), strings.Join(memberNames(), ", "))
		}
		words = words[1:]
	}
	ch, err := w.parse(words, f)
	if err != nil {
		return nil, err
	}
	ch.Detach = detach
	return func(ctx context.Context, out io.Writer) error {
		return carryOutChange(ctx, p.client, ch, c.timeout, out, p.streams.err, c.json)
	}, nil
}

func noStandardInput() ([]byte, error) {
	return nil, usagef(`in the prompt - does not mean standard input; quote it ("-") to mean the value itself`)
}

// promptWords are what the prompt knows besides the words on the store.
var promptWords = []string{"status", "member", "transfer", "help", "quit", "exit"}

func (p *prompt) otherWord(word string, words []string, asJSON bool) (func(context.Context, io.Writer) error, error) {
	switch word {
	case "quit", "exit":
		return nil, errQuit
	case "help":
		return func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, promptHelp)
			return err
		}, nil
	case "status":
		if len(words) > 0 {
			return nil, usagef("usage: status")
		}
		return func(ctx context.Context, w io.Writer) error { return showStatus(ctx, p.client, w, asJSON) }, nil
	case "member":
		if len(words) != 1 {
			return nil, usagef("usage: member list")
		}
		return func(ctx context.Context, w io.Writer) error { return showMembers(ctx, p.client, w, asJSON) }, nil
	}
	known := promptWords
	for _, w := range storeWords {
		known = append(known[:len(known):len(known)], w.name)
	}
	if near := nearest(word, known); near != "" {
		return nil, usagef("unknown command %q; nearest is %q", clip(word), near)
	}
	return nil, usagef("unknown command %q; help lists them", clip(word))
}

const promptHelp = `put KEY VALUE           set a key
get KEY                 read it
del KEY                 delete it
cas KEY OLD NEW         set it if its value is OLD (--absent NEW: if there is none)
scan [PREFIX]           list keys in order (--from K, --to K, --limit N)
status                  who leads, who is there
member list             voters, learners and the pool
member add|remove ID... make servers voters, take them out (--dry-run, --hold joint=10s, --force; & at the end: do not wait)
member set IDS          make these the voters; replace ID brings in one that was made again; cancel takes back
transfer ID             hand leadership to a server
help, quit

A key or value with blanks is written as a Go string: put "two words" "line\n"
-o json gives any answer as JSON. Lines that begin with # are comments.
`

// perform carries out a command and writes its answer.
func (p *prompt) perform(ctx context.Context, c *command, w io.Writer, tty bool) error {
	limit := c.timeout
	if limit >= p.timeout { // the client's own, which says more when it ends an operation
		limit += timeoutGrace
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if c.other != nil {
		return c.other(ctx, w)
	}
	a, err := p.carryOut(ctx, c.order)
	if err != nil {
		return err
	}
	return a.write(w, style{json: c.json, terminal: tty})
}

// maxLine is the longest line of a pipe: the largest key and values, each byte written as \x00 at worst.
const maxLine = 4*(2*8<<20+4<<10) + 1024

// lineReader reads lines of a pipe; one that is too long is skipped whole and told.
type lineReader struct {
	r    *bufio.Reader
	line int
}

var errLongLine = usagef("the line is longer than any command, at most %d bytes", maxLine)

// next gives a line without its end. The last line needs none. io.EOF ends.
func (l *lineReader) next() (string, error) {
	var text []byte
	long := false
	l.line++
	for {
		piece, err := l.r.ReadSlice('\n')
		if len(text)+len(piece) > maxLine {
			long, text = true, nil
		}
		if !long {
			text = append(text, piece...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err != nil && (err != io.EOF || len(text) == 0 && !long):
			return "", err
		case long:
			return "", errLongLine
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
}
