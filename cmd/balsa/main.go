// Command balsa is the server, its clients and its tools in one binary. A file here is one subcommand, or one thing
// that several of them share; each is a thin door to the package that does the work.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() { os.Exit(run(os.Args[1:], &streams{os.Stdin, os.Stdout, os.Stderr})) }

// streams are what a command reads and writes: answers go to out, everything else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// terminal says whether a stream is a terminal, and gives its descriptor.
func terminal(stream any) (int, bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// run carries out one command line and gives the exit code.
func run(args []string, s *streams) int {
	root := rootCommand(s)
	root.SetArgs(markValues(args, valueFlags(root)))
	return tell(s.err, root.Execute(), wantsJSON(args), 0)
}

func rootCommand(s *streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "balsa",
		Short:         "a replicated key-value store: Raft over UDP, one log on disk",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, args[0])
			}
			fmt.Fprint(s.out, welcome)
			return nil
		},
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(flagFault)
	root.AddGroup(&cobra.Group{ID: "server", Title: "Servers:"}, &cobra.Group{ID: "client", Title: "Clients:"},
		&cobra.Group{ID: "tool", Title: "Tools:"})
	add(root, "server", initCommand(s), serveCommand(s), upCommand(s))
	for i := range storeWords {
		add(root, "client", storeCommand(s, &storeWords[i]))
	}
	add(root, "client", statusCommand(s), memberCommand(s), changeCommand(s, &transferWord), replCommand(s))
	add(root, "tool", demoCommand(s), walCommand(s), benchCommand(s), versionCommand(s), exitCodesCommand(s), chaosCommand(s),
		chaosProxyCommand(s))
	root.AddCommand(laterCommands()...)
	return root
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

const welcome = `balsa is a replicated key-value store. To begin:

  balsa up                  a local cluster of three servers, and a prompt
  balsa put KEY VALUE       set a key            (--cluster HOST:PORT or BALSA_CLUSTER)
  balsa get KEY             read it
  balsa status              who leads, who is there
  balsa demo basic          watch a cluster lose servers and keep every acknowledged value

balsa help lists everything; balsa help WORD tells more of one.
`

// group makes a command that has only subcommands, such as wal and member.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownWord(cmd, args[0])
			}
			return usagef("%s needs one of: %s", cmd.CommandPath(), strings.Join(names(cmd), ", "))
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}

func unknownWord(cmd *cobra.Command, word string) error {
	of := ""
	if cmd.HasParent() {
		of = " of " + cmd.CommandPath()
	}
	word = unmarkWord(word)
	if near := nearest(word, names(cmd)); near != "" {
		return usagef("unknown command %q%s; nearest is %q", clip(word), of, near)
	}
	return usagef("unknown command %q%s; %s --help lists them", clip(word), of, cmd.CommandPath())
}

// flagFault is what the flag parser found wrong, with the nearest flag; where the command itself is unknown, that is
// the fault to tell.
func flagFault(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() {
		if word := firstWord(cmd.Flags().Args()); word != "" {
			return unknownWord(cmd, word)
		}
	}
	text := err.Error()
	if _, flag, ok := strings.Cut(text, "unknown flag: --"); ok {
		var known []string
		for name := range strings.FieldsSeq(cmd.Flags().FlagUsages()) {
			if flag, ok := strings.CutPrefix(name, "--"); ok {
				known = append(known, flag)
			}
		}
		if near := nearest(flag, known); near != "" {
			text += "; nearest is --" + near
		}
	}
	return usagef("%s: %s", cmd.CommandPath(), strings.ReplaceAll(text, mark, ""))
}

func firstWord(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

func names(cmd *cobra.Command) []string {
	var all []string
	for _, sub := range cmd.Commands() {
		all = append(all, sub.Name())
	}
	return all
}

// laterCommands stand for the words that the interface promises and this version does not have.
func laterCommands() []*cobra.Command {
	var all []*cobra.Command
	for _, name := range []string{"secret"} {
		all = append(all, laterCommand(name))
	}
	return all
}

func laterCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: "not there yet", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return notYet(cmd.CommandPath()) },
	}
}

func exitCodesCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use: "exit-codes", Short: "what the exit codes mean", Long: exitCodesHelp, Args: noWords,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(s.out, exitCodesHelp)
			return err
		},
	}
}
