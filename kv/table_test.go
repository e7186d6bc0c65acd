package kv

import (
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// tableTwin is a table with its records, beside a Go map from key to ref.
type tableTwin struct {
	t    table
	r    records
	hash func(key []byte) uint32
	want map[string]uint32
}

func newTableTwin(hash func(key []byte) uint32) *tableTwin {
	return &tableTwin{t: newTable(), r: newRecords(), hash: hash, want: map[string]uint32{}}
}

func (w *tableTwin) find(key []byte) uint32 { return w.t.find(w.hash(key), key, &w.r) }

func (w *tableTwin) set(key []byte) {
	h := w.hash(key)
	old, ref := w.find(key), w.r.add(key, 1)
	if old == 0 {
		w.t.insert(h, ref)
	} else {
		w.t.replace(h, old, ref)
		w.r.free(old)
	}
	w.want[string(key)] = ref
}

func (w *tableTwin) remove(key []byte) {
	if ref := w.find(key); ref != 0 {
		w.t.remove(w.hash(key), ref)
		w.r.free(ref)
	}
	delete(w.want, string(key))
}

// check looks for everything that is there, and reads the table for whatever is not.
func (w *tableTwin) check(t *testing.T) {
	t.Helper()
	for key, ref := range w.want {
		if got := w.find([]byte(key)); got != ref {
			t.Fatalf("%q has record %d, want %d", key, got, ref)
		}
	}
	slots := 0
	seen := map[*segment]bool{}
	for i, s := range w.t.dir {
		if span := len(w.t.dir) >> s.depth; w.t.dir[i&^(span-1)] != s || w.t.dir[i|(span-1)] != s {
			t.Fatalf("directory word %d: a segment of depth %d is not in all its words", i, s.depth)
		}
		for ; !seen[s]; s = w.t.behind[s.behind] {
			seen[s] = true
			used := 0
			for b := range s.bucket {
				for at, slot := range s.bucket[b] {
					if slot != 0 {
						used++
						if at > 0 && s.bucket[b][at-1] == 0 {
							t.Fatal("a bucket with a hole")
						}
					}
				}
			}
			if used != int(s.used) || used > segmentMost {
				t.Fatalf("a segment of %d slots counts %d, most %d", used, s.used, segmentMost)
			}
			slots += used
			if s.behind == 0 {
				break
			}
		}
	}
	if slots != len(w.want) || w.t.count != slots {
		t.Fatalf("%d slots, %d counted, want %d", slots, w.t.count, len(w.want))
	}
}

func goodHash(key []byte) uint32 { return uint32(xxhash.Sum64(key)) }

// Hashes as bad as can be: the table is slow with them, never wrong, and its directory does not explode.
var hashes = map[string]func(key []byte) uint32{
	"good":               goodHash,
	"one":                func([]byte) uint32 { return 0 },
	"all bits set":       func([]byte) uint32 { return 1<<32 - 1 },
	"one home":           func(key []byte) uint32 { return goodHash(key) &^ 0xfff },
	"the last home":      func(key []byte) uint32 { return goodHash(key) | 0xfff },
	"four segments":      func(key []byte) uint32 { return goodHash(key) & 0xc0000fff },
	"one after another":  func(key []byte) uint32 { return uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 },
	"the last bit alone": func(key []byte) uint32 { return goodHash(key) & 1 },
}

// TestTableEqualsAGoMap: whatever is set and removed, whatever the hash is worth.
func TestTableEqualsAGoMap(t *testing.T) {
	for name, hash := range hashes {
		most, seeds := 3_000, 4 // a bad hash takes the square of it
		if name == "good" {
			most, seeds = 30_000, 40
		}
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) { againstAGoMap(t, hash, uint64(seed), most) })
		}
	}
}

func againstAGoMap(t *testing.T, hash func(key []byte) uint32, x uint64, most int) {
	below := func(n int) int { x = x*6364136223846793005 + 1442695040888963407; return int(x >> 33 % uint64(n)) }
	w := newTableTwin(hash)
	keys := []int{10, 300, most / 2, most}[x%4]
	for range 3 {
		removes := below(17) // of 16
		for range 2 * keys {
			i := below(keys)
			key := []byte{byte(i), byte(i >> 8), byte(i >> 16)}
			if below(16) < removes {
				w.remove(key)
			} else {
				w.set(key)
			}
		}
		w.check(t)
	}
	if words := len(w.t.dir); words > 1 && words*segmentMost > 16*most {
		t.Errorf("a directory of %d words for at most %d keys", words, most)
	}
}

// TestSearchesAreShort: what the table's comment promises of a good hash, at sizes between two doublings.
func TestSearchesAreShort(t *testing.T) {
	w := newTableTwin(goodHash)
	next := 1000
	for i := range 200_000 {
		key := fmt.Appendf(nil, "key-%d", i)
		w.t.insert(goodHash(key), w.r.add(key, 0))
		if i != next {
			continue
		}
		next += next / 3
		far, longest := 0, 0
		for i, s := range w.t.dir {
			if i > 0 && s == w.t.dir[i-1] {
				continue
			}
			if s.behind != 0 {
				t.Fatal("a segment behind another")
			}
			for b := range s.bucket {
				for _, slot := range s.bucket[b] {
					if slot == 0 {
						continue
					}
					distance := (b + segmentBuckets - int(home(uint32(slot>>32)))) % segmentBuckets
					if longest = max(longest, distance); distance > 0 {
						far++
					}
				}
			}
		}
		if longest > 30 || far > i/4 {
			t.Errorf("%d keys: %d not in their home bucket, the furthest %d away", i, far, longest)
		}
	}
}
