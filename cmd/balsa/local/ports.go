package local

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the range from which the kernel gives out ports by itself (32768 and up on Linux): a server
// that is killed and started again must find its port free, though clients come and go meanwhile.
const (
	lowestPort  = 15000
	highestPort = 32000
	portTries   = 2000
)

// freeAddrs finds n loopback addresses that nobody listens on now. All are held until all are found.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range portTries {
		if len(addrs) == n {
			return addrs, nil
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort)))
		socket, err := net.ListenPacket("udp4", addr)
		if err != nil {
			continue
		}
		defer socket.Close()
		addrs = append(addrs, addr)
	}
	return nil, fmt.Errorf("found %d of %d free UDP ports on 127.0.0.1 between %d and %d", len(addrs), n, lowestPort, highestPort)
}
