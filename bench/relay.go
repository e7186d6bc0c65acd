package bench

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"balsa/wire"
	"balsa/wire/udp"
)

// relay stands at a server's address, hands everything on, both ways, and remembers the last of what it handed to the
// server: to repeat it from the very address that the server knows its sender by.
type relay struct {
	front *udp.Socket
	to    netip.AddrPort
	over  sync.WaitGroup

	mu     sync.Mutex
	flows  map[netip.AddrPort]*udp.Socket // by sender; bounded by who takes part
	kept   []record                       // a ring
	at     int
	closed bool
}

type record struct {
	flow  *udp.Socket
	bytes []byte
}

func newRelay(at, to netip.AddrPort) (*relay, error) {
	front, err := udp.Listen(at, udp.Options{})
	if err != nil {
		return nil, err
	}
	r := &relay{front: front, to: to, flows: map[netip.AddrPort]*udp.Socket{}}
	r.over.Go(func() {
		for {
			n, err := front.Receive(time.Now().Add(time.Minute))
			if err != nil {
				return
			}
			for i := range n {
				b, from := front.Datagram(i)
				if s := r.flow(from); s != nil {
					r.keep(s, b)
					_ = s.Send([]wire.Packet{{To: to, Bytes: b}}) // lost, if it fails
				}
			}
			front.Refused(func(netip.AddrPort) {})
		}
	})
	return r, nil
}

func (r *relay) flow(from netip.AddrPort) *udp.Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.flows[from]; s != nil || r.closed || len(r.flows) == 256 {
		return s
	}
	s, err := udp.Listen(netip.AddrPortFrom(r.to.Addr(), 0), udp.Options{})
	if err != nil {
		return nil
	}
	r.flows[from] = s
	r.over.Go(func() {
		for {
			n, err := s.Receive(time.Now().Add(time.Minute))
			if err != nil {
				return
			}
			for i := range n {
				b, _ := s.Datagram(i)
				_ = r.front.Send([]wire.Packet{{To: from, Bytes: b}})
			}
			s.Refused(func(netip.AddrPort) {})
		}
	})
	return s
}

func (r *relay) keep(s *udp.Socket, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(b) > 4096 {
		return // memory
	}
	if len(r.kept) < recorded {
		r.kept = append(r.kept, record{s, slices.Clone(b)})
		return
	}
	r.kept[r.at] = record{s, append(r.kept[r.at].bytes[:0], b...)}
	r.at = (r.at + 1) % recorded
}

// records gives copies of what is kept.
func (r *relay) records() (all [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kept {
		all = append(all, slices.Clone(k.bytes))
	}
	return all
}

// repeat sends some of what is kept again, each from where it came from, and gives how many and how many bytes.
func (r *relay) repeat(random *rand.Rand) (n, bytes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range min(16, len(r.kept)) {
		k := r.kept[random.IntN(len(r.kept))]
		if k.flow.Send([]wire.Packet{{To: r.to, Bytes: k.bytes}}) == nil {
			n, bytes = n+1, bytes+uint64(len(k.bytes))
		}
	}
	return n, bytes
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.front.Close()
	for _, s := range r.flows {
		s.Close()
	}
	r.mu.Unlock()
	r.over.Wait()
}
