package kv

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// hints tell where the items of known keys are, most of the time. The map is the truth: what is not found here is
// looked up there. What a hint saves is waiting. A look-up in the map is a chain of four cache misses, one after the
// other, and they are most of what a command costs on a large key space; hints are plain enough that the misses of
// many commands can overlap (see Store.lookAhead).
//
//	hash of the key --> a bucket of four: [hash, item] [hash, item] [hash, item] [hash, item]   64 bytes, one line
//
// A full bucket forgets one of the four. So whoever chooses keys to collide gets the map's speed, and no worse; and a
// table that has grown too small is replaced by an empty one, with no pause to move anything: it fills as keys are used.
// Nothing observable depends on what is remembered.
type hints struct {
	slots []hint // a power of two of them, at least hintWays
	mask  uint64 // of buckets
	next  uint64 // whom the next full bucket forgets
}

type hint struct {
	hash uint64
	item *item // nil: free
}

const (
	hintWays  = 4
	hintLeast = 1 << 10
)

// fit makes room for so many keys: from 4 to 8 slots for every three. 21 to 43 bytes a key.
func (t *hints) fit(keys int) {
	if keys*4 <= len(t.slots)*3 {
		return
	}
	n := max(2*len(t.slots), hintLeast)
	*t = hints{slots: make([]hint, n), mask: uint64(n/hintWays - 1)}
}

// bucket is nil while there are no keys.
func (t *hints) bucket(hash uint64) []hint {
	if len(t.slots) == 0 {
		return nil
	}
	at := (hash & t.mask) * hintWays
	return t.slots[at : at+hintWays : at+hintWays]
}

// likely is the item that has a key of this hash, or nil. Its key is still to be compared.
func (t *hints) likely(hash uint64) *item {
	b := t.bucket(hash)
	for i := range b {
		if b[i].hash == hash && b[i].item != nil {
			return b[i].item
		}
	}
	return nil
}

func (t *hints) note(hash uint64, it *item) {
	b := t.bucket(hash)
	if len(b) == 0 {
		return
	}
	place := int(t.next % hintWays)
	for i := range b {
		if b[i].item == nil {
			place = i
		}
	}
	for i := range b {
		if b[i].hash == hash && b[i].item != nil {
			place = i // another key of the same hash, or this one again: never twice in a bucket
		}
	}
	b[place] = hint{hash, it}
	t.next++
}

func (t *hints) forget(it *item) {
	hash := xxhash.Sum64String(it.key)
	b := t.bucket(hash)
	for i := range b {
		if b[i].item == it {
			b[i] = hint{}
		}
	}
}

// find gives the item of a key with this hash, nil if there is none.
func (s *Store) find(hash uint64, key []byte) *item {
	if it := s.hints.likely(hash); it != nil && it.key == string(key) {
		return it
	}
	it := s.items[string(key)]
	if it != nil {
		s.hints.note(hash, it)
	}
	return it
}

// aheadMost is how many commands are looked at ahead of their execution: enough to keep the processor's loads under way,
// few enough that what they loaded is still near when it is used.
const aheadMost = 32

// ahead is what is known of the commands to be executed next.
type ahead struct {
	hashes  [aheadMost]uint64
	items   [aheadMost]*item
	n       int
	touched uint64 // what was loaded, so that it has to be
}

// lookAhead hashes the keys of the next commands and loads what their execution will need, layer by layer: all buckets,
// then all items, then all keys and values. Within a layer no load waits for another. It decides nothing: a command
// that inserts or deletes may change what the next ones find.
func (s *Store) lookAhead(body []byte, count uint32) {
	a := &s.ahead
	a.n = 0
	for a.n < aheadMost && uint32(a.n) < count {
		key, rest := keyAhead(body)
		if key == nil {
			break
		}
		hash := xxhash.Sum64(key)
		if b := s.hints.bucket(hash); b != nil {
			a.touched += b[0].hash
		}
		a.hashes[a.n] = hash
		a.n++
		body = rest
	}
	for i, hash := range a.hashes[:a.n] {
		it := s.hints.likely(hash)
		a.items[i] = it
		if it != nil {
			a.touched += it.index
		}
	}
	for i, it := range a.items[:a.n] {
		if a.items[i] = nil; it == nil {
			continue
		}
		a.touched += uint64(it.key[0])
		if last := len(it.value) - 1; last >= 0 {
			a.touched += uint64(it.value[0]) + uint64(it.value[last])
		}
	}
}

// keyAhead is the key of the first command of body, nil where none can be read, and what follows the command.
func keyAhead(body []byte) (key, rest []byte) {
	if len(body) < CommandHeaderBytes {
		return nil, nil
	}
	size, keyBytes, at := uint64(binary.LittleEndian.Uint32(body)), int(binary.LittleEndian.Uint16(body[6:])), CommandHeaderBytes
	if body[5]&FlagRegister != 0 {
		at += 8
	}
	if size > uint64(len(body)) || uint64(at+keyBytes) > size || keyBytes == 0 {
		return nil, nil
	}
	return body[at : at+keyBytes], body[size:]
}
