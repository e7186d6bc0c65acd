//go:build !linux

package node

// binding does nothing here.
type binding struct{}

func (b *binding) bind() int { return -1 }
func (b *binding) free()     {}

// drivenOff cannot be had here, so nothing spins.
func drivenOff() (int64, bool) { return 0, false }
