// Package secret reads and writes the files that make a cluster sealed.
//
// A file is text, readable by its owner alone:
//
//	balsa-secret 1 server
//	key 1 2f0c...     an epoch's number and 32 bytes in hex, newest last
//	key 2 a41e...
//
// The clients' file says client in its first line, and its keys are derived one way
// from the servers'. Lines that begin with # and empty ones are skipped. During a
// rotation a file has more than one key: all are accepted, and datagrams are sealed
// with the newest that both ends hold.
package secret

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"balsa/wire"
)

// Names of the two files in a directory.
const (
	ServerFile = "server.secret"
	ClientFile = "client.secret"
)

const (
	magic   = "balsa-secret"
	version = "1"
	most    = 64 << 10 // bytes of a file
)

// Errors of this package, beside those of the system.
var (
	ErrMode   = errors.New("others than its owner may read or write it")
	ErrFormat = errors.New("not a secret file")
	ErrExists = errors.New("there is one already")
)

// File is what a secret file holds.
type File struct {
	Servers bool // the servers' own, not the clients'
	Secrets []wire.Secret
}

// Keys are what the file's secrets are used by.
func (f *File) Keys() (*wire.Keys, error) { return wire.NewKeys(f.Servers, f.Secrets) }

// Load reads a file's keys. A file that others may read is refused: what it holds is
// everybody's then.
func Load(path string) (*wire.Keys, error) {
	f, err := Read(path)
	if err != nil {
		return nil, err
	}
	k, err := f.Keys()
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	return k, nil
}

// Read reads a file.
func Read(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("secret file %s: %w: no regular file", path, ErrFormat)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("secret file %s: %w: its mode is %04o, want 0600; chmod 600 it, and make new secrets if others could have read it", path, ErrMode, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	f, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	return f, nil
}

// Parse reads a file's text. No error shows any of its bytes.
func Parse(text []byte) (*File, error) {
	if len(text) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFormat, most)
	}
	f := &File{}
	first := true
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if first {
			first = false
			if err := f.head(words); err != nil {
				return nil, err
			}
			continue
		}
		if err := f.key(words); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if first {
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	}
	if _, err := f.Keys(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) head(words []string) error {
	if len(words) != 3 || words[0] != magic {
		return fmt.Errorf("%w: its first line is not that of balsa secret new", ErrFormat)
	}
	if words[1] != version {
		return fmt.Errorf("%w: its format is another version, want %s", ErrFormat, version)
	}
	switch words[2] {
	case "server":
		f.Servers = true
	case "client":
	default:
		return fmt.Errorf("%w: it is neither a server's nor a client's", ErrFormat)
	}
	return nil
}

func (f *File) key(words []string) error {
	if len(words) != 3 || words[0] != "key" {
		return fmt.Errorf("%w: want key EPOCH HEX", ErrFormat)
	}
	number, err := strconv.ParseUint(words[1], 10, 8)
	if err != nil || number == 0 {
		return fmt.Errorf("%w: an epoch is a number from 1 to 255", ErrFormat)
	}
	s := wire.Secret{Epoch: uint8(number)}
	bytes, err := hex.DecodeString(words[2])
	if err != nil || len(bytes) != len(s.Bytes) {
		return fmt.Errorf("%w: a key is %d bytes in hex", ErrFormat, len(s.Bytes))
	}
	copy(s.Bytes[:], bytes)
	f.Secrets = append(f.Secrets, s)
	return nil
}

// Text is the file's text.
func (f *File) Text() []byte {
	var b bytes.Buffer
	if f.Servers {
		b.WriteString("# balsa: the secret of a cluster's servers. Whoever has it can be one of them.\n")
		fmt.Fprintln(&b, magic, version, "server")
	} else {
		b.WriteString("# balsa: the secret of a cluster's clients, derived from the servers'.\n")
		fmt.Fprintln(&b, magic, version, "client")
	}
	for _, s := range f.Secrets {
		fmt.Fprintln(&b, "key", s.Epoch, hex.EncodeToString(s.Bytes[:]))
	}
	return b.Bytes()
}

// ForClients is what clients get of the servers' file.
func (f *File) ForClients() *File {
	c := &File{}
	for _, s := range f.Secrets {
		c.Secrets = append(c.Secrets, s.ForClients())
	}
	return c
}

// New makes a first secret, from 32 random bytes.
func New(random [wire.SecretBytes]byte) *File {
	return &File{Servers: true, Secrets: []wire.Secret{{Epoch: 1, Bytes: random}}}
}

// Rotate adds a newer secret.
func (f *File) Rotate(random [wire.SecretBytes]byte) error {
	if len(f.Secrets) == wire.MaxEpochs {
		return fmt.Errorf("%d secrets are in use already: retire the old ones first", wire.MaxEpochs)
	}
	number := f.Secrets[len(f.Secrets)-1].Epoch
	for taken := true; taken; {
		number++ // after 255 comes 1
		taken = number == 0
		for _, s := range f.Secrets {
			taken = taken || s.Epoch == number
		}
	}
	f.Secrets = append(f.Secrets, wire.Secret{Epoch: number, Bytes: random})
	return nil
}

// Retire keeps the newest secret alone, and says how many went.
func (f *File) Retire() int {
	n := len(f.Secrets) - 1
	f.Secrets = f.Secrets[n:]
	return n
}

// Create writes both files into a directory, which it makes if need be; it refuses if
// either is there.
func Create(dir string, f *File) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{ServerFile, ClientFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s: %w; a cluster may be sealed with it: rotate it, or choose another directory", filepath.Join(dir, name), ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := write(filepath.Join(dir, ServerFile), f.Text(), os.O_EXCL); err != nil {
		return err
	}
	return write(filepath.Join(dir, ClientFile), f.ForClients().Text(), os.O_EXCL)
}

// Replace writes both files anew, each in one step: who reads them meanwhile gets the
// old one or the new one.
func Replace(dir string, f *File) error {
	for _, part := range []struct {
		name string
		text []byte
	}{{ServerFile, f.Text()}, {ClientFile, f.ForClients().Text()}} {
		path := filepath.Join(dir, part.name)
		if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := write(path+".new", part.text, os.O_EXCL); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func write(path string, text []byte, flag int) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
