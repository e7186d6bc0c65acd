package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"balsa/kv/client"
)

// clientFlags are what every word that talks to a cluster takes.
type clientFlags struct {
	cluster    string
	timeout    time.Duration
	secretFile string
	output     *choice
}

func (c *clientFlags) register(f *pflag.FlagSet) {
	c.output = newChoice("text", "json")
	f.StringVar(&c.cluster, "cluster", "", "servers, any of them is enough: HOST:PORT,HOST:PORT,... (or BALSA_CLUSTER)")
	f.DurationVar(&c.timeout, "timeout", 5*time.Second, "for the whole of one command")
	f.StringVar(&c.secretFile, "secret-file", "", "client.secret of a sealed cluster")
	f.VarP(c.output, "output", "o", "form of the answers")
}

func (c *clientFlags) json() bool { return c.output.value == "json" }

// addrs are the servers that were named, by the flag or by the environment.
func (c *clientFlags) addrs() ([]string, error) {
	named := c.cluster
	if named == "" {
		named = os.Getenv("BALSA_CLUSTER")
	}
	if named == "" {
		return nil, usagef("say where the servers are: --cluster HOST:PORT,... or BALSA_CLUSTER")
	}
	var addrs []string
	for part := range strings.SplitSeq(named, ",") {
		addr := strings.TrimSpace(part)
		if id, rest, ok := strings.Cut(addr, "="); ok { // the form that init takes is welcome here too
			if _, err := parseID(id); err != nil {
				return nil, err
			}
			addr = rest
		}
		if err := checkAddr(addr); err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// dial makes a client of the named servers; oneShot is for a process that runs a single command.
func (c *clientFlags) dial(oneShot bool) (*client.Client, error) {
	if c.secretFile != "" {
		return nil, notYet("--secret-file")
	}
	if c.timeout <= 0 {
		return nil, usagef("--timeout is %v, want more than 0", c.timeout)
	}
	addrs, err := c.addrs()
	if err != nil {
		return nil, err
	}
	return client.Open(client.Config{Addrs: addrs, Timeout: c.timeout, OneShot: oneShot, Plain: os.Getenv(envName("offload")) == "off"})
}

// timeoutGrace lets an operation end by its own timeout, which says what was tried, before the context does, which does
// not.
const timeoutGrace = 100 * time.Millisecond

// bound ends what takes more than one operation, such as a long scan.
func (c *clientFlags) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout+timeoutGrace)
}

// storeCommand is the door of put, get, del, cas and scan.
func storeCommand(s *streams, w *storeWord) *cobra.Command {
	var flags clientFlags
	var own storeFlags
	cmd := &cobra.Command{
		Use: w.usage, Short: w.about, Example: w.example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := parseOrder(w, args, &own, func() ([]byte, error) { return readValue(s.in) })
			if err != nil {
				return err
			}
			c, err := flags.dial(true)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := flags.bound(cmd.Context())
			defer cancel()
			a, err := carryOut(ctx, c, o)
			if err != nil {
				return err
			}
			_, tty := terminal(s.out)
			return a.write(s.out, style{json: flags.json(), terminal: tty, bare: !tty})
		},
	}
	flags.register(cmd.Flags())
	own.register(w.name, cmd.Flags())
	return cmd
}

// carryOut performs one order and names it in what went wrong.
func carryOut(ctx context.Context, c *client.Client, o *order) (*answer, error) {
	a, err := perform(ctx, c, o)
	if err != nil {
		return nil, named(o.word, err)
	}
	return a, nil
}
