// Package udp sends and receives batches of datagrams.
//
// On Linux a batch is one system call (recvmmsg, sendmmsg), made without telling the
// scheduler, on a descriptor of the runtime's poller: no call allocates, and one that
// finds data never parks. Equal datagrams to one destination leave as one (UDP_SEGMENT)
// and such a run arrives as one (UDP_GRO), where the system can and a destination
// never refused it. Elsewhere the standard library does it, a datagram a call.
//
// A Socket is read by one goroutine (Receive, Datagram). Send, Wake, Refused and
// Counts are safe from any.
package udp

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"balsa/wire"
)

// Batch is the most datagrams that one Receive gives.
const Batch = 64

// BatchBytes bounds them together: the datagram that reaches it is the last of a batch, so that no turn of who receives is long.
const BatchBytes = 256 << 10

// slotBytes holds the largest datagram we take; a larger one is counted and dropped.
const slotBytes = 64 << 10

// DefaultBuffer is what a socket asks for each of its kernel buffers.
const DefaultBuffer = 4 << 20

// ErrClosed is what every call gives after Close.
var ErrClosed = errors.New("udp: socket is closed")

// Options of a Socket. Zero takes the value named.
type Options struct {
	ReceiveBuffer int // bytes asked for, SO_RCVBUF (4 MiB); the system may give less
	SendBuffer    int // bytes asked for, SO_SNDBUF (4 MiB)

	Apart bool // a server's: clients' datagrams wait in a queue of their own, where the system can
	Own   bool // the process lives for this socket: Receive waits past the runtime's poller, where the system can
	Plain bool // no offload, neither in sending nor in receiving: the kill switch
}

// Counts are totals since Listen.
type Counts struct {
	Received  uint64 // datagrams handed out
	Sent      uint64 // datagrams the system took
	Lost      uint64 // datagrams a transient error kept from being sent
	Truncated uint64 // datagrams too large for us
	Overflows uint64 // datagrams (or runs that came whole) that a receive buffer had no room for, as far as those behind them told
	Refused   uint64 // answers by ICMP: nobody listens there
	Offloaded uint64 // of Sent: left in runs that the system parts
	Joined    uint64 // runs that the system handed us whole
	Fallbacks uint64 // runs that it refused, and that left as single datagrams

	ReceiveCalls uint64 // system calls that received, or found nothing
	SendCalls    uint64
	Looks        uint64 // calls of Options.Own that asked what is there, and waited for it if nothing was
	Waits        uint64 // times that Receive found nothing and waited by the runtime's poller: a call, and one of the runtime's to wake up
}

type counters struct {
	received, sent, lost, truncated, overflows, refused, offloaded, joined, fallbacks, receiveCalls, sendCalls, looks, waits atomic.Uint64
}

func (c *counters) load() Counts {
	return Counts{
		Received: c.received.Load(), Sent: c.sent.Load(), Lost: c.lost.Load(),
		Truncated: c.truncated.Load(), Overflows: c.overflows.Load(), Refused: c.refused.Load(),
		Offloaded: c.offloaded.Load(), Joined: c.joined.Load(), Fallbacks: c.fallbacks.Load(),
		ReceiveCalls: c.receiveCalls.Load(), SendCalls: c.sendCalls.Load(), Looks: c.looks.Load(), Waits: c.waits.Load(),
	}
}

// refusals are the destinations that refused since they were last asked for. The
// reader and every sender add to them; more than maxRefusals at once are hints we
// can do without.
type refusals struct {
	any  atomic.Bool // spares the common case the lock
	mu   sync.Mutex
	list []netip.AddrPort
}

const maxRefusals = 128

func (r *refusals) add(a netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.list {
		if a == b {
			return
		}
	}
	if len(r.list) < maxRefusals {
		r.list = append(r.list, a)
		r.any.Store(true)
	}
}

func (r *refusals) take(visit func(netip.AddrPort)) {
	if !r.any.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.any.Store(false)
	for _, a := range r.list {
		visit(a)
	}
	r.list = r.list[:0]
}

// Every datagram that we send must fit a slot of who receives it.
const _ = uint(slotBytes - wire.MaxDatagram)
