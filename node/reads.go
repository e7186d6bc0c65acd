package node

import (
	"encoding/binary"

	"balsa/kv"
)

// reads are the linearizable reads under way: those of this turn, then groups
// that share one ReadIndex round each, oldest first (thesis 6.4). A read is
// served from the store once the round proved that we still led after the read
// arrived, and the store has applied what was committed then.
type reads struct {
	waiting group   // arrived this turn, no round yet
	groups  []group // rounds under way, by ticket
	spare   []group
	bytes   int

	ops    [readsAtOnce]kv.Command // being visited; here so that they are not made anew for each group
	askers [readsAtOnce]uint64     // of ops: client ids
	ends   [readsAtOnce]int        // of ops: where in the group the next begins
}

// readsAtOnce is how many reads the store is told of before they are served.
const readsAtOnce = 32

type group struct {
	ticket uint64
	index  uint64 // serve when applied reaches it; valid once ready
	ready  bool
	ops    []byte // client id and encoded command, one after another
	at     int    // those before it are answered
}

// answerBytes is how much a turn copies to answer reads, the last one not counted: what is more waits for the next turn, so
// that no heartbeat is late behind it. The store moves on meanwhile, which a read may see.
const answerBytes = 256 << 10

const maxReadBytes = 16 << 20 // waiting, beyond it reads are refused as busy

// add takes one read, copied.
func (r *reads) add(client uint64, encoded []byte) bool {
	if r.bytes+8+len(encoded) > maxReadBytes {
		return false
	}
	r.bytes += 8 + len(encoded)
	r.waiting.ops = binary.LittleEndian.AppendUint64(r.waiting.ops, client)
	r.waiting.ops = append(r.waiting.ops, encoded...)
	return true
}

// ready says that a round proved its group may be served at index.
func (r *reads) ready(ticket, index uint64) {
	for i := range r.groups {
		if r.groups[i].ticket == ticket {
			r.groups[i].index, r.groups[i].ready = index, true
			return
		}
	}
}

// startReads asks the core for one round for all reads of this turn.
func (n *Node) startReads(now int64) {
	r := &n.reads
	if len(r.waiting.ops) == 0 {
		return
	}
	ticket, err := n.core.Read(now)
	if err != nil {
		n.refuseReads()
		return
	}
	g := r.waiting
	g.ticket, g.ready, g.at = ticket, false, 0
	r.groups = append(r.groups, g)
	r.waiting = group{}
	if last := len(r.spare) - 1; last >= 0 {
		r.waiting.ops, r.spare = r.spare[last].ops[:0], r.spare[:last]
	}
	n.absorb(now)
}

// serveReads answers the groups whose round is done and whose index is applied, in order, as much of them as a turn may.
func (n *Node) serveReads() {
	r := &n.reads
	done, left := 0, answerBytes
	for left > 0 && r.servable(done, n.applied) {
		g := &r.groups[done]
		if left -= n.eachRead(g, left, n.serveRead); g.at < len(g.ops) {
			break
		}
		r.bytes -= len(g.ops)
		r.spare = append(r.spare, *g)
		done++
	}
	if done > 0 {
		r.groups = append(r.groups[:0], r.groups[done:]...)
	}
}

// servable says whether group i may be served now.
func (r *reads) servable(i int, applied uint64) bool {
	return i < len(r.groups) && r.groups[i].ready && r.groups[i].index <= applied
}

// refuseReads: no longer the leader, so no round will be proven here. A read
// changes nothing, so the client simply asks the next leader.
func (n *Node) refuseReads() {
	r := &n.reads
	for i := range r.groups {
		n.eachRead(&r.groups[i], noLimit, n.refuseRead)
		r.spare = append(r.spare, r.groups[i])
	}
	r.groups = r.groups[:0]
	n.eachRead(&r.waiting, noLimit, n.refuseRead)
	r.waiting.ops, r.waiting.at = r.waiting.ops[:0], 0
	r.bytes = 0
}

// eachRead visits what is not answered yet of a group, until that has copied so many bytes, and gives how many it were.
func (n *Node) eachRead(g *group, most int, visit func(c *client, op *kv.Command) int) (copied int) {
	r := &n.reads
	for g.at < len(g.ops) && copied < most {
		count := 0
		for at := g.at; count < len(r.ops) && at < len(g.ops); count++ {
			r.askers[count] = binary.LittleEndian.Uint64(g.ops[at:])
			size, err := r.ops[count].Decode(g.ops[at+8:])
			if err != nil {
				panic("reads: an operation that was checked on arrival does not decode: " + err.Error())
			}
			at += 8 + size
			r.ends[count] = at
		}
		if count > 1 && g.ready {
			n.store.Warm(r.ops[:count])
		}
		for i := 0; i < count && copied < most; i++ {
			g.at = r.ends[i]
			if c := n.clients.find(r.askers[i]); c != nil {
				copied += visit(c, &r.ops[i])
			}
		}
	}
	return copied
}

func (n *Node) refuseRead(c *client, op *kv.Command) int {
	n.refuseMoved(c.id, op.Seq)
	return 0
}

func (n *Node) serveRead(c *client, op *kv.Command) int {
	if n.o.Observe != nil {
		n.o.Observe.Read(n.applied, c.id, op.Seq)
	}
	if op.Op == kv.Get {
		r := kv.Result{Status: kv.NotFound, Client: c.id, Seq: op.Seq}
		if value, index, term, ok := n.store.Get(op.Key); ok {
			r.Status, r.Value, r.Index, r.Term = kv.OK, value, index, term
		}
		return n.reply(c, &r)
	}
	return n.serveScan(c, op)
}

// scanBytes bounds one answer to a scan; the client asks for the rest.
const scanBytes = 256 << 10

// serveScan answers with pairs, each a key length 4, value length 4, key and
// value; More says that the client should ask again from past the last key.
func (n *Node) serveScan(c *client, op *kv.Command) int {
	pairs := n.out.pairs[:0]
	more := n.store.Scan(op.Key, op.Value, op.Old, int(op.Limit), scanBytes, func(key, value []byte) bool {
		pairs = kv.AppendPair(pairs, key, value)
		return true
	})
	n.out.pairs = pairs
	index, term := n.store.Applied()
	n.reply(c, &kv.Result{Status: kv.OK, More: more, Client: c.id, Seq: op.Seq, Index: index, Term: term, Value: pairs})
	return len(pairs) + kv.ResultHeaderBytes // also if there was no room to keep them: they were gathered
}
