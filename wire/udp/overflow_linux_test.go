//go:build !portable

package udp

import (
	"net/netip"
	"testing"
	"time"

	"balsa/wire"
)

// What the kernel had no room for is counted, whatever else it tells beside a datagram, and
// in which of two queues it was lost.
func TestAnOverflowOfTheReceiveBufferIsCounted(t *testing.T) {
	for _, c := range []struct {
		name, addr string
		o          Options
		source     uint16
	}{
		{"IPv4", "127.0.0.1:0", Options{}, 1}, {"IPv6", "[::1]:0", Options{}, 1}, {"no offload", "127.0.0.1:0", Options{Plain: true}, 1},
		{"servers' queue", "127.0.0.1:0", Options{Apart: true}, 1}, {"clients' queue", "127.0.0.1:0", Options{Apart: true}, wire.ClientNode},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, err := Listen(netip.MustParseAddrPort(c.addr), Options{Plain: true})
			if err != nil {
				t.Skipf("no such addresses here: %v", err)
			}
			defer from.Close()
			c.o.ReceiveBuffer = 8 << 10
			to, err := Listen(netip.MustParseAddrPort(c.addr), c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			const each = 300
			sent := uint64(0)
			for range 2 { // what was told before is not counted again
				for range each {
					if err := from.Send([]wire.Packet{{To: to.LocalAddr(), Bytes: datagram(c.source, 1000)}}); err != nil {
						t.Fatal(err)
					}
				}
				for n := 1; n > 0; {
					if n, err = to.Receive(time.Time{}); err != nil {
						t.Fatal(err)
					}
				}
				// The next that finds room tells of those that did not.
				if err := from.Send([]wire.Packet{{To: to.LocalAddr(), Bytes: datagram(c.source, 1000)}}); err != nil {
					t.Fatal(err)
				}
				receive(t, to, 1)
				sent += each + 1
				if c := to.Counts(); c.Overflows == 0 || c.Received+c.Overflows != sent {
					t.Fatalf("%d received, %d without room, of %d", c.Received, c.Overflows, sent)
				}
			}
		})
	}
}

func TestCountingOverflowsDoesNotAllocate(t *testing.T) {
	from, to := pair(t, Options{ReceiveBuffer: 8 << 10})
	packets := make([]wire.Packet, 64)
	for i := range packets {
		packets[i] = wire.Packet{To: to.LocalAddr(), Bytes: datagram(1, 1000+i)} // of no two sizes alike: none joined
	}
	turn := func() {
		if err := from.Send(packets); err != nil {
			t.Fatal(err)
		}
		for n := 1; n > 0; {
			var err error
			if n, err = to.Receive(time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	turn()
	if n := testing.AllocsPerRun(50, turn); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if to.Counts().Overflows == 0 {
		t.Error("nothing overflowed: this test looks at nothing")
	}
}
