package demo

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"balsa/kv"
	"balsa/wire"
)

// relay stands between one client and one server, over real sockets, and is a bad network: it sends every request on
// several times, each in a datagram of its own as a retry is, and loses the first answer to each.
type relay struct {
	front, back *net.UDPConn
	over        sync.WaitGroup

	mu         sync.Mutex
	client     netip.AddrPort
	packer     wire.Packer
	number     uint64
	fresh      bool            // repeats carry a fresh identity: the protection is switched off
	mute       bool            // every answer to a request is lost
	answered   map[uint64]bool // sequence numbers whose first answer was lost
	registered int64           // log time of the client's registration
	last       *request        // the last request seen
	repeats    int
	sent, lost int // requests sent on, answers lost
}

// request is one datagram of a client, taken apart.
type request struct {
	header wire.Header
	frames []frame
}

type frame struct {
	kind    wire.Kind
	payload []byte
}

func newRelay(server string, repeats int, fresh bool) (*relay, error) {
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		return nil, err
	}
	r := &relay{fresh: fresh, repeats: repeats, answered: map[uint64]bool{}, packer: wire.Packer{Limit: wire.MaxDatagram}}
	if r.front, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	if r.back, err = net.DialUDP("udp4", nil, to); err != nil {
		r.front.Close()
		return nil, err
	}
	r.over.Go(r.forward)
	r.over.Go(r.backward)
	return r, nil
}

func (r *relay) addr() string { return r.front.LocalAddr().String() }

func (r *relay) close() {
	r.front.Close()
	r.back.Close()
	r.over.Wait()
}

// forward takes what the client sends.
func (r *relay) forward() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		q, ok := takeApart(buffer[:n])
		if !ok {
			continue
		}
		r.mu.Lock()
		r.client = from
		r.send(q, false)
		if q.asks() {
			r.last = q
			for range r.repeats {
				r.send(q, true)
			}
		}
		r.mu.Unlock()
	}
}

func takeApart(datagram []byte) (*request, bool) {
	h, frames, err := wire.Open(datagram)
	if err != nil {
		return nil, false
	}
	q := &request{header: h}
	for k, p, ok := frames.Next(); ok; k, p, ok = frames.Next() {
		q.frames = append(q.frames, frame{k, slices.Clone(p)})
	}
	return q, frames.Err() == nil
}

func (q *request) asks() bool {
	return slices.ContainsFunc(q.frames, func(f frame) bool { return f.kind == wire.KindRequest })
}

// send sends one copy on. The lock is held.
func (r *relay) send(q *request, again bool) {
	r.packer.Header = q.header
	r.packer.Header.Packet = r.number
	for _, f := range q.frames {
		payload := f.payload
		if f.kind == wire.KindRequest {
			r.sent++
			payload = r.identity(payload, again && r.fresh)
		}
		copy(r.packer.Frame(f.kind, len(payload)), payload)
	}
	for _, p := range r.packer.Flush(netip.AddrPort{}, nil) {
		r.back.Write(p.Bytes) // a server that died is what some of this is about
	}
	r.number = r.packer.Header.Packet
	r.packer.Reset()
}

// identity notes when the client registered, and gives the commands of a repeat another client's name if it must.
func (r *relay) identity(payload []byte, fresh bool) []byte {
	var q wire.Request
	if q.Decode(payload) != nil {
		return payload
	}
	var id [8]byte
	rand.Read(id[:])
	changed := slices.Clone(payload[:wire.RequestHeaderBytes])
	for b := q.Ops; len(b) > 0; {
		c, size, err := kv.DecodeCommand(b)
		if err != nil {
			return payload
		}
		b = b[size:]
		if c.Flags&kv.FlagRegister != 0 {
			r.registered = c.Registered
		}
		if !c.Op.IsRead() {
			c.Client, c.Registered, c.Flags = binary.LittleEndian.Uint64(id[:])|1, r.registered, c.Flags|kv.FlagRegister
		}
		changed = kv.AppendCommand(changed, &c)
	}
	if fresh {
		return changed
	}
	return payload
}

// backward takes what the server answers.
func (r *relay) backward() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.back.Read(buffer)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				continue // refused: no process there any more
			}
			return
		}
		q, ok := takeApart(buffer[:n])
		r.mu.Lock()
		to := r.client
		drop := !ok || r.loses(q)
		if drop {
			r.lost++
		}
		r.mu.Unlock()
		if !drop {
			r.front.WriteToUDPAddrPort(buffer[:n], to)
		}
	}
}

// loses says whether a datagram with answers is lost: when it has the first answer to something.
func (r *relay) loses(q *request) bool {
	lost := false
	for _, f := range q.frames {
		var reply wire.Reply
		if f.kind != wire.KindReply || reply.Decode(f.payload) != nil {
			continue
		}
		lost = lost || r.mute
		for b := reply.Results; len(b) > 0; {
			result, size, err := kv.DecodeResult(b)
			if err != nil {
				break
			}
			b = b[size:]
			lost = lost || !r.answered[result.Seq]
			r.answered[result.Seq] = true
		}
	}
	return lost
}

// replay sends the last request once more, long after its answer.
func (r *relay) replay(times int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		return fmt.Errorf("the relay has seen no request")
	}
	for range times {
		r.send(r.last, true)
	}
	return nil
}

// silence lets no answer through from now on.
func (r *relay) silence() {
	r.mu.Lock()
	r.mute = true
	r.mu.Unlock()
}

func (r *relay) counts() (sent, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent, r.lost
}
