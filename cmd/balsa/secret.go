package main

import (
	"crypto/rand"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"balsa/wire"
	"balsa/wire/secret"
)

// secretCommand makes the files that seal a cluster, and changes them. docs/threat-model.md says who may hold which.
func secretCommand(s *streams) *cobra.Command {
	word := func(name, about, long string, run func(dir string) error) *cobra.Command {
		var dir string
		cmd := &cobra.Command{
			Use: name + " --dir DIR", Short: about, Long: long, Args: noWords,
			Example: "balsa secret " + name + " --dir /etc/balsa",
			RunE: func(*cobra.Command, []string) error {
				if dir == "" {
					return usagef("secret %s needs --dir DIR", name)
				}
				if err := run(dir); err != nil {
					return fmt.Errorf("secret %s: %w", name, err)
				}
				return nil
			},
		}
		cmd.Flags().StringVar(&dir, "dir", "", "the directory of server.secret and client.secret")
		return cmd
	}
	return group("secret", "make and change the secret of a sealed cluster",
		word("new", "write server.secret and, derived from it one way, client.secret",
			`new writes two files that only their owner can read. server.secret is for servers, and for drills; client.secret is for all
other clients: with it nobody can be a server. It refuses to overwrite either.`,
			func(dir string) error { return secretNew(s, dir) }),
		word("rotate", "add a newer secret to both files",
			`rotate adds a newer secret beside those in use. Copy the files to all servers and clients in any order, and send each server
SIGHUP; clients read theirs again by themselves. A datagram is sealed with the newest secret that both of its ends hold, so
nothing is lost meanwhile. Then retire the old one.`,
			func(dir string) error { return secretRotate(s, dir) }),
		word("retire", "drop all but the newest secret from both files",
			`retire ends a rotation, when every server and client has the newest secret: whoever has not is not heard any more once the
servers have the new files and were sent SIGHUP.`,
			func(dir string) error { return secretRetire(s, dir) }))
}

func newSecret() (b [wire.SecretBytes]byte) {
	rand.Read(b[:]) // never fails: the runtime ends the process rather than return weak bytes
	return b
}

func secretNew(s *streams, dir string) error {
	if err := secret.Create(dir, secret.New(newSecret())); err != nil {
		return err
	}
	server, client := filepath.Join(dir, secret.ServerFile), filepath.Join(dir, secret.ClientFile)
	fmt.Fprintf(s.err, "made %s and %s\nservers: balsa serve --data DIR --secret-file %s\nclients: balsa get KEY --secret-file %s\n", server, client, server, client)
	return nil
}

// servers reads the servers' file of a directory.
func serversSecret(dir string) (*secret.File, error) {
	path := filepath.Join(dir, secret.ServerFile)
	f, err := secret.Read(path)
	if err == nil && !f.Servers {
		return nil, fmt.Errorf("%s holds what clients get, not the servers' secret", path)
	}
	return f, err
}

func secretRotate(s *streams, dir string) error {
	f, err := serversSecret(dir)
	if err != nil {
		return err
	}
	if err := f.Rotate(newSecret()); err != nil {
		return err
	}
	if err := secret.Replace(dir, f); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "added secret %d to both files; copy them to all servers and clients, send each server SIGHUP, then: balsa secret retire --dir %s\n",
		f.Secrets[len(f.Secrets)-1].Epoch, dir)
	return nil
}

func secretRetire(s *streams, dir string) error {
	f, err := serversSecret(dir)
	if err != nil {
		return err
	}
	gone := f.Retire()
	if gone == 0 {
		return fmt.Errorf("there is only one secret, number %d: rotate first", f.Secrets[0].Epoch)
	}
	if err := secret.Replace(dir, f); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "%s left, number %d, and %s dropped; copy the files to all servers and clients and send each server SIGHUP\n",
		count(1, "secret"), f.Secrets[0].Epoch, count(gone, "older one"))
	return nil
}
