package node

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"balsa/wal"
	"balsa/wire"
)

// founding is how a cluster begins, once (DESIGN, decision 7; SAFETY 7).
//
//	blank --ask all of the pool--> every first voter answered blank
//	      --draw a cluster id, persist the list--> spread it --> in Raft
//
// The lowest of the first voters asks; the others answer, persist the list
// before they say that they hold it, refuse a second one or one that does not
// name their own incarnation, and spread it on. A server that holds a list is
// blank no more; one wiped at any moment comes back blank under another
// incarnation, so it cannot vote twice.
type founding struct {
	cluster    [16]byte // all zero while blank
	answers    []foundingAnswer
	askAt      int64    // next time the pool is asked; 0: we do not ask
	voterAt    int64    // when the last first voter had answered; 0: not all have
	warnAt     int64    // next time the log line says what founding waits for
	refused    bool     // a cluster exists: this server never founds another
	persisting bool     // the list is with the disk
	unlisted   []uint16 // members that have not shown that they hold the list
	spreadAt   int64
	wiped      []wiped // members that came back under another incarnation
	wanted     uint64  // blank: under which a cluster knows this id, as the last log line said
	claimed    bool    // blank: a server of a cluster spoke to this one as to a member
}

// wiped is a member that came back blank, under an incarnation that counts nowhere.
type wiped struct {
	id          uint16
	incarnation uint64
	tellAt      int64 // when it may be told again
}

type foundingAnswer struct {
	id          uint16
	incarnation uint64
}

const (
	askAgain      = 100e6 // ns between questions to the pool
	warnAgain     = 5e9
	strangersWait = 1e9 // ns a founder gives servers that are no first voters to tell of an older cluster
	aloneWait     = 3e8 // ns a founder that knows no other server gives such a cluster to speak to it
	tellWiped     = 1e9 // ns between two words to a server that came back wiped
)

func (n *Node) beginFounding(now int64) {
	n.founding.askAt, n.founding.warnAt = now, now+warnAgain/5
}

// founds says that it falls to this server to found: it is the lowest of the
// first voters.
func (n *Node) founds() bool { return n.identity.ID == n.identity.Voters[0] }

// foundingTurn drives a blank server: it asks the pool, as the founder often,
// as any other to learn whether a cluster knows it.
func (n *Node) foundingTurn(now int64) {
	f := &n.founding
	if f.persisting || now < f.askAt {
		return
	}
	f.askAt = now + askAgain
	if !n.founds() {
		f.askAt = now + 10*askAgain
	}
	for _, s := range n.identity.Pool {
		if to := n.out.peerAt(now, s.ID); s.ID != n.identity.ID && to.IsValid() {
			ask := wire.FoundAsk{AskBoot: n.boot}
			ask.Encode(n.out.must(to, s.ID, wire.KindFoundAsk, ask.Size()))
		}
	}
	if n.founds() && !f.refused {
		n.tryFound(now)
	}
}

// tryFound founds when every first voter has answered blank, and every other
// server of the pool too or has been silent long enough. A server that founds
// alone has no other first voter to contradict it: it waits for all of the pool,
// or, made again while those that know its cluster are down, it would begin a
// second one.
func (n *Node) tryFound(now int64) {
	f := &n.founding
	if missing := n.unanswered(n.identity.Voters); len(missing) > 0 {
		f.voterAt = 0
		n.warnMissing(now, "founding waits for a first voter that cannot be reached", missing)
		return
	}
	if f.voterAt == 0 {
		f.voterAt = now
	}
	if len(n.identity.Pool) == 1 && now-f.voterAt < aloneWait {
		return // made again, it would hear from the leader of its old cluster
	}
	if f.claimed {
		if now >= f.warnAt {
			f.warnAt = now + warnAgain
			n.logger.Warn("this server founds no cluster: a server of one spoke to it as to a member")
		}
		return
	}
	if missing := n.unanswered(n.poolIDs()); len(missing) > 0 && (len(n.identity.Voters) == 1 || now-f.voterAt < strangersWait) {
		n.warnMissing(now, "founding waits for a server of the pool: made again, this one could not know of a cluster that it began alone", missing)
		return
	}
	n.found(now)
}

func (n *Node) warnMissing(now int64, why string, missing []uint16) {
	f := &n.founding
	if now < f.warnAt {
		return
	}
	f.warnAt = now + warnAgain
	for _, id := range missing {
		n.logger.Warn(why, "server", id, "addr", string(n.out.addressOf(id)))
	}
}

func (n *Node) poolIDs() []uint16 {
	ids := make([]uint16, 0, len(n.identity.Pool))
	for _, s := range n.identity.Pool {
		ids = append(ids, s.ID)
	}
	return ids
}

func (n *Node) unanswered(ids []uint16) []uint16 {
	var missing []uint16
	for _, id := range ids {
		if id != n.identity.ID && n.answer(id) == 0 {
			missing = append(missing, id)
		}
	}
	return missing
}

