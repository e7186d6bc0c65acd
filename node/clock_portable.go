//go:build !linux

package node

// sinceBoot is not to be had here: the time of a suspended machine is not counted.
func sinceBoot() (int64, bool) { return 0, false }
