package main

import "slices"

// mutants are the planted bugs, gathered from a file for each part of the
// system. Numbers are unique: to 100 those of the survey's list, from 101 to 399
// those of the rules of safety, from 400 on whatever a part adds, a hundred for each.
var mutants = slices.Concat(published, ruled, leases, stalls, gaps, logged, identities, sealed, answers)

// Packages whose tests look for a mutant beside the seeds.
var (
	raftTests   = []string{"./node/raft"}
	walTests    = []string{"./wal"}
	wireTests   = []string{"./wire"}
	kvTests     = []string{"./kv"}
	clientTests = []string{"./kv/client"}
	nodeTests   = []string{"./node"}
)
