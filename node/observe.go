package node

import (
	"balsa/kv"
	"balsa/node/raft"
	"balsa/wire"
)

// Observer sees a node's decisive moments, synchronously and in order. The
// simulator checks Raft's invariants with it; production has none.
type Observer interface {
	Leader(term uint64)                                    // became the leader of term
	Appended(index, term, sum uint64, kind uint8)          // entered the log, not yet durable
	Configured(index uint64, c *wire.Configuration)        // the entry at index, just appended, or 0 for the founding list, is in force
	Truncated(from uint64)                                 // entries from this index on left the log
	Synced(index, term uint64)                             // the log is durable up to here
	Hard(term uint64, vote uint16)                         // this hard state is durable
	Committed(index, term, sum uint64)                     // about to be applied
	Sent(m *raft.Message)                                  // a Raft message leaves
	Applied(index uint64, client, seq uint64, r kv.Result) // a command's result, a repeat's too
	Read(index, client, seq uint64)                        // a read was served at this applied index
}

// Counters count what was dropped and why. They only rise.
type Counters struct {
	DroppedMalformed   uint64 // not a datagram of ours, or a frame that does not decode
	DroppedVersion     uint64 // datagrams of another version of the protocol
	SkippedKinds       uint64 // frames of a kind that this version has no name for: of newer software
	DroppedCluster     uint64 // of another cluster
	DroppedDestination uint64 // for another server: an address was reused
	DroppedSum         uint64 // an entry whose checksum does not hold
	DroppedFull        uint64 // entries a full disk has no room for; the leader sends them again
	DroppedIncarnation uint64 // from a member under another incarnation
	DroppedFragments   uint64 // contradict an earlier one, or found no room
	DroppedLarge       uint64 // large answers, and appends in fragments, that found no room or whose path shrank
	DroppedReplays     uint64 // datagrams with requests that the network repeated
	DroppedSeal        uint64 // sealed with another key, or not as it must be here
	DroppedUnproven    uint64 // frames of clients, and questions of unknown servers, whose address is not proven
	DroppedCrowd       uint64 // of unknown senders, or clients, too many at once
	DroppedBlank       uint64 // Raft messages that reached a blank server
	RefusedBusy        uint64 // commands refused for want of room
	Repeats            uint64 // commands answered from the session's cache
	Turns              uint64
	Entries            uint64 // proposed here
	Commands           uint64 // proposed here
	VotesRefused       uint64 // and pre-votes, by this server
	DiskStalls         uint64 // syncs that took so long that another server should have led
	StallsHandedOver   uint64 // of them, those for which leadership was handed over
	Twins              uint64 // incarnations seen alive from two boots at once
	Restored           uint64 // members that lacked what they had acknowledged
	Refused            uint64 // ICMP port unreachable seen
}
