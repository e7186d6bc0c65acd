package node

import (
	"encoding/binary"
	"net/netip"

	"balsa/kv"
	"balsa/wire"
)

// clients is whom this server may have to answer: where each client was last
// heard and the results that leave for it this turn, coalesced. Nothing here
// is replicated; a client that is forgotten asks again and gets its session's
// cached result.
type clients struct {
	byID   map[uint64]*client
	near   map[netip.Addr]int // how many of them are at an address
	oldest *client            // ends of a list by last use
	newest *client
	dirty  []*client // have results to send this turn, in order

	spare      [][]byte // for the results of those that are answered in a turn, lent to them for it
	spareBytes int      // of them, at most maxSpare
}

type client struct {
	id           uint64
	addr         netip.AddrPort
	heard        int64
	results      []byte // lent while there are some: nothing is kept for every client
	count        int
	most         int // bytes of results that a datagram takes, as it was when the first of them came
	replay       replay
	older, newer *client
}

// Bounds of the clients that are known. A client has an id for each session that it began, and
// may name any: those of one address leave a quarter of the room to others.
const (
	maxClients = 1 << 16
	maxNear    = maxClients / 4 * 3
	maxSpare   = 4 << 20 // bytes of buffers for results that are kept from turn to turn
)

func (c *clients) init() {
	c.byID, c.near = make(map[uint64]*client), make(map[netip.Addr]int)
}

func (c *clients) find(id uint64) *client { return c.byID[id] }

// touch notes that a client was heard at addr. Where there are too many it forgets the one that was
// silent longest, once none of the datagrams that it sent can be taken any more: with it goes the
// memory of which were, and one that the network repeats would be refused though it was taken
// before (SAFETY 18). If that one was heard lately the newcomer is not taken: nil.
func (c *clients) touch(now int64, id uint64, addr netip.AddrPort) *client {
	k := c.byID[id]
	if k == nil {
		if c.near[addr.Addr()] >= maxNear || len(c.byID) >= maxClients {
			old := c.oldest
			if now-old.heard < wire.LaneIdle || old.count > 0 {
				return nil
			}
			c.unlink(old)
			delete(c.byID, old.id)
			c.leave(old)
		}
		k = &client{id: id}
		c.byID[id] = k
	} else if k == c.newest {
		c.settle(now, k, addr)
		return k
	} else {
		c.unlink(k)
	}
	c.settle(now, k, addr)
	k.older, k.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = k
	} else {
		c.oldest = k
	}
	c.newest = k
	return k
}

// settle notes when and where a client was heard; one that is new is nowhere yet.
func (c *clients) settle(now int64, k *client, addr netip.AddrPort) {
	if k.addr.Addr() != addr.Addr() {
		c.leave(k)
		c.near[addr.Addr()]++
	}
	k.addr, k.heard = addr, now
}

// leave takes a client from where it was heard last.
func (c *clients) leave(k *client) {
	if !k.addr.IsValid() {
		return
	}
	if at := k.addr.Addr(); c.near[at] > 1 {
		c.near[at]--
	} else {
		delete(c.near, at)
	}
}

func (c *clients) unlink(k *client) {
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		c.oldest = k.newer
	}
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		c.newest = k.older
	}
	k.older, k.newer = nil, nil
}

// reply queues one result for a client; results of a turn share datagrams. It gives the bytes that were copied for it.
func (n *Node) reply(c *client, r *kv.Result) int {
	size := kv.ResultSize(r)
	if c.count == 0 {
		c.most = wire.MaxFrame(n.out.datagramLimit(c.addr)) - wire.RequestHeaderBytes
	}
	if size > c.most {
		return n.replyLarge(c, r, size)
	}
	if c.count == 0 {
		n.clients.dirty = append(n.clients.dirty, c)
		n.clients.lend(c)
	} else if len(c.results)+size > c.most {
		n.flushReply(c)
	}
	c.results = kv.AppendResult(c.results, r)
	c.count++
	return size
}

// replyLarge sends a result that no datagram holds, in fragments. Where there is no room for it, it is not even copied:
// the client asks again.
func (n *Node) replyLarge(c *client, r *kv.Result, size int) int {
	size += wire.RequestHeaderBytes
	if !n.out.largeRoom(n.now, c.addr, wire.ClientNode, size) {
		n.Counters.DroppedLarge++
		return 0
	}
	body := make([]byte, wire.RequestHeaderBytes, size)
	f := wire.Reply{Count: 1}
	f.EncodeHeader(body)
	n.out.sendLarge(n.now, c.addr, wire.ClientNode, wire.KindReply, kv.AppendResult(body, r))
	return size
}

func (n *Node) flushReplies() {
	for _, c := range n.clients.dirty {
		n.flushReply(c)
		n.clients.giveBack(c)
	}
	n.clients.dirty = n.clients.dirty[:0]
}

func (n *Node) flushReply(c *client) {
	if c.count == 0 {
		return
	}
	f := wire.Reply{Count: c.count, Results: c.results}
	n.respond(n.now, c.addr, wire.ClientNode, wire.KindReply, f.Size(), f.Encode)
	c.results, c.count = c.results[:0], 0
}

// lend gives a client memory for its results until the turn ends.
func (c *clients) lend(k *client) {
	if last := len(c.spare) - 1; k.results == nil && last >= 0 {
		k.results, c.spare[last] = c.spare[last], nil
		c.spare = c.spare[:last]
		c.spareBytes -= cap(k.results)
	}
}

func (c *clients) giveBack(k *client) {
	if size := cap(k.results); size > 0 && c.spareBytes+size <= maxSpare {
		c.spare = append(c.spare, k.results[:0])
		c.spareBytes += size
	}
	k.results = nil
}

