package main

import (
	"os"
	"path/filepath"

	"balsa/wire/secret"
)

// secretFiles are those of a secret that lives as long as a measurement.
type secretFiles struct{ dir string }

func passingSecret() (secretFiles, error) {
	dir, err := os.MkdirTemp("", "balsa-secret-")
	if err != nil {
		return secretFiles{}, err
	}
	f := secretFiles{dir}
	if err := secret.Create(f.files(), secret.New(newSecret())); err != nil {
		f.remove()
		return secretFiles{}, err
	}
	return f, nil
}

func (f secretFiles) files() string  { return filepath.Join(f.dir, "secrets") }
func (f secretFiles) client() string { return filepath.Join(f.files(), secret.ClientFile) }
func (f secretFiles) remove()        { os.RemoveAll(f.dir) }
func (f secretFiles) serve() []string {
	return []string{"--secret-file", filepath.Join(f.files(), secret.ServerFile)}
}
