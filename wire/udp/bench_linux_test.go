//go:build !portable

package udp

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"balsa/wire"
)

// An operation is a burst of datagrams sent and received again, on one goroutine: what
// the kernel and we take of the processor for it, without a wake-up. Bare is the kernel
// alone, sendto and recvfrom by hand, a call a datagram.
const burst = 32

func BenchmarkHotBurst(b *testing.B) {
	for _, size := range []int{100, 1200} {
		b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) { benchmarkBare(b, size) })
		b.Run(fmt.Sprintf("mmsg/%d", size), func(b *testing.B) { benchmarkBurst(b, size, Options{Plain: true}) })
		b.Run(fmt.Sprintf("offload/%d", size), func(b *testing.B) { benchmarkBurst(b, size, Options{}) })
	}
}

func benchmarkBurst(b *testing.B, size int, o Options) {
	x, y := pair(b, o)
	out := make([]wire.Packet, burst)
	for i := range out {
		out[i] = wire.Packet{To: y.LocalAddr(), Bytes: make([]byte, size)}
	}
	measure(b, func() {
		if err := x.Send(out); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < burst; {
			n, err := y.Receive(time.Time{})
			if err != nil || n == 0 {
				b.Fatal(n, err)
			}
			got += n
		}
	})
}

func benchmarkBare(b *testing.B, size int) {
	x, y := pair(b, Options{Plain: true})
	fx, fy := int(x.file.Fd()), int(y.file.Fd())
	for _, fd := range []int{fx, fy} { // Fd made them blocking
		if err := unix.SetNonblock(fd, true); err != nil {
			b.Fatal(err)
		}
	}
	var to sockaddr
	n, _ := to.put(y.LocalAddr(), false)
	out, in := make([]byte, size), make([]byte, 2048)
	var from sockaddr
	measure(b, func() {
		for range burst {
			if _, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fx), uintptr(unsafe.Pointer(&out[0])), uintptr(size), 0, uintptr(unsafe.Pointer(&to)), uintptr(n)); e != 0 {
				b.Fatal(e)
			}
		}
		for range burst {
			space := uint32(unsafe.Sizeof(from))
			if _, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fy), uintptr(unsafe.Pointer(&in[0])), uintptr(len(in)), 0, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&space))); e != 0 {
				b.Fatal(e)
			}
		}
	})
}

// measure runs one burst after another and tells the cost of a datagram, there and back
// into our memory: of the clock, and of the processor.
func measure(b *testing.B, burstOnce func()) {
	burstOnce()
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		burstOnce()
	}
	datagrams := float64(burst * b.N)
	b.ReportMetric(float64(b.Elapsed())/datagrams, "ns/datagram")
	b.ReportMetric(float64(processorTime(b)-before)/datagrams, "cpu-ns/datagram")
	b.ReportMetric(datagrams/b.Elapsed().Seconds(), "datagrams/s")
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A round trip between two goroutines, each waiting for the other: through our sockets,
// and through bare blocking ones on threads of their own.
func BenchmarkHotRoundTrip(b *testing.B) {
	b.Run("socket", func(b *testing.B) {
		x, y := pair(b, Options{})
		go func() {
			for {
				n, err := y.Receive(far())
				if err != nil {
					return
				}
				for i := range n {
					d, from := y.Datagram(i)
					answer := [1]wire.Packet{{To: from, Bytes: d}}
					if y.Send(answer[:]) != nil {
						return
					}
				}
			}
		}()
		ask := []wire.Packet{{To: y.LocalAddr(), Bytes: make([]byte, 64)}}
		deadline := far()
		b.ReportAllocs()
		for b.Loop() {
			if err := x.Send(ask); err != nil {
				b.Fatal(err)
			}
			for n := 0; n == 0; {
				var err error
				if n, err = x.Receive(deadline); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkBareRoundTrip is what it is compared with.
func BenchmarkBareRoundTrip(b *testing.B) {
	x, y := bareSocket(b), bareSocket(b)
	go echoBare(y)
	name, err := unix.Getsockname(y)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := unix.Sendto(x, buf, 0, name); err != nil {
			b.Fatal(err)
		}
		if _, _, err := unix.Recvfrom(x, buf, 0); err != nil {
			b.Fatal(err)
		}
	}
	unix.Sendto(x, buf[:1], 0, name) // ends the echo
}

func bareSocket(b *testing.B) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr("127.0.0.1").As4()})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return fd
}

func echoBare(fd int) {
	buf := make([]byte, 64)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n == 1 || unix.Sendto(fd, buf[:n], 0, from) != nil {
			return
		}
	}
}
