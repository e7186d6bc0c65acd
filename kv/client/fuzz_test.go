package client

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// FuzzDeliver: whatever frames a server sends, under right checksums, no client panics; each operation ends once, and
// no larger datagrams leave than any path takes. A script is frames, each: kind, which server, length (2), payload.
func FuzzDeliver(f *testing.F) {
	here := netip.MustParseAddrPort("127.0.0.1:7101")
	add := func(k wire.Kind, size int, encode func([]byte)) {
		b := make([]byte, 4+size)
		b[0] = byte(k)
		binary.LittleEndian.PutUint16(b[2:], uint16(size))
		encode(b[4:])
		f.Add(b)
	}
	r := wire.Reply{Count: 1, Results: kv.AppendResult(nil, &kv.Result{Status: kv.OK, Seq: 7, Index: 1, Term: 1})}
	add(wire.KindReply, r.Size(), r.Encode)
	n := wire.NotLeader{Term: 4, Leader: 1, Addr: []byte(here.String()), Count: 1, Seqs: make([]byte, 8)}
	add(wire.KindNotLeader, n.Size(), n.Encode)
	e := wire.PathEcho{EchoBoot: 6, Nonce: 2, Pad: 100}
	add(wire.KindPathEcho, e.Size(), e.Encode)
	g := wire.Fragment{Message: 1, Kind: wire.KindReply, Total: 300, Stride: 256, Body: make([]byte, 256)}
	add(wire.KindFragment, g.Size(), g.Encode)
	f.Fuzz(func(t *testing.T, script []byte) {
		c := NewCore(CoreConfig{ID: 5, Boot: 6, Seed: 7, Servers: []netip.AddrPort{here}, Timeout: 1e9}, 1)
		now, packet := int64(1), uint64(0)
		deliver := func(k wire.Kind, src uint16, payload []byte) {
			packet++
			p := wire.Packer{Limit: wire.MaxDatagram, Header: wire.Header{Cluster: wire.ClusterTag([16]byte{1}), Src: src, Dst: wire.ClientNode, Incarnation: 2, Boot: 3, Packet: packet}}
			copy(p.Frame(k, len(payload)), payload)
			c.Deliver(now, here, p.Flush(here, nil)[0].Bytes)
		}
		for i := range uint64(5) {
			c.Submit(now, put("k", "v"), 0, i)
		}
		c.Out(nil)
		hello := wire.HelloReply{Nonce: c.servers[0].nonce, Leader: 1, Term: 3, LogTime: 1, Cluster: [16]byte{1}, Token: 9}
		b := make([]byte, hello.Size())
		hello.Encode(b)
		deliver(wire.KindHelloReply, 1, b)
		done := map[uint64]bool{}
		for ; len(script) >= 4; now += 5e6 {
			k, src, size := wire.Kind(max(1, script[0])), uint16(script[1]%3), int(binary.LittleEndian.Uint16(script[2:]))%2000
			payload := script[4:][:min(size, len(script)-4)]
			script = script[4+len(payload):]
			deliver(k, src, payload)
			c.Tick(now)
			for _, p := range c.Out(nil) {
				if len(p.Bytes) > wire.MaxDatagram {
					t.Fatalf("a datagram of %d bytes", len(p.Bytes))
				}
			}
			for _, d := range c.Done() {
				if done[d.Token] {
					t.Fatalf("operation %d ended twice", d.Token)
				}
				done[d.Token] = true
			}
		}
	})
}
