package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balsa/wal/vfs"
)

// The benchmarks of the log beside the raw floor: the bare bytes of the same records, written and synced into a file
// that was filled with zeros before. Log and floor take turns in short rounds, and what is told is the median of the
// rounds' ratios: the machine's own moods hit both. Set TMPDIR to measure another disk.

// floorFile is the floor: a prepared file, gone through from its beginning again and again.
type floorFile struct {
	f        vfs.File
	off, end int64
}

func newFloor(b *testing.B, bytes int64) *floorFile {
	b.Helper()
	f, err := vfs.OS.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if err := writeZeros(f, 0, bytes); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return &floorFile{f: f, end: bytes}
}

func (f *floorFile) write(b *testing.B, data []byte) {
	if f.off+int64(len(data)) > f.end {
		f.off = 0
	}
	if _, err := f.f.WriteAt(data, f.off); err != nil {
		b.Fatal(err)
	}
	f.off += int64(len(data))
	if err := f.f.Sync(); err != nil {
		b.Fatal(err)
	}
}

func hotLog(b *testing.B) *Log {
	b.Helper()
	src := source(1)
	o := Options{FS: vfs.OS, Dir: filepath.Join(b.TempDir(), "log"), Random: src.next}
	if err := Create(o, nil); err != nil {
		b.Fatal(err)
	}
	l, _, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// hotEntries are a batch's records as a leader has them: with their checksums.
func hotEntries(batch, size int) []Entry {
	src := source(5)
	body := src.bytes(size * batch)
	all := make([]Entry, batch)
	for i := range all {
		all[i] = Entry{Term: 1, Kind: 2, Count: 1, RawBytes: uint32(size), Time: 7, Body: body[i*size : (i+1)*size]}
	}
	return all
}

func appendAll(l *Log, all []Entry) *Batch {
	for i := range all {
		all[i].Index, all[i].Sum = l.Last()+1, 0
		l.Append(&all[i])
	}
	return l.Take()
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkHotBurst: batches into prepared space, one after another by one goroutine, encoding included.
func BenchmarkHotBurst(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, batch := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("%dB/%d", size, batch), func(b *testing.B) { hotBurst(b, size, batch) })
		}
	}
}

