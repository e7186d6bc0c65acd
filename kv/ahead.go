package kv

// A command's slot in the table, its record and its session are each in another cache line that is likely in no cache,
// and where the next one is, the one before says. So the commands of an entry are gone through together, some ahead
// of their execution, a step for all of them at a time: the processor fetches the lines of many at once. This warms
// caches and decides nothing: what is read here is looked up again, except a session, which nothing between here and
// there can end.

const (
	aheadMost  = 32
	cacheLine  = 64
	touchLines = 6             // of a record; further on the processor fetches ahead by itself
	warmBytes  = 2 * cacheLine // of a record that is only read
)

// foreseen is a command about to be executed.
type foreseen struct {
	Command
	hash    uint32
	session *session // nil: not there, or not yet
}

type ahead struct {
	group  [aheadMost]foreseen
	hashes [aheadMost]uint32
	sizes  [aheadMost]int // of their records, as far as can be known
	refs   [aheadMost]uint32
	sink   uint64 // made of what was read, so that it is read
}

// foresee decodes commands into group, as many as it takes and as do decode: n, in size bytes.
func (s *Store) foresee(group []foreseen, body []byte) (n, size int) {
	for n < len(group) {
		f := &group[n]
		k, err := f.Decode(body[size:])
		if err != nil {
			break
		}
		f.hash = uint32(s.hash(f.Key))
		s.ahead.hashes[n] = f.hash
		s.ahead.sizes[n] = recordBytes + len(f.Key) + len(f.Value)
		size += k
		n++
	}
	if n < 2 {
		return n, size // there is nothing to overlap
	}
	s.touchSessions(group[:n])
	s.touchRecords(n)
	return n, size
}

func (s *Store) touchSessions(group []foreseen) {
	for i := range group {
		group[i].session = s.sessions.find(group[i].Client)
	}
	for i := range group {
		if p := group[i].session; p != nil {
			s.ahead.sink += p.ring[group[i].Seq&uint64(len(p.ring)-1)].seq
		}
	}
}

// touchRecords warms what the first n hashes lead to: the slots of all, then the records of all.
func (s *Store) touchRecords(n int) {
	a := &s.ahead
	sink := a.sink
	for _, hash := range a.hashes[:n] {
		sink += s.table.segment(hash).bucket[home(hash)][0]
	}
	for i, hash := range a.hashes[:n] {
		a.refs[i] = s.table.likely(hash)
	}
	for i, ref := range a.refs[:n] {
		if ref != 0 {
			sink += s.records.touch(ref, a.sizes[i])
		}
	}
	a.sink = sink
}

// Warm is for who is about to Get the keys of many gets: they are faster then. Only gets are looked at.
func (s *Store) Warm(ops []Command) {
	a := &s.ahead
	for len(ops) > 0 {
		n := 0
		for len(ops) > 0 && n < aheadMost {
			if ops[0].Op == Get {
				a.hashes[n], a.sizes[n] = uint32(s.hash(ops[0].Key)), warmBytes
				n++
			}
			ops = ops[1:]
		}
		s.touchRecords(n)
	}
}

// touch reads a byte of each of the first lines of a record, of size bytes, if it is as long as it was.
func (r *records) touch(ref uint32, size int) (sink uint64) {
	block := r.blocks[ref/blockUnits]
	at := int(ref % blockUnits * unitBytes)
	for end := min(at+size, at+touchLines*cacheLine, blockBytes); at < end; at += cacheLine {
		sink += uint64(block[at])
	}
	return sink
}
