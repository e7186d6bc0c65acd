package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"balsa/cmd/balsa/local"
	"balsa/kv/client"
)

// statusJSON is the answer of status, and of /api/status.
type statusJSON struct {
	Leader   uint16           `json:"leader"`
	Term     uint64           `json:"term"`
	Voters   []uint16         `json:"voters"`
	Learners []uint16         `json:"learners"`
	Joint    bool             `json:"joint"`
	Nodes    []nodeStatusJSON `json:"nodes"`
}

type nodeStatusJSON struct {
	ID      uint16 `json:"id"`
	Addr    string `json:"addr"`
	Role    string `json:"role"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last_index"`
	Commit  uint64 `json:"commit_index"`
	Applied uint64 `json:"applied_index"`
	Alive   bool   `json:"alive"`
}

// membersJSON is the answer of member list; while joint, voters is the new set.
type membersJSON struct {
	Voters    []uint16   `json:"voters"`
	Learners  []uint16   `json:"learners"`
	Joint     bool       `json:"joint"`
	OldVoters []uint16   `json:"old_voters"`
	Phase     string     `json:"phase"`
	Pool      []poolJSON `json:"pool"`
	Leases    bool       `json:"leases,omitempty"`
}

type poolJSON struct {
	ID   uint16 `json:"id"`
	Addr string `json:"addr"`
}

func statusCommand(s *streams) *cobra.Command {
	return askCommand(s, "status", "who leads, who is there", showStatus)
}

// askCommand is a word that only asks how the cluster is.
func askCommand(s *streams, use, short string, show func(context.Context, *client.Client, io.Writer, bool) error) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.dial(true)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := flags.bound(cmd.Context())
			defer cancel()
			return show(ctx, c, s.out, flags.json())
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

func showStatus(ctx context.Context, c *client.Client, w io.Writer, asJSON bool) error {
	status, err := local.Ask(ctx, c)
	if err != nil {
		return named("status", err)
	}
	j := statusJSON{
		Leader: status.Leader, Term: status.Term, Voters: orEmpty(status.Voters), Learners: orEmpty(status.Learners),
		Joint: status.Joint, Nodes: []nodeStatusJSON{},
	}
	for _, r := range status.Rows {
		role := local.RoleName(r.Role)
		if !r.Alive {
			role = "unknown"
		}
		j.Nodes = append(j.Nodes, nodeStatusJSON{r.ID, r.Addr, role, r.Term, r.Last, r.Commit, r.Applied, r.Alive})
	}
	if asJSON {
		return writeJSON(w, j)
	}
	return j.text(w)
}

func (j *statusJSON) text(w io.Writer) error {
	up := 0
	for _, n := range j.Nodes {
		if n.Alive {
			up++
		}
	}
	lead := "no leader"
	if j.Leader != 0 {
		lead = fmt.Sprintf("leader %d", j.Leader)
	}
	joint := ""
	if j.Joint {
		joint = ", joint"
	}
	fmt.Fprintf(w, "%s, term %d, %d of %d servers answer, voters %s%s\n\n", lead, j.Term, up, len(j.Nodes), list(j.Voters), joint)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tADDR\tROLE\tTERM\tLAST\tCOMMIT\tAPPLIED")
	for _, n := range j.Nodes {
		if !n.Alive {
			fmt.Fprintf(t, "%d\t%s\tDOWN\t-\t-\t-\t-\n", n.ID, n.Addr)
			continue
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%d\t%d\n", n.ID, n.Addr, n.Role, n.Term, n.Last, n.Commit, n.Applied)
	}
	return t.Flush()
}

func showMembers(ctx context.Context, c *client.Client, w io.Writer, asJSON bool) error {
	status, err := local.Ask(ctx, c)
	if err != nil {
		return named("member list", err)
	}
	m := membersJSON{
		Voters: orEmpty(status.Voters), Learners: orEmpty(status.Learners), Joint: status.Joint, OldVoters: orEmpty(status.OldVoters),
		Phase: client.PhaseName(status.Phase), Pool: []poolJSON{}, Leases: status.Leases,
	}
	for _, r := range status.Rows {
		m.Pool = append(m.Pool, poolJSON{r.ID, r.Addr})
	}
	if asJSON {
		return writeJSON(w, m)
	}
	leases := ""
	if m.Leases {
		leases = ", reads by lease"
	}
	fmt.Fprintf(w, "voters %s, learners %s, %s%s\n", list(m.Voters), list(m.Learners), m.Phase, leases)
	if m.Joint {
		fmt.Fprintf(w, "old voters %s\n", list(m.OldVoters))
	}
	for _, p := range m.Pool {
		fmt.Fprintf(w, "  %d  %s\n", p.ID, p.Addr)
	}
	return nil
}

// leaderOf gives the leader and its term, or 0.
func leaderOf(ctx context.Context, c *client.Client) (leader uint16, term uint64) {
	status, err := local.Ask(ctx, c)
	if err != nil {
		return 0, 0
	}
	return status.Leader, status.Term
}

// named puts the word before an error that does not begin with it.
func named(word string, err error) error {
	if strings.HasPrefix(err.Error(), word+":") {
		return err
	}
	return fmt.Errorf("%s: %w", word, err)
}

func list(ids []uint16) string {
	if len(ids) == 0 {
		return "none"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

func orEmpty(ids []uint16) []uint16 {
	if ids == nil {
		return []uint16{}
	}
	return ids
}
