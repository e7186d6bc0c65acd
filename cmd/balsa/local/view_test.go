package local

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"balsa/kv/client"
	"balsa/wire"
)

func configuration(voters ...uint16) []byte {
	c := wire.Configuration{}
	for _, id := range voters {
		c.Members = append(c.Members, wire.Member{ID: id, Incarnation: 1, Role: wire.MemberVoter, Addr: "127.0.0.1:1"})
	}
	return wire.AppendConfiguration(nil, &c)
}

func TestTheLeaderOfTheNewestTermTells(t *testing.T) {
	old := client.Row{ID: 1, Alive: true, Role: wire.RoleLeader, Term: 2, Commit: 90, Configuration: configuration(1, 2)}
	follower := client.Row{ID: 2, Alive: true, Role: wire.RoleFollower, Term: 3, Commit: 99, Configuration: configuration(1, 2)}
	leader := client.Row{ID: 3, Alive: true, Role: wire.RoleLeader, Term: 3, Commit: 98, Configuration: configuration(1, 2, 3)}
	dead := client.Row{ID: 4, Role: wire.RoleLeader, Term: 9, Configuration: configuration(4)}

	for _, c := range []struct {
		name   string
		rows   []client.Row
		leader uint16
		term   uint64
		voters []uint16
	}{
		{"nobody", nil, 0, 0, nil},
		{"a dead one says nothing", []client.Row{dead}, 0, 0, nil},
		{"all", []client.Row{old, follower, leader, dead}, 3, 3, []uint16{1, 2, 3}},
		{"a leader that a newer term has left behind", []client.Row{old, follower}, 0, 3, []uint16{1, 2}},
		{"followers alone", []client.Row{follower}, 0, 3, []uint16{1, 2}},
	} {
		v, err := see(c.rows)
		if err != nil || v.Leader != c.leader || v.Term != c.term || !slices.Equal(v.Voters, c.voters) {
			t.Errorf("%s: got leader %d, term %d, voters %v, %v; want %d, %d, %v", c.name, v.Leader, v.Term, v.Voters, err, c.leader, c.term, c.voters)
		}
	}
}

func TestAnAnswerThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := see([]client.Row{{ID: 1, Alive: true, Configuration: []byte("nonsense")}}); err == nil {
		t.Fatal("nonsense was taken for a configuration")
	}
}

func TestFreeAddressesDiffer(t *testing.T) {
	addrs, err := freeAddrs(20)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if len(slices.Compact(addrs)) != 20 {
		t.Fatalf("got %v", addrs)
	}
}

func TestTheReadyLineIsFoundInPieces(t *testing.T) {
	for _, text := range []string{"time=x level=INFO msg=ready listen=y\n", `{"level":"INFO","msg":"ready"}` + "\n"} {
		w := &watcher{ready: make(chan struct{})}
		for i := range len(text) {
			if ended(w.ready) {
				t.Fatal("ready before the line was complete")
			}
			w.see([]byte(text[i : i+1]))
		}
		if !ended(w.ready) {
			t.Fatalf("%q was not seen", text)
		}
	}
}

// On a full disk what a server says cannot be kept; that must not end it.
func TestAServerOutlivesItsLogFile(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	log.Close()
	w := &watcher{log: log, ready: make(chan struct{})}
	text := []byte("level=INFO msg=ready\n")
	if n, err := w.Write(text); n != len(text) || err != nil {
		t.Fatalf("%d bytes of %d taken, %v: the server's next line would kill it", n, len(text), err)
	}
	if !ended(w.ready) {
		t.Fatal("the line was not seen")
	}
}
