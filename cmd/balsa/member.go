package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
	"balsa/wire"
)

// changeWord is a word that changes the membership, or the leader.
type changeWord struct {
	name, usage, about, example string
	verb                        uint8
	least, most                 int // servers named
}

var memberWords = []changeWord{
	{"add", "member add ID...", "make servers voters", "balsa member add 4 5\nbalsa member add 7=10.0.0.7:7101 --dry-run", wire.VerbAdd, 1, wire.MaxMembers},
	{"remove", "member remove ID...", "take servers out", "balsa member remove 3", wire.VerbRemove, 1, wire.MaxMembers},
	{"replace", "member replace ID", "bring in a voter that was made again under its old id", "balsa member replace 2", wire.VerbReplace, 1, 1},
	{"set", "member set IDS", "make these the voters, and no others", "balsa member set 1,4,5", wire.VerbSet, 1, wire.MaxMembers},
	{"cancel", "member cancel", "take back the change under way, while that is possible", "balsa member cancel", wire.VerbCancel, 0, 0},
}

var transferWord = changeWord{"transfer", "transfer ID", "hand leadership to a server", "balsa transfer 2", wire.VerbTransfer, 1, 1}

func findMemberWord(name string) *changeWord {
	i := slices.IndexFunc(memberWords, func(w changeWord) bool { return w.name == name })
	if i < 0 {
		return nil
	}
	return &memberWords[i]
}

// memberNames are the words after member.
func memberNames() []string {
	names := []string{"list"}
	for i := range memberWords {
		names = append(names, memberWords[i].name)
	}
	return names
}

// changeFlags are the flags of those words that change the membership.
type changeFlags struct {
	dryRun, force bool
	hold          string
}

func (f *changeFlags) register(set *pflag.FlagSet) {
	set.BoolVar(&f.dryRun, "dry-run", false, "only tell what quorums it would need, and who of them is alive")
	set.BoolVar(&f.force, "force", false, "begin even if it could not be committed now")
	set.StringVar(&f.hold, "hold", "", "stay in a phase: learner=10s or joint=10s (servers with --chaos)")
}

// parse makes a change of a word and what follows it: ids, also several in one word with commas between, each with an
// address if it is not known by one.
func (w *changeWord) parse(words []string, f *changeFlags) (*client.Change, error) {
	ch := &client.Change{Verb: w.verb, DryRun: f.dryRun, Force: f.force}
	for _, word := range words {
		for part := range strings.SplitSeq(word, ",") {
			s, err := w.server(part)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(ch.Servers, func(o wire.Server) bool { return o.ID == s.ID }) {
				return nil, usagef("%s: server %d is named twice", w.word(), s.ID)
			}
			ch.Servers = append(ch.Servers, s)
		}
	}
	if n := len(ch.Servers); n < w.least || n > w.most {
		return nil, usagef("usage: %s (got %s)", w.usage, count(n, "server"))
	}
	if (w.verb == wire.VerbCancel || w.verb == wire.VerbTransfer) && (f.dryRun || f.force || f.hold != "") {
		return nil, usagef("%s takes no --dry-run, --force or --hold", w.word())
	}
	return ch, w.parseHold(ch, f.hold)
}

// word is what a message calls it.
func (w *changeWord) word() string {
	if w.verb == wire.VerbTransfer {
		return w.name
	}
	return "member " + w.name
}

func (w *changeWord) server(part string) (wire.Server, error) {
	number, addr, named := strings.Cut(part, "=")
	id, err := parseID(number)
	if err != nil {
		return wire.Server{}, err
	}
	if !named {
		return wire.Server{ID: id}, nil
	}
	if w.verb == wire.VerbRemove || w.verb == wire.VerbTransfer {
		return wire.Server{}, usagef("%s takes ids without addresses, got %q", w.word(), clip(part))
	}
	return wire.Server{ID: id, Addr: addr}, checkAddr(addr)
}

func (w *changeWord) parseHold(ch *client.Change, hold string) error {
	if hold == "" {
		return nil
	}
	phase, length, ok := strings.Cut(hold, "=")
	for _, p := range []uint8{wire.PhaseLearner, wire.PhaseJoint} {
		if phase == client.PhaseName(p) {
			ch.HoldPhase = p
		}
	}
	d, err := time.ParseDuration(length)
	if !ok || ch.HoldPhase == 0 || err != nil || d <= 0 {
		return usagef("--hold %q: want learner=DURATION or joint=DURATION, such as joint=10s", clip(hold))
	}
	ch.Hold = d
	return nil
}

