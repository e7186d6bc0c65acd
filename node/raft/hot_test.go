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

// BenchmarkHotGap is an entry at a follower that comes before the one it follows, that one, and their acknowledgement.
func BenchmarkHotGap(b *testing.B) {
	c := newCore(1, Start{})
	c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec, Entries: entries(1, 1, 1)}))
	flush(c)
	batch := entries(1, 1, 1)
	hot(b, func() {
		last := c.log.last
		for _, prev := range [...]uint64{last + 1, last} {
			batch[0].Index = prev + 1
			m := Message{Kind: Append, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, PrevIndex: prev, PrevTerm: 1, Timeout: 100 * msec, Entries: batch}
			c.Step(c.now+1, &m)
			flush(c)
		}
		c.Take()
		if c.log.last != last+2 {
			b.Fatalf("last is %d, was %d", c.log.last, last)
		}
	})
}

// BenchmarkHotRepair is an entry that a follower says is missing, and its leaving once more.
func BenchmarkHotRepair(b *testing.B) {
	c := hotLeader(b)
	m := hotAck(c, 2)
	c.Step(c.now, &m)
	hot(b, func() {
		for range 2 {
			e := Entry{Kind: Commands, Size: 10}
			if err := c.Propose(c.now+1, &e); err != nil {
				b.Fatal(err)
			}
			flush(c)
		}
		m := hotAck(c, 2)
		m.Match, m.LastIndex, m.Held[0] = c.log.last-2, c.log.last-2, 1
		c.Step(c.now, &m)
		if e := c.Take(); len(e.Send) != 1 || e.Send[0].First != c.log.last-1 || e.Send[0].Last != c.log.last-1 {
			b.Fatalf("sent %+v", e.Send)
		}
		m = hotAck(c, 2)
		c.Step(c.now, &m)
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
