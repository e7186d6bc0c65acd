package wal

import "fmt"

// Verdict is what is wrong, ordered by what counts more.
type Verdict uint8

const (
	Clean   Verdict = iota
	Torn            // a tail that is proven never synced; the next start cuts it
	Suspect         // damage at the end that nothing proves either way
	Corrupt         // damage to synced bytes, or a file shorter than it must be
	Missing         // a segment is gone
	Newer           // written by a later version
)

func (v Verdict) String() string {
	names := [...]string{"clean", "torn", "suspect", "corrupt", "missing", "newer"}
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("verdict%d", uint8(v))
}

// ExitCode is the code with which `balsa wal verify` ends.
func (v Verdict) ExitCode() int {
	return [...]int{0, 10, 14, 11, 12, 13}[min(v, Newer)]
}
