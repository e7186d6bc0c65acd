package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"balsa/node/raft"
	"balsa/wire"
)

// outbound turns decisions into frames and gathers the frames of a turn into
// datagrams, one packer a destination. Packers are reused: what Out returned
// is valid until the next frame is asked for.
type outbound struct {
	n       *Node
	header  wire.Header
	sealer  *wire.Sealer   // nil without a secret
	open    []*destination // this turn's, in the order they were first written to
	where   destinations   // finds them
	free    []*destination
	kept    int  // bytes that free has, at most maxKept
	flushed bool // open holds datagrams that Out has handed over
	packets []wire.Packet
	raw     []wire.Packet // whole datagrams that no packer made
	scratch []byte        // entries of the AppendEntries being built
	seqs    []byte        // of a refusal being built
	pairs   []byte        // of a scan being answered

	peers      []peer // every server known, ascending by id, mostPeers at most
	placed     uint64 // servers that were ever placed
	listed     []byte // peers as servers tells them; nil: to be made
	voters     int    // of the newest configuration
	entryLimit int    // largest body of an entry that fits a datagram to every voter
	large      []large
	message    uint64 // id of the last fragmented message

	told  map[netip.AddrPort]int // largest datagram for clients whose path is not as their address suggests
	heard []clientPath           // told since datagrams were last begun
}

type destination struct {
	to     netip.AddrPort
	dst    uint16
	packer wire.Packer
	alone  bool // holds a datagram that nothing may be added to
	bulk   bool // holds fragments, which leave last
	held   int  // bytes of the packer, as it was put back
}

// maxKept bounds the memory of packers that are kept from turn to turn.
const maxKept = 32 << 20

// peer is where a server of the configuration or the pool is reached.
type peer struct {
	id     uint16
	addr   string
	text   []byte         // addr, as frames carry it
	to     netip.AddrPort // not valid while the name does not resolve
	tryAt  int64          // when its name is to be resolved again
	newest uint8          // key that it holds, as it says; 0: it has not spoken yet
	tries  uint64         // datagrams sealed for it without knowing that
	path   *wire.Path
	limit  int    // largest datagram there, as the path was when this turn's first was begun
	member bool   // of the newest configuration, or of the one that it replaces, or the one it is to become
	voter  bool   // the same
	pool   bool   // of the pool
	heard  bool   // only a server that said so told where it is
	placed uint64 // which one it was
}

// A cluster may use many ids over its life, and anybody may speak under any. mostPeers are more than a configuration
// can name (members, old voters and target, and this server); beyond it who was placed first is forgotten, members
// never. Of the servers that only said themselves where they are, mostHeard are known: who leads is one of them, for
// a server whose log does not name it yet.
const (
	mostPeers = 3*wire.MaxMembers + 64
	mostHeard = 8
)

// A name is resolved again, ns after it was last: an attempt asks whoever looks names up, and
// does not wait.
const (
	resolveSoon  = int64(20e6) // it is being looked up
	resolveAgain = int64(1e9)  // it was not found
	resolveOften = int64(10e9) // it was; its host may move
)

func (o *outbound) init(n *Node) {
	o.n = n
	o.header = wire.Header{Src: n.identity.ID, Incarnation: n.identity.Incarnation, Boot: n.boot}
	o.message = n.boot
	o.where.seed = n.boot
	for _, s := range n.identity.Pool {
		o.place(s.ID, s.Addr).pool = true
	}
	o.fitEntries()
}

// learn takes the addresses of a configuration: they win over the pool's.
func (o *outbound) learn(c *wire.Configuration) {
	o.voters, o.listed = 0, nil
	for i := range o.peers { // first of all: who is placed takes nobody's room that belongs
		p := &o.peers[i]
		named := func(m wire.Member) bool { return m.ID == p.id }
		p.member, p.voter = slices.ContainsFunc(c.Members, named) || slices.ContainsFunc(c.Target, named) || slices.Contains(c.Old, p.id), false
	}
	for i := range c.Members {
		if c.Members[i].Role == wire.MemberVoter {
			o.voters++
		}
		o.belongs(&c.Members[i])
	}
	for i := range c.Target {
		o.belongs(&c.Target[i])
	}
	for i := range o.peers {
		if slices.Contains(c.Old, o.peers[i].id) {
			o.peers[i].member, o.peers[i].voter = true, true
		}
	}
	o.fitEntries()
}

