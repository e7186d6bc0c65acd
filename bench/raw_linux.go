package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// The raw bound is a replicated operation with everything left out: one blocking thread a server, nothing outstanding but
// the one request, no Raft, no store. For a put each server writes a record into a prepared file and syncs it; for a
// get nobody does. What it takes, the machine takes from anybody.
//
//	client -> leader -> followers          each datagram: a sequence number and the record
//	          leader writes and syncs, while the followers do
//	          leader <- a majority         client <- leader

// rawServer is one server of the bound: it answers datagrams, after a sync if it has a file.
type rawServer struct {
	fd   int
	file *os.File // nil: nothing is written
	off  int64
}

func newRawServer(path string, out io.Writer) (*rawServer, error) {
	s := &rawServer{}
	if path != "" {
		file, err := prepareFile(path, floorFile)
		if err != nil {
			return nil, err
		}
		s.file = file
	}
	fd, port, err := blockingSocket()
	if err != nil {
		return nil, err
	}
	s.fd = fd
	fmt.Fprintln(out, port)
	return s, nil
}

func (s *rawServer) persist(record []byte) error {
	if s.file == nil {
		return nil
	}
	if _, err := s.file.WriteAt(record, s.off); err != nil {
		return err
	}
	s.off = (s.off + floorRecord) % floorFile
	return syncData(s.file)
}

// receive waits for a datagram; again says that there was none yet.
func (s *rawServer) receive(buf []byte) (n int, from unix.Sockaddr, again bool, err error) {
	n, from, err = unix.Recvfrom(s.fd, buf, 0)
	if err == unix.EAGAIN || err == unix.EINTR {
		return 0, nil, true, nil
	}
	return n, from, false, err
}

// rawFollower answers each record once it is on disk.
func rawFollower(ctx context.Context, path string, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := newRawServer(path, out)
	if err != nil {
		return err
	}
	buf := make([]byte, 2*floorRecord)
	for ctx.Err() == nil {
		n, from, again, err := s.receive(buf)
		if again {
			continue
		}
		if err == nil {
			err = s.persist(buf[:n])
		}
		if err == nil {
			err = unix.Sendto(s.fd, buf[:8], 0, from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rawLeader answers its client when a majority has the record: itself and half of the followers.
func rawLeader(ctx context.Context, path string, ports []string, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := newRawServer(path, out)
	if err != nil {
		return err
	}
	var followers []unix.Sockaddr
	for _, port := range ports {
		to, err := loopback(port)
		if err != nil {
			return err
		}
		followers = append(followers, to)
	}
	buf, acks := make([]byte, 2*floorRecord), make([]byte, 2*floorRecord)
	for ctx.Err() == nil {
		n, client, again, err := s.receive(buf)
		if again {
			continue
		}
		if err != nil {
			return err
		}
		if n != floorRecord {
			continue // a late acknowledgement of the last record
		}
		for _, to := range followers {
			if err := unix.Sendto(s.fd, buf[:n], 0, to); err != nil {
				return err
			}
		}
		if err := s.persist(buf[:n]); err != nil {
			return err
		}
		if err := s.collect(ctx, binary.LittleEndian.Uint64(buf), (len(followers)+1)/2, acks); err != nil {
			return err
		}
		if err := unix.Sendto(s.fd, buf[:8], 0, client); err != nil {
			return err
		}
	}
	return nil
}

// collect waits for so many acknowledgements of one record.
func (s *rawServer) collect(ctx context.Context, seq uint64, need int, buf []byte) error {
	for need > 0 && ctx.Err() == nil {
		n, _, again, err := s.receive(buf)
		if err != nil {
			return err
		}
		if !again && n == 8 && binary.LittleEndian.Uint64(buf) == seq {
			need--
		}
	}
	return nil
}

func loopback(port string) (unix.Sockaddr, error) {
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("the port of a helper: %w", err)
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: number}, nil
}

// askLoop sends a record, waits for its answer, and again, for so long.
func askLoop(ctx context.Context, port string, latency *hdrhistogram.Histogram, long time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, _, err := blockingSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to, err := loopback(port)
	if err != nil {
		return err
	}
	record, answer := make([]byte, floorRecord), make([]byte, 2*floorRecord)
	for i := range record {
		record[i] = byte(i + 1)
	}
	began := time.Now()
	for seq := uint64(1); time.Since(began) < long && ctx.Err() == nil; seq++ {
		binary.LittleEndian.PutUint64(record, seq)
		start := time.Now()
		if err := unix.Sendto(fd, record, 0, to); err != nil {
			return err
		}
		for binary.LittleEndian.PutUint64(answer, 0); binary.LittleEndian.Uint64(answer) != seq; {
			_, _, err := unix.Recvfrom(fd, answer, 0)
			if err == unix.EAGAIN || err == unix.EINTR {
				break // lost, or interrupted: this one does not count
			}
			if err != nil {
				return err
			}
		}
		if binary.LittleEndian.Uint64(answer) == seq {
			latency.RecordValue(min(int64(time.Since(start)), longest))
		}
	}
	return ctx.Err()
}
