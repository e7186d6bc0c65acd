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

func syncData(*os.File) error                                                        { return errLinux }
func processorSeconds([]int) (float64, error)                                        { return 0, errLinux }
func echo(context.Context, io.Writer) error                                          { return errLinux }
func describe(string) Machine                                                        { return Machine{Cores: runtime.NumCPU(), Go: runtime.Version()} }
func pingLoop(context.Context, string, *hdrhistogram.Histogram, time.Duration) error { return errLinux }