func (o *outbound) belongs(m *wire.Member) {
	if m.Addr != "" {
		o.place(m.ID, m.Addr).heard = false
	}
	for i := range o.peers {
		if p := &o.peers[i]; p.id == m.ID {
			p.member, p.voter = true, p.voter || m.Role == wire.MemberVoter
		}
	}
}

// learnAddresses takes those under which an operator named servers.
func (o *outbound) learnAddresses(named []wire.Server) {
	for _, s := range named {
		if s.Addr != "" {
			o.place(s.ID, s.Addr).heard = false
		}
	}
	o.fitEntries()
}

// expect takes the addresses under which an operator named servers that are to belong,
// and keeps those of the others that are.
func (o *outbound) expect(target []raft.Member, named []wire.Server) {
	wanted := func(id uint16) bool {
		return slices.ContainsFunc(target, func(m raft.Member) bool { return m.ID == id })
	}
	for i := range o.peers {
		o.peers[i].member = o.peers[i].member || wanted(o.peers[i].id)
	}
	o.learnAddresses(slices.DeleteFunc(named, func(s wire.Server) bool { return !wanted(s.ID) }))
}

// hear takes a server's own word of where it is.
func (o *outbound) hear(id uint16, addr string) {
	if o.addressOf(id) == nil {
		if heard := func(p *peer) bool { return p.heard }; o.count(heard) == mostHeard {
			o.forget(heard)
		}
		o.place(id, addr).heard = true
	} else {
		known := o.place(id, addr)
		known.heard = known.heard && !known.pool && !known.member
	}
	o.fitEntries()
}

// place notes where a server is. What it gives is good until the next is placed.
func (o *outbound) place(id uint16, addr string) *peer {
	find := func() (int, bool) {
		return slices.BinarySearchFunc(o.peers, id, func(p peer, id uint16) int { return int(p.id) - int(id) })
	}
	i, known := find()
	if !known {
		if len(o.peers) == mostPeers && !o.forget(func(p *peer) bool { return !p.pool }) {
			o.forget(func(*peer) bool { return true })
		}
		i, _ = find()
		o.placed++
		o.peers = slices.Insert(o.peers, i, peer{id: id, placed: o.placed})
		o.newPath(&o.peers[i])
	}
	p := &o.peers[i]
	if p.addr != addr {
		p.addr, p.text, o.listed = addr, []byte(addr), nil
		p.resolve(o.n, 0)
	}
	return p
}

func (o *outbound) count(which func(*peer) bool) (count int) {
	for i := range o.peers {
		if which(&o.peers[i]) {
			count++
		}
	}
	return count
}

