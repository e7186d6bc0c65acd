package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
	"balsa/wire/udp"
)

// freePool finds count loopback addresses that nothing listens at.
func freePool(t *testing.T, count int) []wire.Server {
	var pool []wire.Server
	for i := range count {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() // only when all are found, so that no two are the same
		pool = append(pool, wire.Server{ID: uint16(i + 1), Addr: c.LocalAddr().String()})
	}
	return pool
}

func initDir(t *testing.T, id uint16, pool []wire.Server) string {
	dir := filepath.Join(t.TempDir(), strconv.Itoa(int(id)))
	err := Init(InitOptions{FS: vfs.OS, Dir: dir, ID: id, Pool: append([]wire.Server(nil), pool...), SegmentBytes: 1 << 20, Random: Random})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// serving runs one server until the returned stop is called, which gives what
// Serve returned.
func serving(t *testing.T, dir string) (stop func() error) { return servingOn(t, dir, vfs.OS) }

func servingOn(t *testing.T, dir string, fs vfs.FS) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		ended <- Serve(ctx, Config{Data: dir, SegmentBytes: 1 << 20, fs: fs, Logger: slog.New(slog.DiscardHandler),
			Ready: func(*Node, netip.AddrPort) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("serve: %v", err)
	}
	return func() error {
		cancel()
		return <-ended
	}
}

// hello asks every server of the pool who leads until one knows.
func hello(t *testing.T, pool []wire.Server) wire.HelloReply {
	socket, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	p := wire.Packer{Header: wire.Header{Src: wire.ClientNode, Incarnation: 5, Boot: 5}, Limit: wire.MaxDatagram}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		for _, s := range pool {
			p.Reset()
			h := wire.Hello{Nonce: 1, Pad: 400}
			h.Encode(p.Frame(wire.KindHello, h.Size()))
			if err := socket.Send(p.Flush(netip.MustParseAddrPort(s.Addr), nil)); err != nil {
				t.Fatal(err)
			}
		}
		count, err := socket.Receive(time.Now().Add(50 * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			datagram, _ := socket.Datagram(i)
			_, frames, err := wire.Open(datagram)
			if err != nil {
				t.Fatal(err)
			}
			var r wire.HelloReply
			if _, payload, ok := frames.Next(); ok && r.Decode(payload) == nil && r.Leader != 0 {
				r.LeaderAddr, r.Servers = nil, nil // views of the socket's memory
				return r
			}
		}
	}
	t.Fatal("no leader within 20 s")
	return wire.HelloReply{}
}

func TestServersElectStopCleanlyAndResume(t *testing.T) {
	pool := freePool(t, 3)
	dirs := []string{initDir(t, 1, pool), initDir(t, 2, pool), initDir(t, 3, pool)}
	var cluster [16]byte
	for round := range 2 {
		var stops []func() error
		for _, dir := range dirs {
			stops = append(stops, serving(t, dir))
		}
		r := hello(t, pool)
		if round == 1 && r.Cluster != cluster {
			t.Errorf("after a restart the cluster is %x, want %x", r.Cluster, cluster)
		}
		cluster = r.Cluster
		for i, stop := range stops {
			if err := stop(); err != nil {
				t.Errorf("server %d stopped with %v, want nil", i+1, err)
			}
		}
	}
}

func TestServeTellsWhatIsWrong(t *testing.T) {
	pool := freePool(t, 1)
	dir := initDir(t, 1, pool)
	serve := func(c Config) error {
		c.Logger = slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return Serve(ctx, c)
	}
	if err := serve(Config{Data: t.TempDir()}); !errors.Is(err, wal.ErrNotMade) {
		t.Errorf("a directory never made: got %v, want wal.ErrNotMade", err)
	}
	if err := serve(Config{Data: dir, Listen: "0.0.0.0:0"}); !errors.Is(err, ErrNotLoopback) {
		t.Errorf("an open address: got %v, want ErrNotLoopback", err)
	}
	stop := serving(t, dir)
	if err := serve(Config{Data: dir}); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a directory in use: got %v, want vfs.ErrLocked", err)
	}
	other := initDir(t, 1, pool)
	if err := serve(Config{Data: other}); err == nil {
		t.Error("an address in use was taken")
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// A client must not be able to choose keys that the store takes long to find.
func TestAServerSeedsItsKeyHash(t *testing.T) {
	key := []byte("key")
	seen := map[uint64]bool{xxhash.Sum64(key): true}
	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		dir := initDir(t, 1, freePool(t, 1))
		err := Serve(ctx, Config{Data: dir, SegmentBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler),
			Ready: func(n *Node, _ netip.AddrPort) {
				if h := n.o.KeyHash(key); seen[h] {
					t.Errorf("the hash %#x was to be foreseen", h)
				} else {
					seen[h] = true
				}
				cancel()
			}})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d hashes seen, want 3", len(seen))
	}
}
