package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balsa/wire"
)

// kind is the kind of socket that the tests use: a client's, unless a test runs them again.
var kind Options

func listen(t testing.TB, addr string) *Socket {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort(addr), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// far is a deadline that a passing test never reaches.
func far() time.Time { return time.Now().Add(time.Minute) }

// receive gathers n datagrams.
func receive(t testing.TB, s *Socket, n int) (got [][]byte, from []netip.AddrPort) {
	t.Helper()
	deadline := far()
	for len(got) < n {
		k, err := s.Receive(deadline)
		if err != nil {
			t.Fatal(err)
		}
		for i := range k {
			b, a := s.Datagram(i)
			got, from = append(got, bytes.Clone(b)), append(from, a)
		}
		if k == 0 && time.Now().After(deadline) {
			t.Fatalf("%d of %d datagrams arrived", len(got), n)
		}
	}
	return got, from
}

func TestDatagramsOfEverySizePassOnBothFamilies(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, err := Listen(netip.MustParseAddrPort(addr), kind)
		if err != nil && addr[0] == '[' {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b := listen(t, addr)
		var out []wire.Packet
		for i, n := range []int{1, 64, 1200, 9000, wire.MaxDatagram} {
			out = append(out, wire.Packet{To: b.LocalAddr(), Bytes: bytes.Repeat([]byte{byte(i + 1)}, n)})
		}
		if err := a.Send(out); err != nil {
			t.Fatal(err)
		}
		got, from := receive(t, b, len(out))
		for i := range out {
			if !bytes.Equal(got[i], out[i].Bytes) || from[i] != a.LocalAddr() {
				t.Errorf("%s: datagram %d: %d bytes from %v", addr, i, len(got[i]), from[i])
			}
		}
	}
}

func TestAnyAddressTakesBothFamiliesAndTellsIPv4AsSuch(t *testing.T) {
	b, err := Listen(netip.MustParseAddrPort("[::]:0"), kind)
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer b.Close()
	a := listen(t, "127.0.0.1:0")
	to := netip.AddrPortFrom(a.LocalAddr().Addr(), b.LocalAddr().Port())
	if err := a.Send([]wire.Packet{{To: to, Bytes: []byte("hi")}}); err != nil {
		t.Fatal(err)
	}
	_, from := receive(t, b, 1)
	if from[0] != a.LocalAddr() {
		t.Fatalf("from %v, want %v", from[0], a.LocalAddr())
	}
	if err := b.Send([]wire.Packet{{To: from[0], Bytes: []byte("ho")}}); err != nil {
		t.Fatal(err)
	}
	receive(t, a, 1)
}

func TestMoreThanABatchComesOutInSeveral(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	const n = 3*Batch + 5
	var out []wire.Packet
	for i := range n {
		out = append(out, wire.Packet{To: b.LocalAddr(), Bytes: binary.LittleEndian.AppendUint32(nil, uint32(i))})
	}
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	got, _ := receive(t, b, n)
	for i := range got {
		if v := binary.LittleEndian.Uint32(got[i]); v != uint32(i) {
			t.Fatalf("datagram %d carries %d", i, v)
		}
	}
	if c := a.Counts(); c.Sent != n || c.Lost != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	const n = 20
	out := make([]wire.Packet, 0, n)
	for range n {
		out = append(out, wire.Packet{To: b.LocalAddr(), Bytes: make([]byte, wire.MaxDatagram)})
	}
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	got := 0
	for deadline := far(); got < n; {
		k, err := b.Receive(deadline)
		if err != nil || k == 0 {
			t.Fatal(k, err)
		}
		if k > 1 && (k-1)*wire.MaxDatagram >= BatchBytes {
			t.Fatalf("%d datagrams of %d bytes at once", k, wire.MaxDatagram)
		}
		got += k
	}
}

func TestReceiveLooksAtTheSocketWhateverTheDeadline(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	for _, deadline := range []time.Time{{}, time.Now().Add(-time.Hour), far()} {
		if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		// Loopback delivers before the send returns.
		if n, err := b.Receive(deadline); n != 1 || err != nil {
			t.Errorf("deadline %v: %d, %v", deadline, n, err)
		}
	}
	for _, deadline := range []time.Time{{}, time.Now().Add(-time.Hour), time.Now().Add(time.Millisecond)} {
		if n, err := b.Receive(deadline); n != 0 || err != nil {
			t.Errorf("nothing there, deadline %v: %d, %v", deadline, n, err)
		}
	}
}

// A lost wake-up would leave the receiver in a wait of a minute, and the test with it.
func TestNoWakeIsLost(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	var posted, seen atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for seen.Load() < 20_000 {
			if _, err := s.Receive(far()); err != nil {
				t.Error(err)
				return
			}
			seen.Store(posted.Load())
		}
	}()
	for i := int64(1); i <= 20_000; i++ {
		posted.Store(i)
		s.Wake()
		if i%3 == 0 { // let it fall asleep now and then, at no fixed place
			for seen.Load() < i {
				runtime.Gosched()
			}
		}
	}
	<-done
}

func TestAWakeBeforeReceiveEndsTheNextOneOnly(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	s.Wake()
	s.Wake()
	if n, err := s.Receive(far()); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	start, short := time.Now(), 3*time.Millisecond
	if n, err := s.Receive(start.Add(short)); n != 0 || err != nil || time.Since(start) < short {
		t.Errorf("%d, %v: a wake ended a second Receive, after %v", n, err, time.Since(start))
	}
}

func TestCloseEndsAReceive(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	got := make(chan error)
	go func() {
		for {
			if _, err := s.Receive(far()); err != nil {
				got <- err
				return
			}
		}
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("receive: %v, want ErrClosed", err)
	}
	if err := s.Send([]wire.Packet{{To: s.LocalAddr(), Bytes: []byte("x")}}); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v, want ErrClosed", err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: %v, want ErrClosed", err)
	}
}

func TestAnAddressInUseIsTold(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	if other, err := Listen(s.LocalAddr(), kind); err == nil {
		other.Close()
		t.Fatal("bound twice")
	} else if !bytes.Contains([]byte(err.Error()), []byte(s.LocalAddr().String())) {
		t.Errorf("the error does not name the address: %v", err)
	}
}

func TestAPacketThatCanNotGoAnywhereIsALoss(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	out := []wire.Packet{
		{To: netip.AddrPort{}, Bytes: []byte("nowhere")},
		{To: netip.MustParseAddrPort("[::1]:9"), Bytes: []byte("the other family")},
		{To: b.LocalAddr(), Bytes: make([]byte, 70_000)},
		{To: b.LocalAddr(), Bytes: []byte("goes")},
	}
	if err := a.Send(out); err != nil {
		t.Fatal(err)
	}
	if got, _ := receive(t, b, 1); string(got[0]) != "goes" {
		t.Errorf("got %q", got[0])
	}
	if c := a.Counts(); c.Lost != 3 || c.Sent != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestManySendersShareASocket(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: []byte("x")}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	receive(t, b, 200)
	wg.Wait()
}
