package main

import (
	"encoding/binary"
	"path/filepath"
	"sync"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	pebblewal "github.com/cockroachdb/pebble/v2/wal"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	tidwall "github.com/tidwall/wal"
	"go.etcd.io/bbolt"
	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// etcd's: 64 MB segments, preallocated by a pipeline in the background.
type etcdLog struct {
	wal     *etcdwal.WAL
	last    uint64
	entries []*raftpb.Entry
}

func openEtcdWAL(dir string) (library, error) {
	w, err := etcdwal.Create(zap.NewNop(), filepath.Join(dir, "wal"), []byte("bench"))
	return &etcdLog{wal: w}, err
}

func (l *etcdLog) append(records [][]byte) error {
	for len(l.entries) < len(records) {
		l.entries = append(l.entries, &raftpb.Entry{Term: new(uint64), Index: new(uint64), Type: new(raftpb.EntryType)})
	}
	entries := l.entries[:len(records)]
	for i, r := range records {
		l.last++
		*entries[i].Index, *entries[i].Term, entries[i].Data = l.last, 1, r
	}
	return l.wal.Save(&raftpb.HardState{}, entries)
}

func (l *etcdLog) close() error { return l.wal.Close() }

// hashicorp/raft-wal: 64 MiB segments, preallocated.
type raftLog struct {
	wal  *raftwal.WAL
	last uint64
	logs []*raft.Log
}

func openRaftWAL(dir string) (library, error) {
	w, err := raftwal.Open(dir)
	return &raftLog{wal: w}, err
}

func (l *raftLog) append(records [][]byte) error {
	for len(l.logs) < len(records) {
		l.logs = append(l.logs, &raft.Log{Term: 1, Type: raft.LogCommand})
	}
	logs := l.logs[:len(records)]
	for i, r := range records {
		l.last++
		logs[i].Index, logs[i].Data = l.last, r
	}
	return l.wal.StoreLogs(logs)
}

func (l *raftLog) close() error { return l.wal.Close() }

// tidwall/wal: 20 MB segments as it ships; 64 MiB here, so that a burst stays in one.
type tidwallLog struct {
	wal   *tidwall.Log
	last  uint64
	batch tidwall.Batch
}

func openTidwall(dir string) (library, error) {
	o := *tidwall.DefaultOptions
	o.SegmentSize = 64 << 20
	w, err := tidwall.Open(filepath.Join(dir, "wal"), &o)
	return &tidwallLog{wal: w}, err
}

func (l *tidwallLog) append(records [][]byte) error {
	l.batch.Clear()
	for _, r := range records {
		l.last++
		l.batch.Write(l.last, r)
	}
	return l.wal.WriteBatch(&l.batch)
}

func (l *tidwallLog) close() error { return l.wal.Close() }

// pebbleFile is the size at which its log changes the file; the old ones are used again, as in the store.
const pebbleFile = 64 << 20

// pebble's record log, by the manager that its store has: preallocated files, recycled.
type pebbleLog struct {
	manager pebblewal.Manager
	writer  pebblewal.Writer
	number  pebblewal.NumWAL
	full    bool
	queue   chan struct{} // an element for each sync that is asked for
}

func openPebble(dir string) (library, error) {
	fs := pebblevfs.Default
	queue := make(chan struct{}, 1)
	m, err := pebblewal.Init(pebblewal.Options{
		Primary: pebblewal.Dir{FS: fs, Dirname: dir}, MaxNumRecyclableLogs: 2, PreallocateSize: func() int { return pebbleFile },
		MinSyncInterval: func() time.Duration { return 0 }, QueueSemChan: queue, Logger: silent{}, EventListener: silent{},
		WriteWALSyncOffsets: func() bool { return true },
	}, nil)
	if err != nil {
		return nil, err
	}
	l := &pebbleLog{manager: m, queue: queue}
	return l, l.roll()
}

func (l *pebbleLog) roll() error {
	if l.writer != nil {
		if _, err := l.writer.Close(); err != nil {
			return err
		}
		if _, err := l.manager.Obsolete(l.number, false); err != nil { // the one before the last is used again
			return err
		}
	}
	l.number++
	w, err := l.manager.Create(l.number, 1)
	l.writer, l.full = w, false
	return err
}

func (l *pebbleLog) append(records [][]byte) error {
	if l.full {
		if err := l.roll(); err != nil {
			return err
		}
	}
	var done sync.WaitGroup
	var failed error
	for i, r := range records {
		o := pebblewal.SyncOptions{}
		if i == len(records)-1 {
			done.Add(1)
			l.queue <- struct{}{}
			o.Done, o.Err = &done, &failed
		}
		size, err := l.writer.WriteRecord(r, o, nil)
		if err != nil {
			return err
		}
		l.full = size > pebbleFile
	}
	done.Wait()
	return failed
}

func (l *pebbleLog) close() error {
	if _, err := l.writer.Close(); err != nil {
		return err
	}
	return l.manager.Close()
}

// silent takes what pebble would tell.
type silent struct{}

func (silent) Infof(string, ...any)              {}
func (silent) Errorf(string, ...any)             {}
func (silent) Fatalf(format string, args ...any) { panic(format) }
func (silent) LogCreated(pebblewal.CreateInfo)   {}

// bbolt, as some use it for a log: a bucket with the index as the key, a transaction a batch.
type boltLog struct {
	db   *bbolt.DB
	last uint64
}

var boltBucket = []byte("log")

func openBolt(dir string) (library, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(boltBucket)
		return err
	})
	return &boltLog{db: db}, err
}

func (l *boltLog) append(records [][]byte) error {
	return l.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(boltBucket)
		b.FillPercent = 0.9 // keys only grow
		for _, r := range records {
			l.last++
			if err := b.Put(binary.BigEndian.AppendUint64(nil, l.last), r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *boltLog) close() error { return l.db.Close() }
