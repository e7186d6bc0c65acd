//go:build !linux

package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The floor is measured on Linux only: elsewhere a sync means something else.
var errLinux = errors.New("measuring needs Linux")

func syncData(*os.File) error                                { return errLinux }
func processorSeconds([]int) (float64, error)                { return 0, errLinux }
func processorTimes([]int) (user, system float64, err error) { return 0, 0, errLinux }
func describe(string) Machine                                { return Machine{Cores: runtime.NumCPU(), Go: runtime.Version()} }
func settleDisk(string) error                                { return errLinux }
func journalOf(string) journalCount                          { return journalCount{} }
func alignedBuffer(size int) []byte                          { return make([]byte, size) }
func (f *diskFile) open() error                              { return errLinux }
func (f *diskFile) write([]byte) error                       { return errLinux }
func notSupported(error) bool                                { return false }

// Describe tells of the machine.
func Describe(string) Machine { return describe("") }

func threadTime() time.Duration              { return 0 }
func bareWay(*WireReport, int) (*way, error) { return nil, errLinux }

func rawFollower(context.Context, string, io.Writer) error                          { return errLinux }
func rawLeader(context.Context, string, []string, io.Writer) error                  { return errLinux }
func askLoop(context.Context, string, *hdrhistogram.Histogram, time.Duration) error { return errLinux }
