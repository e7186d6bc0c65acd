//go:build !portable

package udp

import "testing"

// What holds for a socket on the runtime's poller holds for one past it, with one queue and with two.
func TestASocketOfItsOwnIsASocketLikeAnyOther(t *testing.T) {
	defer func() { kind = Options{} }()
	for name, o := range map[string]Options{"one queue": {Own: true}, "two": {Own: true, Apart: true}} {
		kind = o
		t.Run(name, asAnyOther)
	}
}
