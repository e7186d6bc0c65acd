package node

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// listsServers asks a node what `hello` and `status` are answered with: neither may ask for a
// longer list than there can be, and each names those servers.
func (l *lab) listsServers(n *Node, ids ...uint16) {
	l.t.Helper()
	list, err := wire.DecodeServers(n.out.servers())
	if err != nil || len(list) > wire.MaxServers {
		l.t.Fatalf("a list of %d servers: %v", len(list), err)
	}
	told := map[uint16]string{}
	for _, s := range list {
		told[s.ID] = s.Addr
	}
	for _, id := range ids {
		if told[id] == "" {
			l.t.Errorf("server %d is not told of, among %d", id, len(list))
		}
	}
	for kind, payload := range map[wire.Kind][]byte{wire.KindHello: make([]byte, 480), wire.KindStatus: make([]byte, 8)} {
		// From elsewhere each time: who acknowledges nothing is soon sent nothing large.
		from := netip.AddrPortFrom(strangersAddr.Addr(), uint16(20_000+l.now/1e6%40_000))
		if got, _ := l.sent(n, from, forge(l.proven(n, 66, from), appendFrame(nil, kind, payload))); got == 0 {
			l.t.Errorf("no answer to a %v", kind)
		}
	}
}

// Whoever says under any id where it is: of those that nothing names few are known, and the
// last that spoke is, for it may lead.
func TestForgedAddressesAreFew(t *testing.T) {
	l := newLab(t, 4, 3)
	for state, n := range nodesFor(l) {
		for i := range 300 {
			f := wire.Address{Index: 1, Addr: fmt.Appendf(nil, "192.0.2.1:%d", 1000+i)}
			h := wire.Header{Cluster: l.leader().tag, Src: uint16(1000 + i), Dst: n.ID(), Incarnation: 1, Boot: 1, Packet: 1}
			n.Deliver(l.now, strangersAddr, forge(h, appendFrame(nil, wire.KindAddress, encoded(&f))))
		}
		if got := len(n.out.peers); got > 4+8 {
			t.Errorf("%s: %d servers are known", state, got)
		}
		if n.out.addressOf(1299) == nil {
			t.Errorf("%s: the last that spoke is not known", state)
		}
		l.listsServers(n, 1, 2, 3, 4)
	}
}

// A cluster that had more servers over its life than a list can name.
func TestMoreServersThanAListNames(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	member := func(id int) wire.Member {
		return wire.Member{ID: uint16(id), Incarnation: 1, Role: wire.MemberVoter, Addr: fmt.Sprintf("192.0.2.1:%d", 1000+id)}
	}
	for id := 10; id < 1000; id += 50 {
		c := n.inForce()
		for i := range 50 {
			c.Members = append(c.Members, member(id+i))
		}
		n.out.learn(&c)
		l.listsServers(n, 1, 2, 3, uint16(id), uint16(id+49))
	}
	c := n.inForce()
	c.Members, c.Target, c.Old = nil, nil, nil
	for i := range wire.MaxMembers {
		c.Members, c.Target, c.Old = append(c.Members, member(2000+i)), append(c.Target, member(3000+i)), append(c.Old, uint16(950+i%50))
	}
	n.out.learn(&c)
	for _, m := range append(c.Members, c.Target...) {
		if string(n.out.addressOf(m.ID)) != m.Addr {
			t.Fatalf("server %d belongs, and is not known", m.ID)
		}
	}
	l.listsServers(n)
}

// A change that names servers with addresses, and does not want them.
func TestOnlyWantedServersAreLearned(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	id := n.ID()%3 + 1
	named := []wire.Server{{ID: id}}
	for i := range wire.MaxServers - 1 {
		named = append(named, wire.Server{ID: uint16(1000 + i), Addr: fmt.Sprintf("192.0.2.1:%d", 1000+i)})
	}
	remove := wire.MemberChange{Operation: 7, Verb: wire.VerbRemove, Servers: wire.AppendServers(nil, named)}
	l.sent(n, strangersAddr, forge(l.proven(n, 66, strangersAddr), appendFrame(nil, wire.KindMember, encoded(&remove))))
	if got := n.core.Progress().Operation; got != 7 {
		t.Fatalf("operation %d is under way, want 7", got)
	}
	if got := len(n.out.peers); got != 3 {
		t.Errorf("%d servers are known, want 3", got)
	}
	l.listsServers(n, 1, 2, 3)
}

