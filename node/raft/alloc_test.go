package raft

import "testing"

// What happens for every command, message and sync allocates nothing once the buffers have grown.
func TestNoAllocations(t *testing.T) {
	leader := func() *Core {
		c := newCore(1, Start{})
		elect(t, c)
		flush(c)
		return c
	}
	follower := func() *Core {
		c := newCore(1, Start{})
		c.Step(c.now, from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec}))
		flush(c)
		return c
	}
	l, r, h, f, b, v := leader(), leader(), leader(), follower(), follower(), follower()
	w, q, a := follower(), follower(), leader()
	d := leads(t, leasing(voters(1, 2, 3)), true)
	batch, beat := entries(1, 1, 8), from(2, Message{Kind: Append, Term: 1, Timeout: 100 * msec})
	for _, test := range []struct {
		name string
		run  func()
	}{
		{"Propose, Take, Synced, Ack", func() {
			e := Entry{Kind: Commands, Size: 100}
			if err := l.Propose(l.now+1, &e); err != nil {
				t.Fatal(err)
			}
			flush(l)
			for id := uint16(2); id <= 3; id++ {
				m := Message{Kind: Ack, From: id, FromIncarnation: uint64(id) * 1000, FromBoot: uint64(id) * 10, Term: 1, EchoBoot: 10,
					EchoSeq: l.seq, Match: l.log.last, LastIndex: l.log.last}
				l.Step(l.now, &m)
			}
			l.Take()
		}},
		{"Read, Take, Ack", func() {
			if _, err := r.Read(r.now + 1); err != nil {
				t.Fatal(err)
			}
			r.Take()
			m := Message{Kind: Ack, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: r.seq, EchoRound: r.round, Match: 1, LastIndex: 1}
			r.Step(r.now, &m)
			r.Take()
		}},
		{"a read under a lease, a heartbeat that renews it", func() {
			d.Tick(d.Deadline())
			d.Take()
			m := Message{Kind: Ack, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: d.seq, EchoTimeout: 100 * msec, Match: 1, LastIndex: 1}
			d.Step(d.now, &m)
			if _, err := d.Read(d.now + 1); err != nil {
				t.Fatal(err)
			}
			if len(d.Take().Reads) != 1 {
				t.Fatal("not served")
			}
		}},
		{"Tick of a leader", func() {
			h.Tick(h.Deadline())
			m := Message{Kind: Ack, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: h.seq, Match: 1, LastIndex: 1}
			h.Step(h.now, &m)
			h.Take()
		}},
		{"entries at a follower", func() {
			m := Message{Kind: Append, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, PrevIndex: f.log.last, PrevTerm: f.log.lastTerm(),
				Commit: f.log.last, Timeout: 100 * msec, Entries: batch}
			for i := range batch {
				batch[i].Index = f.log.last + 1 + uint64(i)
			}
			f.Step(f.now+1, &m)
			flush(f)
			f.Take()
		}},
		{"a heartbeat at a follower", func() {
			b.Step(b.now+1, beat)
			b.Take()
		}},
		{"a pre-vote request at a follower", func() {
			m := Message{Kind: Vote, Pre: true, From: 3, FromIncarnation: 3000, FromBoot: 30}
			v.Step(v.now, &m)
			v.Take()
		}},
		{"a probe of a silent leader, and its answer", func() {
			w.Step(w.now+30*msec, beat)
			w.Tick(w.now + 30*msec)
			w.Take()
			m := Message{Kind: ProbeReply, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: w.hint.nonce, Leads: true}
			w.Step(w.now, &m)
			w.Take()
		}},
		{"a read at a follower", func() {
			q.Step(q.now+1, beat)
			if _, err := q.Read(q.now); err != nil {
				t.Fatal(err)
			}
			q.Take()
			m := Message{Kind: ReadAnswer, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: q.reads.number}
			q.Step(q.now, &m)
			if len(q.Take().Reads) != 1 {
				t.Fatal("not served")
			}
		}},
		{"a follower's read at its leader, probes", func() {
			m := Message{Kind: ReadAsk, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, Seq: 1}
			a.Step(a.now+1, &m)
			a.Take()
			m = Message{Kind: Ack, From: 2, FromIncarnation: 2000, FromBoot: 20, Term: 1, EchoBoot: 10, EchoSeq: a.seq, EchoRound: a.round, Match: 1, LastIndex: 1}
			a.Step(a.now, &m)
			m = Message{Kind: Probe, From: 3, FromIncarnation: 3000, FromBoot: 30, Term: 1, Seq: 1}
			a.Step(a.now, &m)
			a.Take()
		}},
	} {
		for range 100 {
			test.run()
		}
		if n := testing.AllocsPerRun(2000, test.run); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
	if l.commit < 2000 || f.log.last < 16000 {
		t.Errorf("not what was meant to be measured: commit %d, last %d", l.commit, f.log.last)
	}
}
