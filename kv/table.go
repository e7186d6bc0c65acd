package kv

import "math/bits"

// table finds a key's record by 32 bits of the key's hash. A slot is one word: the hash, then the ref. So a look-up
// fetches a record of another key only where all 32 bits are equal, and growing fetches none.
//
// The slots lie in segments of 16 KiB; the top bits of the hash say which, through a directory. In a segment a key's
// slot is in its home bucket, one cache line, or, when that is full, in the next that is not. A segment that fills up
// is split in two by the next bit of the hash: some microseconds, whatever the number of keys. The directory, a word
// for each segment, doubles at times.
//
// What bounds the search: a segment is at most 13 sixteenths full, so with a hash as good as random nearly every search
// ends in the home bucket, and the longest some lines further. That nobody can choose keys of one hash is up to who
// gives the store its hash: a server seeds one from outside what any client can know (node, KeyHash). Where a slot is
// is never to be seen: order comes from the tree, and records lie where the calls made put them. Should a hash be weak
// all the same, so that splitting a segment would only double the directory, the segment gets another one behind it:
// slower, and as right.
type table struct {
	dir    []*segment // by the top bits of the hash
	shift  uint8      // 32 minus those bits
	count  int
	behind []*segment // segments behind others; 0 is none
}

const (
	bucketSlots    = 8
	segmentBuckets = 255
	segmentMost    = segmentBuckets * bucketSlots * 13 / 16
	directoryMost  = 20 // bits; a home takes the lowest 12
)

// bucket is one cache line. Its slots are filled from the front; an empty one is 0.
type bucket [bucketSlots]uint64

type segment struct {
	used   uint32
	depth  uint32 // all hashes in it agree in so many top bits
	behind uint32
	_      [52]byte // so that the buckets are lines
	bucket [segmentBuckets]bucket
}

func newTable() table {
	return table{dir: []*segment{{}}, shift: 32, behind: make([]*segment, 1)}
}

func home(hash uint32) uint32 { return hash & 0xfff * segmentBuckets >> 12 }

func following(b uint32) uint32 {
	if b++; b == segmentBuckets {
		return 0
	}
	return b
}

func slotOf(hash, ref uint32) uint64 { return uint64(hash)<<32 | uint64(ref) }

func (t *table) segment(hash uint32) *segment { return t.dir[uint64(hash)>>t.shift] }

// same says which slots of the bucket hold this hash, a bit each; without a branch, which would be guessed wrong.
func (line *bucket) same(hash uint32) uint32 {
	is := func(w uint64) (bit uint32) {
		if uint32(w>>32) == hash {
			bit = 1
		}
		return bit
	}
	return is(line[0]) | is(line[1])<<1 | is(line[2])<<2 | is(line[3])<<3 |
		is(line[4])<<4 | is(line[5])<<5 | is(line[6])<<6 | is(line[7])<<7
}

// find returns the ref of key, 0 if there is none.
func (t *table) find(hash uint32, key []byte, r *records) uint32 {
	s := t.segment(hash)
	for {
		for b := home(hash); ; b = following(b) {
			line := &s.bucket[b]
			for mask := line.same(hash); mask != 0; mask &= mask - 1 {
				ref := uint32(line[bits.TrailingZeros32(mask)%bucketSlots])
				if ref != 0 && r.holds(ref, key) {
					return ref
				}
			}
			if line[bucketSlots-1] == 0 {
				break
			}
		}
		if s.behind == 0 {
			return 0
		}
		s = t.behind[s.behind]
	}
}

// likely is the ref in the first slot of this hash in its home bucket: nearly always the key's, if it has one.
func (t *table) likely(hash uint32) uint32 {
	line := &t.segment(hash).bucket[home(hash)]
	return uint32(line[bits.TrailingZeros32(line.same(hash)|1<<(bucketSlots-1))%bucketSlots])
}

