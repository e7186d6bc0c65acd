package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"balsa/wal"
	"balsa/wal/vfs"
)

// BalsaLog is our own log as the server uses it: each record an entry, each batch one write and one sync, and a filler
// beside it that makes the next segment while it writes. What is older than keptBytes is retired, as bases do.
func BalsaLog(segmentBytes int64, mode vfs.Mode) Subject {
	name := "balsa"
	if mode != vfs.Auto {
		name += "-" + mode.String()
	}
	return Subject{Name: name, Open: func(dir string, _ Shape) (Log, error) {
		b, err := openBalsa(dir, segmentBytes, mode)
		if err != nil {
			return nil, err
		}
		if err := b.grow(segmentBytes); err != nil {
			b.Close()
			return nil, err
		}
		return b, nil
	}}
}

// BalsaAhead is the same log with a writer of its own, as a server has it: while a batch is written and synced, the next one
// is laid out.
func BalsaAhead(segmentBytes int64, mode vfs.Mode) Subject {
	alone := BalsaLog(segmentBytes, mode)
	return Subject{Name: alone.Name + "-ahead", Open: func(dir string, shape Shape) (Log, error) {
		log, err := alone.Open(dir, shape)
		if err != nil {
			return nil, err
		}
		a := &aheadLog{balsaLog: log.(*balsaLog), todo: make(chan *wal.Batch, 2), done: make(chan error, 2)}
		a.writer.Go(a.write)
		return a, nil
	}}
}

type aheadLog struct {
	*balsaLog
	writer sync.WaitGroup
	todo   chan *wal.Batch
	done   chan error
	out    []*wal.Batch // oldest first
}

func (a *aheadLog) write() {
	for b := range a.todo {
		err := b.Write()
		if err == nil {
			err = b.Sync()
		}
		a.done <- err
	}
}

func (a *aheadLog) Start(records [][]byte) error {
	for _, r := range records {
		a.add(r)
	}
	b := a.log.Take()
	a.out = append(a.out, b)
	a.todo <- b
	a.after(records)
	return nil
}

func (a *aheadLog) Wait() error {
	err := <-a.done
	a.log.Release(a.out[0])
	a.out = slices.Delete(a.out, 0, 1)
	return err
}

func (a *aheadLog) Append(records [][]byte) error { return errors.Join(a.Start(records), a.Wait()) }

func (a *aheadLog) Close() error {
	close(a.todo)
	a.writer.Wait()
	return a.balsaLog.Close()
}

// keptBytes is how much of a log is not retired, at least; at most twice that.
const keptBytes = 32 << 20

type balsaLog struct {
	log   *wal.Log
	burst bool
	since int64  // bytes written since the last mark
	mark  uint64 // the last entry at that time

	over   sync.WaitGroup
	wake   chan struct{} // to the filler, of capacity 1
	failed error         // the filler's, read when it is over
}

func logOptions(dir string, segmentBytes int64, mode vfs.Mode) (wal.Options, error) {
	fs, err := vfs.OSWith(mode)
	return wal.Options{FS: fs, Dir: dir, SegmentBytes: segmentBytes, Random: rand.Uint64, Each: each}, err
}

