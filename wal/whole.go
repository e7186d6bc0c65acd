package wal

// Whole batches are gone over in steps: where they begin is read from their first headers, one after another; that they
// are as they were written is checked in several places at once, if whoever reads lends the hands for it; and
// they are visited in order. At the first that is not whole, nothing is decided here: walker.batch judges it.

// crewSize is in how many parts a step is checked, if there are hands.
const crewSize = 4

// crew checks one part of a step.
type crew struct {
	batches []placed
	found   []finding
	ends    []int // in found, of each batch that is whole
	scratch []byte
}

// placed is a batch as its first header tells it.
type placed struct {
	off  int64
	data []byte
}

// wholeBatches visits the batches from x on and returns where the first begins that is not whole.
func (w *walker) wholeBatches(x int64) (int64, error) {
	if w.crews == nil {
		n := 1
		if w.each != nil {
			n = crewSize
		}
		w.crews = make([]crew, n)
	}
	for !w.sealed {
		if w.step != nil {
			w.step(x)
		}
		n := w.place(x)
		if n == 0 {
			break
		}
		check := func(i int) { w.crews[i].check(w.salt) }
		if n == 1 || w.each == nil {
			for i := range n {
				check(i)
			}
		} else {
			w.each(n, check)
		}
		began := x
		for i := range n {
			next, all, err := w.take(&w.crews[i], x)
			if x = next; err != nil || !all {
				return x, err
			}
		}
		if x == began {
			break
		}
	}
	return x, nil
}

// place deals the batches of the next step out, in order, and returns how many crews have work.
func (w *walker) place(x int64) int {
	for i := range w.crews {
		w.crews[i].batches = w.crews[i].batches[:0]
	}
	step := w.win.view(x, stepBytes)
	var h header
	first := func(b []byte) bool {
		return decodeHeader(b, w.salt, &h) == headerGood && h.at == 0 && h.flags&flagFirst != 0
	}
	if first(step) && h.batch > int64(len(step)) {
		step = w.win.view(x, h.batch)
	}
	share := len(step)/len(w.crews) + 1
	used := 0
	for at := int64(0); first(step[at:]) && at+h.batch <= int64(len(step)); at += h.batch {
		i := int(at) / share
		used = i + 1
		w.crews[i].batches = append(w.crews[i].batches, placed{x + at, step[at : at+h.batch]})
	}
	return used
}

// take visits what a crew found; all says that everything it had was whole, and follows on what was before it.
func (w *walker) take(c *crew, x int64) (next int64, all bool, err error) {
	from := 0
	for k, to := range c.ends {
		found := c.found[from:to]
		if found[0].h.prev != w.prev && !w.broken {
			return x, false, nil
		}
		w.prev, w.broken = found[len(found)-1].h.sum, false
		w.parsed = append(w.parsed[:0], found...)
		if err := w.show(Clean, ""); err != nil {
			return x, false, err
		}
		x = c.batches[k].off + int64(len(c.batches[k].data))
		if w.sealed {
			return x, false, nil
		}
		from = to
	}
	return x, len(c.ends) == len(c.batches), nil
}

// check lists the records of the crew's batches, up to the first that is not whole.
func (c *crew) check(salt uint64) {
	c.found, c.ends = c.found[:0], c.ends[:0]
	for i := range c.batches {
		if !c.whole(&c.batches[i], salt) {
			return
		}
		c.ends = append(c.ends, len(c.found))
	}
}

// whole says whether a batch is as it was written, but for what its first record says of the one before it.
func (c *crew) whole(b *placed, salt uint64) bool {
	size := int64(len(b.data))
	end := size - trailerBytes
	var t trailer
	if !decodeTrailer(b.data[end:], salt, &t) || t.start != b.off {
		return false
	}
	at, prev := int64(0), uint64(0)
	for number, last := 0, false; !last; number++ {
		c.found = append(c.found, finding{})
		f := &c.found[len(c.found)-1]
		h := &f.h
		if decodeHeader(b.data[at:], salt, h) != headerGood || h.at != at || h.batch != size || h.number != number ||
			at+h.size() > end || number > 0 && h.prev != prev {
			return false
		}
		f.off, f.size = b.off+at, h.size()
		rec := b.data[at : at+f.size]
		f.body = rec[headerBytes : headerBytes+int64(h.body)]
		if !c.fits(h, rec) || !isAll(rec[headerBytes+int64(h.body):], padByte) {
			return false
		}
		at, prev, last = at+f.size, h.sum, h.flags&flagLast != 0
	}
	return isAll(b.data[at:end], padByte)
}

// fits says whether the body of a record has the checksum that its header says. The bytes stay as they are.
func (c *crew) fits(h *header, rec []byte) bool {
	if h.whiten == 0 {
		return h.recordFits(rec)
	}
	c.scratch = append(c.scratch[:0], rec[:headerBytes+int64(h.body)]...)
	whiten(c.scratch[headerBytes:], h.whiten)
	return h.recordFits(c.scratch)
}
