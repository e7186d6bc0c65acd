package sim

import (
	"math/rand/v2"
	"net/netip"

	"balsa/kv"
	"balsa/wire"
)

// reader asks gets and scans of any server, whoever leads, as raw requests:
// what a follower answers must be as new as what the leader would (S13, E1).
// It tells every server apart by the address that it asks.
type reader struct {
	*simulation
	random  *rand.Rand
	addr    netip.AddrPort
	who     int
	id, seq uint64
	packer  wire.Packer
	key     int
	scan    bool
	asked   *operation
	at      *server // asked
}

func (r *reader) begin() {
	r.addr, r.id = address(r.who, 0), r.random.Uint64()|1
	r.next()
}

func (r *reader) next() {
	r.after(between(r.random, 5*millisecond, 4*r.knobs.Think), r.ask)
}

func (r *reader) ask() {
	if r.checker.first == nil && !r.faults.over {
		r.next()
		return
	}
	if r.faults.over {
		return
	}
	r.seq++
	r.key, r.scan = r.random.IntN(r.knobs.Keys), chance(r.random, 0.3)
	r.at = r.servers[r.random.IntN(len(r.servers))]
	o := &operation{Client: r.id, Seq: r.seq | kv.ReadSeq, Who: r.who, Verb: get, Key: r.key, Call: r.stamp(), Floor: r.changes[r.key].index, Head: r.checker.head()}
	r.asked, r.simulation.asked[clientSeq{o.Client, o.Seq}] = o, o
	c := kv.Command{Op: kv.Get, Client: r.id, Seq: o.Seq, Key: []byte(keyName(r.key))}
	if r.scan {
		c.Op, c.Key = kv.Scan, []byte("key-")
	}
	p := &r.packer
	p.Reset()
	p.Limit = wire.MaxDatagram
	p.Header = wire.Header{Cluster: wire.ClusterTag(r.checker.first.c.Cluster), Src: wire.ClientNode, Dst: r.at.id, Incarnation: r.id, Boot: r.id, Packet: p.Header.Packet}
	request := wire.Request{Count: 1, Ops: kv.AppendCommand(nil, &c)}
	request.Encode(p.Frame(wire.KindRequest, request.Size()))
	packets := p.Flush(r.at.addr, nil)
	r.net.send(r.who, r.addr, packets)
	r.after(between(r.random, 20*millisecond, 4*r.knobs.Timeout), func() {
		if r.asked == o { // no answer: a read changes nothing
			r.asked = nil
			r.next()
		}
	})
}

func (r *reader) listens() (process, machine bool) { return true, true }

func (r *reader) refused(netip.AddrPort) {}

func (r *reader) receive(_ netip.AddrPort, b []byte) {
	_, frames, err := wire.Open(b)
	if err != nil {
		return
	}
	for kind, p, ok := frames.Next(); ok; kind, p, ok = frames.Next() {
		var f wire.Reply
		if kind != wire.KindReply || f.Decode(p) != nil {
			continue
		}
		for rest := f.Results; len(rest) > 0; {
			result, size, err := kv.DecodeResult(rest)
			if err != nil {
				r.violate("client", "a reply does not decode: %v", err)
				return
			}
			if r.asked != nil && result.Seq == r.asked.Seq && (result.Status == kv.OK || result.Status == kv.NotFound) {
				r.answered(&result)
			}
			rest = rest[size:]
		}
	}
}

// answered writes down what was read: a scan is a get of each key at once.
func (r *reader) answered(result *kv.Result) {
	o := r.asked
	r.asked = nil
	r.hits[AnyServer]++
	if r.at.node != nil && !r.at.node.Leading() {
		r.hits[FollowerRead]++
	}
	r.next()
	if !r.scan {
		o.Found, o.Got = result.Status == kv.OK, string(result.Value)
		if o.Found && result.Index < o.Floor {
			r.violate("S13", "%v serves an old state: %v, the key changed at %d before it was asked", r.at, o, o.Floor)
		}
		r.end(o)
		return
	}
	r.hits[ScanRead]++
	if result.More {
		return // the pairs of a part are no get of what is missing
	}
	values := map[string]string{}
	for rest := result.Value; len(rest) > 0; {
		key, value, after, ok := kv.NextPair(rest)
		if !ok {
			r.violate("client", "a scan's answer does not decode")
			return
		}
		values[string(key)] = string(value)
		rest = after
	}
	if result.Index < o.Head {
		r.violate("S13", "%v scans at %d, the ledger ended at %d when it was asked", r.at, result.Index, o.Head)
	}
	for key := range r.knobs.Keys {
		one := *o
		one.Key = key
		one.Got, one.Found = values[keyName(key)]
		r.end(&one)
	}
}

func (r *reader) end(o *operation) {
	o.Outcome, o.Return = applied, r.stamp()
	r.history = append(r.history, o)
	r.trace.add(17, uint64(r.now), o.Seq)
}
