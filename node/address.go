package node

import (
	"balsa/node/raft"
	"balsa/wire"
)

// Servers are where the configuration says, and it can say another place (a
// change that names a member with an address). Two kinds of servers cannot know
// yet where to answer: one that joins and whose pool never named its leader, and
// one that was away while its leader moved. They hear the leader and cannot be
// heard. So a leader tells those that are silent where it is, and a server that
// stands tells all, for without their votes nobody would.

const (
	tellAddress = 1e9 // ns of silence after which a server is told, and between two words
)

// tellAddresses does what is due of that.
func (n *Node) tellAddresses(now int64) {
	if n.core.Role() == raft.Follower {
		n.addressAt = now + tellAddress
		return
	}
	if now < n.addressAt {
		return
	}
	n.addressAt = now + tellAddress
	for i := range n.out.peers {
		id := n.out.peers[i].id
		if heard, member := n.core.Contact(id); member && now-heard >= tellAddress {
			n.sendAddress(now, id)
		}
	}
}

func (n *Node) sendAddress(now int64, id uint16) {
	f := wire.Address{Index: n.configurations.index(), Addr: n.out.addressOf(n.identity.ID)}
	if to := n.out.peerAt(now, id); to.IsValid() && len(f.Addr) > 0 {
		f.Encode(n.out.must(to, id, wire.KindAddress, f.Size()))
	}
}

// address takes where a server says it is, unless our own log says it newer.
// What it says is void again with the next configuration. Of servers that neither pool nor
// configuration name few are known at once: their names cost nothing.
func (n *Node) address(h *wire.Header, p []byte) {
	var f wire.Address
	if f.Decode(p) != nil || h.Src == 0 || h.Src == wire.ClientNode || h.Src == n.identity.ID {
		n.Counters.DroppedMalformed++
		return
	}
	if n.core != nil && h.Cluster != n.tag || h.Cluster == 0 {
		n.Counters.DroppedCluster++
		return
	}
	if n.core == nil || n.out.addressOf(h.Src) == nil || f.Index > n.configurations.index() {
		n.out.hear(h.Src, string(f.Addr))
	}
}
