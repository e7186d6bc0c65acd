package node

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"balsa/wire"
)

// FuzzIdentity: no bytes of a founding record make it panic, and what it takes it gives back.
func FuzzIdentity(f *testing.F) {
	c := wire.Configuration{Cluster: [16]byte{1}, Members: []wire.Member{{ID: 1, Incarnation: 7, Role: wire.MemberVoter, Addr: "127.0.0.1:7101"}}}
	pool := []wire.Server{{ID: 1, Addr: "127.0.0.1:7101"}, {ID: 2, Addr: "b:1"}}
	for _, d := range []identity{
		{ID: 1, Incarnation: 7, Name: "a", Pool: pool, Voters: []uint16{1, 2}},
		{ID: 1, Incarnation: 7, Pool: pool, Voters: []uint16{1}, List: wire.AppendConfiguration(nil, &c), Left: 9, Leases: true},
	} {
		f.Add(d.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, again identity
		if d.decode(b) != nil {
			return
		}
		if err := again.decode(d.encode()); err != nil {
			t.Fatalf("%+v was read, and is not read back: %v", d, err)
		}
		if !bytes.Equal(d.encode(), again.encode()) {
			t.Errorf("%+v came back as %+v", d, again)
		}
	})
}

// Flags of a frame in FuzzDeliver's scripts, beside who sends it.
const (
	fuzzNumbered = 4
	fuzzFilled   = 8
)

// FuzzDeliver: whatever frames come under right checksums, of clients with and without a token and of servers, a leader
// neither panics nor ends, and answers no unproven address with more than it sent. A script is frames, each: kind, who says so
// and flags, length (2), the packet number (8, if flagged), payload. Zeros fill it up to its length, if flagged so.
func FuzzDeliver(f *testing.F) {
	for kind, payload := range every() {
		for who := range byte(4) {
			f.Add(append([]byte{byte(kind), who, byte(len(payload)), byte(len(payload) >> 8)}, payload...))
			var far []byte // twice, at the end of the numbers
			for _, packet := range []uint64{math.MaxUint64 - 4, math.MaxUint64} {
				far = append(far, byte(kind), who|fuzzNumbered, byte(len(payload)), byte(len(payload)>>8))
				far = append(binary.LittleEndian.AppendUint64(far, packet), payload...)
			}
			f.Add(far)
			for _, size := range []int{wire.MaxFrame(wire.MaxDatagram), mostBody - wire.FrameHeaderBytes} {
				f.Add(append([]byte{byte(kind), who | fuzzFilled, byte(size), byte(size >> 8)}, payload...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		l := newLab(t, 3, 3)
		n := l.elect()
		for packet := uint64(1); len(script) >= 4 && packet < 50; packet++ {
			kind, flags, size := wire.Kind(script[0]|1), script[1], int(binary.LittleEndian.Uint16(script[2:]))
			who, number := flags%4, packet
			if script[0] > 1 {
				kind = wire.Kind(script[0])
			}
			script = script[4:]
			if flags&fuzzNumbered != 0 && len(script) >= 8 {
				number, script = binary.LittleEndian.Uint64(script), script[8:]
			}
			size = min(size, mostBody-wire.FrameHeaderBytes)
			payload := slices.Clone(script[:min(size, len(script))])
			script = script[len(payload):]
			if flags&fuzzFilled != 0 {
				payload = append(payload, make([]byte, size-len(payload))...)
			}
			from, h := labAddr(labClient), wire.Header{Cluster: n.tag, Src: wire.ClientNode, Dst: n.ID(), Incarnation: 77, Boot: 5, Packet: number}
			switch who {
			case 1:
				h.Token = n.token(l.now, from)
			case 2, 3: // a server of ours, a stranger that says so
				h.Src = n.ID()%3 + 1
				h.Incarnation = l.nodes[h.Src].Incarnation() + uint64(who-2)
				from = l.addr(h.Src)
			}
			d := forge(h, appendFrame(nil, kind, payload))
			in, out := len(d), 0
			n.Deliver(l.now, from, d)
			l.now += 1e6
			n.Turn(l.now, true)
			for _, q := range n.Out() {
				if q.To == from {
					out += len(q.Bytes)
				}
			}
			if who == 0 && out > in {
				t.Fatalf("%v of %d bytes was answered with %d", kind, in, out)
			}
			for b := n.Batch(); b != nil; b = n.Batch() {
				n.Persisted(l.now, b, persistBatch(b))
				n.Out()
			}
			if err := n.Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
