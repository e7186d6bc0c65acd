package raft

import "testing"

// What a put and a get do in the core, a stage each: `.ci/hot` fails when one of them allocates.

func hot(b *testing.B, once func()) {
	b.Helper()
	for range 200 {
		once()
	}
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

func hotLeader(b *testing.B) *Core {
	c := newCore(1, Start{})
	elect(b, c)
	flush(c)
	return c
}

// hotAck is what a follower answers that has everything.
func hotAck(c *Core, id uint16) Message {
	return Message{Kind: Ack, From: id, FromIncarnation: uint64(id) * 1000, FromBoot: uint64(id) * 10, Term: 1, EchoBoot: 10,
		EchoSeq: c.seq, EchoRound: c.round, Match: c.log.last, LastIndex: c.log.last}
}

// BenchmarkHotCommit is a proposal, its leaving, the leader's own sync, and the answers that commit it.
func BenchmarkHotCommit(b *testing.B) {
	c := hotLeader(b)
	hot(b, func() {
		e := Entry{Kind: Commands, Size: 100}
		if err := c.Propose(c.now+1, &e); err != nil {
			b.Fatal(err)
		}
		flush(c)
		for id := uint16(2); id <= 3; id++ {
			m := hotAck(c, id)
			c.Step(c.now, &m)
		}
		c.Take()
	})
}

// BenchmarkHotAccept is an entry at a follower, its sync and its acknowledgement.
func BenchmarkHotAccept(b *testing.B) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
	flush(c)
	batch := entries(1, 1, 1)
	hot(b, func() {
		batch[0].Index = c.log.last + 1
		m := Message{Kind: Append, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, PrevIndex: c.log.last, PrevTerm: c.log.lastTerm(),
			Commit: c.log.last, Timeout: 100 * msec, Entries: batch}
		c.Step(c.now+1, &m)
		flush(c)
		c.Take()
	})
}

// BenchmarkHotRead is a read at the leader and the round that serves it.
func BenchmarkHotRead(b *testing.B) {
	c := hotLeader(b)
	hot(b, func() {
		if _, err := c.Read(c.now + 1); err != nil {
			b.Fatal(err)
		}
		c.Take()
		m := hotAck(c, 2)
		c.Step(c.now, &m)
		c.Take()
	})
}
