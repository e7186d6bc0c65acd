//go:build !portable

package udp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"balsa/wire"
)

func pair(t testing.TB, o Options) (a, b *Socket) {
	t.Helper()
	for _, s := range []**Socket{&a, &b} {
		var err error
		if *s, err = Listen(netip.MustParseAddrPort("127.0.0.1:0"), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*s).Close() })
	}
	return a, b
}

// offloaded skips where the kernel has none: there is nothing to test then.
func offloaded(t testing.TB, s *Socket) {
	if send, receive := s.Offload(); !send || !receive {
		t.Skipf("this kernel parts %v, joins %v", send, receive)
	}
}

func numbered(to netip.AddrPort, sizes ...int) (out []wire.Packet) {
	for i, n := range sizes {
		b := bytes.Repeat([]byte{byte(i)}, n)
		binary.LittleEndian.PutUint32(b, uint32(i))
		out = append(out, wire.Packet{To: to, Bytes: b})
	}
	return out
}

func expect(t *testing.T, b *Socket, from netip.AddrPort, out []wire.Packet) {
	t.Helper()
	got, froms := receive(t, b, len(out))
	for i := range out {
		if !bytes.Equal(got[i], out[i].Bytes) || froms[i] != from {
			t.Fatalf("datagram %d: %d bytes from %v, want %d from %v", i, len(got[i]), froms[i], len(out[i].Bytes), from)
		}
	}
	if n, err := b.Receive(time.Time{}); n != 0 || err != nil {
		t.Fatalf("%d more datagrams, %v", n, err)
	}
}

func TestARunLeavesAndArrivesAsOne(t *testing.T) {
	a, b := pair(t, Options{})
	offloaded(t, a)
	out := numbered(b.LocalAddr(), 1200, 1200, 1200, 1200, 700)
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	expect(t, b, a.LocalAddr(), out)
	if c := a.Counts(); c.Offloaded != 5 || c.Sent != 5 || c.Fallbacks != 0 {
		t.Errorf("sender: %+v", c)
	}
	if c := b.Counts(); c.Joined != 1 || c.Received != 5 {
		t.Errorf("receiver: %+v", c)
	}
}

func TestTheKillSwitchLeavesSingleDatagrams(t *testing.T) {
	a, b := pair(t, Options{Plain: true})
	out := numbered(b.LocalAddr(), 1200, 1200, 1200)
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	expect(t, b, a.LocalAddr(), out)
	if send, receive := a.Offload(); send || receive || a.Counts().Offloaded != 0 || b.Counts().Joined != 0 {
		t.Errorf("offload %v, %v; %+v; %+v", send, receive, a.Counts(), b.Counts())
	}
}

// Whatever the sizes and destinations, what is sent arrives, in order: with offload at
// both ends, at one, at none; and when the system refuses runs now and then.
func TestRunsOfEverySizeArriveWhole(t *testing.T) {
	for mode := range 5 {
		rng := rand.New(rand.NewPCG(1, uint64(mode)))
		a, b := pair(t, Options{Plain: mode == 1})
		_, c := pair(t, Options{Plain: mode != 2})
		a.out.refuse = map[int]func() bool{3: func() bool { return true }, 4: func() bool { return rng.IntN(3) == 0 }}[mode]
		for range 150 {
			var toB, toC, all []wire.Packet
			size := 8 + rng.IntN(2000)
			for n := 1 + rng.IntN(90); len(all) < n; {
				switch rng.IntN(8) {
				case 0:
					size = 8 + rng.IntN(1500)
				case 1:
					size = 8 + rng.IntN(size)
				}
				p := wire.Packet{To: b.LocalAddr(), Bytes: make([]byte, size)}
				binary.LittleEndian.PutUint64(p.Bytes, rng.Uint64())
				if rng.IntN(12) == 0 {
					p.To = c.LocalAddr()
					toC = append(toC, p)
				} else {
					toB = append(toB, p)
				}
				all = append(all, p)
			}
			if err := a.Send(all); err != nil {
				t.Fatal(err)
			}
			expect(t, b, a.LocalAddr(), toB)
			expect(t, c, a.LocalAddr(), toC)
		}
		if n := a.Counts(); n.Lost != 0 {
			t.Errorf("mode %d: %+v", mode, n)
		}
	}
}

