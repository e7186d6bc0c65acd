package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"balsa/wire"
)

// Set by the build: make build fills in the latest tag and the commit.
var (
	version = "devel"
	commit  = "unknown"
)

// walFormat is the version of the log's format that this binary writes.
const walFormat = 1

type versionJSON struct {
	Version    string `json:"version"`
	Commit     string `json:"commit"`
	Go         string `json:"go"`
	WALFormat  int    `json:"wal_format"`
	WireFormat int    `json:"wire_format"`
}

func versionCommand(s *streams) *cobra.Command {
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "version", Short: "version, commit and formats", Args: noWords,
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			if output.value == "json" {
				return writeJSON(s.out, v)
			}
			_, err := fmt.Fprintf(s.out, "balsa %s\ncommit %s\n%s\nwal format %d\nwire format %d\n", v.Version, v.Commit, v.Go, v.WALFormat, v.WireFormat)
			return err
		},
	}
	cmd.Flags().VarP(output, "output", "o", "form of the answers")
	return cmd
}

func thisVersion() versionJSON {
	return versionJSON{Version: version, Commit: commit, Go: runtime.Version(), WALFormat: walFormat, WireFormat: wire.Version}
}
