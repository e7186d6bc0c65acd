package wire

import "fmt"

// Versions are a range of versions of the protocol, both ends included. The rule for a cluster whose servers are
// upgraded one by one is in docs/wire-protocol.md, "Versions".
type Versions struct{ Oldest, Newest uint8 }

// OldestVersion is the oldest version that is taken here: Version or the one before, as the rule has it.
const OldestVersion = 1

// Spoken are the versions that are taken here.
func Spoken() Versions { return Versions{OldestVersion, Version} }

// Take tells whether a version is one of them.
func (v Versions) Take(version uint8) bool { return version >= v.Oldest && version <= v.Newest }

// String names them for people.
func (v Versions) String() string {
	if v.Oldest == v.Newest {
		return fmt.Sprintf("version %d", v.Newest)
	}
	return fmt.Sprintf("versions %d to %d", v.Oldest, v.Newest)
}
