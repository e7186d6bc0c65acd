package node

import (
	"bytes"
	"fmt"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// A few bytes of a compressed value may stand for megabytes. What a turn
// applies is bounded by what it does, or heartbeats would be late behind it.
func TestATurnIsBoundedByWhatItUnpacks(t *testing.T) {
	l := newLab(t, 1, 1)
	n := l.elect()
	var ops []byte
	const commands = 24
	for i := range commands {
		c := kv.Command{Op: kv.Put, Client: labClient, Seq: uint64(i + 1), AckedBelow: 1, Flags: kv.FlagRegister, Registered: 1,
			Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte("a"), 1<<20)}
		c.Pack(kv.S2)
		ops = kv.AppendCommand(ops, &c)
	}
	if len(ops) > 32<<10 {
		t.Fatalf("the commands take %d bytes, want few", len(ops))
	}
	p := wire.Packer{Header: wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: n.ID(), Incarnation: labClient, Boot: 5, Token: n.token(l.now, labAddr(99))}, Limit: wire.MaxDatagram}
	r := wire.Request{Count: commands, Ops: ops}
	r.Encode(p.Frame(wire.KindRequest, r.Size()))
	n.Deliver(l.now, labAddr(99), p.Flush(labAddr(n.ID()), nil)[0].Bytes)
	n.Turn(l.now, true)
	for b := l.batch(n.ID(), n); b != nil; b = l.batch(n.ID(), n) {
		n.Persisted(l.now, b, persistBatch(b))
	}
	for n.store.Len() < commands {
		was := n.store.Len()
		n.Turn(l.now, true)
		if took := n.store.Len() - was; took == 0 || took<<20 >= applyBytes+plainBytes {
			t.Fatalf("a turn took %d values of a megabyte, %d of %d are there", took, n.store.Len(), commands)
		}
	}
}
