package node

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wal"
	"balsa/wire"
)

// Deliver takes one datagram, borrowed until it returns. Whatever it holds,
// nothing panics: what does not fit is counted and dropped.
//
// Peers are known by the header, never by the source address; clients and
// strangers are answered at the address they sent from.
func (n *Node) Deliver(now int64, from netip.AddrPort, datagram []byte) {
	if n.err != nil {
		return
	}
	n.woke(now)
	if n.chaos.cut && !n.endCut(now) {
		n.deliverCut(now, from, datagram)
		return
	}
	h, frames, ok := n.admit(now, from, datagram)
	if !ok {
		return
	}
	foreign := h.Cluster != n.tag && h.Cluster != 0 && n.tag != 0
	if foreign {
		n.tellForeign(&h, from)
	}
	n.judged = false
	for {
		kind, payload, ok := frames.Next()
		if !ok {
			break
		}
		if foreign && kind != wire.KindFoundAsk && kind != wire.KindFoundAnswer {
			n.Counters.DroppedCluster++
			continue
		}
		if !n.may(&h, kind) {
			continue
		}
		if (kind == wire.KindRequest || kind == wire.KindFragment) && !n.asked(now, &h, from) {
			break
		}
		n.frame(now, &h, from, kind, payload)
	}
	if frames.Err() != nil {
		n.Counters.DroppedMalformed++
	}
	n.settle(now)
}

// answerMismatch tells whoever can't be read here why: it speaks another version, or
// seals otherwise.
func (n *Node) answerMismatch(from netip.AddrPort, question []byte, reason uint8) {
	if len(n.out.raw) >= maxMismatches {
		return
	}
	if answer := wire.AppendRefusal(nil, question, reason); len(answer) > 0 {
		n.out.raw = append(n.out.raw, wire.Packet{To: from, Bytes: answer})
	}
}

// tellForeign says once that a server we expect belongs to another cluster: its
// data directory, or ours, was made for another one.
func (n *Node) tellForeign(h *wire.Header, from netip.AddrPort) {
	if h.Src == wire.ClientNode || slices.Contains(n.foreign, h.Src) || n.out.addressOf(h.Src) == nil {
		return
	}
	n.foreign = append(n.foreign, h.Src)
	n.logger.Error("a server of our pool belongs to another cluster: its data directory or this one was made for another",
		"server", h.Src, "addr", from, "got_cluster_tag", h.Cluster, "want_cluster_tag", n.tag)
}

// maxMismatches bounds the answers a turn gives to strangers.
const maxMismatches = 16

func (n *Node) frame(now int64, h *wire.Header, from netip.AddrPort, kind wire.Kind, p []byte) {
	switch kind {
	case wire.KindAppend, wire.KindAck, wire.KindVote, wire.KindVoteReply, wire.KindTimeoutNow,
		wire.KindProbe, wire.KindProbeReply, wire.KindReadAsk, wire.KindReadAnswer:
		n.raftFrame(now, h, from, kind, p)
	case wire.KindFoundAsk, wire.KindFoundAnswer, wire.KindFoundList:
		n.foundFrame(now, h, from, kind, p)
	case wire.KindJoin:
		n.join(h, p)
	case wire.KindAddress:
		n.address(h, p)
	case wire.KindMember:
		n.memberChange(now, h, from, p)
	case wire.KindHello:
		n.hello(now, h, from, p)
	case wire.KindRequest:
		n.request(now, h, from, p)
	case wire.KindStatus:
		n.status(now, h, from, p)
	case wire.KindChaos:
		n.chaosFrame(now, h, from, p)
	case wire.KindFragment:
		n.fragment(now, h, from, p)
	case wire.KindFragmentStatus:
		n.out.fragmentStatus(now, h, from, p)
	case wire.KindPad:
	case wire.KindPathAsk:
		n.pathAsk(h, from, p)
	case wire.KindPathProbe:
		n.pathProbe(now, h, p)
	case wire.KindPathAnswer:
		n.pathAnswer(now, h, p)
	default:
		n.Counters.DroppedMalformed++
	}
}

// raftFrame turns a frame into the core's message and steps it. Entries stay
// views of the datagram until the core has said which of them are kept.
func (n *Node) raftFrame(now int64, h *wire.Header, from netip.AddrPort, kind wire.Kind, p []byte) {
	if n.core == nil {
		n.Counters.DroppedBlank++
		n.founding.claimed = n.founding.claimed || h.Cluster != 0 && h.Dst == n.identity.ID
		n.answerBlank(now, h, from)
		return
	}
	if h.Cluster != n.tag {
		n.Counters.DroppedCluster++
		return
	}
	if h.Src == n.identity.ID {
		n.ownName(now, h, from, kind, p)
	} else {
		n.raftMessage(now, h, from, kind, p)
	}
	// Also of a frame that was refused: our own next entry must not be taken for one of its.
	n.entries, n.views = n.entries[:0], n.views[:0]
}

