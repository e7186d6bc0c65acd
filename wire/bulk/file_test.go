package bulk

import (
	"bytes"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"balsa/wire"
	"balsa/wire/udp"
)

var fileSize = flag.Int64("bulk.file", 24<<20, "bytes of the file that crosses real sockets")

// end is one of the two: a socket, and what it drops of what it sends.
type end struct {
	socket *udp.Socket
	loss   float64
	rng    *rand.Rand
	kept   []wire.Packet
}

func newEnd(t *testing.T, loss float64) *end {
	s, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &end{socket: s, loss: loss, rng: rand.New(rand.NewPCG(1, 1))}
}

func (e *end) send(packets []wire.Packet) error {
	e.kept = e.kept[:0]
	for _, p := range packets {
		if e.rng.Float64() >= e.loss {
			e.kept = append(e.kept, p)
		}
	}
	return e.socket.Send(e.kept)
}

// wait receives until a deadline of the machine's clock, at most for a while.
func (e *end) wait(began time.Time, deadline int64) (int, error) {
	at := time.Now().Add(10 * time.Millisecond)
	if due := began.Add(time.Duration(min(deadline, 1<<60))); due.Before(at) {
		at = due
	}
	return e.socket.Receive(at)
}

// offer sends a file until it is there, or ctx ends.
func offer(ctx context.Context, e *end, to netip.AddrPort, boot uint64, file io.ReaderAt, total int64) error {
	began := time.Now()
	now := func() int64 { return int64(time.Since(began)) + 1 }
	s := NewSender(SenderOptions{Transfer: 7, Boot: boot, Total: uint64(total), Source: file})
	packer := wire.Packer{Limit: wire.SafeDatagram, Header: wire.Header{Src: 1, Dst: 2, Boot: boot}}
	var packets []wire.Packet
	for !s.Done() && ctx.Err() == nil {
		n, err := e.wait(began, s.Deadline())
		if err != nil {
			return err
		}
		for i := range n {
			b, _ := e.socket.Datagram(i)
			_, frames, err := wire.Open(b)
			if err != nil {
				return err
			}
			_, p, _ := frames.Next()
			var a wire.BulkAck
			if err := a.Decode(p); err != nil {
				return err
			}
			s.Ack(now(), &a)
		}
		packer.Reset()
		if _, err := s.Pack(now(), &packer); err != nil {
			return err
		}
		packets = packer.Flush(to, packets[:0])
		if err := e.send(packets); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take receives a file until all of it is there.
func take(e *end, file io.WriterAt, total int64, floor *atomic.Uint32) error {
	began := time.Now()
	now := func() int64 { return int64(time.Since(began)) + 1 }
	r := NewReceiver(ReceiverOptions{Transfer: 7, Total: uint64(total)})
	packer := wire.Packer{Limit: wire.SafeDatagram, Header: wire.Header{Src: 2, Dst: 1, Boot: 5}}
	var packets []wire.Packet
	var from netip.AddrPort
	for done := 0; done < 50; { // the last answers may be lost
		n, err := e.wait(began, r.Deadline())
		if err != nil {
			return err
		}
		for i := range n {
			var b []byte
			b, from = e.socket.Datagram(i)
			h, frames, err := wire.Open(b)
			if err != nil {
				return err
			}
			_, p, _ := frames.Next()
			var f wire.Bulk
			if err := f.Decode(p); err != nil {
				return err
			}
			_ = r.Part(now(), h.Boot, &f)
		}
		for {
			piece, off, b, ok := r.Whole()
			if !ok {
				break
			}
			if _, err := file.WriteAt(b, off); err != nil {
				return err
			}
			r.Written(now(), piece, false)
			floor.Store(r.Progress().Floor)
		}
		if r.Done() && n == 0 {
			done++
		}
		if a, ok := r.Ack(now()); ok && from.IsValid() {
			packer.Reset()
			a.Encode(packer.Frame(wire.KindBulkAck, a.Size()))
			packets = packer.Flush(from, packets[:0])
			if err := e.send(packets); err != nil {
				return err
			}
		}
	}
	return nil
}

// A file crosses real sockets that lose a twentieth each way; its sender dies in the midst,
// and another goes on.
func TestAFileCrossesALossyPathAndItsSendersDeath(t *testing.T) {
	total := *fileSize
	dir := t.TempDir()
	in, err := os.Create(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	content := make([]byte, total)
	noise(total).ReadAt(content, 0)
	if _, err := in.Write(content); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var rates [2]float64
	for i, loss := range []float64{0, 0.05} {
		if err := out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		receiver := newEnd(t, loss)
		var floor atomic.Uint32
		taken := make(chan error, 1)
		go func() { taken <- take(receiver, out, total, &floor) }()
		began := time.Now()
		if loss > 0 { // this one dies half way
			ctx, die := context.WithCancel(t.Context())
			go func() {
				for floor.Load() < wire.BulkPieces(uint64(total))/2 {
					time.Sleep(time.Millisecond)
				}
				die()
			}()
			if err := offer(ctx, newEnd(t, loss), receiver.socket.LocalAddr(), 1, in, total); err != context.Canceled {
				t.Fatal(err)
			}
		}
		if err := offer(t.Context(), newEnd(t, loss), receiver.socket.LocalAddr(), 2, in, total); err != nil {
			t.Fatal(err)
		}
		rates[i] = float64(total) / time.Since(began).Seconds()
		if err := <-taken; err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out.Name())
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("loss %v: the file is not what was sent: %d bytes, %v", loss, len(got), err)
		}
		t.Logf("loss %.0f %%: %.0f MB/s", 100*loss, rates[i]/1e6)
	}
	t.Logf("with loss and a death %.2f of the rate without", rates[1]/rates[0])
}
