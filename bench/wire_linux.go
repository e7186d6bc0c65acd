package bench

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of this thread so far.
func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareWay is the kernel by itself: a blocking call for each datagram.
func bareWay(_ *WireReport, size int) (*way, error) {
	x, _, err := blockingSocket()
	if err != nil {
		return nil, err
	}
	y, port, err := blockingSocket()
	if err != nil {
		return nil, errors.Join(err, unix.Close(x))
	}
	_ = unix.SetsockoptInt(y, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) // a burst may be large; refused, it is told by what is lost
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
	out, in := make([]byte, size), make([]byte, size)
	return &way{name: "bare", close: func() error { return errors.Join(unix.Close(x), unix.Close(y)) }, burst: func() error {
		for range wireBurst {
			if err := unix.Sendto(x, out, 0, to); err != nil {
				return err
			}
		}
		for range wireBurst {
			if _, err := unix.Read(y, in); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}
