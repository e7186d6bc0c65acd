package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// beside runs do(0) to do(n-1) beside each other: the hands that a scan of the log is lent.
func beside(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := 1; i < n; i++ {
		all.Go(func() { do(i) })
	}
	do(0)
	all.Wait()
}

// How a progress bar behaves: it shows up only for work that takes a while.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
	progressWidth = 30
)

// progressBar draws how far a reading is, on a terminal only.
type progressBar struct {
	s     *streams
	what  string
	shows bool // standard error is a terminal
	began time.Time
	last  time.Time
	drawn bool
}

func newProgress(s *streams, what string) *progressBar {
	_, shows := terminal(s.err)
	return &progressBar{s: s, what: what, shows: shows, began: time.Now()}
}

func (p *progressBar) step(done, total int64) {
	now := time.Now()
	if !p.shows || now.Sub(p.began) < progressAfter || now.Sub(p.last) < progressEvery || total <= 0 {
		return
	}
	p.last, p.drawn = now, true
	part := min(float64(done)/float64(total), 1)
	full := int(part * progressWidth)
	took := now.Sub(p.began).Seconds()
	left := "?"
	if part > 0 {
		left = time.Duration((took/part - took) * 1e9).Round(time.Second).String()
	}
	fmt.Fprintf(p.s.err, "\r%s [%s%s] %3.0f %%, %.0f of %.0f MiB, %.0f MB/s, %s left \x1b[K", p.what, strings.Repeat("#", full), strings.Repeat(".", progressWidth-full),
		part*100, float64(done)/(1<<20), float64(total)/(1<<20), float64(done)/1e6/took, left)
}

// end takes the bar away.
func (p *progressBar) end() {
	if p.drawn {
		fmt.Fprint(p.s.err, "\r\x1b[K")
	}
}
