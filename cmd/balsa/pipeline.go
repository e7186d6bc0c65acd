package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"sync"
)

// A piped prompt sends a command before the answers of earlier ones are there, as far as nobody could tell: orders on
// one key wait for each other unless all of them read, and whatever looks at more than one key (scan, status) waits for
// everything before it and runs alone. Answers come out in the order of the lines.

// Bounds of what is in flight at once.
const (
	pipelineDepth = 512
	pipelineBytes = 64 << 20
)

// task is one line in flight.
type task struct {
	line    int
	command *command
	after   []*task // whose end it waits for
	size    int
	done    chan struct{}
	out     bytes.Buffer // its answer; stands once done is closed
	err     error
}

// pipeline hands tasks to their goroutines and their answers to the output, in order.
type pipeline struct {
	p     *prompt
	queue chan *task
	room  gate
	keys  map[string]*keyOrder
	all   sync.WaitGroup
}

// keyOrder is what later orders on a key have to wait for.
type keyOrder struct {
	write *task
	reads []*task // since write
}

// piped runs the lines of a pipe and gives the code of the last one that failed.
func (p *prompt) piped(ctx context.Context) int {
	l := &pipeline{p: p, queue: make(chan *task, pipelineDepth), keys: map[string]*keyOrder{}}
	l.room.init()
	code := make(chan int)
	go func() { code <- l.print() }()
	in := &lineReader{r: bufio.NewReaderSize(p.streams.in, 64<<10)}
	for ctx.Err() == nil {
		text, err := in.next()
		if err == io.EOF {
			break
		}
		t := &task{line: in.line, done: make(chan struct{}), err: err}
		if err == nil {
			t.command, t.err = p.parse(text)
		}
		if t.err == errQuit {
			break
		}
		if t.err == nil && t.command == nil {
			continue
		}
		l.start(ctx, t)
		if t.command == nil && err != nil && err != errLongLine { // the input itself failed
			break
		}
	}
	l.all.Wait()
	close(l.queue)
	return <-code
}

// start begins a task as soon as order and bounds allow it.
func (l *pipeline) start(ctx context.Context, t *task) {
	if t.err != nil {
		close(t.done)
		l.queue <- t
		return
	}
	if alone := t.command.order == nil || t.command.order.word == "scan"; alone {
		l.all.Wait()
		clear(l.keys)
		l.queue <- t
		t.err = l.p.perform(ctx, t.command, &t.out, false)
		close(t.done)
		return
	}
	o := t.command.order
	t.size = len(o.key) + len(o.value) + len(o.old)
	l.room.take(t.size)
	l.arrange(t)
	l.all.Add(1)
	l.queue <- t
	go func() {
		for _, before := range t.after {
			<-before.done
		}
		t.after = nil
		t.err = l.p.perform(ctx, t.command, &t.out, false)
		close(t.done)
		l.room.give(t.size)
		l.all.Done()
	}()
}

// arrange notes what the task has to wait for, and that later ones have to wait for it.
func (l *pipeline) arrange(t *task) {
	if len(l.keys) > 4*pipelineDepth {
		l.forget()
	}
	key := string(t.command.order.key)
	k := l.keys[key]
	if k == nil {
		k = &keyOrder{}
		l.keys[key] = k
	}
	if k.write != nil {
		t.after = append(t.after, k.write)
	}
	if t.command.order.read() {
		k.reads = append(k.reads, t)
		return
	}
	t.after = append(t.after, k.reads...)
	k.write, k.reads = t, nil
}

// forget drops the keys on which nothing is in flight.
func (l *pipeline) forget() {
	for key, k := range l.keys {
		busy := k.write != nil && !finished(k.write)
		for _, r := range k.reads {
			busy = busy || !finished(r)
		}
		if !busy {
			delete(l.keys, key)
		}
	}
}

func finished(t *task) bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// print writes the answers in the order of the lines; what is written is flushed whenever the next answer is not there
// yet, so that whoever feeds the pipe line by line sees each answer at once.
func (l *pipeline) print() int {
	code := exitDone
	out := bufio.NewWriter(l.p.streams.out)
	defer out.Flush()
	for {
		var t *task
		var ok bool
		select {
		case t, ok = <-l.queue:
		default:
			out.Flush()
			t, ok = <-l.queue
		}
		if !ok {
			return code
		}
		if !finished(t) {
			out.Flush()
			<-t.done
		}
		if t.err != nil {
			out.Flush() // so that on one screen errors stand where they belong
			asJSON := l.p.json || t.command != nil && t.command.json
			code = tell(l.p.streams.err, t.err, asJSON, t.line)
			continue
		}
		out.Write(t.out.Bytes())
	}
}

// gate bounds what is in flight, in tasks and in bytes. A single task larger than all the bytes passes alone.
type gate struct {
	mu    sync.Mutex
	freed sync.Cond
	tasks int
	bytes int
}

func (g *gate) init() { g.freed.L = &g.mu }

func (g *gate) take(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.tasks > 0 && (g.tasks >= pipelineDepth || g.bytes+size > pipelineBytes) {
		g.freed.Wait()
	}
	g.tasks++
	g.bytes += size
}

func (g *gate) give(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks--
	g.bytes -= size
	g.freed.Signal()
}