func TestARefusedRunGoesAsDatagramsAndOnlyThereFromThenOn(t *testing.T) {
	a, b := pair(t, Options{})
	offloaded(t, a)
	_, c := pair(t, Options{})
	refused := 0
	a.out.refuse = func() bool { refused++; return refused == 1 }
	out := append(numbered(b.LocalAddr(), 500, 500, 500, 400), numbered(c.LocalAddr(), 600, 600)...)
	for range 2 {
		if err := a.Send(out); err != nil {
			t.Fatal(err)
		}
		expect(t, b, a.LocalAddr(), out[:4])
		expect(t, c, a.LocalAddr(), out[4:])
	}
	if n := a.Counts(); n.Fallbacks != 1 || n.Offloaded != 4 || n.Sent != 12 || n.Lost != 0 {
		t.Errorf("%+v", n)
	}
}

// The destinations that refuse are remembered in bounded room; the oldest is tried anew.
func TestMoreDestinationsThatRefuseThanAreRemembered(t *testing.T) {
	a, b := pair(t, Options{})
	offloaded(t, a)
	for i := range maxPlain {
		var other sockaddr
		other.put(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), uint16(i+1)), false)
		if i == 0 {
			other.put(b.LocalAddr(), false)
		}
		a.out.plain[a.out.plains%maxPlain] = other
		a.out.plains++
	}
	var to sockaddr
	to.put(b.LocalAddr(), false)
	if a.out.joins(&to) {
		t.Error("forgotten too early")
	}
	a.out.plain[a.out.plains%maxPlain] = sockaddr{}
	if a.out.plains++; !a.out.joins(&to) {
		t.Error("never forgotten")
	}
}

// More than a batch lies in the socket, joined: it comes in portions, and until the last
// of them nobody may believe that the socket is empty (SAFETY 4).
func TestAJoinedFloodComesInPortionsAndDrainedIsTheTruth(t *testing.T) {
	a, b := pair(t, Options{})
	offloaded(t, a)
	sizes := make([]int, 5*Batch+7)
	for i := range sizes {
		sizes[i] = 200
	}
	out := numbered(b.LocalAddr(), sizes...)
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	got := 0
	for {
		n, err := b.Receive(time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if d, _ := b.Datagram(i); !bytes.Equal(d, out[got+i].Bytes) {
				t.Fatalf("datagram %d is another", got+i)
			}
		}
		if got += n; b.Drained() {
			break
		}
		if n == 0 || n > Batch {
			t.Fatalf("%d datagrams after %d, and not drained", n, got)
		}
	}
	if got != len(out) {
		t.Errorf("drained after %d of %d", got, len(out))
	}
	if n := b.Counts().Joined; n == 0 || n > 6 {
		t.Errorf("%d runs", n)
	}
}

func TestADeadDestinationCostsARunToALiveOneNothing(t *testing.T) {
	a, b := pair(t, Options{})
	dead := closedPort(t, "127.0.0.1:0")
	out := append(numbered(dead, 100, 100, 100), numbered(b.LocalAddr(), 900, 900, 900)...)
	for range 50 {
		if err := a.Send(out); err != nil {
			t.Fatal(err)
		}
		expect(t, b, a.LocalAddr(), out[3:])
	}
	if _, err := a.Receive(far()); err != nil { // the answers wait in the error queue
		t.Fatal(err)
	}
	if c := a.Counts(); c.Lost != 0 || c.Fallbacks != 0 || c.Refused == 0 {
		t.Errorf("%+v", c)
	}
}

func TestRunsDoNotAllocate(t *testing.T) {
	a, b := pair(t, Options{})
	out := numbered(b.LocalAddr(), 1200, 1200, 1200, 1200, 300)
	if n := testing.AllocsPerRun(100, func() {
		if a.Send(out) != nil {
			panic("send")
		}
		for got := 0; got < len(out); {
			n, err := b.Receive(far())
			if err != nil {
				panic(err)
			}
			got += n
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever the kernel writes there, in whatever order, nothing is read past the end.
func FuzzControlMessages(f *testing.F) {
	f.Add(make([]byte, controlBytes))
	f.Add([]byte{20, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 104, 0, 0, 0, 0xb0, 4, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		aligned := make([]byte, len(b)+8)
		copy(aligned, b)
		joinedSize(aligned[:len(b)])
		isRefusal(aligned[:len(b)])
	})
}

func TestTheSizeIsFoundBehindOtherMessages(t *testing.T) {
	b := []byte{
		20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 40, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0,
		20, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 104, 0, 0, 0, 0xb0, 4, 0, 0}
	if n := joinedSize(b); n != 1200 {
		t.Errorf("%d, want 1200", n)
	}
}
