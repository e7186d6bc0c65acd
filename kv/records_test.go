package kv

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestRecordsKeepWhatIsWritten: records of all sizes, made, written, freed in any order, never touch each other, and
// what is freed is used again.
func TestRecordsKeepWhatIsWritten(t *testing.T) {
	type content struct {
		key, value  []byte
		index, term uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		r := newRecords()
		live := map[uint32]content{}
		var refs []uint32
		free := func(i int) {
			r.free(refs[i])
			delete(live, refs[i])
			refs[i] = refs[len(refs)-1]
			refs = refs[:len(refs)-1]
		}
		x := rapid.Uint64().Draw(t, "seed")
		below := func(n uint64) int { x = x*6364136223846793005 + 1442695040888963407; return int(x >> 33 % n) }
		sizes := rapid.SampledFrom([][]int{{100}, {0, 1, 100, 101, 130}, {300, 2048, 2049, 5000}, {0, 40, 700, 1600, 2048, 2049, 100_000}}).Draw(t, "sizes")
		for n := range 600 {
			value := bytes.Repeat([]byte{byte(n)}, sizes[below(uint64(len(sizes)))])
			what := below(10)
			switch {
			case len(refs) > 0 && what < 3:
				free(below(uint64(len(refs))))
				continue
			case len(refs) == 0 || what < 7:
				key := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 1+below(20))
				if what == 6 {
					key = bytes.Repeat(key[:2], MaxKey/2)
				}
				ref := r.add(key, len(value))
				if _, ok := live[ref]; ok || ref == 0 || !r.fits(ref, len(value)) {
					t.Fatalf("record %d is taken already, or too small", ref)
				}
				refs = append(refs, ref)
				live[ref] = content{key: key}
			}
			i := below(uint64(len(refs)))
			if what < 7 {
				i = len(refs) - 1
			}
			c := live[refs[i]]
			if !r.fits(refs[i], len(value)) {
				free(i)
				continue
			}
			c.value, c.index, c.term = value, uint64(n), uint64(n+1)
			r.write(refs[i], value, c.index, c.term)
			live[refs[i]] = c
		}
		for ref, c := range live {
			index, term := r.change(ref)
			if !r.holds(ref, c.key) || !bytes.Equal(r.key(ref), c.key) || !bytes.Equal(r.value(ref), c.value) || index != c.index || term != c.term {
				t.Fatalf("record %d is not what was written", ref)
			}
		}
		for len(refs) > 0 {
			free(len(refs) - 1)
		}
		for units, block := range r.room {
			if block != 0 {
				t.Fatalf("nothing lives, and block %d has records of %d units", block, units)
			}
		}
		if len(r.vacant) != len(r.outside) || len(r.spare) != len(r.blocks)-1 {
			t.Fatalf("%d of %d values outside, %d of %d blocks came back", len(r.vacant), len(r.outside), len(r.spare), len(r.blocks)-1)
		}
	})
}

// What is deleted, or written over by something of another size, gives its memory back: to other sizes, too.
func TestMemoryIsUsedAgain(t *testing.T) {
	s := New()
	c := write(1, 0, FlagRegister, 1, "")
	index := uint64(0)
	apply := func(op Op, i, size int) {
		index++
		c.Op, c.Seq, c.AckedBelow = op, index, index
		c.Key, c.Value = fmt.Appendf(c.Key[:0], "key-%d", i), make([]byte, size)
		if r := s.Apply(entry(index, 1, c)); r[0].Status != OK {
			t.Fatal(r[0].Status)
		}
	}
	const keys = 2000
	most := 0
	for round, size := range []int{100, 1500, 40, 5000, 600, 100, 1500, 40, 5000, 600} {
		for i := range keys {
			apply(Put, i, size)
		}
		for i := range keys {
			if round%2 == 0 {
				apply(Delete, i, 0)
			}
		}
		if round < 5 {
			most = len(s.records.blocks)
		} else if len(s.records.blocks) > most {
			t.Fatalf("round %d: %d blocks, %d were enough before", round, len(s.records.blocks), most)
		}
	}
	if held := len(s.records.outside) - len(s.records.vacant); held != 0 {
		t.Errorf("%d values outside, want none", held)
	}
}

// TestRecordsOfAllSizesFitABlock: sizes are rounded up by a sixteenth at most, and the largest record is foreseen.
func TestRecordsOfAllSizesFitABlock(t *testing.T) {
	for n := 1; n <= (recordBytes+MaxKey+insideMost+unitBytes-1)/unitBytes; n++ {
		if got := roundUnits(n); got < n || got > n+n/16 || got > mostUnits || roundUnits(got) != got {
			t.Errorf("%d units are rounded to %d, most %d", n, got, mostUnits)
		}
	}
}
