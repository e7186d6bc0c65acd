package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"
)

// Every flag of serve is also an environment variable and a line of a TOML file: the flag wins, then the variable, then
// the file. settle fills in what the command line left out.

// envName is the variable of a flag: BALSA_SEGMENT_SIZE for --segment-size.
func envName(flag string) string {
	return "BALSA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settle sets every flag that the command line did not, from the environment and then from the file that --config (or
// BALSA_CONFIG) names. A key that the file has and no flag has is refused.
func settle(flags *pflag.FlagSet) error {
	var problem error
	flags.VisitAll(func(f *pflag.Flag) {
		if value := os.Getenv(envName(f.Name)); value != "" && !f.Changed && problem == nil && f.Name != "help" {
			if err := flags.Set(f.Name, value); err != nil {
				problem = usagef("%s=%q in the environment: %s", envName(f.Name), value, plainFlagError(err))
			}
		}
	})
	if problem != nil {
		return problem
	}
	path := flags.Lookup("config").Value.String()
	if path == "" {
		return nil
	}
	lines := map[string]any{}
	if _, err := toml.DecodeFile(path, &lines); err != nil {
		return usagef("configuration %s: %s", path, strings.TrimPrefix(err.Error(), "toml: "))
	}
	return settleFile(flags, path, lines)
}

func settleFile(flags *pflag.FlagSet, path string, lines map[string]any) error {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" {
			names = append(names, f.Name)
		}
	})
	var unknown []string
	for _, key := range sortedKeys(lines) {
		if !contains(names, key) {
			said := fmt.Sprintf("%q", key)
			if near := nearest(key, names); near != "" {
				said += fmt.Sprintf(" (nearest is %q)", near)
			}
			unknown = append(unknown, said)
			continue
		}
		if flags.Lookup(key).Changed {
			continue
		}
		switch lines[key].(type) {
		case string, bool, int64, float64:
		default:
			return usagef("configuration %s: %s is a %T, want a string, a number or true or false", path, key, lines[key])
		}
		if err := flags.Set(key, fmt.Sprint(lines[key])); err != nil {
			return usagef("configuration %s: %s: %s", path, key, plainFlagError(err))
		}
	}
	if len(unknown) > 0 {
		return usagef("configuration %s: unknown key %s; known are %s", path, strings.Join(unknown, ", "), strings.Join(names, ", "))
	}
	return nil
}

// plainFlagError takes the flag parser's own words about the command line out of an error that is not about it.
func plainFlagError(err error) string {
	text := err.Error()
	if _, why, ok := strings.Cut(text, " flag: "); ok {
		return why
	}
	return text
}
