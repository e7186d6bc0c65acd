// Package sim runs a whole cluster, servers, disks, network and clients, in
// one goroutine under virtual time, from one seed.
//
// The parts are the production ones: node.Node with its log, its wire and its
// Raft core, and client.Core. Only the edges are replaced: a clock that jumps
// from event to event, a memory disk that loses, tears and reorders unsynced
// sectors at a power cut, links that lose, duplicate, delay and cut. Nothing
// in a run depends on anything but its seed, so a seed that fails once fails
// always, and its trace hash proves it.
//
// A seed is at least 30 virtual seconds, 200 client operations and 5 faults.
// Each seed draws its own knobs and a subset of the fault classes (knobs.go).
// After each event the invariants of ledger.go hold; at the end a quorum is
// healed, the others stay broken in some seeds, and the history is
// linearizable, every acknowledged write is in the ledger once, each client is
// served again and equal applied indexes have equal state (ending.go). In a few
// seeds a data directory is cloned or restored: no safety is owed after that,
// but that a server notices (unbounded.go).
//
//	schedule.go   virtual time and random streams
//	knobs.go      what a seed draws
//	network.go    links between addresses
//	server.go     a process: its loop, its disk jobs, its life and death
//	client.go     clients and what they ask
//	reader.go     gets and scans at any server
//	operator.go   changes of the membership, and of who leads
//	fault.go      fault classes: when, how long, counted hits
//	liar.go       forged refusals, datagrams of the past and of others, wrong clocks
//	disk.go       calls that fail, disks that are full
//	unbounded.go  cloned and restored directories
//	ledger.go     invariants after each event (S1 to S9, S11 to S13, S15)
//	configurations.go  those of the membership (S10)
//	marks.go      states that a run must have met (E5)
//	history.go    operations and linearizability per key (E1)
//	ending.go     what is owed at the end (E1 to E4)
//	simulation.go one seed from its first event to its verdict
package sim
