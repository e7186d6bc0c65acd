package sim

import "math/rand/v2"

// drawLeases decides whether the cluster is founded with leases. They rely on
// clocks that neither jump nor stand still, each within a tenth of true time:
// drift goes up to that, and what goes beyond it is left out. Processes stop
// and go on, disks hang and the network delays as in any other seed.
func (k *knobs) drawLeases(r *rand.Rand) {
	k.Leases = chance(r, 0.4)
	k.Faults[ClockJump] = k.Faults[ClockJump] && !k.Leases
}

// leasesOver: nobody comes to lead a later term while a server holds a lease; by
// that server's own clock, which runs on while its process is stopped. One that
// learns late that it was elected for an earlier term can decide nothing.
func (s *simulation) leasesOver(id uint16, term uint64) {
	if !s.knobs.Leases {
		return
	}
	for _, o := range s.servers {
		if o.id == id || o.node == nil || !o.node.Leading() || o.node.Core().Term() > term {
			continue
		}
		if o.node.Core().Leased(o.clock()) {
			s.violate("R1", "server %d leads term %d while server %d holds a lease of term %d", id, term, o.id, o.node.Core().Term())
		}
		s.met[MarkLeaseRanOut]++
	}
}