// forget forgets the first placed of such servers, if any is neither a member nor this one.
func (o *outbound) forget(which func(*peer) bool) bool {
	first := -1
	for i := range o.peers {
		p := &o.peers[i]
		if which(p) && !p.member && p.id != o.n.identity.ID && (first < 0 || p.placed < o.peers[first].placed) {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	o.peers, o.listed = slices.Delete(o.peers, first, first+1), nil
	return true
}

func (p *peer) resolve(n *Node, now int64) {
	to, err := n.o.Resolve(p.addr)
	p.tryAt = now + resolveOften
	switch {
	case errors.Is(err, ErrResolving):
		p.tryAt = now + resolveSoon
	case err != nil:
		p.tryAt = now + resolveAgain
		n.logger.Warn("a server's address does not resolve; trying again", "server", p.id, "addr", p.addr, "err", err)
	case p.to != to:
		n.out.dropLarge(p.to) // nobody is there any more
		p.to = to
		n.out.newPath(p)
	}
}

// peerAt is the address of a server, not valid when it is unknown.
func (o *outbound) peerAt(now int64, id uint16) netip.AddrPort {
	for i := range o.peers {
		p := &o.peers[i]
		if p.id != id {
			continue
		}
		if now >= p.tryAt {
			p.resolve(o.n, now)
			o.fitEntries()
		}
		return p.to
	}
	return netip.AddrPort{}
}

// datagramLimit is the largest datagram for an address: what a server's path was
// found to carry, what a client told of its own; for others, big ones where no wire is, those that pass every path otherwise.
func (o *outbound) datagramLimit(to netip.AddrPort) int {
	for i := range o.peers {
		if p := &o.peers[i]; p.to == to {
			return p.limit
		}
	}
	if len(o.told) > 0 {
		if passes, ok := o.told[to]; ok {
			return passes
		}
	}
	if o.n.o.Datagram != 0 {
		return o.n.o.Datagram &^ 7
	}
	if to.Addr().IsLoopback() {
		return wire.MaxDatagram
	}
	return wire.SafeDatagram
}

// fitEntries sets the entry size to the smallest path of the voters, so
// that an AppendEntries with one entry is one datagram (SAFETY 16).
func (o *outbound) fitEntries() {
	o.entryLimit = wire.MaxEntryBody
	for i := range o.peers {
		if p := &o.peers[i]; p.voter && p.to.IsValid() && p.id != o.n.identity.ID {
			room := wire.MaxFrame(p.limit) - wire.AppendHeaderBytes - wire.EntryHeaderBytes
			o.entryLimit = min(o.entryLimit, room&^7)
		}
	}
}

// frame gives size bytes of a frame to that address to be filled in, nil when
// no datagram there can hold it: then it goes in fragments.
func (o *outbound) frame(to netip.AddrPort, dst uint16, kind wire.Kind, size int) []byte {
	return o.packer(to, dst).Frame(kind, size)
}

// packer is this turn's packer for a destination.
func (o *outbound) packer(to netip.AddrPort, dst uint16) *wire.Packer {
	return o.gather(to, dst, false)
}

// bulk is this turn's packer for the fragments to a destination.
func (o *outbound) bulk(to netip.AddrPort, dst uint16) *wire.Packer { return o.gather(to, dst, true) }

func (o *outbound) gather(to netip.AddrPort, dst uint16, bulk bool) *wire.Packer {
	if o.flushed {
		o.recycle()
	}
	if d := o.where.find(o.open, to, dst, bulk); d != nil {
		return &d.packer
	}
	d := o.destination(to, dst)
	d.bulk = bulk
	o.open = append(o.open, d)
	o.where.add(o.open)
	return &d.packer
}

// evenMost is the largest datagram of a path on which many leave for a server in a turn. On
// a larger one they are few, and filling them up would cost more than their leaving as one gains.
const evenMost = 9000

func (o *outbound) destination(to netip.AddrPort, dst uint16) *destination {
	var d *destination
	if last := len(o.free) - 1; last >= 0 {
		d, o.free[last] = o.free[last], nil
		o.free = o.free[:last]
		o.kept -= d.held
	} else {
		d = new(destination)
	}
	d.to, d.dst, d.alone, d.bulk = to, dst, false, false
	d.packer.Limit = o.datagramLimit(to)
	d.packer.Header = o.header
	d.packer.Sealer = o.sealer
	d.packer.Even = dst != wire.ClientNode && d.packer.Limit <= evenMost
	d.packer.Header.Dst, d.packer.Header.KeyEpoch = dst, o.epoch(to, dst)
	return d
}

// epoch says which key to seal with: the newest that the destination is known to hold.
func (o *outbound) epoch(to netip.AddrPort, dst uint16) uint8 {
	keys := o.n.admission.keys
	if keys == nil {
		return 0
	}
	if dst == wire.ClientNode {
		told, ok := o.n.admission.behind[to]
		if a := &o.n.admission; !ok && a.newest != 0 && to == a.from {
			told, ok = a.newest, true
		}
		if !ok {
			told = keys.Newest()
		}
		return keys.Choose(told, 0)
	}
	for i := range o.peers {
		if p := &o.peers[i]; p.id == dst {
			p.tries++
			return keys.Choose(p.newest, p.tries)
		}
	}
	return keys.Choose(0, o.header.Packet)
}

// noteNewest takes a server's word of its newest key.
func (o *outbound) noteNewest(id uint16, epoch uint8) {
	for i := range o.peers {
		if o.peers[i].id == id {
			o.peers[i].newest = epoch
		}
	}
}

func (o *outbound) recycle() {
	for i, d := range o.open {
		d.packer.Reset()
		if d.held = d.packer.Held(); o.kept+d.held <= maxKept {
			o.kept += d.held
			o.free = append(o.free, d)
		}
		o.open[i] = nil
	}
	clear(o.packets) // what is not kept must not be held by what was sent
	o.packets = o.packets[:0]
	o.open, o.flushed = o.open[:0], false
	o.where.forget()
	o.settlePaths()
}

// Out hands over what is to be sent now: what servers wait for first, so that no heartbeat or vote stands behind
// a large answer, then clients' answers, then fragments, those to servers before those to clients. Valid until
// the node is called again.
func (n *Node) Out() []wire.Packet {
	o := &n.out
	if o.flushed || n.chaos.cut { // cut off: what was to be said is lost
		o.recycle()
	}
	o.packets = append(o.packets[:0], o.raw...)
	o.raw = o.raw[:0]
	for _, bulk := range [...]bool{false, true} {
		o.flush(bulk, false)
		o.flush(bulk, true)
	}
	o.flushed = true
	return o.packets
}

// flush finishes the datagrams of one kind, in the order they were begun.
func (o *outbound) flush(bulk, clients bool) {
	for _, d := range o.open {
		if d.bulk != bulk || (d.dst == wire.ClientNode) != clients {
			continue
		}
		d.packer.Header.Packet = o.header.Packet
		o.packets = d.packer.Flush(d.to, o.packets)
		o.header.Packet = d.packer.Header.Packet
	}
}

// send encodes one message of the core for its server.
func (n *Node) send(now int64, m *raft.Message) {
	if n.o.Observe != nil {
		n.o.Observe.Sent(m)
	}
	to := n.out.peerAt(now, m.To)
	if !to.IsValid() {
		return
	}
	switch m.Kind {
	case raft.Append:
		n.pace.noteSent(now, m.Seq, m.First <= m.Last)
		n.sendAppend(now, to, m)
	case raft.Ack:
		f := wire.Ack{Term: m.Term, EchoBoot: m.EchoBoot, EchoRound: m.EchoRound, EchoSeq: m.EchoSeq, Match: m.Match,
			Last: m.LastIndex, RejectPrev: m.RejectPrev, Hint: m.Hint, HintTerm: m.HintTerm, EchoTimeout: m.EchoTimeout, Reject: m.Reject,
			Held: m.Held, Disk: m.Disk, Full: m.Full}
		f.Encode(n.out.must(to, m.To, wire.KindAck, f.Size()))
	case raft.Vote:
		f := wire.Vote{Pre: m.Pre, Transfer: m.Transfer, Term: m.Term, LastIndex: m.LastIndex, LastTerm: m.LastTerm, Probe: m.Probe, AskBoot: n.boot}
		f.Encode(n.out.must(to, m.To, wire.KindVote, f.Size()))
	case raft.VoteReply:
		if !m.Granted {
			n.voteRefused(m)
		}
		f := wire.VoteReply{Pre: m.Pre, Granted: m.Granted, Term: m.Term, EchoBoot: m.EchoBoot, Reason: m.Reason, LastIndex: m.LastIndex, LastTerm: m.LastTerm}
		f.Encode(n.out.must(to, m.To, wire.KindVoteReply, f.Size()))
	case raft.TimeoutNow:
		if n.breaks(BreakHandOver) {
			return
		}
		n.logger.Info("handing leadership over", "to", m.To, "term", m.Term)
		f := wire.TimeoutNow{Term: m.Term, LastIndex: m.LastIndex, AskBoot: n.boot}
		f.Encode(n.out.must(to, m.To, wire.KindTimeoutNow, f.Size()))
	default:
		n.sendQuestion(to, m)
	}
}

// sendQuestion encodes what one server asks another beside the log.
func (n *Node) sendQuestion(to netip.AddrPort, m *raft.Message) {
	switch m.Kind {
	case raft.Probe:
		f := wire.Probe{AskBoot: n.boot, Nonce: m.Seq, Term: m.Term}
		f.Encode(n.out.must(to, m.To, wire.KindProbe, f.Size()))
	case raft.ProbeReply:
		f := wire.ProbeReply{EchoBoot: m.EchoBoot, Nonce: m.EchoSeq, Term: m.Term, Leads: m.Leads}
		f.Encode(n.out.must(to, m.To, wire.KindProbeReply, f.Size()))
	case raft.ReadAsk:
		f := wire.ReadAsk{AskBoot: n.boot, Nonce: m.Seq, Term: m.Term}
		f.Encode(n.out.must(to, m.To, wire.KindReadAsk, f.Size()))
	case raft.ReadAnswer:
		f := wire.ReadAnswer{EchoBoot: m.EchoBoot, Nonce: m.EchoSeq, Term: m.Term, Index: m.Index}
		f.Encode(n.out.must(to, m.To, wire.KindReadAnswer, f.Size()))
	default:
		panic(fmt.Sprintf("outbound: message kind %d", m.Kind))
	}
}

// sendAppend sends entries First..Last, as many to a datagram as fit, each
// datagram with the index and term before its own first entry.
func (n *Node) sendAppend(now int64, to netip.AddrPort, m *raft.Message) {
	f := wire.Append{Term: m.Term, PrevIndex: m.PrevIndex, PrevTerm: m.PrevTerm, Commit: m.Commit,
		Round: m.Round, Seq: m.Seq, Timeout: m.Timeout, Leases: m.Leases}
	if m.First > m.Last {
		f.EncodeHeader(n.out.must(to, m.To, wire.KindAppend, wire.AppendHeaderBytes))
		return
	}
	room := wire.MaxFrame(n.out.datagramLimit(to)) - wire.AppendHeaderBytes
	for i := m.First; i <= m.Last; {
		e, err := n.entryAt(i)
		if err != nil {
			n.sendFailed(i, err)
			return
		}
		n.out.scratch = n.out.scratch[:0]
		f.PrevIndex, f.Count = i-1, 0
		lastTerm := uint64(0)
		for {
			n.out.addEntry(&e)
			f.Count++
			lastTerm = e.Term
			if i++; i > m.Last {
				break
			}
			if e, err = n.entryAt(i); err != nil {
				n.sendFailed(i, err)
				return
			}
			if len(n.out.scratch)+e.Size() > room {
				break
			}
		}
		n.out.appendFrame(now, to, m.To, &f)
		f.PrevTerm = lastTerm
	}
}

// addEntry encodes one more entry of the AppendEntries being built.
func (o *outbound) addEntry(e *wire.Entry) {
	at := len(o.scratch)
	o.scratch = slices.Grow(o.scratch, e.Size())[:at+e.Size()]
	e.Encode(o.scratch[at:])
}

// sendFailed: an entry of ours cannot be read. A leader that cannot read its
// own log must not go on leading with it.
func (n *Node) sendFailed(index uint64, err error) {
	n.fail(fmt.Errorf("read entry %d to send it: %w", index, err))
}

func (o *outbound) appendFrame(now int64, to netip.AddrPort, dst uint16, f *wire.Append) {
	size := wire.AppendHeaderBytes + len(o.scratch)
	p := o.frame(to, dst, wire.KindAppend, size)
	if p == nil {
		body := make([]byte, size)
		f.EncodeHeader(body)
		copy(body[wire.AppendHeaderBytes:], o.scratch)
		o.sendLarge(now, to, dst, wire.KindAppend, body)
		return
	}
	f.EncodeHeader(p)
	copy(p[wire.AppendHeaderBytes:], o.scratch)
}
