package node

import (
	"fmt"

	"balsa/kv"
	"balsa/wire"
)

// A turn applies at most so much, so that heartbeats are never late behind it.
const (
	applyEntries = 256
	applyBytes   = 4 << 20
)

// apply executes committed entries in order. Every server computes the same
// results; the leader answers, and one that just stopped leading still answers
// for the entries that it proposed.
func (n *Node) apply(now int64) {
	bytes := 0
	for count := 0; n.applied < n.commit && count < applyEntries && bytes < applyBytes; count++ {
		e, err := n.entryAt(n.applied + 1)
		if err != nil {
			n.fail(fmt.Errorf("apply entry %d: %w", n.applied+1, err))
			return
		}
		bytes += len(e.Body)
		if n.o.Observe != nil {
			n.o.Observe.Committed(e.Index, e.Term, e.Sum)
		}
		results := n.store.Apply(&kv.Entry{Index: e.Index, Term: e.Term, Kind: e.Kind, Time: e.Time, Count: e.Count, Body: e.Body})
		n.applied = e.Index
		bytes += n.store.Unpacked()
		for i := range results {
			r := &results[i]
			if n.o.Observe != nil {
				n.o.Observe.Applied(e.Index, r.Client, r.Seq, *r)
			}
			if n.answers(e.Index) {
				if c := n.clients.find(r.Client); c != nil {
					n.reply(c, r)
				}
			}
		}
	}
	n.tail.release(min(n.applied, n.persist.written))
}

// answers says whether the clients of an entry are ours to answer.
func (n *Node) answers(index uint64) bool { return n.ledTerm != 0 || index <= n.ledLast }

// entryAt is the entry at index with its body, from memory or from the log.
// The body is valid until the tail changes; one from the log is its own.
func (n *Node) entryAt(index uint64) (wire.Entry, error) {
	if e := n.tail.get(index); e != nil {
		return *e, nil
	}
	w, _, err := n.log.Read(index, nil)
	if err != nil {
		return wire.Entry{}, err
	}
	return wire.Entry{Index: w.Index, Term: w.Term, Kind: w.Kind, Codec: w.Codec, Group: w.Group,
		Count: w.Count, RawBytes: w.RawBytes, Time: w.Time, Sum: w.Sum, Body: w.Body}, nil
}
