package wal

import (
	"fmt"
	"iter"
	"testing"

	"balsa/wal/vfs"
)

// stepping divides every read and every write into pieces that no sector bounds, as a page cache does for whoever reads
// beside a writer, and calls step after each.
type stepping struct {
	vfs.FS
	step func()
}

const steppingBytes = 700

func (s stepping) Create(name string) (vfs.File, error)   { return s.with(s.FS.Create(name)) }
func (s stepping) Open(name string) (vfs.File, error)     { return s.with(s.FS.Open(name)) }
func (s stepping) OpenRead(name string) (vfs.File, error) { return s.with(s.FS.OpenRead(name)) }

func (s stepping) with(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return steppingFile{f, s.step}, nil
}

type steppingFile struct {
	vfs.File
	step func()
}

func (f steppingFile) pieces(p []byte, off int64, do func([]byte, int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		n, err := do(p[done:min(done+steppingBytes, len(p))], off+int64(done))
		done += n
		f.step()
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (f steppingFile) ReadAt(p []byte, off int64) (int, error) {
	return f.pieces(p, off, f.File.ReadAt)
}
func (f steppingFile) WriteAt(p []byte, off int64) (int, error) {
	return f.pieces(p, off, f.File.WriteAt)
}

// Whatever a server does while its log is read, piece by piece both, nothing is found wrong with it.
func TestAScanBesideAServerFindsNothingWrong(t *testing.T) {
	seeds := 150
	if *deep {
		seeds = 5000
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { scanBeside(t, source(seed+1)) })
	}
}

func scanBeside(t *testing.T, src source) {
	m := vfs.NewMem()
	if err := Create(testOptions(m, 1), []byte("founding")); err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull(serverWrites(t, m, src))
	defer stop()
	for range src.choose(60) { // what is there before
		next()
	}
	slow := 1 + src.choose(30)
	reader := stepping{m, func() {
		if src.choose(slow) == 0 {
			for range 1 + src.choose(20) {
				next()
			}
		}
	}}
	for range 3 {
		rep, err := Scan(reader, testDir, nil) // no records are shown where all that was listed is retired meanwhile
		if err != nil || rep.Verdict != Clean {
			t.Fatalf("%s: %s, %v", rep.Verdict, rep.Reason, err)
		}
	}
}

// serverWrites is a server that writes as long as it is asked: it stops after each piece.
func serverWrites(t *testing.T, m *vfs.Mem, src source) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		over := false
		writer := stepping{m, func() { over = over || !yield(struct{}{}) }}
		l, _ := open(t, writer)
		defer l.Close()
		for !over {
			switch src.choose(10) {
			case 0:
				l.SetHardState(HardState{l.Hard().Term + 1, uint16(src.choose(4))})
			case 1:
				if err := l.Prepare(); err != nil {
					t.Error(err)
				}
				continue
			case 2:
				l.PublishSynced()
			case 3:
				if n := uint64(src.choose(3)); l.Last()/2 > n+l.First() {
					l.Truncate(l.Last() - n)
				}
			case 4:
				if half := l.Last() / 2; half > l.First() {
					l.Retire(half)
				}
			default:
				for range 1 + src.choose(4) {
					l.Append(entry(l.Last()+1, l.Hard().Term, src.bytes(src.choose(6000))))
				}
			}
			commit(t, l)
		}
	}
}
