package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"balsa/wal"
	"balsa/wal/vfs"
)

func walCommand(s *streams) *cobra.Command {
	cmd := group("wal", "look into a server's log",
		walListCommand(s), walDumpCommand(s), walVerifyCommand(s), walStatCommand(s), walTailCommand(s), walDiffCommand(s),
		walRepairCommand(s), walDamageCommand(s), walBenchCommand(s))
	return cmd
}

// oneDir takes the directory that most words of wal have.
func oneDir(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("usage: %s", cmd.UseLine())
	}
	return isDir(cmd, args[0])
}

func isDir(cmd *cobra.Command, name string) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return &fault{exitFailed, fmt.Errorf("%s: %s is no directory", cmd.CommandPath(), name)}
	}
	return err
}

// dirOrFile takes a log's directory, or one segment's file, copied or not.
func dirOrFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("usage: %s", cmd.UseLine())
	}
	_, err := os.Stat(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return &fault{exitFailed, fmt.Errorf("%s: %s is no directory and no file", cmd.CommandPath(), args[0])}
	}
	return err
}

// scanLog reads a log, or one segment's file, with a progress bar where that takes long.
func scanLog(s *streams, name string, o wal.ScanOptions, visit func(*wal.Record) error) (wal.Report, error) {
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		name, o.File = filepath.Split(name)
		name = filepath.Clean(name) // "." where nothing is left
	}
	bar := newProgress(s, "reading")
	defer bar.end()
	o.Each, o.Progress = beside, bar.step
	return wal.ScanWith(vfs.OS, name, o, visit)
}

func walListCommand(s *streams) *cobra.Command {
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "ls DIR", Short: "list the segments", Args: dirOrFile, DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := scanLog(s, args[0], wal.ScanOptions{}, nil)
			if err != nil {
				return fmt.Errorf("wal ls: %w", err)
			}
			return writeSegments(s, report.Segments, output.value == "json")
		},
	}
	cmd.Flags().VarP(output, "output", "o", "form of the answers")
	return cmd
}

func walVerifyCommand(s *streams) *cobra.Command {
	output := newChoice("text", "json")
	cmd := &cobra.Command{
		Use: "verify DIR", Short: "check every record and say what is wrong", Args: dirOrFile, DisableFlagsInUseLine: true,
		Long: "verify reads every record of a log, also beside a live server, or of one segment's file, and tells all that is not valid.\n\n" +
			exitCodesHelp[strings.Index(exitCodesHelp, "balsa wal verify"):],
		RunE: func(_ *cobra.Command, args []string) error {
			return walVerify(s, args[0], output.value == "json")
		},
	}
	cmd.Flags().VarP(output, "output", "o", "form of the answers")
	return cmd
}

// damage is what wal damage was told to do.
type damage struct {
	segment      string
	offset, zero int64
	flip         uint
	cut          bool
}

func walDamageCommand(s *streams) *cobra.Command {
	var d damage
	cmd := &cobra.Command{
		Use: "damage DIR --segment NAME --offset N --flip BIT | --zero N | --cut", Short: "damage a log, for drills", Args: oneDir,
		Long:                  "damage changes bytes of a segment, for drills. It refuses a directory in use.\n--cut zeroes from the offset to the end of what was written, as a power cut leaves it.",
		Example:               "balsa wal damage data/1 --segment NAME --offset 4200 --flip 3",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			for _, name := range []string{"segment", "offset"} {
				if !f.Changed(name) {
					return usagef("wal damage needs --%s", name)
				}
			}
			kinds := 0
			for _, name := range []string{"flip", "zero", "cut"} {
				if f.Changed(name) {
					kinds++
				}
			}
			if kinds != 1 || f.Changed("cut") && !d.cut {
				return usagef("wal damage needs one of --flip BIT, --zero N, --cut")
			}
			if d.offset < 0 || f.Changed("zero") && d.zero < 1 || d.flip > 7 {
				return usagef("wal damage: want an --offset of 0 or more, a --flip of bit 0 to 7, a --zero of 1 byte or more")
			}
			return walDamage(s, args[0], &d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.segment, "segment", "", "name of the segment's file")
	f.Int64Var(&d.offset, "offset", 0, "offset in the file, in bytes")
	f.UintVar(&d.flip, "flip", 0, "flip this bit (0 to 7) of the byte at the offset")
	f.Int64Var(&d.zero, "zero", 0, "zero so many bytes")
	f.BoolVar(&d.cut, "cut", false, "zero from the offset to the end of what was written")
	return cmd
}

// table writes aligned columns.
func table(s *streams, rows func(w *tabwriter.Writer)) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	rows(w)
	return w.Flush()
}