// One client that names ever other ids pushes out nobody who was heard lately: with a client
// goes the memory of what it sent, and a repeated datagram would be refused though it was taken.
func TestOneClientPushesOutNobody(t *testing.T) {
	l := newLab(t, 3, 3)
	l.elect()
	n := l.nodes[l.leader().ID()%3+1]
	put := func(client, seq uint64) []byte {
		return kv.AppendCommand(nil, &kv.Command{Op: kv.Put, Client: client, Seq: seq, AckedBelow: 1, Key: []byte("k")})
	}
	request := func(count int, ops []byte) []byte {
		return appendFrame(nil, wire.KindRequest, encoded(&wire.Request{Count: count, Ops: ops}))
	}
	elsewhere := netip.MustParseAddrPort("192.0.2.1:1")
	old := forge(l.proven(n, 77, elsewhere), request(1, put(77, 1)))
	if got, _ := l.sent(n, elsewhere, old); got == 0 {
		t.Fatal("a put at a follower is not answered")
	}
	size := len(put(1<<40, 1))
	for id := uint64(1 << 40); id < 1<<40+70_000; {
		var ops []byte
		count := 0
		for len(ops)+size <= wire.MaxFrame(wire.MaxDatagram)-wire.RequestHeaderBytes {
			ops, count, id = append(ops, put(id, 1)...), count+1, id+1
		}
		n.Deliver(l.now, strangersAddr, forge(l.proven(n, 66, strangersAddr), request(count, ops)))
		n.Out()
	}
	if got := len(n.clients.byID); got > 1<<16 {
		t.Errorf("%d clients are known", got)
	}
	repeats := n.Counters.DroppedReplays
	if got, _ := l.sent(n, elsewhere, old); got != 0 || n.Counters.DroppedReplays != repeats+1 {
		t.Errorf("a repeated datagram is answered with %d bytes", got)
	}
	later := forge(l.proven(n, 78, elsewhere), request(1, put(78, 1)))
	if got, _ := l.sent(n, elsewhere, later); got == 0 {
		t.Error("one address keeps the clients of others out")
	}
}

// A client is forgotten once nothing that it sent can be taken any more, and no sooner.
func TestWhoWasHeardLatelyIsNotForgotten(t *testing.T) {
	var c clients
	c.init()
	at := func(i int) netip.AddrPort {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(i))
		return netip.AddrPortFrom(netip.AddrFrom4(ip), 1)
	}
	for i := range maxClients {
		if c.touch(0, uint64(i+1), at(i)) == nil {
			t.Fatalf("client %d is not taken", i)
		}
	}
	c.touch(1, 1, at(0))
	if c.touch(wire.LaneIdle-1, 1<<40, at(1)) != nil || c.find(2) == nil || len(c.byID) != maxClients {
		t.Error("one that was heard lately makes room")
	}
	if c.touch(wire.LaneIdle, 1<<40, at(1)) == nil || c.find(2) != nil || c.find(1) == nil || len(c.byID) != maxClients {
		t.Error("the one that was silent longest does not make room")
	}
	c.touch(wire.LaneIdle, 1, at(7)) // moves
	total := 0
	for _, count := range c.near {
		total += count
	}
	if total != maxClients || c.near[at(7).Addr()] != 2 || c.near[at(0).Addr()] != 0 {
		t.Errorf("%d clients are counted by address, %d at one, %d where it was", total, c.near[at(7).Addr()], c.near[at(0).Addr()])
	}
}
