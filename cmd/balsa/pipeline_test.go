package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"balsa/kv/client"
)

// fakeStore answers orders at once, or when it is told to.
type fakeStore struct {
	mu   sync.Mutex
	data map[string]string
	hold func(o *order) // called before an order takes effect, without the lock
}

func (f *fakeStore) carryOut(_ context.Context, o *order) (*answer, error) {
	if f.hold != nil {
		f.hold(o)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(o.key)
	value, ok := f.data[key]
	switch o.word {
	case "put":
		f.data[key] = string(o.value)
	case "get":
		if !ok {
			return nil, named("get", client.ErrNotFound)
		}
	case "cas":
		if !ok || value != string(o.old) {
			return nil, named("cas", client.ErrConflict)
		}
		f.data[key] = string(o.value)
	}
	return &answer{word: o.word, key: o.key, value: []byte(value)}, nil
}

// pipe runs lines through a piped prompt.
func (f *fakeStore) pipe(in io.Reader) (out, errs string, code int) {
	var o, e bytes.Buffer
	f.data = map[string]string{}
	p := &prompt{carryOut: f.carryOut, streams: &streams{in, &o, &e}, timeout: time.Minute}
	code = p.piped(context.Background())
	return o.String(), e.String(), code
}

func TestAPipeAnswersInOrder(t *testing.T) {
	f := &fakeStore{}
	out, errs, code := f.pipe(strings.NewReader("# a comment\nput a 7\n\nput b 3\r\nput c 6\nget b\nget \"a\""))
	if out != "OK\nOK\nOK\n3\n7\n" || errs != "" || code != 0 {
		t.Fatalf("got %q, %q, code %d", out, errs, code)
	}
}

func TestAPipeGoesOnAfterAFailureAndEndsWithTheLastCode(t *testing.T) {
	f := &fakeStore{}
	out, errs, code := f.pipe(strings.NewReader("get none\nput a 1\nfrobnicate\ncas a 2 3\nget a\n"))
	if out != "OK\n1\n" || code != exitCondition {
		t.Fatalf("got %q, code %d", out, code)
	}
	want := "line 1: get: no such key\nline 3: unknown command \"frobnicate\"; help lists them\nline 4: cas: condition not met\n"
	if errs != want {
		t.Fatalf("got errors\n%swant\n%s", errs, want)
	}
}

func TestQuitEndsAPipe(t *testing.T) {
	f := &fakeStore{}
	if out, _, code := f.pipe(strings.NewReader("put a 1\nquit\nput a 2\n")); out != "OK\n" || code != 0 {
		t.Fatalf("got %q, code %d", out, code)
	}
}

func TestAPipeKeepsOrderOnEachKey(t *testing.T) {
	// Orders are let go in a shuffled order; each key must still see its own in the order of the lines.
	f := &fakeStore{hold: func(o *order) {
		for range int(o.key[1]-'0') * 50 {
			runtime.Gosched()
		}
	}}
	var in, want strings.Builder
	for i := range 500 {
		key := fmt.Sprintf("k%d", i%7)
		fmt.Fprintf(&in, "put %s %d\nget %s\n", key, i, key)
		fmt.Fprintf(&want, "OK\n%d\n", i)
	}
	if out, errs, code := f.pipe(strings.NewReader(in.String())); out != want.String() || errs != "" || code != 0 {
		t.Fatalf("answers are out of order (code %d): %s", code, errs)
	}
}

func TestAPipeKeepsManyInFlight(t *testing.T) {
	const together = 100
	var all sync.WaitGroup
	all.Add(together)
	f := &fakeStore{hold: func(*order) {
		all.Done()
		all.Wait() // ends only when all of them are in flight at once
	}}
	var in strings.Builder
	for i := range together {
		fmt.Fprintf(&in, "put k%d v\n", i)
	}
	out, _, _ := f.pipe(strings.NewReader(in.String()))
	if got := strings.Count(out, "OK\n"); got != together {
		t.Fatalf("got %d answers, want %d", got, together)
	}
}

func TestAnAnswerIsThereBeforeTheNextLineIsWritten(t *testing.T) {
	in, feed := io.Pipe()
	answers, out := io.Pipe()
	f := &fakeStore{data: map[string]string{}}
	p := &prompt{carryOut: f.carryOut, streams: &streams{in, out, io.Discard}, timeout: time.Minute}
	go p.piped(context.Background())
	for i := range 3 {
		fmt.Fprintf(feed, "put k %d\n", i)
		got := make([]byte, 3)
		if _, err := io.ReadFull(answers, got); err != nil || string(got) != "OK\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	feed.Close()
}

func TestATooLongLineIsSkippedWhole(t *testing.T) {
	f := &fakeStore{}
	in := io.MultiReader(strings.NewReader("put a 1\nput b "), io.LimitReader(endless{}, maxLine+10), strings.NewReader("\nget a\n"))
	out, errs, code := f.pipe(in)
	if out != "OK\n1\n" || code != exitUsage || !strings.HasPrefix(errs, "line 2: ") {
		t.Fatalf("got %q, %q, code %d", out, clip(errs), code)
	}
}

// endless is a word without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
