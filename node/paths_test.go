package node

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"balsa/kv"
	"balsa/wire"
)

// limits are what the leader sends to the others.
func (l *lab) limits() (all []int) {
	n := l.leader()
	for i := range n.out.peers {
		if p := &n.out.peers[i]; p.id != n.identity.ID {
			all = append(all, p.limit)
		}
	}
	return all
}

func (l *lab) putLarge(seq uint64, size int) {
	l.t.Helper()
	l.request(l.leader().ID(), kv.Command{Op: kv.Put, Seq: seq, Key: fmt.Appendf(nil, "key-%d", seq), Value: bytes.Repeat([]byte{byte(seq)}, size)})
	if r := l.result(seq); r.Status != kv.OK {
		l.t.Fatalf("put %d: %v", seq, r.Status)
	}
}

func TestDatagramsAndEntriesFollowThePath(t *testing.T) {
	l := newLab(t, 3, 3)
	l.elect()
	l.putLarge(1, 30_000)
	for seq, step := range []struct{ mtu, want int }{{0, wire.MaxDatagram}, {1300, 1232}, {600, wire.MinDatagram}, {9000, 8952}, {0, wire.MaxDatagram}} {
		l.mtu = step.mtu
		l.until(700e9, fmt.Sprintf("datagrams of %d bytes on a path of %d", step.want, step.mtu), func() bool {
			all := l.limits()
			return all[0] == step.want && all[1] == step.want
		})
		n := l.leader()
		if most := wire.MaxFrame(step.want) - wire.AppendHeaderBytes - wire.EntryHeaderBytes; n.out.entryLimit > most || n.out.entryLimit < min(most, wire.MaxEntryBody)-8 {
			t.Errorf("path of %d: entries of %d, want %d", step.mtu, n.out.entryLimit, min(most, wire.MaxEntryBody))
		}
		l.putLarge(uint64(10+seq), 100)
		l.putLarge(uint64(20+seq), 20_000)
	}
}

// An entry packed for a large path reaches a server behind a small one (SAFETY 16), which
// came to be there while it was down.
func TestALargeEntryReachesAServerBehindASmallPath(t *testing.T) {
	l := newLab(t, 3, 3)
	lead := l.elect().ID()
	behind := lead%3 + 1
	l.kill(behind)
	for seq := range uint64(5) {
		l.putLarge(1+seq, 30_000)
	}
	l.mtu = 600
	l.start(behind)
	n := l.nodes[behind]
	l.until(60e9, "all entries there", func() bool { return n.applied > 0 && l.leader() != nil && n.applied == l.leader().applied })
	for seq := range uint64(5) {
		if v, _, _, ok := n.store.Get(fmt.Appendf(nil, "key-%d", 1+seq)); !ok || len(v) != 30_000 {
			t.Errorf("key-%d: %v", 1+seq, ok)
		}
	}
}

// A cluster that is founded on a path of 600 bytes is founded, elects and works.
func TestAClusterBeginsOnASmallPath(t *testing.T) {
	l := newLab(t, 3, 3)
	l.mtu = 600
	l.elect()
	l.putLarge(1, 100)
	l.putLarge(2, 50_000)
}

// Only a server that leads probes, and only members.
func TestOnlyALeaderProbesAndOnlyMembers(t *testing.T) {
	l := newLab(t, 4, 3)
	lead := l.elect().ID()
	asked := map[[2]uint16]bool{}
	l.drop = func(from, to uint16, kind wire.Kind) bool {
		if kind == wire.KindPathProbe {
			asked[[2]uint16{from, to}] = true
		}
		return false
	}
	for end := l.now + 5e9; l.now < end; {
		l.turn(5e6)
	}
	if len(asked) != 2 {
		t.Errorf("asked %v", asked)
	}
	for who := range asked {
		if who[0] != lead || who[1] == 4 {
			t.Errorf("server %d probed %d", who[0], who[1])
		}
	}
}

