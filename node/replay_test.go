package node

import (
	"math"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

func TestReplayTakesEachNumberOnce(t *testing.T) {
	var r replay
	for i, c := range []struct {
		boot, n uint64
		want    bool
	}{
		{1, 1, true}, {1, 1, false}, {1, 3, true}, {1, 2, true}, {1, 2, false}, {1, 3, false},
		{1, 3 + replayWindow, true}, {1, 3, false}, {1, 4, true}, {1, 4, false}, {1, 3 + replayWindow, false},
		{1, 1 << 40, true}, {1, 5, false}, {1, 1<<40 - 1, true},
		{2, 1, true}, {2, 1, false},
		{2, math.MaxUint64 - 4, true}, {2, math.MaxUint64, true}, {2, math.MaxUint64, false}, {2, math.MaxUint64 - 1, true},
		{2, math.MaxUint64 - 4, false}, {2, math.MaxUint64 - replayWindow, false}, {2, math.MaxUint64 - replayWindow + 1, true},
	} {
		if got := r.fresh(c.boot, c.n); got != c.want {
			t.Fatalf("step %d: packet %d of boot %d: %v, want %v", i, c.n, c.boot, got, c.want)
		}
	}
}

// A repetition of a request that was taken must not be refused: the client
// would count the refusal for the only copy it sent.
func TestRepeatedDatagramIsNotRefused(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	leader := n.ID()
	c := kv.Command{Op: kv.Put, Client: labClient, Seq: 1, AckedBelow: 1, Flags: kv.FlagRegister, Registered: 1, Key: []byte("k"), Value: []byte("v")}
	p := wire.Packer{Header: wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: leader, Incarnation: labClient, Boot: 5, Token: n.token(l.now, labAddr(99))}, Limit: wire.MaxDatagram}
	r := wire.Request{Count: 1, Ops: kv.AppendCommand(nil, &c)}
	r.Encode(p.Frame(wire.KindRequest, r.Size()))
	datagram := p.Flush(labAddr(leader), nil)[0].Bytes
	n.Deliver(l.now, labAddr(99), datagram)
	n.Turn(l.now, true)
	if n.Counters.Commands != 1 {
		t.Fatalf("%d commands taken, want 1", n.Counters.Commands)
	}
	n.Deliver(l.now, labAddr(99), datagram)
	n.Turn(l.now, true)
	if n.Counters.DroppedReplays != 1 || n.Counters.Repeats != 0 || n.Counters.Commands != 1 {
		t.Errorf("%d replays dropped, %d repeats answered, %d commands taken; want 1, 0 and 1", n.Counters.DroppedReplays, n.Counters.Repeats, n.Counters.Commands)
	}
}
