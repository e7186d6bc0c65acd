package sim

import (
	"balsa/wire"
)

// Faults that tell lies: refusals that nobody gave, datagrams of the past and
// of other clusters, clocks that are wrong.

// forge says to others, for a while, that nothing listens at a server's
// address, which may well be alive (SAFETY 2, 3).
func (f *faults) forge(s *server) {
	times := between(f.random, 1, 20)
	for i := range f.net.endpoints {
		if i == int(s.id)-1 || chance(f.random, 0.4) {
			continue
		}
		for range times {
			f.after(between(f.random, 0, second), func() {
				if process, _ := s.listens(); process && !f.over {
					f.hits[Forged]++
					f.net.endpoints[i].refused(s.addr)
				}
			})
		}
	}
}

// foreign sends a server what a server of another cluster at one of our ids
// might: a far higher term, entries, a word that the leader is to go.
func (f *faults) foreign(s *server) {
	r := f.random
	from := f.servers[r.IntN(len(f.servers))]
	if from == s || f.checker.first == nil || s.node == nil || s.node.Blank() {
		return // a blank server is of any cluster
	}
	incarnation := f.checker.servers[from.id].incarnation
	if chance(r, 0.5) {
		incarnation = r.Uint64() | 1
	}
	p := wire.Packer{Limit: wire.SafeDatagram, Header: wire.Header{Cluster: r.Uint32() | 1, Src: from.id, Dst: s.id, Incarnation: incarnation, Boot: r.Uint64() | 1}}
	term := s.node.Core().Term() + uint64(r.IntN(1000))
	vote := wire.Vote{Term: term, LastIndex: 1 << 40, LastTerm: term, Transfer: true, AskBoot: r.Uint64()}
	vote.Encode(p.Frame(wire.KindVote, vote.Size()))
	hand := wire.TimeoutNow{Term: s.node.Core().Term(), LastIndex: s.node.Core().Last()}
	hand.Encode(p.Frame(wire.KindTimeoutNow, hand.Size()))
	heart := wire.Append{Term: term, Commit: 1 << 40, Seq: 1, Round: 1, Timeout: second}
	heart.EncodeHeader(p.Frame(wire.KindAppend, wire.AppendHeaderBytes))
	other := wire.Configuration{Cluster: [16]byte{9}, Members: []wire.Member{{ID: s.id, Incarnation: s.node.Incarnation(), Role: wire.MemberVoter, Addr: s.addr.String()}}}
	list := wire.FoundList{List: wire.AppendConfiguration(nil, &other)}
	list.Encode(p.Frame(wire.KindFoundList, list.Size()))
	join := wire.Join{Term: term, Cluster: other.Cluster, Incarnation: s.node.Incarnation(), List: list.List}
	join.Encode(p.Frame(wire.KindJoin, join.Size()))
	for _, d := range p.Flush(s.addr, nil) {
		f.hits[OtherCluster]++
		s.receive(from.addr, d.Bytes)
	}
}

// jump lets a server's clock leap ahead, which is like a pause to everything
// it waits for, or stand still while the server does, which is a machine that
// was suspended.
func (f *faults) jump(s *server) {
	if s.node == nil || s.paused {
		return
	}
	f.hits[ClockJump]++
	by := between(f.random, millisecond, 3*second)
	if chance(f.random, 0.5) {
		s.offset += by
		f.jumped += by
		s.turnAt = never
		s.wake(f.now)
		return
	}
	s.pause()
	process := s.process
	f.after(by, func() {
		if s.process == process && s.paused {
			s.offset -= by
			s.resume()
		}
	})
}

// memory keeps datagrams of any time of the run, few of the many, so that they
// can arrive again.
type memory struct {
	kept []kept
	seen uint64
}

type kept struct {
	i, j int
	p    wire.Packet
}

const (
	mostKept    = 512
	replayAtOne = 40
)

// remember keeps a datagram with the odds of a fair sample of all there were.
func (n *network) remember(i, j int, p *wire.Packet) {
	m := &n.memory
	m.seen++
	at := int(between(n.memoryRandom, 0, int64(m.seen)-1))
	if len(m.kept) < mostKept {
		at = len(m.kept)
		m.kept = append(m.kept, kept{})
	}
	if at < mostKept {
		m.kept[at] = kept{i, j, wire.Packet{To: p.To, Bytes: append([]byte(nil), p.Bytes...)}}
	}
}

// replay lets some of them arrive again, whatever has become of both ends.
func (n *network) replay() {
	if len(n.memory.kept) == 0 {
		return
	}
	for range between(n.memoryRandom, 1, replayAtOne) {
		k := n.memory.kept[n.memoryRandom.IntN(len(n.memory.kept))]
		n.hits[OldDatagrams]++
		n.deliver(between(n.memoryRandom, 0, second), k.i, k.j, address(k.i, 0), k.p.To, n.copied(k.p.Bytes))
	}
}
