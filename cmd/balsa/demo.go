package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"balsa/cmd/balsa/demo"
)

func demoCommand(s *streams) *cobra.Command {
	var scenarios []string
	for _, scenario := range demo.All() {
		scenarios = append(scenarios, scenario.Name)
	}
	var broken bool
	cmd := &cobra.Command{
		Use: "demo list|all|NAME", Short: "watch a cluster do what it promises", Args: cobra.ArbitraryArgs,
		Long:      "demo plays a scenario on a local cluster, tells each thing as it happens and checks it. It ends with 1 if it did not hold.",
		Example:   "balsa demo list\nbalsa demo basic",
		ValidArgs: append([]string{"list", "all"}, scenarios...),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("usage: demo list, demo all or demo NAME")
			}
			chosen := demo.All()
			switch name := unmarkWord(args[0]); name {
			case "list":
				return table(s, func(w *tabwriter.Writer) {
					for _, d := range chosen {
						fmt.Fprintf(w, "%s\t%s\n", d.Name, d.About)
					}
				})
			case "all":
			default:
				one, ok := demo.Find(name)
				if !ok {
					return unknownDemo(name, scenarios)
				}
				chosen = []demo.Scenario{one}
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			for _, d := range chosen {
				if broken && !d.Breakable() {
					return usagef("demo %s has nothing to switch off", d.Name)
				}
				if err := d.Play(ctx, binary, broken, s.out); err != nil {
					return &fault{code: exitFailed, err: fmt.Errorf("demo: %w", err)}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&broken, "break", false, "switch off the protection that is shown, so that it fails")
	cmd.Flags().MarkHidden("break")
	return cmd
}

func unknownDemo(name string, scenarios []string) error {
	if near := nearest(name, scenarios); near != "" {
		return usagef("no demo %q; nearest is %q", name, near)
	}
	return usagef("no demo %q; demo list names them", name)
}
