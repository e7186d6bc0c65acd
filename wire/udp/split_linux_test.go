//go:build !portable

package udp

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"balsa/wire"
)

// What holds for a socket holds for one of two queues.
func TestTwoQueuesAreASocketLikeAnyOther(t *testing.T) {
	kind = Options{Apart: true}
	defer func() { kind = Options{} }()
	if s := listen(t, "127.0.0.1:0"); !s.Apart() {
		t.Skip("this kernel has no filter for sockets that share an address")
	}
	asAnyOther(t)
}

func asAnyOther(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"sizes": TestDatagramsOfEverySizePassOnBothFamilies, "families": TestAnyAddressTakesBothFamiliesAndTellsIPv4AsSuch,
		"batches": TestMoreThanABatchComesOutInSeveral, "bytes": TestABatchIsBoundedInBytes, "deadline": TestReceiveLooksAtTheSocketWhateverTheDeadline, "wake": TestNoWakeIsLost,
		"early wake": TestAWakeBeforeReceiveEndsTheNextOneOnly, "close": TestCloseEndsAReceive, "in use": TestAnAddressInUseIsTold,
		"nowhere": TestAPacketThatCanNotGoAnywhereIsALoss, "senders": TestManySendersShareASocket, "refusal": TestARefusalEndsReceiveAndIsTold,
		"refusal wakes": TestARefusalWakesAReceiveThatWaits, "dead": TestADeadDestinationCostsALiveOneNothing,
		"allocations": TestSendAndReceiveDoNotAllocate, "buffers": TestBuffersAreReadBack,
	} {
		t.Run(name, test)
	}
}

func pairApart(t testing.TB) (a, b *Socket) {
	a, _ = pair(t, Options{})
	b, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), Options{Apart: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if !b.Apart() {
		t.Skip("this kernel has no filter for sockets that share an address")
	}
	return a, b
}

func datagram(source uint16, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint16(b[sourceOffset:], source)
	return b
}

// More of clients than any buffer holds is there; what a server says is heard all the same, and
// first.
func TestAFloodOfClientsKeepsNoServerOut(t *testing.T) {
	a, b := pairApart(t)
	_, one := pair(t, Options{})
	for _, s := range []*Socket{b, one} {
		flood := wire.Packet{To: s.LocalAddr(), Bytes: datagram(wire.ClientNode, 9000)}
		for range 4000 { // 36 MB
			if err := a.Send([]wire.Packet{flood}); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 { // into the last gap
			if err := a.Send([]wire.Packet{{To: s.LocalAddr(), Bytes: datagram(wire.ClientNode, 100)}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Send([]wire.Packet{{To: s.LocalAddr(), Bytes: datagram(3, 100)}}); err != nil {
			t.Fatal(err)
		}
		first, heard, clients := -1, 0, 0
		for n := 1; n > 0; {
			var err error
			if n, err = s.Receive(time.Time{}); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if d, _ := s.Datagram(i); binary.LittleEndian.Uint16(d[sourceOffset:]) == 3 {
					heard++
					first = max(first, clients)
				} else {
					clients++
				}
			}
		}
		if s == b && (heard != 1 || first != 0) {
			t.Errorf("heard %d times, behind %d datagrams of clients", heard, first)
		}
		if s == one && heard != 0 {
			t.Error("one queue had room: this test shows nothing")
		}
		if clients == 0 {
			t.Error("no client was heard")
		}
	}
}

// And the other way round: who floods as a server does not keep clients out.
func TestAFloodOfServersLeavesRoomForClients(t *testing.T) {
	a, b := pairApart(t)
	for range 300 {
		if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: datagram(2, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: datagram(wire.ClientNode, 100)}}); err != nil {
		t.Fatal(err)
	}
	n, err := b.Receive(time.Time{})
	if err != nil || b.Drained() {
		t.Fatal(n, err, b.Drained())
	}
	for i := range n {
		if d, _ := b.Datagram(i); binary.LittleEndian.Uint16(d[sourceOffset:]) == wire.ClientNode {
			return
		}
	}
	t.Errorf("%d datagrams, and none is the client's", n)
}

// A datagram of either queue wakes a Receive that waits: thousands of times, at no fixed place.
func TestEitherQueueWakesAReceive(t *testing.T) {
	a, b := pairApart(t)
	heard := make(chan int)
	go func() {
		defer close(heard)
		for total := 0; total < 4000; {
			n, err := b.Receive(far())
			if err != nil || n == 0 {
				t.Error(n, err)
				return
			}
			total += n
			for range n {
				heard <- n
			}
		}
	}()
	for i := range 4000 {
		source := uint16(1)
		if i%3 == 0 {
			source = wire.ClientNode
		}
		if i%5 == 0 {
			for !b.sleeping.Load() {
				runtime.Gosched()
			}
		}
		if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: datagram(source, 64)}}); err != nil {
			t.Fatal(err)
		}
		if _, ok := <-heard; !ok {
			return
		}
	}
}

// Runs of clients' datagrams lie in the slots, many more than one Receive gives: what a server says meanwhile comes
// with the next, and whoever waits for servers' silence is not held up by clients.
func TestWhatIsLeftOfAFloodKeepsNoServerWaiting(t *testing.T) {
	defer func() { kind = Options{} }()
	for name, o := range map[string]Options{"poller": {Apart: true}, "own": {Apart: true, Own: true}} {
		kind = o
		a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
		if !b.Apart() {
			t.Skip("this kernel has no filter for sockets that share an address")
		}
		var flood []wire.Packet
		for range 4 * Batch {
			flood = append(flood, wire.Packet{To: b.LocalAddr(), Bytes: datagram(wire.ClientNode, 100)})
		}
		for range 8 {
			if err := a.Send(flood); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 8 {
			if n, err := b.Receive(time.Time{}); n == 0 || err != nil {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
			if !b.Drained() {
				t.Fatalf("%s: round %d: clients' datagrams stand for servers'", name, round)
			}
			if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: datagram(3, 100)}}); err != nil {
				t.Fatal(err)
			}
			n, err := b.Receive(far())
			if err != nil {
				t.Fatal(err)
			}
			if d, _ := b.Datagram(0); n < 2 || binary.LittleEndian.Uint16(d[sourceOffset:]) != 3 {
				t.Fatalf("%s: round %d: of %d datagrams the first is not the server's", name, round, n)
			}
		}
	}
}
