package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

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

// pending gives a log back with a batch of these records pending.
func pending(l *Log, all []Entry) *Log {
	for i := range all {
		all[i].Index, all[i].Sum = l.Last()+1, 0
		l.Append(&all[i])
	}
	return l
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkBurst: batches into prepared space. Those of one record are encoded, written and synced by one goroutine;
// of larger ones the next is encoded while one is with the disk, as in a leader: "inline" shows what that is worth.
func BenchmarkBurst(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, batch := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("%dB/%d", size, batch), func(b *testing.B) { hotBurst(b, size, batch, batch > 1) })
		}
		b.Run(fmt.Sprintf("%dB/1024/inline", size), func(b *testing.B) { hotBurst(b, size, 1024, false) })
	}
}

func hotBurst(b *testing.B, size, batch int, beside bool) {
	l, floor, all := hotLog(b), newFloor(b, 32<<20), hotEntries(batch, size)
	for l.seg.seq < 5 { // past the small first segments
		if err := l.Prepare(); err != nil {
			b.Fatal(err)
		}
		commit(b, pending(l, all))
	}
	raw := all[0].Body[:size*batch]
	each := max(8, min(64, 1024/batch))
	var bare, mine, ratios []float64
	for b.Loop() {
		floorTimes := make([]time.Duration, 0, each)
		for range each {
			began := time.Now()
			floor.write(b, raw)
			floorTimes = append(floorTimes, time.Since(began))
		}
		if err := l.Prepare(); err != nil {
			b.Fatal(err)
		}
		var ours []time.Duration
		if beside {
			ours = runBeside(b, l, all, each)
		} else {
			for range each {
				began := time.Now()
				commit(b, pending(l, all))
				ours = append(ours, time.Since(began))
			}
		}
		f, m := float64(median(floorTimes)), float64(median(ours))
		bare, mine, ratios = append(bare, f), append(mine, m), append(ratios, f/m)
	}
	b.ReportMetric(middle(mine)/1e3, "µs/batch")
	b.ReportMetric(middle(bare)/1e3, "µs/floor")
	b.ReportMetric(middle(ratios), "of-floor")
	b.ReportMetric(0, "ns/op")
}

// runBeside writes batches with a writer beside the owner, and returns the times between the ends of their syncs.
func runBeside(b *testing.B, l *Log, all []Entry, each int) []time.Duration {
	todo, done := make(chan *Batch, 1), make(chan *Batch, 2)
	times := make([]time.Duration, 0, each)
	go func() {
		last := time.Now()
		for batch := range todo {
			if err := batch.Write(); err != nil {
				b.Error(err)
			} else if err := batch.Sync(); err != nil {
				b.Error(err)
			}
			now := time.Now()
			times = append(times, now.Sub(last))
			last = now
			done <- batch
		}
		close(done)
	}()
	for i := range each {
		todo <- pending(l, all).Take()
		if i > 0 {
			l.Release(<-done)
		}
	}
	close(todo)
	for batch := range done {
		l.Release(batch)
	}
	return times
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkSustained: the same without an end, with a filler that zeroes the segments to come beside the writer.
func BenchmarkSustained(b *testing.B) {
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
		commit(b, pending(l, all))
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
			commit(b, pending(l, all))
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
	b.ReportMetric(middle(ratios), "of-floor")
	b.ReportMetric(middle(rate), "floor-MB/s")
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

// BenchmarkHotAppend is the processor's part alone: records laid out in memory, and never written.
func BenchmarkHotAppend(b *testing.B) {
	for _, size := range []int{128, 1024, 16384} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			l, all := hotLog(b), hotEntries(64, size)
			l.seg.size = 1 << 40
			n := 0
			once := func() {
				if n%64 == 0 && n > 0 {
					batch := l.Take()
					l.Release(batch)
					l.off = pageBytes
				}
				e := &all[n%64]
				e.Index, e.Sum = l.Last()+1, 0
				l.Append(e)
				n++
			}
			for range 200 {
				once()
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

// BenchmarkRecover opens a log of a quarter of a gigabyte that lies in the page cache, alone and with two hands.
func BenchmarkRecover(b *testing.B) {
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
		batch := pending(l, all).Take()
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

// BenchmarkHotCommit is a batch laid out, handed over and written, without the wait for the disk: what a put costs in the log.
func BenchmarkHotCommit(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			l, all := hotLog(b), hotEntries(batch, 128)
			once := func() {
				l.off = pageBytes // the same room again and again: the preparation of the next is measured elsewhere
				batch := pending(l, all).Take()
				if err := batch.Write(); err != nil {
					b.Fatal(err)
				}
				l.Release(batch)
			}
			for range 100 {
				once()
			}
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

// A batch lies where a disk takes it without a copy, however it grew.
func TestBatchesLieInSectors(t *testing.T) {
	var b []byte
	for n := 1; n < 6<<20; n += n/3 + 1 {
		b = grow(b, n-len(b))
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(b))); at%sectorBytes != 0 {
			t.Fatalf("room for %d bytes begins at %#x", n, at)
		}
	}
	if at := uintptr(unsafe.Pointer(unsafe.SliceData(zeros))); at%sectorBytes != 0 {
		t.Fatalf("the zeros begin at %#x", at)
	}
}
