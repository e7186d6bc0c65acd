package kv

import (
	"bytes"
	"testing"
)

// FuzzDecodeCommand: no bytes make it panic, and what it accepts encodes to the same bytes.
func FuzzDecodeCommand(f *testing.F) {
	for _, c := range []Command{
		write(1, 1, FlagRegister|FlagOneShot, 5, "v"),
		{Op: Get, Client: 1, Seq: ReadSeq | 4, Key: []byte("k")},
		{Op: Scan, Client: 1, Seq: ReadSeq | 5, Value: []byte("a"), Old: []byte("b"), Limit: 7},
		{Op: CompareAndSwap, Flags: FlagOldAbsent, Client: 1, Seq: 3, AckedBelow: 2, Key: []byte("k"), Value: []byte("v")},
	} {
		f.Add(AppendCommand(nil, &c))
	}
	for _, codec := range []Codec{S2, Zstd} {
		c := Command{Op: Put, Client: 1, Seq: 1, AckedBelow: 1, Key: []byte("k"), Value: text(PackedLeast)}
		c.Pack(codec)
		f.Add(AppendCommand(nil, &c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, size, err := DecodeCommand(b)
		if err != nil {
			return
		}
		if again := AppendCommand(nil, &c); !bytes.Equal(again, b[:size]) || CommandSize(&c) != size {
			t.Errorf("%x decodes to %+v, which encodes to %x", b[:size], c, again)
		}
		s := New()
		s.Apply(&Entry{Index: 1, Term: 1, Kind: KindCommands, Count: 3, Body: b})
		s.Apply(&Entry{Index: 2, Term: 1, Kind: KindPart, Count: 1, Body: b})
	})
}

// FuzzDecodeResult: as above, and the pairs of a scan.
func FuzzDecodeResult(f *testing.F) {
	f.Add(AppendResult(nil, &Result{Status: OK, More: true, Sub: 1, Seq: 2, Index: 3, Term: 4, Value: AppendPair(nil, []byte("k"), []byte("v"))}))
	f.Add(AppendResult(nil, &Result{Status: TooOld}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size, err := DecodeResult(b)
		if err != nil {
			return
		}
		if again := AppendResult(nil, &r); !bytes.Equal(again, b[:size]) || ResultSize(&r) != size {
			t.Errorf("%x decodes to %+v, which encodes to %x", b[:size], r, again)
		}
		var pairs []byte
		rest := r.Value
		for {
			k, v, next, ok := NextPair(rest)
			if !ok {
				break
			}
			pairs, rest = AppendPair(pairs, k, v), next
		}
		if !bytes.Equal(append(pairs, rest...), r.Value) {
			t.Errorf("pairs of %x do not encode to it", r.Value)
		}
	})
}

// FuzzUnpack: no packed value makes it panic or grow beyond what a value may be, and a plain one is what was packed.
func FuzzUnpack(f *testing.F) {
	for _, codec := range []Codec{S2, Zstd} {
		c := Command{Op: Put, Client: 1, Seq: 1, AckedBelow: 1, Key: []byte("k"), Value: text(PackedLeast)}
		c.Pack(codec)
		f.Add(c.Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Command{Op: Put, Flags: FlagPacked, Value: b}
		if c.Unpack() == nil && (len(c.Value) < PackedLeast || len(c.Value) > MaxValue) {
			t.Errorf("%d bytes unpacked to %d", len(b), len(c.Value))
		}
		plain := Command{Op: Put, Value: append(make([]byte, PackedLeast), b...)}
		for _, codec := range []Codec{S2, Zstd} {
			packed := plain
			if packed.Pack(codec); packed.Unpack() != nil || !bytes.Equal(packed.Value, plain.Value) {
				t.Errorf("codec %d: a value of %d bytes did not come back", codec, len(plain.Value))
			}
		}
	})
}