func (n *Node) raftMessage(now int64, h *wire.Header, from netip.AddrPort, kind wire.Kind, p []byte) {
	m := raft.Message{From: h.Src, To: n.identity.ID, FromIncarnation: h.Incarnation, FromBoot: h.Boot}
	if !n.decodeRaft(&m, kind, p) {
		n.Counters.DroppedMalformed++
		return
	}
	if !n.known(now, h, from) {
		n.Counters.DroppedIncarnation++
		return
	}
	if kind == wire.KindProbeReply && n.alive(h, p) {
		return
	}
	n.heardMember(h.Src)
	if m.Kind == raft.Probe && m.Seq&twinNonce != 0 {
		n.doubted(now, from)
	}
	if m.Kind == raft.Ack && n.Leading() {
		n.pace.noteAck(now, m.From, m.EchoSeq)
	}
	if m.Kind == raft.Vote {
		n.votes.note(&m)
		n.breakVote(&m)
	}
	n.core.Step(now, &m)
	n.absorb(now)
	if m.Reject {
		n.tellForgetful()
	}
	if m.Kind == raft.Append && n.core.Leader() == h.Src {
		n.takeTimeout(m.Timeout)
	}
}

func (n *Node) decodeRaft(m *raft.Message, kind wire.Kind, p []byte) bool {
	switch kind {
	case wire.KindAppend:
		return n.decodeAppend(m, p)
	case wire.KindAck:
		var f wire.Ack
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.Match, m.LastIndex = raft.Ack, f.Term, f.Match, f.Last
		m.EchoBoot, m.EchoRound, m.EchoSeq, m.EchoTimeout = f.EchoBoot, f.EchoRound, f.EchoSeq, f.EchoTimeout
		m.Reject, m.RejectPrev, m.Hint, m.HintTerm = f.Reject, f.RejectPrev, f.Hint, f.HintTerm
		m.Held, m.Disk, m.Full = f.Held, f.Disk, f.Full
	case wire.KindVote:
		var f wire.Vote
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Pre, m.Transfer, m.Term, m.Probe = raft.Vote, f.Pre, f.Transfer, f.Term, f.Probe
		m.LastIndex, m.LastTerm = f.LastIndex, f.LastTerm
	case wire.KindVoteReply:
		var f wire.VoteReply
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Pre, m.Granted, m.Term, m.Reason = raft.VoteReply, f.Pre, f.Granted, f.Term, f.Reason
		m.EchoBoot, m.LastIndex, m.LastTerm = f.EchoBoot, f.LastIndex, f.LastTerm
	case wire.KindTimeoutNow:
		var f wire.TimeoutNow
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.LastIndex = raft.TimeoutNow, f.Term, f.LastIndex
	default:
		return decodeQuestion(m, kind, p)
	}
	return true
}

// decodeQuestion reads what one server asks another beside the log.
func decodeQuestion(m *raft.Message, kind wire.Kind, p []byte) bool {
	switch kind {
	case wire.KindProbe:
		var f wire.Probe
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.Seq = raft.Probe, f.Term, f.Nonce
	case wire.KindProbeReply:
		var f wire.ProbeReply
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.EchoBoot, m.EchoSeq, m.Leads = raft.ProbeReply, f.Term, f.EchoBoot, f.Nonce, f.Leads
	case wire.KindReadAsk:
		var f wire.ReadAsk
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.Seq = raft.ReadAsk, f.Term, f.Nonce
	case wire.KindReadAnswer:
		var f wire.ReadAnswer
		if f.Decode(p) != nil {
			return false
		}
		m.Kind, m.Term, m.EchoBoot, m.EchoSeq, m.Index = raft.ReadAnswer, f.Term, f.EchoBoot, f.Nonce, f.Index
	}
	return true
}

func (n *Node) decodeAppend(m *raft.Message, p []byte) bool {
	var f wire.Append
	if f.Decode(p) != nil {
		return false
	}
	m.Kind, m.Term, m.PrevIndex, m.PrevTerm, m.Commit = raft.Append, f.Term, f.PrevIndex, f.PrevTerm, f.Commit
	m.Round, m.Seq, m.Timeout, m.Leases = f.Round, f.Seq, f.Timeout, f.Leases
	n.entries, n.views = n.entries[:0], n.views[:0]
	rest := f.Entries
	for i := range f.Count {
		e, after, err := wire.DecodeEntry(rest)
		if err != nil || e.Index != f.PrevIndex+uint64(i)+1 || e.Codec != 0 || e.Group != 0 { // room for later versions
			return false
		}
		rest = after
		if toWAL(&e, nil) != e.Sum {
			n.Counters.DroppedSum++
			return false
		}
		r := raft.Entry{Index: e.Index, Term: e.Term, Kind: raft.Kind(e.Kind), Size: e.Size(), Ref: i}
		if r.Kind == raft.Configuring {
			c, err := wire.DecodeConfiguration(e.Body)
			if err != nil {
				return false
			}
			rc := toRaft(&c)
			r.Config = &rc
		}
		n.entries, n.views = append(n.entries, r), append(n.views, e)
	}
	n.keepWhatFits()
	m.Entries = n.entries
	return true
}

