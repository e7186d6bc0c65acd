package node

import (
	"net/netip"
	"testing"
	"time"

	"balsa/wire"
	"balsa/wire/udp"
)

// A socket that is flooded is never drained: deadlines pass all the same, when all has been heard that may have lain there
// before them.
func TestAFloodHoldsUpADeadlineNoLongerThanTheBufferIsDeep(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	here := netip.MustParseAddrPort("127.0.0.1:0")
	socket, err := udp.Listen(here, udp.Options{Apart: true, ReceiveBuffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	flood, err := udp.Listen(here, udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	s := shell{node: n, socket: socket}
	hear := func() {
		if err := flood.Send([]wire.Packet{{To: socket.LocalAddr(), Bytes: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
		if k, err := socket.Receive(time.Now().Add(time.Minute)); k != 1 || err != nil {
			t.Fatal(k, err)
		}
	}
	before, after := n.deadline()-1, n.deadline()
	for range 1000 {
		hear()
		if s.heardAll(before) {
			t.Fatal("all is heard before the deadline")
		}
	}
	heard := int64(0)
	for !s.heardAll(after) {
		hear()
		heard += 1000
		if heard > socket.Capacity()+1000 {
			t.Fatalf("%d bytes heard, the buffer holds %d: the deadline never passes", heard, socket.Capacity())
		}
	}
	if heard < socket.Capacity()/2 {
		t.Fatalf("the deadline passed after %d bytes; the buffer holds %d, and a heartbeat may lie there", heard, socket.Capacity())
	}
	if s.heardAll(after) {
		t.Fatal("the next deadline passes at once")
	}
}
