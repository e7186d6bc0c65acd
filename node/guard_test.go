package node

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"balsa/kv"
	"balsa/wal/vfs"
	"balsa/wire"
	"balsa/wire/udp"
)

// hanging is the operating system's files, whose syncs do not end while it
// hangs.
type hanging struct {
	vfs.FS
	mu    sync.Mutex
	hangs chan struct{} // closed when they go on; nil: they do not hang
}

type hangingFile struct {
	vfs.File
	fs *hanging
}

func (h *hanging) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hangs = make(chan struct{})
}

func (h *hanging) goOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hangs != nil {
		close(h.hangs)
		h.hangs = nil
	}
}

func (h *hanging) Create(name string) (vfs.File, error) {
	f, err := h.FS.Create(name)
	return &hangingFile{f, h}, err
}

func (h *hanging) Open(name string) (vfs.File, error) {
	f, err := h.FS.Open(name)
	return &hangingFile{f, h}, err
}

func (f *hangingFile) Sync() error {
	f.fs.mu.Lock()
	wait := f.fs.hangs
	f.fs.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return f.File.Sync()
}

// stranger is a client that says what it is told to.
type stranger struct {
	t      *testing.T
	socket *udp.Socket
	seq    uint64
	packer wire.Packer
}

func newStranger(t *testing.T) *stranger {
	socket, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return &stranger{t: t, socket: socket, packer: wire.Packer{Header: wire.Header{Src: wire.ClientNode, Incarnation: 6, Boot: 6}, Limit: wire.MaxDatagram}}
}

// prove gets the token without which nothing is heard.
func (s *stranger) prove(to wire.Server) {
	for range 500 {
		s.packer.Reset()
		h := wire.Hello{Nonce: 1, Pad: 400}
		h.Encode(s.packer.Frame(wire.KindHello, h.Size()))
		s.send(to)
		count, err := s.socket.Receive(time.Now().Add(20 * time.Millisecond))
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range count {
			datagram, _ := s.socket.Datagram(i)
			_, frames, err := wire.Open(datagram)
			if err != nil {
				s.t.Fatal(err)
			}
			var r wire.HelloReply
			if kind, payload, _ := frames.Next(); kind == wire.KindHelloReply && r.Decode(payload) == nil {
				s.packer.Header.Token = r.Token
				return
			}
		}
	}
	s.t.Fatal("no token")
}

// put sends a put, and waits for no answer.
func (s *stranger) put(to wire.Server, cluster [16]byte) {
	s.prove(to)
	s.seq++
	s.packer.Reset()
	s.packer.Header.Cluster = wire.ClusterTag(cluster)
	r := wire.Request{Count: 1, Ops: kv.AppendCommand(nil, &kv.Command{Op: kv.Put, Client: 6, Seq: s.seq, AckedBelow: 1, Flags: kv.FlagRegister,
		Registered: 1, Key: []byte("k"), Value: []byte("v")})}
	r.Encode(s.packer.Frame(wire.KindRequest, r.Size()))
	s.send(to)
}

func (s *stranger) send(to wire.Server) {
	if err := s.socket.Send(s.packer.Flush(netip.MustParseAddrPort(to.Addr), nil)); err != nil {
		s.t.Fatal(err)
	}
}

func TestASyncThatNeverEndsSilencesNobody(t *testing.T) {
	pool := freePool(t, 3)
	disks := make([]*hanging, 3)
	stops := make([]func() error, 3)
	for i := range pool {
		disks[i] = &hanging{FS: vfs.OS}
		stops[i] = servingOn(t, initDir(t, uint16(i+1), pool), disks[i])
	}
	first := hello(t, pool)
	s := newStranger(t)
	follower, third := int(first.Leader)%3, int(first.Leader+1)%3
	disks[follower].hang()
	s.put(pool[first.Leader-1], first.Cluster)
	hello(t, pool[follower:follower+1]) // it has the entry by now, or will have it: it answers before, and goes on to
	time.Sleep(20 * time.Duration(inlinePatience))
	if r := hello(t, pool[follower:follower+1]); r.Leader != first.Leader {
		t.Errorf("a follower whose sync hangs follows %d, want %d", r.Leader, first.Leader)
	}
	disks[follower].goOn()
	disks[first.Leader-1].hang() // it leads on until the follower's disk counts as well again
	for end := time.Now().Add(20 * time.Second); ; {
		r := hello(t, pool)
		if r.Leader != first.Leader {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a leader whose sync hangs leads on")
		}
		s.put(pool[first.Leader-1], first.Cluster)
	}
	for _, i := range []int{follower, third} {
		if err := stops[i](); err != nil {
			t.Errorf("server %d: %v", i+1, err)
		}
	}
	if err := stops[first.Leader-1](); !errors.Is(err, ErrDiskHangs) {
		t.Errorf("stopped with %v, want ErrDiskHangs", err)
	}
	disks[first.Leader-1].goOn()
}
