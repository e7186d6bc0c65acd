package node

import (
	"slices"

	"balsa/node/raft"
)

// votes remembers what servers that asked for a vote said of their logs, so
// that a refusal can be told with both sides. One line a reason and log: a
// candidate asks again and again.
type votes struct{ asked []voteAsked }

type voteAsked struct {
	from                      uint16
	pre                       bool
	term, lastIndex, lastTerm uint64
	told                      uint8 // the reason of the last line
}

// maxVotes bounds whom it remembers; who asks need not be a member.
const maxVotes = 64

// note takes a vote request before the core judges it.
func (v *votes) note(m *raft.Message) {
	k := voteAsked{from: m.From, pre: m.Pre, term: m.Term, lastIndex: m.LastIndex, lastTerm: m.LastTerm}
	i := slices.IndexFunc(v.asked, func(a voteAsked) bool { return a.from == m.From })
	switch {
	case i < 0 && len(v.asked) == maxVotes:
		v.asked = append(v.asked[:0], v.asked[1:]...)
		fallthrough
	case i < 0:
		v.asked = append(v.asked, k)
	default:
		if k.told = v.asked[i].told; v.asked[i] != k {
			k.told = 0
		}
		v.asked[i] = k
	}
}

// voteRefused counts a refused vote, and says why it was.
func (n *Node) voteRefused(r *raft.Message) {
	n.Counters.VotesRefused++
	i := slices.IndexFunc(n.votes.asked, func(a voteAsked) bool { return a.from == r.To })
	if i < 0 || n.votes.asked[i].told == r.Reason {
		return
	}
	a := &n.votes.asked[i]
	a.told = r.Reason
	last := r.LastIndex
	if r.Reason == raft.ReasonRemoved {
		last = n.core.Last()
	}
	n.logger.Info("vote refused", "from", a.from, "reason", reasonText(r.Reason), "pre_vote", a.pre, "its_term", a.term, "our_term", r.Term,
		"its_last_term", a.lastTerm, "its_last_index", a.lastIndex, "our_last_term", r.LastTerm, "our_last_index", last,
		"votes_refused", n.Counters.VotesRefused)
}

func reasonText(reason uint8) string {
	switch reason {
	case raft.ReasonTerm:
		return "its term is over"
	case raft.ReasonPromised:
		return "promised to the leader"
	case raft.ReasonVoted:
		return "voted for another in this term"
	case raft.ReasonLog:
		return "its log is behind"
	case raft.ReasonVoteless:
		return "this server lost its memory of votes"
	case raft.ReasonRemoved:
		return "it was removed from the cluster"
	}
	return "none"
}
