package client

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"balsa/kv"
)

// What an operation can end with, for errors.Is.
var (
	ErrNotFound   = errors.New("no such key")
	ErrConflict   = errors.New("condition not met")
	ErrNotApplied = errors.New("not applied")
	ErrUnknown    = errors.New("outcome unknown")
	ErrCanceled   = errors.New("canceled")
	ErrClosed     = errors.New("client is closed")
	ErrLimit      = errors.New("over a limit")

	errSession = errors.New("the servers have forgotten this client's session")
	errTooOld  = errors.New("the servers hold it for acknowledged")
)

// copies remembers where copies of a write may still live: it is "not applied" only when there is none.
//
// A copy is bound to a server, that server's boot, and the term it led. A refusal by that server, in the same boot and
// at that term or later, says that the refused copy is not in its log, and never will be: that boot takes no datagram
// twice, and no other takes what is bound to a term of this one. It does not say which copy it refused, so a refusal
// counts for one alone: as many refusals as copies, each in a datagram of its own, clear them all. "Busy" is such a
// refusal of a copy that came in one datagram; pieces may be put together again. Nothing else clears: silence,
// ECONNREFUSED, "too old" and "unknown session" leave them.
type copies struct {
	at   [4]copyAt
	used uint8
	lost bool   // more places than fit: never cleared
	told uint64 // the last entry that refused one
}

type copyAt struct {
	server        uint8
	sent, refused uint16
	term, boot    uint64
}

func (k *copies) add(s *server) {
	for i := range k.at[:k.used] {
		a := &k.at[i]
		if int(a.server) == s.place && a.term == s.claim && a.boot == s.boot {
			if a.sent++; a.sent == 0 {
				k.lost = true
			}
			return
		}
	}
	if int(k.used) == len(k.at) {
		k.lost = true
		return
	}
	k.at[k.used] = copyAt{server: uint8(s.place), sent: 1, term: s.claim, boot: s.boot}
	k.used++
}

// anyTerm is that of a refusal that tells none.
const anyTerm = ^uint64(0)

// refuse counts a refusal by a server in its present boot at term, for the copy with the lowest term that it can be of: so
// none of a later term counts as refused before all that were sent before it.
func (k *copies) refuse(s *server, term uint64) {
	first := -1
	for i := range k.at[:k.used] {
		a := &k.at[i]
		if int(a.server) == s.place && a.boot == s.boot && a.term <= term && (first < 0 || a.term < k.at[first].term) {
			first = i
		}
	}
	if first < 0 {
		return
	}
	if a := &k.at[first]; a.refused+1 < a.sent {
		a.refused++
	} else {
		k.drop(first)
	}
}

// refuseIn counts the refusal of a copy by the entry at index, of term, that holds it. Two servers may tell it.
func (k *copies) refuseIn(term, index uint64) {
	i := slices.IndexFunc(k.at[:k.used], func(a copyAt) bool { return a.term == term })
	if i < 0 || index <= k.told {
		return
	}
	k.told = index
	if a := &k.at[i]; a.refused+1 >= a.sent {
		k.drop(i)
	} else {
		a.refused++
	}
}

// clearBefore forgets the copies bound to terms below term: an entry of that term was applied and they were not, so
// they never will be, as terms only rise along the log.
func (k *copies) clearBefore(term uint64) {
	for i := 0; i < int(k.used); i++ {
		if k.at[i].term < term {
			k.drop(i)
			i--
		}
	}
}

func (k *copies) drop(i int) {
	k.used--
	k.at[i] = k.at[k.used]
}

// none says that no copy can take effect any more.
func (k *copies) none() bool { return k.used == 0 && !k.lost }

// finish ends an operation.
func (c *Core) finish(h int32, outcome Outcome, r kv.Result, err error) {
	c.done = append(c.done, Done{Token: c.ops[h].token, Outcome: outcome, Result: r, Err: err})
	c.release(h)
}

// giveUp ends an operation whose time is over, or that is canceled.
func (c *Core) giveUp(h int32, cause error) {
	o := &c.ops[h]
	if o.cmd.Op.IsRead() || o.copies.none() {
		c.finish(h, NotApplied, kv.Result{}, c.notApplied(o, cause))
		return
	}
	c.finish(h, Unknown, kv.Result{}, c.unknown(o, cause))
}

// outcomeError says what happened in words and what it is for errors.Is.
type outcomeError struct {
	text  string
	kind  error
	cause error
}

func (e *outcomeError) Error() string { return e.text }
func (e *outcomeError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

func limitError(cmd *kv.Command, err error) error {
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), kv.ErrMalformed.Error()+": ", ""), "command: ")
	return &outcomeError{fmt.Sprintf("%s: not applied: %s", cmd.Op, text), ErrNotApplied, ErrLimit}
}

// notApplied tells why, with a word on every server.
func (c *Core) notApplied(o *op, cause error) error {
	in := round(c.now - o.submitted)
	why := ""
	switch {
	case cause != nil:
		why = cause.Error()
	case o.busy:
		why = "the leader has no room for it: its disk is full, or too much is under way"
	case c.leader != nil && o.sends > 0:
		why = fmt.Sprintf("leader %s did not answer", c.leader.addr)
	case c.leader != nil:
		why = fmt.Sprintf("leader %s took nothing more", c.leader.addr)
	default:
		why = "no leader among " + c.census(o.submitted)
		if told := c.complaint(o.submitted); told != "" {
			why += ": " + told
		}
	}
	return &outcomeError{fmt.Sprintf("%s: not applied: %s in %s; see balsa status", o.cmd.Op, why, in), ErrNotApplied, cause}
}

// unknown tells that the write may still land, and how to look.
func (c *Core) unknown(o *op, cause error) error {
	where := "a server"
	if o.copies.used > 0 {
		where = c.servers[o.copies.at[o.copies.used-1].server].addr.String()
	}
	times := fmt.Sprintf("%d times", o.sends)
	if o.sends == 1 {
		times = "once"
	}
	why := "no answer"
	if cause != nil {
		why = cause.Error()
	}
	text := fmt.Sprintf("%s: outcome unknown: sent %s, last to %s, %s in %s; it may or may not be applied, now or later: look with balsa get",
		o.cmd.Op, times, where, why, round(c.now-o.submitted))
	return &outcomeError{text, ErrUnknown, cause}
}

// census counts the servers by what was heard of them since the time given.
func (c *Core) census(since int64) string {
	var refused, silent, answered, blank, removed, foreign int
	for _, s := range c.servers {
		switch {
		case s.foreign:
			foreign++
		case s.refusedAt >= since && s.refusedAt > s.saidAt:
			refused++
		case s.saidAt < since:
			silent++
		case s.blank:
			blank++
		case s.removed:
			removed++
		default:
			answered++
		}
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{answered, "without a leader"}, {blank, "not founded"}, {removed, "removed from the cluster"}, {foreign, "of another cluster"}, {refused, "refused"}, {silent, "silent"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	noun := "servers"
	if len(c.servers) == 1 {
		noun = "server"
	}
	return fmt.Sprintf("%d %s (%s)", len(c.servers), noun, strings.Join(parts, ", "))
}

func round(d int64) time.Duration {
	switch t := time.Duration(d); {
	case t >= time.Second:
		return t.Round(100 * time.Millisecond)
	case t >= time.Millisecond:
		return t.Round(time.Millisecond)
	default:
		return t.Round(time.Microsecond)
	}
}

// same says that two addresses are one, however they are written.
func same(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}