// answer is the incarnation under which a server said that it is blank, or 0.
func (n *Node) answer(id uint16) uint64 {
	for _, a := range n.founding.answers {
		if a.id == id {
			return a.incarnation
		}
	}
	return 0
}

// found makes the list and persists it. Only what is persisted is sent: with a
// list sent and lost, a second one could split the voters for ever.
func (n *Node) found(now int64) {
	c := wire.Configuration{Leases: n.identity.Leases}
	binary.LittleEndian.PutUint64(c.Cluster[:], n.o.Random())
	binary.LittleEndian.PutUint64(c.Cluster[8:], n.o.Random())
	for _, id := range n.identity.Voters {
		m := wire.Member{ID: id, Incarnation: n.answer(id), Role: wire.MemberVoter, Addr: string(n.out.addressOf(id))}
		if id == n.identity.ID {
			m.Incarnation = n.identity.Incarnation
		}
		c.Members = append(c.Members, m)
	}
	n.logger.Info("founding a cluster", "voters", n.identity.Voters, "leases", c.Leases)
	n.persistList(wire.AppendConfiguration(nil, &c))
}

// persistList gives the list to the log; listPersisted goes on from there.
func (n *Node) persistList(list []byte) {
	n.identity.List = slices.Clone(list)
	n.log.SetFounding(n.identity.encode())
	n.founding.persisting = true
}

// listPersisted: the list is durable, so this server takes part in Raft from
// now on, says that it holds it, and spreads it.
func (n *Node) listPersisted(now int64) {
	if !n.founding.persisting {
		return
	}
	n.founding.persisting = false
	if err := n.startCore(now, &wal.Recovery{Founding: n.identity.List}, true); err != nil {
		n.fail(err)
		return
	}
	n.logger.Info("in a cluster", "cluster_tag", n.tag)
	n.spread(now)
}

// holdList notes which members must still show that they hold the list.
func (n *Node) holdList(c *wire.Configuration) {
	n.founding.cluster = c.Cluster
	n.founding.unlisted = n.founding.unlisted[:0]
	for _, m := range c.Members {
		if m.ID != n.identity.ID {
			n.founding.unlisted = append(n.founding.unlisted, m.ID)
		}
	}
}

// spread sends the list to every member that has not yet shown it holds it.
func (n *Node) spread(now int64) {
	f := &n.founding
	f.spreadAt = now + askAgain
	for _, id := range f.unlisted {
		n.sendList(now, id)
	}
}

func (n *Node) sendList(now int64, id uint16) {
	if to := n.out.peerAt(now, id); to.IsValid() {
		l := wire.FoundList{List: n.identity.List}
		l.Encode(n.out.must(to, id, wire.KindFoundList, l.Size()))
	}
}

// sendJoin gives a blank member the list, and the incarnation under which the
// configuration names it: what it persists before its first ack (SAFETY 8). One
// that came back wiped learns from it why it is refused.
func (n *Node) sendJoin(now int64, m *wire.Member) {
	if to := n.out.peerAt(now, m.ID); to.IsValid() {
		j := wire.Join{AskBoot: n.boot, Term: n.core.Term(), Cluster: n.founding.cluster, Incarnation: m.Incarnation, List: n.identity.List}
		j.Encode(n.out.must(to, m.ID, wire.KindJoin, j.Size()))
	}
}

// join: a cluster that we are not a founder of takes us in. The founding list
// is where its log begins; the entries after it name us.
func (n *Node) join(h *wire.Header, p []byte) {
	var f wire.Join
	if f.Decode(p) != nil {
		n.Counters.DroppedMalformed++
		return
	}
	if n.core != nil || n.founding.persisting {
		return
	}
	if f.Incarnation != n.identity.Incarnation {
		n.Counters.DroppedIncarnation++
		n.madeAgain(h.Src, f.Incarnation)
		return
	}
	if c, err := wire.DecodeConfiguration(f.List); err != nil || c.Cluster != f.Cluster {
		n.Counters.DroppedMalformed++
		return
	}
	n.logger.Info("joining a cluster", "told_by", h.Src)
	n.persistList(f.List)
}

// heardMember: a Raft message under the cluster's tag shows that its sender
// holds the list.
func (n *Node) heardMember(id uint16) {
	if i := slices.Index(n.founding.unlisted, id); i >= 0 {
		n.founding.unlisted = slices.Delete(n.founding.unlisted, i, i+1)
	}
}

// answerBlank tells a server of a cluster that this one holds no list, so that
// it sends it, if the list names us.
func (n *Node) answerBlank(h *wire.Header, from netip.AddrPort) {
	n.answerFound(from, h.Src, h.Boot)
}

func (n *Node) answerFound(from netip.AddrPort, dst uint16, echo uint64) {
	a := wire.FoundAnswer{EchoBoot: echo, Blank: n.core == nil}
	if n.core != nil {
		a.List = n.identity.List
	}
	if p := n.out.frame(from, dst, wire.KindFoundAnswer, a.Size()); p != nil {
		a.Encode(p)
	}
}