// refuseAll tells a client that this server has no part in its cluster, naming each
// operation of its request as definitely not taken, and who leads.
func (n *Node) refuseAll(h *wire.Header, from netip.AddrPort, f *wire.Request) {
	seqs := n.out.seqs[:0]
	rest := f.Ops
	for range f.Count {
		op, size, err := kv.DecodeCommand(rest)
		if err != nil {
			n.Counters.DroppedMalformed++
			return
		}
		seqs = binary.LittleEndian.AppendUint64(seqs, op.Seq)
		rest = rest[size:]
	}
	n.out.seqs = seqs
	n.notLeader(from, seqs)
}

func (n *Node) notLeader(to netip.AddrPort, seqs []byte) {
	r := wire.NotLeader{}
	if n.core != nil {
		r.Term, r.Leader = n.core.Term(), n.core.Leader()
		r.Addr = n.out.addressOf(r.Leader)
	}
	most := (wire.MaxFrame(n.out.datagramLimit(to)) - r.Size() - 8) &^ 7
	for first := true; first || len(seqs) > 0; first = false {
		r.Seqs = seqs[:min(len(seqs), most)]
		r.Count = len(r.Seqs) / 8
		seqs = seqs[len(r.Seqs):]
		r.Encode(n.out.must(to, wire.ClientNode, wire.KindNotLeader, r.Size()))
	}
}

// addressOf is where the pool or the configuration says a server is; not to be changed.
func (o *outbound) addressOf(id uint16) []byte {
	for i := range o.peers {
		if o.peers[i].id == id {
			return o.peers[i].text
		}
	}
	return nil
}

// refuseBusy tells a client that one operation was definitely not taken.
func (n *Node) refuseBusy(id, seq uint64) {
	n.Counters.RefusedBusy++
	if c := n.clients.find(id); c != nil {
		n.reply(c, &kv.Result{Status: kv.Busy, Client: id, Seq: seq})
	}
}

// refuseMoved tells a client that one operation was definitely not taken here
// and who leads now.
func (n *Node) refuseMoved(id, seq uint64) {
	if c := n.clients.find(id); c != nil {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], seq)
		n.notLeader(c.addr, b[:])
	}
}

// hello answers a client that looks for the leader.
func (n *Node) hello(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Hello
	if f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	room := noLimit
	if n.admission.verdict == wire.Unproven {
		room = n.admission.room
	} else if !n.Leading() {
		n.askers.add(asker{at: now, to: from, dst: h.Src, nonce: f.Nonce})
	}
	size := n.answerHello(now, from, h.Src, f.Nonce, room)
	if n.admission.owes = size == 0; size > 0 {
		n.spend(size)
	}
}

// answerHello tells a client what it needs to begin, in no more than so many bytes: to an
// address that is not proven as much as it sent. It gives the payload's size, 0 if
// there was too little room.
func (n *Node) answerHello(now int64, to netip.AddrPort, dst uint16, nonce uint64, room int) int {
	r := wire.HelloReply{Nonce: nonce, Blank: n.core == nil, Servers: n.out.servers(), Token: n.admission.tokens.Give(now, to)}
	if n.core != nil {
		r.Term, r.Leader = n.core.Term(), n.core.Leader()
		r.LeaderAddr = n.out.addressOf(r.Leader)
		r.Cluster, r.Removed = n.founding.cluster, n.left != 0
		if n.Leading() { // log time moves by the leader's clock; no other server knows it
			r.LogTime = n.logTime(now)
		}
	}
	if wire.FrameHeaderBytes+r.Size()+7 > room || r.Size() > wire.MaxFrame(n.out.datagramLimit(to)) {
		r.Servers = nil // it asks again, with the token
	}
	if wire.FrameHeaderBytes+r.Size()+7 > room {
		return 0
	}
	if b := n.out.frame(to, dst, wire.KindHelloReply, r.Size()); b != nil {
		r.Encode(b)
		return r.Size()
	}
	return 0
}

// servers is every server this one knows, encoded, until another is placed or forgotten. Where
// they are more than a list takes, members go first.
func (o *outbound) servers() []byte {
	if o.listed == nil {
		others := wire.MaxServers
		for i := range o.peers {
			if o.peers[i].member {
				others--
			}
		}
		list := make([]wire.Server, 0, min(len(o.peers), wire.MaxServers))
		for i := range o.peers {
			if p := &o.peers[i]; len(list) < wire.MaxServers && (p.member || others > 0) {
				list = append(list, wire.Server{ID: p.id, Addr: p.addr})
				if !p.member {
					others--
				}
			}
		}
		o.listed = wire.AppendServers(nil, list)
	}
	return o.listed
}

// status answers what `balsa status` asks.
func (n *Node) status(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Status
	if f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	r := wire.StatusReply{Nonce: f.Nonce, ID: n.identity.ID, Servers: n.out.servers()}
	if n.core != nil {
		r.Role, r.Leader, r.Term = n.statusRole(), n.core.Leader(), n.core.Term()
		r.Last, r.Commit, r.Applied = n.tail.last, n.commit, n.applied
		r.Configuration = n.configurations.current()
	}
	n.respond(now, from, h.Src, wire.KindStatusReply, r.Size(), r.Encode)
}

// respond answers a client in a frame or, on a path too small for it, in fragments.
func (n *Node) respond(now int64, to netip.AddrPort, dst uint16, kind wire.Kind, size int, encode func([]byte)) {
	if b := n.out.frame(to, dst, kind, size); b != nil {
		encode(b)
		return
	}
	body := make([]byte, size)
	encode(body)
	n.out.sendLarge(now, to, dst, kind, body)
}