// keepWhatFits cuts off the entries that a full disk has no room for: they come again. What was accepted before the leader
// knew is taken as long as there is some, and the entries that a leader cannot do without always: it could not even
// serve reads.
func (n *Node) keepWhatFits() {
	held := n.core.HeldBytes() // they go into the log as soon as the gap is filled
	if held > 0 && !n.log.Fits(held) {
		n.core.ForgetHeld()
		held = 0
	}
	bytes := held
	for i := range n.entries {
		e := &n.entries[i]
		if bytes += e.Size; e.Kind != raft.NoOp && e.Kind != raft.Configuring && !n.log.Fits(bytes) {
			n.Counters.DroppedFull++
			n.entries, n.views = n.entries[:i], n.views[:i]
			return
		}
	}
}

// toWAL gives an entry the log's form, when w is not nil, and the checksum its
// stored bytes must have.
func toWAL(e *wire.Entry, w *wal.Entry) uint64 {
	entry := wal.Entry{Index: e.Index, Term: e.Term, Kind: e.Kind, Codec: e.Codec, Group: e.Group,
		Count: e.Count, RawBytes: e.RawBytes, Time: e.Time, Sum: e.Sum, Body: e.Body}
	if w != nil {
		*w = entry
		return e.Sum
	}
	return wal.Sum(&entry)
}

// request takes what a client asks. Writes are packed into the entries of this
// turn, repeats answered from their session, reads wait for this turn's round.
// A server that does not lead refuses the writes, by sequence number, so that
// the client knows this copy was definitely not applied (SAFETY 18); reads it
// serves itself, linearizable by the leader's round.
func (n *Node) request(now int64, h *wire.Header, from netip.AddrPort, p []byte) {
	var f wire.Request
	if h.Src != wire.ClientNode || h.Incarnation == 0 || f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	if n.core == nil || h.Cluster != n.tag {
		n.refuseAll(h, from, &f)
		return
	}
	if n.breakServing() {
		return
	}
	leading := n.Leading()
	n.out.seqs = n.out.seqs[:0]
	c := n.clients.touch(now, h.Incarnation, from)
	if c == nil {
		n.Counters.DroppedCrowd++
		return
	}
	own, rest := c, f.Ops
	var op kv.Command
	for range f.Count {
		size, err := op.Decode(rest)
		if err != nil || op.Client == 0 {
			n.Counters.DroppedMalformed++
			return
		}
		if op.Client != c.id { // a client that has begun a new session has operations of the old one under way
			if c = n.clients.touch(now, op.Client, from); c == nil {
				n.Counters.DroppedCrowd++
				c, rest = own, rest[size:]
				continue
			}
		}
		if leading || op.Op.IsRead() && n.core.Leader() != 0 {
			n.operation(c, &op, rest[:size])
		} else {
			n.out.seqs = binary.LittleEndian.AppendUint64(n.out.seqs, op.Seq)
		}
		rest = rest[size:]
	}
	if len(n.out.seqs) > 0 {
		n.notLeader(from, n.out.seqs)
	}
}

func (n *Node) operation(c *client, op *kv.Command, encoded []byte) {
	if op.Op == kv.Get || op.Op == kv.Scan {
		if !n.reads.add(c.id, encoded) {
			n.refuseBusy(c.id, op.Seq)
		}
		return
	}
	if r, ok := n.store.Cached(op.Client, op.Seq); ok {
		n.Counters.Repeats++
		n.reply(c, &r)
		return
	}
	if op.Term != 0 && op.Term != n.core.Term() {
		n.reply(c, &kv.Result{Status: kv.WrongTerm, Client: c.id, Seq: op.Seq}) // bound to another leader: refused for good
		return
	}
	if n.log.Low() || n.core.Full() { // the disk is full, or a quorum's: what is accepted already still has to fit
		n.refuseBusy(c.id, op.Seq)
		return
	}
	n.pack.add(op, encoded, n.out.entryLimit)
}

// Refused takes the kernel's word that nothing listens at an address. Anybody
// can forge it: the core takes it for no more than a hint (SAFETY 2, 3).
func (n *Node) Refused(now int64, addr netip.AddrPort) {
	n.Counters.Refused++
	if n.chaos.cut || n.core == nil || n.err != nil {
		return
	}
	for i := range n.out.peers {
		if p := &n.out.peers[i]; p.to == addr && p.id != n.identity.ID {
			n.core.Refused(now, p.id)
			n.absorb(now)
		}
	}
}