// What a client tells of its path bounds what it is answered with: results, statuses and
// changes go in fragments, and a list of servers is left out of what is said to a hello.
func TestAClientIsAnsweredInWhatItsPathTakes(t *testing.T) {
	for name, l := range map[string]*lab{"open": newLab(t, 3, 3), "sealed": newSealedLab(t, 3, 3)} {
		n := l.elect()
		l.putLarge(1, 3000)
		here := labAddr(labClient)
		answered := func(most int, kind wire.Kind, size int, encode func([]byte)) map[wire.Kind]int {
			t.Helper()
			l.tell(n.ID(), n.tag, kind, size, encode)
			for l.queue = l.queue[:len(l.queue):len(l.queue)]; len(l.queue) > 0; l.queue = l.queue[1:] {
				if f := l.queue[0]; f.to == l.addr(n.ID()) {
					n.Deliver(l.now, f.from, f.bytes)
				}
			}
			kinds := map[wire.Kind]int{}
			for range 50 {
				l.now += 5e6
				n.Turn(l.now, false)
				for _, p := range n.Out() {
					if p.To != here {
						continue
					}
					if len(p.Bytes) > most {
						t.Errorf("%s: %v answered in %d bytes, the path takes %d", name, kind, len(p.Bytes), most)
					}
					_, frames, err := l.open(append([]byte(nil), p.Bytes...))
					if err != nil {
						t.Fatal(err)
					}
					for k, _, ok := frames.Next(); ok; k, _, ok = frames.Next() {
						kinds[k]++
					}
				}
				if len(kinds) > 0 {
					break
				}
			}
			return kinds
		}
		for range 20 { // as many servers as do not fit
			n.out.place(uint16(50+len(n.out.peers)), "10.11.12.13:14151")
		}
		hello, status := wire.Hello{Nonce: 1, Pad: 472}, wire.Status{Nonce: 2}
		member := wire.MemberChange{Nonce: 3, Operation: 4, Verb: wire.VerbRemove, DryRun: true, Servers: wire.AppendServers(nil, []wire.Server{{ID: 3}})}
		for _, passes := range []int{wire.MinDatagram, wire.MaxDatagram} {
			ask := wire.PathAsk{AskBoot: 5, Nonce: 6, Passes: passes, Pad: 1000}
			// The question itself is as long as its answer, whatever it tells.
			kinds := answered(wire.HeaderBytes+wire.FrameHeaderBytes+ask.Size()+wire.TrailerBytes, wire.KindPathAsk, ask.Size(), ask.Encode)
			if kinds[wire.KindPathEcho] != 1 {
				t.Errorf("%s: a question was answered with %v", name, kinds)
			}
			want := func(what string, kinds map[wire.Kind]int, whole wire.Kind) {
				t.Helper()
				if passes == wire.MinDatagram {
					whole = wire.KindFragment
				}
				if kinds[whole] == 0 {
					t.Errorf("%s: %s on a path of %d: answered with %v", name, what, passes, kinds)
				}
			}
			want("status", answered(passes, wire.KindStatus, status.Size(), status.Encode), wire.KindStatusReply)
			if kinds := answered(passes, wire.KindMember, member.Size(), member.Encode); kinds[wire.KindMemberReply]+kinds[wire.KindFragment] == 0 {
				t.Errorf("%s: member on a path of %d: answered with %v", name, passes, kinds)
			}
			if kinds := answered(passes, wire.KindHello, hello.Size(), hello.Encode); kinds[wire.KindHelloReply] != 1 {
				t.Errorf("%s: hello on a path of %d: answered with %v", name, passes, kinds)
			}
			l.answers = nil
			l.request(l.elect().ID(), kv.Command{Op: kv.Get, Seq: 5 | kv.ReadSeq, Key: []byte("key-1")})
			l.until(5e9, "an answer to a get", func() bool { return len(l.answers) > 0 })
			want("get", map[wire.Kind]int{l.answers[0].kind: 1}, wire.KindReply)
			if len(n.out.told) > 1 || passes == wire.MaxDatagram && len(n.out.told) != 0 {
				t.Errorf("%s: %d clients' paths are kept", name, len(n.out.told))
			}
		}
	}
}

// No number of clients makes a server keep more than so many paths.
func TestTheMemoryOfClientsPathsIsBounded(t *testing.T) {
	l := newLab(t, 3, 3)
	n := l.elect()
	for i := range 3 * maxTold {
		n.out.tellPath(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1000), 576)
		n.out.settleClients()
	}
	if len(n.out.told) > maxTold || len(n.out.heard) > 0 {
		t.Errorf("%d kept, %d waiting", len(n.out.told), len(n.out.heard))
	}
}