func (n *Node) foundFrame(now int64, h *wire.Header, from netip.AddrPort, kind wire.Kind, p []byte) {
	if h.Src == n.identity.ID || h.Src == 0 || h.Src == wire.ClientNode || h.Incarnation == 0 {
		n.Counters.DroppedMalformed++
		return
	}
	switch kind {
	case wire.KindFoundAsk:
		var f wire.FoundAsk
		if f.Decode(p) == nil {
			n.answerFound(from, h.Src, f.AskBoot)
		}
	case wire.KindFoundAnswer:
		var f wire.FoundAnswer
		if f.Decode(p) == nil && f.EchoBoot == n.boot {
			n.foundAnswer(now, h, &f)
		}
	case wire.KindFoundList:
		var f wire.FoundList
		if f.Decode(p) == nil {
			n.foundList(h, from, f.List)
		}
	}
}

// foundAnswer: what a server of the pool says of itself.
func (n *Node) foundAnswer(now int64, h *wire.Header, f *wire.FoundAnswer) {
	switch {
	case n.core != nil && f.Blank:
		n.incarnationTold(h, f)
		n.blankMember(now, h)
	case n.core != nil:
		n.incarnationTold(h, f)
		if h.Cluster == n.tag {
			n.heardMember(h.Src)
		}
	case f.Blank:
		n.founding.answers = slices.DeleteFunc(n.founding.answers, func(a foundingAnswer) bool { return a.id == h.Src })
		n.founding.answers = append(n.founding.answers, foundingAnswer{id: h.Src, incarnation: h.Incarnation})
	default:
		n.clusterExists(h, f.List)
	}
}

// clusterExists: somebody holds a list while we are blank. If it names us as we
// are, it is ours; if not, this server was wiped, or is a spare, and must never
// found another cluster.
func (n *Node) clusterExists(h *wire.Header, list []byte) {
	c, err := wire.DecodeConfiguration(list)
	if err != nil || n.founding.persisting {
		return
	}
	i := slices.IndexFunc(c.Members, func(m wire.Member) bool { return m.ID == n.identity.ID })
	if i >= 0 && c.Members[i].Incarnation == n.identity.Incarnation {
		n.persistList(list)
		return
	}
	before := n.founding.refused
	n.founding.refused = true
	if i >= 0 {
		n.madeAgain(h.Src, c.Members[i].Incarnation)
	} else if !before && slices.Contains(n.identity.Voters, n.identity.ID) {
		n.logger.Error("a cluster exists that does not name this server: it founds no other; bring it in with `balsa member add` or `balsa member replace`", "told_by", h.Src)
	}
}

// madeAgain says, once for each incarnation that is wanted, why this server is
// not let in.
func (n *Node) madeAgain(by uint16, want uint64) {
	f := &n.founding
	f.refused = true
	if f.wanted == want {
		return
	}
	f.wanted = want
	n.logger.Error("a cluster exists that knows this id under another incarnation: this server was wiped or made again; bring it back with `balsa member replace`",
		"told_by", by, "got_incarnation", n.identity.Incarnation, "want_incarnation", want)
}

// foundList: a server that holds the list spreads it to us.
func (n *Node) foundList(h *wire.Header, from netip.AddrPort, list []byte) {
	if n.core == nil {
		if !n.founding.persisting {
			n.clusterExists(h, list)
		}
		return // we say that we hold it when it is durable
	}
	if !bytes.Equal(list, n.identity.List) {
		n.Counters.DroppedCluster++
		return
	}
	n.answerFound(from, h.Src, h.Boot)
}

// blankMember: a server that the configuration names says that it is blank.
// Under the incarnation that is named it only missed the list, or joins; under
// another it was wiped, and counts nowhere (SAFETY 9).
func (n *Node) blankMember(now int64, h *wire.Header) {
	c := n.inForce()
	i := slices.IndexFunc(c.Members, func(m wire.Member) bool { return m.ID == h.Src })
	if i < 0 {
		return
	}
	m := &c.Members[i]
	if m.Incarnation == h.Incarnation {
		n.sendJoin(now, m)
		n.sendAddress(now, m.ID)
		return
	}
	n.Counters.DroppedIncarnation++
	k := n.founding.wipedServer(h.Src)
	if k.incarnation != h.Incarnation {
		k.incarnation, k.tellAt = h.Incarnation, now
		n.logger.Error("a server came back wiped: it is refused and cannot vote until `balsa member replace`",
			"server", h.Src, "got_incarnation", h.Incarnation, "want_incarnation", m.Incarnation)
	}
	if now >= k.tellAt {
		k.tellAt = now + tellWiped
		n.sendJoin(now, m)
	}
}

func (f *founding) wipedServer(id uint16) *wiped {
	i := slices.IndexFunc(f.wiped, func(k wiped) bool { return k.id == id })
	if i < 0 {
		i = len(f.wiped)
		f.wiped = append(f.wiped, wiped{id: id})
	}
	return &f.wiped[i]
}
