// Command bench-peers measures other systems under the harness of balsa bench, beside balsa and the same floor, in the
// same run. It is a module of its own, so that nothing of theirs becomes a part of balsa.
//
//	bench-peers log      libraries that write a log, alone
//	bench-peers cluster  three etcd servers and three of balsa, the same clients
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

const usage = `usage: bench-peers log     [--dir DIR] [--records 128,1024] [--batches 1,64,1024] [--mode burst,sustained]
                           [--subjects balsa,etcd-wal,raft-wal,tidwall-wal,pebble-record,bbolt] [--duration 3s] [--trials 10] [--out DIR] [-o json]
       bench-peers cluster [--balsa bin/balsa] [--dir DIR] [--commit 1,64,512] [--read 1,256] [--duration 5s] [--trials 3] [-o json]
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err == nil {
		return
	}
	if err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	switch word {
	case "log":
		return runLog(ctx, args[1:])
	case "cluster":
		return runCluster(ctx, args[1:])
	case serveWord:
		return serveEtcd(args[1:])
	}
	fmt.Fprint(os.Stderr, usage)
	return flag.ErrHelp
}

// numbers is a flag that takes a list of them.
type numbers []int

func (n *numbers) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n), " ", ","), "[]")
}

func (n *numbers) Set(text string) error {
	*n = nil
	for word := range strings.SplitSeq(text, ",") {
		x, err := strconv.Atoi(word)
		if err != nil || x < 1 {
			return fmt.Errorf("%q is no number above 0", word)
		}
		*n = append(*n, x)
	}
	return nil
}

// words is a flag that takes a list of them.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(text string) error {
	*w = strings.Split(text, ",")
	return nil
}
