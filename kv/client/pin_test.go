package client

import (
	"net/netip"
	"testing"

	"balsa/wire"
)

// A client pins the cluster of its first answer: a server of another one gets
// none of its requests, whatever it says of itself (SAFETY 8).
func TestClusterOfTheFirstAnswerIsPinned(t *testing.T) {
	ours, foreign := netip.MustParseAddrPort("127.0.0.1:7001"), netip.MustParseAddrPort("127.0.0.1:7002")
	c := NewCore(CoreConfig{ID: 5, Boot: 6, Seed: 7, Servers: []netip.AddrPort{ours, foreign}}, 1)
	c.Submit(1, put("k", "v"), 0, 1)
	nonces := map[netip.AddrPort]uint64{}
	for _, p := range c.Out(nil) {
		eachFrame(t, p, func(k wire.Kind, body []byte) {
			var h wire.Hello
			if k == wire.KindHello && h.Decode(body) == nil {
				nonces[p.To] = h.Nonce
			}
		})
	}
	if len(nonces) != 2 {
		t.Fatalf("%d servers were asked, want 2", len(nonces))
	}
	packets := uint64(0)
	answer := func(from netip.AddrPort, id uint16, cluster byte, leader uint16, term uint64) {
		r := wire.HelloReply{Nonce: nonces[from], Leader: leader, Term: term, LogTime: 1, Cluster: [16]byte{cluster}}
		p := wire.Packer{Header: wire.Header{Cluster: wire.ClusterTag(r.Cluster), Src: id, Dst: wire.ClientNode, Incarnation: uint64(id), Boot: uint64(id), Packet: packets}, Limit: wire.MaxDatagram}
		packets++
		r.Encode(p.Frame(wire.KindHelloReply, r.Size()))
		c.Deliver(2, from, p.Flush(from, nil)[0].Bytes)
	}
	requests := func(to netip.AddrPort) (n int) {
		for _, p := range c.Out(nil) {
			eachFrame(t, p, func(k wire.Kind, _ []byte) {
				if k == wire.KindRequest && p.To == to {
					n++
				}
			})
		}
		return n
	}
	answer(ours, 1, 1, 0, 3)
	answer(foreign, 2, 2, 2, 9)
	if n := requests(foreign); n != 0 {
		t.Errorf("%d requests went to another cluster", n)
	}
	answer(ours, 1, 1, 1, 3)
	if n := requests(ours); n != 1 {
		t.Errorf("%d requests went to the leader of our cluster, want 1", n)
	}
}

func eachFrame(t *testing.T, p wire.Packet, visit func(k wire.Kind, body []byte)) {
	t.Helper()
	_, frames, err := wire.Open(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for {
		k, body, ok := frames.Next()
		if !ok {
			return
		}
		visit(k, body)
	}
}
