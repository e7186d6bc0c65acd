//go:build !portable

package udp

import (
	"net/netip"
	"testing"
	"time"

	"balsa/wire"
)

// closedPort is an address on which nobody listens: below those that systems give out, so
// that no process beside this test is given it meanwhile.
func closedPort(_ *testing.T, addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddrPort(addr).Addr(), 1)
}

func refusedBy(s *Socket) (list []netip.AddrPort) {
	s.Refused(func(a netip.AddrPort) { list = append(list, a) })
	return list
}

func TestARefusalEndsReceiveAndIsTold(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, err := Listen(netip.MustParseAddrPort(addr), kind)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer a.Close()
		dead := closedPort(t, addr)
		if err := a.Send([]wire.Packet{{To: dead, Bytes: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		var told []netip.AddrPort
		for deadline := far(); len(told) == 0 && time.Now().Before(deadline); {
			if n, err := a.Receive(deadline); n != 0 || err != nil {
				t.Fatal(n, err)
			}
			told = refusedBy(a)
		}
		if len(told) != 1 || told[0] != dead {
			t.Errorf("refused by %v, want %v", told, dead)
		}
		if told = refusedBy(a); len(told) != 0 {
			t.Errorf("told twice: %v", told)
		}
	}
}

func TestARefusalWakesAReceiveThatWaits(t *testing.T) {
	a := listen(t, "127.0.0.1:0")
	dead := closedPort(t, "127.0.0.1:0")
	told := make(chan []netip.AddrPort)
	go func() {
		for {
			if _, err := a.Receive(far()); err != nil {
				close(told)
				return
			}
			if r := refusedBy(a); len(r) > 0 {
				told <- r
				return
			}
		}
	}()
	for !a.sleeping.Load() {
		time.Sleep(time.Microsecond)
	}
	if err := a.Send([]wire.Packet{{To: dead, Bytes: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if r := <-told; len(r) != 1 || r[0] != dead {
		t.Errorf("refused by %v, want %v", r, dead)
	}
}

// The pending error of a dead destination makes the next send fail, whoever it is for.
func TestADeadDestinationCostsALiveOneNothing(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	dead := closedPort(t, "127.0.0.1:0")
	const rounds = 100
	for range rounds {
		if err := a.Send([]wire.Packet{{To: dead, Bytes: []byte("x")}, {To: b.LocalAddr(), Bytes: []byte("y")}, {To: dead, Bytes: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: []byte("y")}}); err != nil {
			t.Fatal(err)
		}
		receive(t, b, 2)
	}
	if a.Counts().Refused == 0 { // told to the other queue, which no send looks at
		if _, err := a.Receive(far()); err != nil {
			t.Fatal(err)
		}
	}
	if c := a.Counts(); c.Lost != 0 || c.Sent != 4*rounds || c.Refused == 0 {
		t.Errorf("counts %+v", c)
	}
	if r := refusedBy(a); len(r) != 1 || r[0] != dead {
		t.Errorf("refused by %v, want %v once", r, dead)
	}
}

func TestARefusalNeverHidesDataThatIsThere(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	dead := closedPort(t, "127.0.0.1:0")
	if err := b.Send([]wire.Packet{{To: a.LocalAddr(), Bytes: []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Send([]wire.Packet{{To: dead, Bytes: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Receive(time.Time{}); n != 1 || err != nil {
		t.Errorf("%d, %v: want the datagram", n, err)
	}
	if r := refusedBy(a); len(r) != 1 {
		t.Errorf("refused by %v", r)
	}
}

func TestSendAndReceiveDoNotAllocate(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, err := Listen(netip.MustParseAddrPort(addr), kind)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer a.Close()
		b := listen(t, addr)
		out := []wire.Packet{{To: b.LocalAddr(), Bytes: make([]byte, 100)}, {To: b.LocalAddr(), Bytes: make([]byte, 1200)}}
		deadline := far()
		for name, run := range map[string]func(){
			"send and receive": func() {
				if a.Send(out) != nil {
					panic("send")
				}
				if n, err := b.Receive(deadline); n != 2 || err != nil {
					panic("receive")
				}
				b.Datagram(1)
			},
			"nothing there": func() { b.Receive(time.Time{}) },
			"deadline":      func() { b.Receive(time.Now().Add(time.Microsecond)) },
			"woken":         func() { b.Wake(); b.Receive(deadline) },
		} {
			run()
			if n := testing.AllocsPerRun(100, run); n != 0 {
				t.Errorf("%s: %s: %v allocations", addr, name, n)
			}
		}
	}
}

func TestBuffersAreReadBack(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	if r, w := s.Buffers(); r <= 0 || w <= 0 {
		t.Errorf("buffers %d, %d", r, w)
	}
}

// sendmmsg takes the pending error of one datagram for the end of its batch and says nothing
// of it; the poller has told of it before anybody waits. The refusal is told all the same.
func TestARefusalAmidABatchIsTold(t *testing.T) {
	for range 10 {
		a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
		dead := closedPort(t, "127.0.0.1:0")
		if err := a.Send([]wire.Packet{{To: dead, Bytes: []byte("x")}, {To: b.LocalAddr(), Bytes: []byte("y")}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // for the poller; without it this shows less
		var told []netip.AddrPort
		for deadline := time.Now().Add(5 * time.Second); len(told) == 0 && time.Now().Before(deadline); {
			if _, err := a.Receive(deadline); err != nil {
				t.Fatal(err)
			}
			told = refusedBy(a)
		}
		if len(told) != 1 || told[0] != dead {
			t.Fatalf("refused by %v, want %v", told, dead)
		}
	}
}
