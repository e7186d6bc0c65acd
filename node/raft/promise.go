package raft

// promise is a deadline on this server's own clock: until then it gives no vote and no pre-vote, to itself neither.
// It only moves forward, so a shorter timeout handed out later never takes back what a leader may rely on. What a lease
// may rest on ends in no other way; the rest may end early, when the leader is seen to be gone.
type promise struct{ until, leased int64 }

// keep promises a leader heard at now not to elect another for timeout nanoseconds.
func (p *promise) keep(now, timeout int64, leases bool) {
	p.until = max(p.until, now+timeout)
	if leases {
		p.leased = max(p.leased, now+timeout)
	}
}

// end takes back all that no lease can rest on.
func (p *promise) end() { p.until = min(p.until, p.leased) }

// holds tells whether a vote would break the promise.
func (p *promise) holds(now int64) bool { return now < p.until }

// SetTimes changes T from now on: what this server hands out as leader, and how long it waits as candidate; and with it
// how often a leader speaks and after what silence anything is repeated. What was promised stays promised.
func (c *Core) SetTimes(timeout, heartbeat, resend int64) {
	if c.cfg.ProbeAfter == c.cfg.Heartbeat*5/2 {
		c.cfg.ProbeAfter = heartbeat * 5 / 2
	}
	c.cfg.Timeout, c.cfg.Heartbeat, c.cfg.Resend = min(timeout, c.cfg.LargestTimeout), heartbeat, resend
}

// restart begins without a promise: what was promised before a crash is forgotten, which is only safe while no lease
// rests on it. Where the configuration allows leases, the vote is held for the largest timeout there is.
func (p *promise) restart(now int64, leases bool, largest int64) {
	if leases {
		p.keep(now, largest, true)
	}
}
