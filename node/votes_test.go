package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"balsa/node/raft"
)

func TestARefusedVoteIsCountedAndToldWithBothLogs(t *testing.T) {
	var log bytes.Buffer
	n := &Node{logger: slog.New(slog.NewTextHandler(&log, nil))}
	ask := func(from uint16, last uint64, reason uint8) {
		n.votes.note(&raft.Message{Kind: raft.Vote, From: from, Pre: true, Term: 3, LastIndex: last, LastTerm: 2})
		n.voteRefused(&raft.Message{Kind: raft.VoteReply, To: from, Term: 4, Reason: reason, LastIndex: 121, LastTerm: 4})
	}
	ask(3, 20, raft.ReasonLog)
	const want = `msg="vote refused" from=3 reason="its log is behind" pre_vote=true its_term=3 our_term=4 its_last_term=2 its_last_index=20 our_last_term=4 our_last_index=121 votes_refused=1`
	if !strings.Contains(log.String(), want) {
		t.Fatalf("got %s, want %s", log.String(), want)
	}
	for _, c := range []struct {
		from   uint16
		last   uint64
		reason uint8
		lines  int
	}{
		{3, 20, raft.ReasonLog, 0}, // it asks again: counted, not told again
		{3, 20, raft.ReasonPromised, 1},
		{3, 25, raft.ReasonLog, 1},
		{2, 20, raft.ReasonLog, 1},
		{3, 25, raft.ReasonLog, 0},
	} {
		log.Reset()
		ask(c.from, c.last, c.reason)
		if got := strings.Count(log.String(), "vote refused"); got != c.lines {
			t.Errorf("%+v: %d lines: %s", c, got, log.String())
		}
	}
	if n.Counters.VotesRefused != 6 {
		t.Errorf("%d counted, want 6", n.Counters.VotesRefused)
	}
	for from := range uint16(3 * maxVotes) {
		ask(from+1, 1, raft.ReasonLog)
	}
	if len(n.votes.asked) > maxVotes {
		t.Errorf("%d askers are remembered, want at most %d", len(n.votes.asked), maxVotes)
	}
}
