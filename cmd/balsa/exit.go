package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"balsa/kv/client"
)

// The exit codes every word keeps; `wal verify` has its own from 10 on.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNoKey      = 3
	exitCondition  = 4
	exitNotApplied = 5
	exitUnknown    = 6
)

const exitCodesHelp = `The exit codes of balsa:

  0   done
  1   failed for another reason, told on standard error
  2   wrong usage
  3   no such key (get, del)
  4   condition not met (cas)
  5   not applied: no leader or no majority within the timeout, or refused
  6   outcome unknown: it may or may not have been applied (never for a read)

balsa wal verify also ends with

  10  torn tail: proven never synced, would be cut at the next start
  14  damaged tail that nothing proves either way
  11  corrupt: damage to synced bytes, or a file shorter than it must be
  12  a segment is missing
  13  written by a newer version
`

// fault is an error that knows its exit code. One without err says nothing: all was told already.
type fault struct {
	code int
	err  error
}

func (f *fault) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *fault) Unwrap() error { return f.err }

// usagef is wrong usage: exit code 2.
func usagef(format string, args ...any) error {
	return &fault{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// notYet is for words and flags that the interface promises and this version does not have.
func notYet(what string) error { return usagef("%s is not there yet in this version of balsa", what) }

// codeOf gives the exit code of any error a word may end with.
func codeOf(err error) int {
	var f *fault
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &f):
		return f.code
	case errors.Is(err, client.ErrNotFound):
		return exitNoKey
	case errors.Is(err, client.ErrConflict):
		return exitCondition
	case errors.Is(err, client.ErrUnknown):
		return exitUnknown
	case errors.Is(err, client.ErrNotApplied):
		return exitNotApplied
	}
	return exitFailed
}

// outcomeOf says in a word what became of the operation.
func outcomeOf(code int) string {
	switch code {
	case exitNoKey:
		return "not found"
	case exitCondition:
		return "condition not met"
	case exitUnknown:
		return "unknown"
	case exitFailed:
		return "failed"
	}
	return "not applied"
}

// failure is what an error looks like under -o json.
type failure struct {
	Error   string `json:"error"`
	Code    int    `json:"code"`
	Outcome string `json:"outcome"`
	Line    int    `json:"line,omitempty"` // of a piped prompt
}

// tell writes an error for people, or as one JSON object; line is 0 outside a pipe. It gives the exit code.
func tell(w io.Writer, err error, asJSON bool, line int) int {
	code := codeOf(err)
	var f *fault
	if err == nil || errors.As(err, &f) && f.err == nil {
		return code
	}
	if asJSON {
		writeJSON(w, failure{err.Error(), code, outcomeOf(code), line})
		return code
	}
	prefix := "balsa: "
	if line > 0 {
		prefix = fmt.Sprintf("line %d: ", line)
	}
	fmt.Fprintln(w, prefix+strings.TrimRight(err.Error(), "\n"))
	return code
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
