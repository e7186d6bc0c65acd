package fault

import "math"

// Line is what waits for its time: the earliest first, and of one time the one that was
// added first. The zero value is empty. It is not bounded: whoever adds is.
type Line[T any] struct {
	heap  []waiting[T]
	count uint64
}

type waiting[T any] struct {
	at    int64
	order uint64
	what  T
}

// Add puts something in the line.
func (l *Line[T]) Add(at int64, what T) {
	l.count++
	l.heap = append(l.heap, waiting[T]{at, l.count, what})
	for i := len(l.heap) - 1; i > 0 && l.less(i, (i-1)/2); i = (i - 1) / 2 {
		l.swap(i, (i-1)/2)
	}
}

// Next is when the first is due, or math.MaxInt64.
func (l *Line[T]) Next() int64 {
	if len(l.heap) == 0 {
		return math.MaxInt64
	}
	return l.heap[0].at
}

// Len is how many wait.
func (l *Line[T]) Len() int { return len(l.heap) }

// Take gives the first if it is due by now, and when it was.
func (l *Line[T]) Take(now int64) (what T, at int64, ok bool) {
	if l.Next() > now || len(l.heap) == 0 {
		return what, 0, false
	}
	what, at = l.heap[0].what, l.heap[0].at
	last := len(l.heap) - 1
	l.swap(0, last)
	l.heap[last] = waiting[T]{}
	l.heap = l.heap[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if l.less(c, least) {
				least = c
			}
		}
		if least == i {
			return what, at, true
		}
		l.swap(i, least)
		i = least
	}
}

func (l *Line[T]) less(i, j int) bool {
	a, b := &l.heap[i], &l.heap[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (l *Line[T]) swap(i, j int) { l.heap[i], l.heap[j] = l.heap[j], l.heap[i] }
