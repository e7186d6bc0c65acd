package kv

// A command's slot in the table, its record and its session are each in another cache line that is likely in no cache,
// and where the next one is, the one before says. So the commands of an entry are gone through together, some ahead
// of their execution, a step for all of them at a time: the processor fetches the lines of many at once. This warms
// caches and decides nothing: what is read here is looked up again, except a session, which nothing between here and
// there can end.

const (
	aheadMost  = 32
	cacheLine  = 64
	touchLines = 6 // of a record; further on the processor fetches ahead by itself
)

// foreseen is a command about to be executed.
type foreseen struct {
	Command
	hash    uint32
	session *session // nil: not there, or not yet
}

type ahead struct {
	group [aheadMost]foreseen
	refs  [aheadMost]uint32
	sink  uint64 // made of what was read, so that it is read
}

// foresee decodes commands into group, as many as it takes and as do decode: n, in size bytes.
func (s *Store) foresee(group []foreseen, body []byte) (n, size int) {
	for n < len(group) {
		f := &group[n]
		k, err := f.Decode(body[size:])
		if err != nil {
			break
		}
		f.hash = s.hash(f.Key)
		size += k
		n++
	}
	if n == 1 {
		return n, size // there is nothing to overlap
	}
	group = group[:n]
	var sink uint64
	for i := range group {
		sink += s.table.segment(group[i].hash).bucket[home(group[i].hash)][0]
	}
	for i := range group {
		f := &group[i]
		if i > 0 && group[i-1].Client == f.Client {
			f.session = group[i-1].session
		} else {
			f.session = s.sessions.byClient[f.Client]
		}
	}
	for i := range group {
		s.ahead.refs[i] = s.table.likely(group[i].hash)
	}
	for i := range group {
		if ref := s.ahead.refs[i]; ref != 0 {
			sink += s.records.touch(ref, recordBytes+len(group[i].Key)+len(group[i].Value))
		}
	}
	for i := range group {
		if p := group[i].session; p != nil {
			sink += p.ring[group[i].Seq&uint64(len(p.ring)-1)].seq
		}
	}
	s.ahead.sink = sink
	return n, size
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