// slot is where a slot of this very content is; it must be there.
func (t *table) slot(hash, ref uint32) (s *segment, b uint32, at int) {
	want := slotOf(hash, ref)
	for s = t.segment(hash); ; s = t.behind[s.behind] {
		for b = home(hash); ; b = following(b) {
			for at, w := range &s.bucket[b] {
				if w == want {
					return s, b, at
				}
			}
			if s.bucket[b][bucketSlots-1] == 0 {
				break
			}
		}
		if s.behind == 0 {
			panic("kv: the table has lost a record")
		}
	}
}

// replace says that a key's record is another one now.
func (t *table) replace(hash, ref, by uint32) {
	s, b, at := t.slot(hash, ref)
	s.bucket[b][at] = slotOf(hash, by)
}

// insert adds a key that is not there.
func (t *table) insert(hash, ref uint32) {
	t.count++
	for {
		s := t.segment(hash)
		for s.used >= segmentMost && s.behind != 0 {
			s = t.behind[s.behind]
		}
		if s.used < segmentMost {
			s.put(slotOf(hash, ref))
			return
		}
		t.relieve(s, hash)
	}
}

func (s *segment) put(slot uint64) {
	for b := home(uint32(slot >> 32)); ; b = following(b) {
		for at, w := range &s.bucket[b] {
			if w == 0 {
				s.bucket[b][at] = slot
				s.used++
				return
			}
		}
	}
}

// relieve makes room where s, the last of its row, is full.
func (t *table) relieve(s *segment, hash uint32) {
	depth := uint32(32 - t.shift)
	split := s == t.segment(hash) // a segment with others behind it stays as it is
	if split && s.depth == depth {
		// A good hash fills all segments alike: the first that is full comes when the others nearly are.
		if depth == directoryMost || t.count < len(t.dir)*(segmentMost/8) {
			split = false
		} else {
			t.double()
		}
	}
	if !split {
		s.behind = uint32(len(t.behind))
		t.behind = append(t.behind, &segment{depth: s.depth})
		return
	}
	t.split(s, hash)
}

func (t *table) double() {
	dir := make([]*segment, 2*len(t.dir))
	for i, s := range t.dir {
		dir[2*i], dir[2*i+1] = s, s
	}
	t.dir, t.shift = dir, t.shift-1
}

// split puts two segments in the place of s.
func (t *table) split(s *segment, hash uint32) {
	var half [2]*segment
	for i := range half {
		half[i] = &segment{depth: s.depth + 1}
	}
	for b := range s.bucket {
		for _, w := range &s.bucket[b] {
			if w != 0 {
				half[w>>(63-s.depth)&1].put(w)
			}
		}
	}
	span := len(t.dir) >> s.depth // directory words of s
	first := int(uint64(hash)>>t.shift) &^ (span - 1)
	for i := range span {
		t.dir[first+i] = half[i/(span/2)]
	}
}

// remove takes a key's slot away. Whatever went past the bucket because it was full moves up, so that a search may still
// stop at the first bucket that is not.
func (t *table) remove(hash, ref uint32) {
	t.count--
	s, b, at := t.slot(hash, ref)
	s.used--
	for {
		line := &s.bucket[b]
		last := bucketSlots - 1
		for line[last] == 0 {
			last--
		}
		line[at], line[last] = line[last], 0
		if last < bucketSlots-1 {
			return
		}
		from, i, ok := s.past(b)
		if !ok {
			return
		}
		line[last] = s.bucket[from][i]
		b, at = from, i
	}
}

// past finds a slot that is in a bucket after b though its home is b or before.
func (s *segment) past(b uint32) (from uint32, at int, ok bool) {
	distance := uint32(0)
	for from = following(b); ; from = following(from) {
		distance++
		line := &s.bucket[from]
		for at, w := range line {
			if w == 0 {
				return 0, 0, false
			}
			if (from+segmentBuckets-home(uint32(w>>32)))%segmentBuckets >= distance {
				return from, at, true
			}
		}
	}
}

// The home of a hash must not depend on the bits that chose its segment.
const _ = uint(32 - 12 - directoryMost)
