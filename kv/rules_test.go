package kv

import "testing"

// Sessions end by the time in the entries alone, the same on every server: one that is used lives, one that is idle is
// forgotten, and a stamp that falls behind (of a leader whose clock is slow) turns nothing back.
func TestSessionsEndByLogTimeAloneSafety19(t *testing.T) {
	s := New()
	s.Apply(entry(1, 10, write(7, 1, FlagRegister, 10, "1"), write(8, 1, FlagRegister, 10, "1")))
	s.Apply(entry(2, SessionIdle, write(7, 2, 0, 0, "2")))
	s.Apply(entry(3, 5))
	if s.LogTime() != SessionIdle {
		t.Errorf("log time fell to %d", s.LogTime())
	}
	s.Apply(&Entry{Index: 4, Term: 2, Kind: KindNoOp, Time: SessionIdle + 11})
	if _, ok := s.Cached(8, 1); ok {
		t.Error("an idle session lives on")
	}
	if r := s.Apply(entry(5, 0, write(7, 3, 0, 0, "3")))[0]; r.Status != OK {
		t.Errorf("a session in use got %v", r.Status)
	}
}

// No copy of a registration may create a session twice: what is older than the horizon is refused, and until then the
// session is there to answer its copies.
func TestARegistrationOutsideTheHorizonIsRefusedSafety19(t *testing.T) {
	s := New()
	s.Apply(&Entry{Index: 1, Term: 1, Kind: KindNoOp, Time: 2 * Horizon})
	for _, c := range []struct {
		registered int64
		want       Status
	}{{Horizon - 1, StaleRegistration}, {Horizon, OK}, {3 * Horizon, OK}, {3*Horizon + 1, EarlyRegistration}} {
		index, _ := s.Applied()
		if r := s.Apply(entry(index+1, 0, write(100+index, 1, FlagRegister, c.registered, "1")))[0]; r.Status != c.want {
			t.Errorf("registered at %d of %d: %v, want %v", c.registered, s.LogTime(), r.Status, c.want)
		}
	}
}

// A script that writes once a process must not fill the table: its session outlives the copies of its command, no more.
func TestAOneShotSessionIsKeptForTheHorizonOnlySafety20(t *testing.T) {
	s := New()
	s.Apply(entry(1, 10, write(7, 1, FlagRegister|FlagOneShot, 10, "1"), write(8, 1, FlagRegister, 10, "1")))
	late := s.Apply(entry(2, 10+Horizon, write(7, 1, FlagRegister|FlagOneShot, 10, "1")))[0]
	if late.Index != 1 || late.Status != OK {
		t.Errorf("a copy within the horizon got %+v, want the first answer", late)
	}
	s.Apply(&Entry{Index: 3, Term: 1, Kind: KindNoOp, Time: 11 + Horizon})
	if _, ok := s.Cached(7, 1); ok || s.Sessions() != 1 {
		t.Errorf("after the horizon: %d sessions, the one-shot's answer is kept: %v", s.Sessions(), ok)
	}
}

// Two copies of a command that were both sent, to two servers, carry one session and number: one of them is executed.
func TestHedgedCopiesAreOneCommandSafety21(t *testing.T) {
	s := New()
	add := Command{Op: CompareAndSwap, Flags: FlagRegister | FlagOldAbsent, Client: 7, Seq: 1, AckedBelow: 1, Registered: 10, Key: []byte("k"), Value: []byte("v")}
	results := s.Apply(entry(1, 10, add, add))
	again := s.Apply(entry(2, 10, add))[0]
	if results[0].Status != OK || again.Status != OK || again.Index != 1 || again.Sub != 0 {
		t.Errorf("the copies got %+v and %+v, want the first answer", results, again)
	}
}
