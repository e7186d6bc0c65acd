package kv

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// What a put and a get cost where the keys are many and any of them may be next, so that little of what they touch is
// in a cache: BenchmarkHotApply beside it writes one key again and again.

const (
	coldClients = 512
	coldValue   = 100
)

// coldStore holds keys of 16 bytes with values of 100, its clients' sessions made.
type coldStore struct {
	s    *Store
	e    Entry
	seqs [coldClients]uint64
	keys int
	x    uint64
	size int // of an encoded command
}

func (w *coldStore) next(n int) int {
	w.x = w.x*6364136223846793005 + 1442695040888963407
	return int((w.x >> 33) % uint64(n))
}

func newCold(keys int) *coldStore {
	w := &coldStore{s: New(), e: Entry{Term: 1, Kind: KindCommands, Time: 2}, keys: keys, x: 7}
	c := Command{Op: Put, Value: make([]byte, coldValue), Flags: FlagRegister, Registered: 1}
	for i := range keys {
		// In no order: 2^k+1 apart, so that what is made together is not what lies together in the key space.
		c.Key = fmt.Appendf(c.Key[:0], "key-%012d", i*65537%keys)
		client := i % coldClients
		w.seqs[client]++
		c.Client, c.Seq, c.AckedBelow = uint64(client+1), w.seqs[client], w.seqs[client]
		w.e.Index++
		w.e.Count = 1
		w.e.Body = AppendCommand(w.e.Body[:0], &c)
		if r := w.s.Apply(&w.e); r[0].Status != OK {
			panic(fmt.Sprint("cold apply: ", r[0].Status))
		}
	}
	c.Flags, c.Registered = 0, 0
	w.size = CommandSize(&c)
	return w
}

// fill makes the entry of so many puts, of any keys and clients.
func (w *coldStore) fill(count int) {
	c := Command{Op: Put, Key: make([]byte, 16), Value: make([]byte, coldValue), Client: 1, Seq: 1, AckedBelow: 1}
	w.e.Body = w.e.Body[:0]
	for range count {
		w.e.Body = AppendCommand(w.e.Body, &c)
	}
	w.e.Count = uint32(count)
}

func (w *coldStore) shuffle() {
	w.e.Index++
	for b := w.e.Body; len(b) > 0; b = b[w.size:] {
		client := w.next(coldClients)
		w.seqs[client]++
		binary.LittleEndian.PutUint64(b[8:], uint64(client+1))
		binary.LittleEndian.PutUint64(b[16:], w.seqs[client])
		coldKey(b[CommandHeaderBytes:CommandHeaderBytes+16], w.next(w.keys))
	}
}

func coldKey(b []byte, i int) {
	copy(b, "key-")
	for at := 15; at >= 4; at-- {
		b[at] = byte('0' + i%10)
		i /= 10
	}
}

func BenchmarkColdApply(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		w := newCold(keys)
		for _, size := range []int{1200, 60_000} {
			b.Run(fmt.Sprintf("keys=%d/entry=%d", keys, size), func(b *testing.B) {
				w.fill(size / w.size)
				var spent time.Duration
				for b.Loop() {
					w.shuffle()
					begun := time.Now()
					results := w.s.Apply(&w.e)
					spent += time.Since(begun)
					if results[len(results)-1].Status != OK {
						b.Fatal(results[len(results)-1].Status)
					}
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/float64(w.e.Count), "ns/command")
			})
		}
	}
}

func BenchmarkColdGet(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		w := newCold(keys)
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			var key [16]byte
			for b.Loop() {
				coldKey(key[:], w.next(keys))
				if _, _, _, ok := w.s.Get(key[:]); !ok {
					b.Fatal("no such key")
				}
			}
		})
	}
}

// BenchmarkColdGets: reads of a turn, answered one after another, their values copied as into replies.
func BenchmarkColdGets(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		w := newCold(keys)
		ops := make([]Command, 32)
		for i := range ops {
			ops[i] = Command{Op: Get, Key: make([]byte, 16)}
		}
		var out []byte
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("keys=%d/warm=%v", keys, warm), func(b *testing.B) {
				var spent time.Duration
				for b.Loop() {
					for i := range ops {
						coldKey(ops[i].Key, w.next(keys))
					}
					begun := time.Now()
					if warm {
						w.s.Warm(ops)
					}
					out = out[:0]
					for i := range ops {
						value, _, _, ok := w.s.Get(ops[i].Key)
						if !ok {
							b.Fatal("no such key")
						}
						out = append(out, value...)
					}
					spent += time.Since(begun)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/float64(len(ops)), "ns/get")
			})
		}
	}
}

// BenchmarkColdInsert: keys that are new, from none to a million.
func BenchmarkColdInsert(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begun := time.Now()
		w := newCold(1_000_000)
		spent := time.Since(begun)
		runtime.GC()
		runtime.ReadMemStats(&after)
		begun = time.Now()
		runtime.GC()
		collected := time.Since(begun)
		b.ReportMetric(float64(spent.Nanoseconds())/1e6, "ns/command")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "B/key")
		b.ReportMetric(float64(collected.Milliseconds()), "ms/collection")
		runtime.KeepAlive(w)
	}
}