func hotBurst(b *testing.B, size, batch int) {
	l, floor, all := hotLog(b), newFloor(b, 32<<20), hotEntries(batch, size)
	for l.seg.seq < 5 { // past the small first segments
		if err := l.Prepare(); err != nil {
			b.Fatal(err)
		}
		commit(b, l2(l, all))
	}
	raw := all[0].Body[:size*batch]
	var ours, theirs, ratios []float64
	each := max(4, 48/batch)
	for b.Loop() {
		var mine, bare []time.Duration
		for range each {
			began := time.Now()
			floor.write(b, raw)
			bare = append(bare, time.Since(began))
			began = time.Now()
			batch := appendAll(l, all)
			rolls := batch.rolls
			if err := batch.Write(); err != nil {
				b.Fatal(err)
			}
			if err := batch.Sync(); err != nil {
				b.Fatal(err)
			}
			l.Release(batch)
			if !rolls {
				mine = append(mine, time.Since(began))
			}
		}
		if len(mine) > 0 {
			m, f := float64(median(mine)), float64(median(bare))
			ours, theirs, ratios = append(ours, m), append(theirs, f), append(ratios, m/f)
		}
		if err := l.Prepare(); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	slices.Sort(ratios)
	mid := len(ratios) / 2
	b.ReportMetric(ours[mid]/1e3, "µs/batch")
	b.ReportMetric(theirs[mid]/1e3, "µs/floor")
	b.ReportMetric(1/ratios[mid], "of-floor")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHotSustained: the same without an end, with a filler that zeroes the segments to come beside the writer.
func BenchmarkHotSustained(b *testing.B) {
	for _, size := range []int{64 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { hotSustained(b, 1024, size/1024) })
	}
}

func hotSustained(b *testing.B, size, batch int) {
	l, floor, all := hotLog(b), newFloor(b, 64<<20), hotEntries(batch, size)
	for l.seg.seq < 5 {
		if err := l.Prepare(); err != nil {
			b.Fatal(err)
		}
		commit(b, l2(l, all))
	}
	raw := all[0].Body[:size*batch]
	var running atomic.Bool
	stop, ended := make(chan struct{}), make(chan error)
	go fillWhile(l, &running, stop, ended)
	var ratios, rate []float64
	rounds := max(1, 48<<20/len(raw))
	for b.Loop() {
		began := time.Now()
		for range rounds {
			floor.write(b, raw)
		}
		bare := time.Since(began)
		running.Store(true)
		began = time.Now()
		for range rounds {
			commit(b, l2(l, all))
		}
		mine := time.Since(began)
		running.Store(false)
		ratios = append(ratios, float64(bare)/float64(mine))
		rate = append(rate, float64(rounds*len(raw))/1e6/bare.Seconds())
	}
	close(stop)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(ratios)
	slices.Sort(rate)
	b.ReportMetric(ratios[len(ratios)/2], "of-floor")
	b.ReportMetric(rate[len(rate)/2], "floor-MB/s")
	b.ReportMetric(0, "ns/op")
}

// fillWhile keeps pace with the log while it runs, and leaves the floor its peace.
func fillWhile(l *Log, running *atomic.Bool, stop chan struct{}, ended chan error) {
	for {
		select {
		case <-stop:
			ended <- nil
			return
		default:
		}
		if !running.Load() || !l.FillDue() {
			time.Sleep(200 * time.Microsecond)
			continue
		}
		if err := l.Fill(); err != nil {
			ended <- err
			return
		}
	}
}

// l2 gives a log back with a batch pending.
func l2(l *Log, all []Entry) *Log {
	for i := range all {
		all[i].Index, all[i].Sum = l.Last()+1, 0
		l.Append(&all[i])
	}
	return l
}

// BenchmarkHotAppend is the processor's part alone: records laid out in memory, and never written.
func BenchmarkHotAppend(b *testing.B) {
	for _, size := range []int{128, 1024, 16384} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			l, all := hotLog(b), hotEntries(64, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			l.seg.size = 1 << 40
			for n := 0; b.Loop(); n++ {
				if n%64 == 0 && n > 0 {
					batch := l.Take()
					l.Release(batch)
					l.off = pageBytes
				}
				e := &all[n%64]
				e.Index, e.Sum = l.Last()+1, 0
				l.Append(e)
			}
		})
	}
}

// BenchmarkHotRecover opens a log of a quarter of a gigabyte that lies in the page cache, alone and with two hands.
func BenchmarkHotRecover(b *testing.B) {
	for _, size := range []int{128, 1024, 16384} {
		for _, hands := range []string{"alone", "hands"} {
			b.Run(fmt.Sprintf("%dB/%s", size, hands), func(b *testing.B) { hotRecover(b, size, hands == "hands") })
		}
	}
}

func hotRecover(b *testing.B, size int, hands bool) {
	l := hotLog(b)
	all := hotEntries(max(1, 64<<10/size), size)
	written := int64(0)
	for written < 256<<20 {
		batch := appendAll(l, all)
		written += int64(batch.Bytes)
		if err := batch.Write(); err != nil {
			b.Fatal(err)
		}
		l.Release(batch)
	}
	if err := l.file.Sync(); err != nil {
		b.Fatal(err)
	}
	o := l.o
	if hands {
		o.Each = together
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(written)
	for b.Loop() {
		l, r, err := Open(o)
		if err != nil || r.Verdict != Clean {
			b.Fatal(err, r)
		}
		l.Close()
	}
}

// together runs do(0) to do(n-1) beside each other.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}
