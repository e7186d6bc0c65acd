package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// asBalsa in the environment makes this test binary behave as balsa, so that the servers which the tests start are
// processes of the very code under test.
const asBalsa = "TEST_BINARY_IS_BALSA"

func TestMain(m *testing.M) {
	if os.Getenv(asBalsa) != "" {
		main()
	}
	os.Setenv(asBalsa, "1")
	testscript.Main(m, map[string]func(){"balsa": main})
}

// TestScripts runs the command lines of testdata/script, with their output and exit codes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "", // writes what is printed now into the golden parts
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "makelog": makelog},
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, asBalsa+"=1")
			return nil
		},
	})
}

// exits CODE balsa ARGS...: runs a command line and wants this very exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = exitStatus(err)
	}
	if code != args[0] {
		ts.Fatalf("got exit code %s, want %s", code, args[0])
	}
}
