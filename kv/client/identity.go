package client

// Identity is the client id and the number under which the servers will know a
// submitted operation: how the simulator finds it there. They are fixed when it
// is first sent, and 0, 0 before. h must not be done.
func (c *Core) Identity(h Handle) (id, seq uint64) {
	o := &c.ops[h]
	if o.cmd.Seq == 0 {
		return 0, 0
	}
	return o.cmd.Client, o.cmd.Seq
}