func memberCommand(s *streams) *cobra.Command {
	cmd := group("member", "the members of the cluster", askCommand(s, "list", "voters, learners and the pool", showMembers))
	for i := range memberWords {
		cmd.AddCommand(changeCommand(s, &memberWords[i]))
	}
	return cmd
}

// changeCommand is the door of the words that change the membership or the leader.
func changeCommand(s *streams, w *changeWord) *cobra.Command {
	var flags clientFlags
	var own changeFlags
	cmd := &cobra.Command{
		Use: strings.TrimPrefix(w.usage, "member "), Short: w.about, Example: w.example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ch, err := w.parse(unmarkWords(args), &own)
			if err != nil {
				return err
			}
			c, err := flags.dial(true)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT)
			defer stop()
			err = carryOutChange(ctx, c, ch, flags.timeout, s.out, s.err, flags.json())
			if ctx.Err() != nil && errors.Is(err, client.ErrUnknown) {
				return &fault{code: 128 + int(syscall.SIGINT), err: err} // Ctrl-C: the change goes on without us
			}
			return err
		},
	}
	flags.register(cmd.Flags())
	if w.verb != wire.VerbTransfer && w.verb != wire.VerbCancel {
		own.register(cmd.Flags())
	}
	return cmd
}

// changeJSON is the answer of a change that is over, or in the log.
type changeJSON struct {
	Leader    uint16   `json:"leader"`
	Term      uint64   `json:"term"`
	Index     uint64   `json:"index,omitempty"` // of the configuration that completed it
	Voters    []uint16 `json:"voters"`
	Learners  []uint16 `json:"learners"`
	Joint     bool     `json:"joint"`
	OldVoters []uint16 `json:"old_voters"`
	Phase     string   `json:"phase"`
	Over      bool     `json:"over"`
}

type planJSON struct {
	Plan string `json:"plan"`
}

// carryOutChange asks for a change and writes the answer to w. On a terminal it tells the plan and each phase on notes.
func carryOutChange(ctx context.Context, c *client.Client, ch *client.Change, within time.Duration, w, notes io.Writer, asJSON bool) error {
	var news func(client.ChangeAnswer)
	if _, tty := terminal(notes); tty && !ch.DryRun {
		news = func(a client.ChangeAnswer) { fmt.Fprintln(notes, tellPhase(&a)) }
		tellPlan(ctx, c, ch, within, notes)
	}
	a, err := c.Change(ctx, ch, within, news)
	if err != nil {
		return err
	}
	if ch.DryRun && asJSON {
		return writeJSON(w, planJSON{a.Text})
	}
	if ch.DryRun {
		_, err := fmt.Fprintln(w, strings.TrimRight(firstOf(a.Text, "nothing to do: it is so already"), "\n"))
		return err
	}
	if news != nil {
		fmt.Fprintln(notes, tellPhase(&a))
	}
	if !asJSON {
		_, err := io.WriteString(w, "OK\n")
		return err
	}
	j := changeJSON{Leader: a.Leader, Term: a.Term, Index: a.Index, Phase: client.PhaseName(a.Phase), Over: a.Over}
	var m local.Membership
	if len(a.Configuration) > 0 {
		if m, err = local.ReadMembership(a.Configuration); err != nil {
			return err
		}
	}
	j.Voters, j.Learners, j.OldVoters, j.Joint = orEmpty(m.Voters), orEmpty(m.Learners), orEmpty(m.OldVoters), m.Joint
	return writeJSON(w, j)
}

// tellPlan shows beforehand what a change of the membership needs. Why it cannot be told, the change itself will say.
func tellPlan(ctx context.Context, c *client.Client, ch *client.Change, within time.Duration, notes io.Writer) {
	if ch.Verb == wire.VerbCancel || ch.Verb == wire.VerbTransfer {
		return
	}
	dry := *ch
	dry.DryRun, dry.Detach = true, false
	if a, err := c.Change(ctx, &dry, within, nil); err == nil && a.Text != "" {
		fmt.Fprintln(notes, strings.TrimRight(a.Text, "\n"))
	}
}

func tellPhase(a *client.ChangeAnswer) string {
	m, err := local.ReadMembership(a.Configuration)
	if err != nil {
		return fmt.Sprintf("%s, leader %d, term %d", client.PhaseName(a.Phase), a.Leader, a.Term)
	}
	line := fmt.Sprintf("%s: voters %s", client.PhaseName(a.Phase), list(m.Voters))
	if m.Joint {
		line += ", old voters " + list(m.OldVoters)
	}
	if len(m.Learners) > 0 {
		line += ", learners " + list(m.Learners)
	}
	return fmt.Sprintf("%s, leader %d, term %d", line, a.Leader, a.Term)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
