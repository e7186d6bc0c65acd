package node

import (
	"errors"
	"path"
	"syscall"
	"testing"

	"balsa/kv"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

// fill takes the space for further segments away from a server's disk, and
// gives the way to bring it back. Its shell learns of it as the filler does.
func (l *lab) fill(id uint16) (free func()) {
	l.t.Helper()
	full := true
	l.disks[id].Fail(func(op vfs.Op, name string, off int64, n int) error {
		if full && path.Base(name) == "unfinished.tmp" && (op == vfs.OpCreate || op == vfs.OpWrite) {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := l.nodes[id].Log().Prepare(); !errors.Is(err, wal.ErrFull) {
		l.t.Fatalf("server %d: %v", id, err)
	}
	return func() {
		full = false
		if err := l.nodes[id].Log().Prepare(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// A cluster whose disks are full refuses writes before its logs are, goes on
// serving and leading, and takes writes again when there is space.
func TestFullDisksRefuseWritesAndRecover(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	var free []func()
	for id := uint16(1); id <= 3; id++ {
		free = append(free, l.fill(id))
	}
	taken := uint64(0)
	value := make([]byte, 4000)
	put := func(seq uint64) kv.Result {
		l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte{byte(seq)}, Value: value})
		return l.result(seq)
	}
	for seq := uint64(1); ; seq++ {
		if seq > 200 {
			t.Fatal("200 values of 4,000 bytes found room in 256 KiB")
		}
		r := put(seq)
		if r.Status == kv.Busy {
			break
		}
		if r.Status != kv.OK {
			t.Fatalf("put %d: %+v", seq, r)
		}
		taken = seq
	}
	if taken < 20 {
		t.Fatalf("only %d writes were taken", taken)
	}
	for range 400 {
		l.turn(5e6)
	}
	if l.leader() != leader {
		t.Fatal("a full disk cost the leader its lead")
	}
	l.request(leader.ID(), kv.Command{Op: kv.Get, Seq: 1 | kv.ReadSeq, Key: []byte{byte(taken)}})
	if r := l.result(1 | kv.ReadSeq); r.Status != kv.OK || len(r.Value) != len(value) {
		t.Fatalf("a read: %+v", r.Status)
	}
	for _, f := range free {
		f()
	}
	for range 20 { // the leader hears of it
		l.turn(5e6)
	}
	if r := put(taken + 2); r.Status != kv.OK {
		t.Fatalf("after space came back: %+v", r)
	}
}

// A leader that is elected on full disks still serves reads: the first entry of its term finds room.
func TestANewLeaderOnFullDisksServesReads(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	for id := uint16(1); id <= 3; id++ {
		l.fill(id)
	}
	value := make([]byte, 4000)
	seq := uint64(0)
	for status := kv.OK; status != kv.Busy; {
		if seq++; seq > 200 {
			t.Fatal("200 values of 4,000 bytes found room in 256 KiB")
		}
		l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte{byte(seq)}, Value: value})
		status = l.result(seq).Status
	}
	l.kill(leader.ID())
	l.until(20e9, "another leader", func() bool { return l.leader() != nil && l.leader() != leader })
	l.request(l.leader().ID(), kv.Command{Op: kv.Get, Seq: 1 | kv.ReadSeq, Key: []byte{1}})
	if r := l.result(1 | kv.ReadSeq); r.Status != kv.OK || len(r.Value) != len(value) {
		t.Fatalf("a read: %v", r.Status)
	}
}

// A leader with room, whose followers have none, says so too, instead of taking what nobody can say anything of.
func TestALeaderRefusesWhatNoQuorumHasRoomFor(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	var free []func()
	for id := uint16(1); id <= 3; id++ {
		if id != leader.ID() {
			free = append(free, l.fill(id))
		}
	}
	answer := func(seq uint64) (kv.Status, bool) {
		for _, a := range l.answers {
			if a.kind == wire.KindReply && a.result.Seq == seq {
				return a.result.Status, true
			}
		}
		return 0, false
	}
	value := make([]byte, 4000)
	silent, seq := 0, uint64(0)
	for status := kv.OK; status != kv.Busy; {
		if seq++; seq > 200 {
			t.Fatal("200 values of 4,000 bytes found room in 256 KiB")
		}
		l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte{byte(seq)}, Value: value})
		for range 100 {
			l.turn(1e6)
		}
		s, ok := answer(seq)
		if status = s; !ok {
			if silent++; silent > 1 {
				t.Fatalf("put %d and one before it wait for space, and were not refused", seq)
			}
		}
		if err := leader.Log().Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	if leader.Log().Low() {
		t.Fatal("the leader's own disk is full: the test tries nothing")
	}
	for _, f := range free {
		f()
	}
	for range 100 {
		l.turn(5e6)
	}
	l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq + 1, Key: []byte("k"), Value: value})
	if r := l.result(seq + 1); r.Status != kv.OK {
		t.Fatalf("with space again: %v", r.Status)
	}
}

// A follower whose disk is full takes no entries and stays a follower; with
// space again it catches up.
func TestAFollowerWithAFullDiskWaitsAndCatchesUp(t *testing.T) {
	l := newLab(t, 3, 3)
	leader := l.elect()
	other := leader.ID()%3 + 1
	free := l.fill(other)
	value := make([]byte, 4000)
	for seq := uint64(1); seq <= 150; seq++ {
		l.request(leader.ID(), kv.Command{Op: kv.Put, Seq: seq, Key: []byte{byte(seq)}, Value: value})
		if r := l.result(seq); r.Status != kv.OK {
			t.Fatalf("put %d: %+v", seq, r)
		}
		l.each(func(id uint16, n *Node) {
			if id != other {
				if err := n.Log().Prepare(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	full := l.nodes[other]
	if full.Counters.DroppedFull == 0 || full.Log().Last() >= leader.Log().Last() {
		t.Fatalf("the full server has entries up to %d of %d", full.Log().Last(), leader.Log().Last())
	}
	if l.leader() != leader {
		t.Fatal("another leader")
	}
	free()
	l.until(10e9, "the follower to catch up", func() bool { return full.applied == leader.applied })
}
