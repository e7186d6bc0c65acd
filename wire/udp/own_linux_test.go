//go:build !portable

package udp

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"balsa/wire"
)

// What holds for a socket on the runtime's poller holds for one past it, with one queue and with two.
func TestASocketOfItsOwnIsASocketLikeAnyOther(t *testing.T) {
	defer func() { kind = Options{} }()
	for name, o := range map[string]Options{"one queue": {Own: true}, "two": {Own: true, Apart: true}} {
		kind = o
		t.Run(name, asAnyOther)
	}
}

func TestAReceiveThatSpinsHearsAllThatOneThatWaitsHears(t *testing.T) {
	kind = Options{Own: true}
	defer func() { kind = Options{} }()
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	b.Spin(time.Hour)
	b.BusyPoll(time.Microsecond)
	if n, err := b.Receive(time.Now().Add(time.Millisecond)); n != 0 || err != nil {
		t.Fatalf("at the deadline: %d, %v", n, err)
	}
	heard := make(chan int)
	go func() {
		defer close(heard)
		for {
			n, err := b.Receive(far())
			if err != nil {
				return
			}
			heard <- n
		}
	}()
	for range 30 {
		if err := a.Send([]wire.Packet{{To: b.LocalAddr(), Bytes: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		n := <-heard
		for n == 0 { // a Wake may end two
			n = <-heard
		}
		if n != 1 {
			t.Fatalf("%d datagrams, want 1", n)
		}
		b.Wake()
		if n := <-heard; n != 0 {
			t.Fatalf("woken: %d datagrams, want none", n)
		}
		runtime.GC() // stops the world, and so who spins
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for range heard { // until it ends
	}
}

// One that holds its processor in a wait lets the world be stopped, again and again.
func TestAWaitThatHoldsItsProcessorHoldsUpNobody(t *testing.T) {
	kind = Options{Own: true}
	defer func() { kind = Options{} }()
	b := listen(t, "127.0.0.1:0")
	ended := make(chan error)
	go func() {
		for {
			if _, err := b.Receive(far()); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 50 {
		runtime.GC()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.own.rouse() // by whoever saw it wait: into no other file
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
