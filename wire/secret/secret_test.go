package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"balsa/wire"
)

func made(t *testing.T) (dir string, f *File) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "secrets")
	f = New([wire.SecretBytes]byte{1, 2, 3})
	if err := Create(dir, f); err != nil {
		t.Fatal(err)
	}
	return dir, f
}

func TestFilesAreReadAsTheyWereWritten(t *testing.T) {
	dir, f := made(t)
	for name, want := range map[string]*File{ServerFile: f, ClientFile: f.ForClients()} {
		path := filepath.Join(dir, name)
		got, err := Read(path)
		if err != nil || string(got.Text()) != string(want.Text()) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", name, info.Mode(), err)
		}
	}
	if err := Create(dir, f); !errors.Is(err, ErrExists) {
		t.Errorf("made again: %v, want ErrExists", err)
	}
	os.Remove(filepath.Join(dir, ServerFile))
	if err := Create(dir, f); !errors.Is(err, ErrExists) {
		t.Errorf("made beside a client's file: %v, want ErrExists", err)
	}
}

func TestAClientsFileHoldsNothingOfTheServers(t *testing.T) {
	dir, f := made(t)
	text, err := os.ReadFile(filepath.Join(dir, ClientFile))
	if err != nil {
		t.Fatal(err)
	}
	server := strings.Fields(string(f.Text()[strings.Index(string(f.Text()), "key 1"):]))[2]
	if strings.Contains(string(text), server) || strings.Contains(string(text), "server\n") {
		t.Errorf("the clients' file:\n%s", text)
	}
}

func TestAFileThatOthersReadIsRefused(t *testing.T) {
	dir, _ := made(t)
	path := filepath.Join(dir, ServerFile)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); !errors.Is(err, ErrMode) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v, want ErrMode", mode, err)
		}
	}
	os.Chmod(path, 0o400)
	if _, err := Load(path); err != nil {
		t.Errorf("mode 400: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrMode) {
		t.Errorf("a directory: %v", err)
	}
}

func TestWrongFilesAreRefusedWithoutShowingThem(t *testing.T) {
	key := strings.Repeat("ab", wire.SecretBytes)
	for what, text := range map[string]string{
		"empty":           "",
		"comments":        "# nothing\n\n",
		"something else":  "hunter2hunter2\n",
		"newer":           "balsa-secret 2 server\nkey 1 " + key,
		"nobody's":        "balsa-secret 1 admin\nkey 1 " + key,
		"no key":          "balsa-secret 1 server\n",
		"epoch 0":         "balsa-secret 1 server\nkey 0 " + key,
		"epoch 256":       "balsa-secret 1 server\nkey 256 " + key,
		"epoch twice":     "balsa-secret 1 server\nkey 1 " + key + "\nkey 1 " + key,
		"short":           "balsa-secret 1 server\nkey 1 " + key[2:],
		"no hex":          "balsa-secret 1 server\nkey 1 hunter2" + key[7:],
		"too many":        "balsa-secret 1 server" + strings.Repeat("\nkey 1 "+key, 9),
		"too long a file": strings.Repeat("#", most+1),
	} {
		_, err := Parse([]byte(text))
		if !errors.Is(err, ErrFormat) && !errors.Is(err, wire.ErrSecret) {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), key[:8]) {
			t.Errorf("%s: the error shows the file: %v", what, err)
		}
	}
}

func TestARotationGoesAroundAllEpochs(t *testing.T) {
	dir, f := made(t)
	for i := range 600 {
		if err := f.Rotate([wire.SecretBytes]byte{byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
		if i%100 > 1 {
			f.Retire()
			continue
		}
		if err := Replace(dir, f); err != nil {
			t.Fatal(err)
		}
		k, err := Load(filepath.Join(dir, ServerFile))
		if err != nil || len(k.Epochs()) != 2 || k.Newest() == 0 || k.Newest() != f.Secrets[1].Epoch {
			t.Fatalf("rotation %d: %v, %v", i, k, err)
		}
		if c, err := Load(filepath.Join(dir, ClientFile)); err != nil || c.Servers() || c.Newest() != k.Newest() {
			t.Fatalf("rotation %d: the clients' file: %v, %v", i, c, err)
		}
		if n := f.Retire(); n != 1 {
			t.Fatalf("%d retired, want 1", n)
		}
	}
	for i := range wire.MaxEpochs {
		if err := f.Rotate([wire.SecretBytes]byte{byte(i)}); (err != nil) != (i == wire.MaxEpochs-1) {
			t.Fatalf("rotation %d without retiring: %v", i, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New([wire.SecretBytes]byte{1}).Text())
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		if b, err := Parse(a.Text()); err != nil || string(b.Text()) != string(a.Text()) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
