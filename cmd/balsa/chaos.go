package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"balsa/kv/client"
	"balsa/wire"
)

// chaosCommand asks one server, which was started with --chaos, to do itself harm. Hidden: it is for drills.
func chaosCommand(s *streams) *cobra.Command {
	var at, secretFile string
	var long time.Duration
	verb := func(name string, number uint8, timed bool, about string) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: about, Args: noWords,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if at == "" {
					return usagef("chaos %s needs --at HOST:PORT, one server", name)
				}
				if err := checkAddr(at); err != nil {
					return err
				}
				if cmd.Flags().Changed("for") != timed || timed && long <= 0 {
					if !timed {
						return usagef("chaos %s takes no --for", name)
					}
					return usagef("chaos %s needs --for with how long, above 0", name)
				}
				if err := client.Chaos(cmd.Context(), at, secretFile, number, long); err != nil {
					return err
				}
				_, err := fmt.Fprintln(s.out, "OK")
				return err
			},
		}
	}
	cmd := group("chaos", "ask a server with --chaos to do itself harm",
		verb("crash", wire.ChaosCrash, false, "end at once, as kill -9 does"),
		verb("pause", wire.ChaosPause, true, "stand still"),
		verb("cut", wire.ChaosCut, true, "hear and say nothing, silently"),
		verb("mend", wire.ChaosCut, false, "end a cut"))
	cmd.Hidden = true
	cmd.PersistentFlags().StringVar(&at, "at", "", "HOST:PORT of the server")
	cmd.PersistentFlags().StringVar(&secretFile, "secret-file", os.Getenv("BALSA_SECRET_FILE"), "server.secret of a sealed cluster")
	cmd.PersistentFlags().DurationVar(&long, "for", 0, "how long")
	return cmd
}
