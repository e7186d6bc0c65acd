package node

import (
	"net/netip"
	"slices"
)

// askers are clients that asked this server who leads while it did not lead.
// When it comes to lead it tells them, so that nobody who saw the old leader go
// waits for its own next question: clients ask at growing intervals, and would
// be blind for most of the last one. A client that is forgotten just asks again.
type askers struct{ list []asker } // oldest first

type asker struct {
	at    int64
	to    netip.AddrPort
	dst   uint16
	nonce uint64 // of its question, which the answer repeats
}

const (
	maxAskers   = 1024
	askedWithin = 2e9 // ns; who asked longer ago has its answer, or is gone
)

// add notes a question, one for each address.
func (a *askers) add(q asker) {
	a.list = slices.DeleteFunc(a.list, func(o asker) bool { return o.to == q.to || q.at-o.at > askedWithin })
	if len(a.list) == maxAskers {
		a.list = slices.Delete(a.list, 0, 1)
	}
	a.list = append(a.list, q)
}

// Farewell tells the clients that were heard lately, when this server is about
// to stop, who leads and where: whoever asks it afterwards gets no answer, and may
// know no other server that is still where it was.
func (n *Node) Farewell(now int64) {
	if n.core == nil || n.core.Leader() == 0 || n.Leading() {
		return
	}
	for c, told := n.clients.newest, 0; c != nil && now-c.heard <= askedWithin && told < maxAskers; c = c.older {
		n.notLeader(c.addr, nil)
		told++
	}
}

// announce tells those that asked lately that this server leads.
func (n *Node) announce(now int64) {
	for _, q := range n.askers.list {
		if now-q.at <= askedWithin {
			n.answerHello(now, q.to, q.dst, q.nonce)
		}
	}
	n.askers.list = n.askers.list[:0]
}
