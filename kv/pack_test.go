package kv

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
)

// text shrinks, noise does not.
func text(n int) []byte { return bytes.Repeat([]byte("a log of a log of a log; "), n/25+1)[:n] }

func noise(n int) []byte {
	b, x := make([]byte, n), uint64(7)
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	return b
}

// A packed value is applied as the plain one: in the store there is no difference.
func TestPackedValuesAreAppliedPlain(t *testing.T) {
	for _, codec := range []Codec{S2, Zstd} {
		for _, size := range []int{PackedLeast, 30000, MaxValue} {
			c := write(1, 1, FlagRegister, 1, "")
			c.Value = text(size)
			plain := AppendCommand(nil, &c)
			c.Pack(codec)
			packed := AppendCommand(nil, &c)
			if c.Flags&FlagPacked == 0 || len(packed) > len(plain)/4 {
				t.Fatalf("codec %d: %d bytes were packed into %d", codec, size, len(packed))
			}
			var stores [2]*Store
			for i, body := range [][]byte{plain, packed} {
				stores[i] = New()
				r := stores[i].Apply(&Entry{Index: 1, Term: 1, Kind: KindCommands, Count: 1, Time: 1, Body: body})
				if len(r) != 1 || r[0].Status != OK {
					t.Fatalf("codec %d: %+v", codec, r)
				}
			}
			a, _, _, _ := stores[0].Get(c.Key)
			b, _, _, ok := stores[1].Get(c.Key)
			if !ok || !bytes.Equal(a, b) || !bytes.Equal(a, text(size)) {
				t.Fatalf("codec %d: the stores differ", codec)
			}
			if err := c.Unpack(); err != nil || !bytes.Equal(AppendCommand(nil, &c), plain) {
				t.Fatalf("codec %d: unpacked: %v", codec, err)
			}
		}
	}
}

// What does not shrink, is small or is no write stays as it is.
func TestWhatDoesNotShrinkStaysPlain(t *testing.T) {
	for _, c := range []Command{
		{Op: Put, Key: []byte("k"), Value: text(PackedLeast - 1)},
		{Op: Put, Key: []byte("k"), Value: noise(20000)},
		{Op: Scan, Key: []byte("k"), Value: text(PackedLeast)},
	} {
		for _, codec := range []Codec{Plain, S2, Zstd} {
			before := c
			before.Pack(codec)
			if before.Flags != c.Flags || !bytes.Equal(before.Value, c.Value) {
				t.Fatalf("%s with %d bytes was packed with codec %d", c.Op, len(c.Value), codec)
			}
		}
	}
}

// A packed value that does not unpack to what it says changes nothing, and every server says the same.
func TestABrokenPackedValueIsRefused(t *testing.T) {
	for _, codec := range []Codec{S2, Zstd} {
		for at := range 400 {
			c := write(1, 1, FlagRegister, 1, "")
			c.Value = append(noise(300), text(5000)...)
			want := bytes.Clone(c.Value)
			c.Pack(codec)
			if c.Flags&FlagPacked == 0 {
				t.Fatal("not packed")
			}
			c.Value[at%len(c.Value)] ^= 0x11
			body := AppendCommand(nil, &c)
			if _, _, err := DecodeCommand(body); err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				continue
			}
			s := New()
			r := s.Apply(&Entry{Index: 1, Term: 1, Kind: KindCommands, Count: 1, Time: 1, Body: body})
			value, _, _, ok := s.Get(c.Key)
			if len(r) != 1 || (r[0].Status == OK) != ok || r[0].Status != OK && r[0].Status != Malformed || ok && len(value) != len(want) {
				t.Fatalf("codec %d, byte %d: %+v, there: %v", codec, at, r, ok)
			}
		}
	}
}

// A packed value that holds more than it says costs no more than it says: here a second frame, of megabytes.
func TestAPackedValueUnpacksToNoMoreThanItSays(t *testing.T) {
	frame := func(b []byte, blocks, size uint32) []byte { // no content size, a window of 1 MiB, blocks of one byte repeated
		b = append(b, 0x28, 0xB5, 0x2F, 0xFD, 0, 0x50)
		for i := range blocks {
			h := size<<3 | 1<<1
			if i == blocks-1 {
				h |= 1
			}
			b = append(b, byte(h), byte(h>>8), byte(h>>16), 'a')
		}
		return b
	}
	c := Command{Op: Put, Key: []byte("k"), Value: make([]byte, PackedLeast)}
	c.Pack(Zstd)
	honest := c.Value
	c.Value = frame(bytes.Clone(honest), 60, 128<<10)
	if !packedFits(c.Value) {
		t.Fatal("not the value that this test is about")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := unpack(c.Value)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 1<<20 {
		t.Errorf("%d bytes from a value that says %d, %v; it took %d bytes of memory", len(got), PackedLeast, err, took)
	}
	if got, err := unpack(frame(bytes.Clone(honest), 1, 0)); err != nil || len(got) != PackedLeast {
		t.Errorf("an empty frame behind: %d bytes, %v", len(got), err)
	}
}