// each lends recovery all processors.
func each(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func openBalsa(dir string, segmentBytes int64, mode vfs.Mode) (*balsaLog, error) {
	o, err := logOptions(dir, segmentBytes, mode)
	if err != nil {
		return nil, err
	}
	if err := wal.Create(o, []byte("bench")); err != nil {
		return nil, err
	}
	log, _, err := wal.Open(o)
	if err != nil {
		return nil, err
	}
	return &balsaLog{log: log}, nil
}

// grow writes until segments have their full size: the first ones of a new log are small.
func (b *balsaLog) grow(segmentBytes int64) error {
	if segmentBytes == 0 {
		segmentBytes = 64 << 20
	}
	pieces := slices.Repeat([][]byte{make([]byte, 32<<10)}, 32)
	for written := int64(0); written < segmentBytes; written += 1 << 20 {
		if err := b.log.Prepare(); err != nil {
			return err
		}
		if err := b.write(pieces); err != nil {
			return err
		}
	}
	return nil
}

func (b *balsaLog) Begin(burst bool) error {
	b.burst = burst
	if burst {
		return b.log.Prepare()
	}
	b.wake = make(chan struct{}, 1)
	wake := b.wake
	b.over.Go(func() {
		for range wake {
			for b.log.FillDue() {
				if err := b.log.Fill(); err != nil {
					b.failed = err
					return
				}
			}
		}
	})
	return nil
}

func (b *balsaLog) Append(records [][]byte) error {
	err := b.write(records)
	b.after(records)
	return err
}

// after retires what is old enough, and wakes the filler where it is due.
func (b *balsaLog) after(records [][]byte) {
	if b.since += int64(len(records) * len(records[0])); b.since > keptBytes {
		if b.mark > 0 {
			b.log.Retire(b.mark)
		}
		b.since, b.mark = 0, b.log.Last()
	}
	if !b.burst && b.log.FillDue() {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

func (b *balsaLog) add(record []byte) {
	b.log.Append(&wal.Entry{Index: b.log.Last() + 1, Term: 1, Kind: 2, Count: 1, RawBytes: uint32(len(record)), Body: record})
}

func (b *balsaLog) write(records [][]byte) error {
	for _, r := range records {
		b.add(r)
	}
	batch := b.log.Take()
	defer b.log.Release(batch)
	if err := batch.Write(); err != nil {
		return err
	}
	return batch.Sync()
}

func (b *balsaLog) Spent() bool { return b.log.NeedsSpare() }

func (b *balsaLog) End() error {
	if b.wake == nil {
		return nil
	}
	close(b.wake)
	b.over.Wait()
	b.wake = nil
	return b.failed
}

func (b *balsaLog) Close() error { return b.log.Close() }

// recoveryShape is the batch of the log that is recovered.
var recoveryShape = Shape{Record: 1024, Batch: 64}

// recovery measures how fast a log is opened again, from a warm cache, the best and the median of some times.
func (c *LogConfig) recovery(ctx context.Context, place string) (LogRow, error) {
	fmt.Fprintf(c.Log, "recovery of %d bytes\n", c.Recovery)
	dir := filepath.Join(place, "recovery")
	defer os.RemoveAll(dir)
	b, err := openBalsa(dir, 0, vfs.Auto)
	if err != nil {
		return LogRow{}, err
	}
	records := randomRecords(recoveryShape)
	for written := int64(0); written < c.Recovery && err == nil && ctx.Err() == nil; {
		err = b.write(records)
		written += int64(recoveryShape.Record * recoveryShape.Batch)
	}
	if closed := b.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = warm(dir)
	}
	if err != nil {
		return LogRow{}, err
	}
	return timeRecovery(ctx, dir, c.Trials)
}

func timeRecovery(ctx context.Context, dir string, times int) (LogRow, error) {
	segments, err := wal.List(vfs.OS, dir)
	if err != nil {
		return LogRow{}, err
	}
	row := LogRow{Suite: "wal", Subject: "balsa", Mode: Recovery, Record: recoveryShape.Record, Batch: recoveryShape.Batch}
	for _, s := range segments {
		row.Bytes += s.Written
	}
	t := tally{latency: newHistogram()}
	o, err := logOptions(dir, 0, vfs.Auto)
	if err != nil {
		return LogRow{}, err
	}
	for range times {
		began := time.Now()
		log, found, err := wal.Open(o)
		took := time.Since(began)
		if err != nil {
			return LogRow{}, err
		}
		if err := log.Close(); err != nil {
			return LogRow{}, err
		}
		t.latency.RecordValue(min(int64(took), longest))
		t.records += float64(found.Last)
		t.seconds += took.Seconds()
		t.rates = append(t.rates, float64(found.Last)/took.Seconds())
		if ctx.Err() != nil {
			return LogRow{}, ctx.Err()
		}
	}
	row.fill(&t)
	row.BytesPerSecond = float64(row.Bytes) * float64(times) / t.seconds
	return row, nil
}

// warm reads all files of a directory once.
func warm(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		file, err := os.Open(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, file)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
