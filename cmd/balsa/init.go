package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"balsa/node"
	"balsa/wal/vfs"
	"balsa/wire"
)

func initCommand(s *streams) *cobra.Command {
	var data, cluster, voters, name string
	var id uint16
	var leases bool
	cmd := &cobra.Command{
		Use:   "init --data DIR --id N --cluster POOL",
		Short: "make a data directory and the server's identity, once",
		Long: `init makes the data directory of one server and its identity. It refuses a directory that has one.

POOL is every known server; the voters are those that found the cluster, all of the pool when left out.`,
		Example: "balsa init --data /var/lib/balsa --id 1 --cluster 1=10.0.0.1:7101,2=10.0.0.2:7101,3=10.0.0.3:7101",
		Args:    noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []string{"data", "id", "cluster"} {
				if !cmd.Flags().Changed(flag) {
					return usagef("init needs --%s", flag)
				}
			}
			pool, err := parsePool(cluster)
			if err != nil {
				return err
			}
			first, err := parseVoters(voters, pool)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(pool, func(s wire.Server) bool { return s.ID == id }) {
				return usagef("--id %d is not in the pool %s", id, cluster)
			}
			if err := node.Init(node.InitOptions{FS: vfs.OS, Dir: data, ID: id, Pool: pool, Voters: first, Name: name, Leases: leases, Random: node.Random}); err != nil {
				return fmt.Errorf("init: %w", err)
			}
			fmt.Fprintf(s.err, "made server %d in %s; start it with: balsa serve --data %s\n", id, data, data)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "the directory to make")
	f.Uint16Var(&id, "id", 0, "this server's id in the pool")
	f.StringVar(&cluster, "cluster", "", "every known server: 1=HOST:PORT,2=HOST:PORT,...")
	f.StringVar(&voters, "voters", "", "ids of the first voters, such as 1,2,3 (default: all of the pool)")
	f.BoolVar(&leases, "leases", false, "with the founder, the lowest first voter: let leaders answer reads alone while a quorum has promised to elect no other;\nrelies on clocks that keep within a tenth of true time")
	f.StringVar(&name, "name", "", "a name for people, in logs and status")
	return cmd
}

// parsePool reads 1=HOST:PORT,2=HOST:PORT,... into servers by ascending id.
func parsePool(text string) ([]wire.Server, error) {
	var pool []wire.Server
	for part := range strings.SplitSeq(text, ",") {
		number, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, usagef("the pool has %q, want ID=HOST:PORT", part)
		}
		id, err := parseID(number)
		if err != nil {
			return nil, err
		}
		if err := checkAddr(addr); err != nil {
			return nil, err
		}
		for _, s := range pool {
			if s.ID == id || s.Addr == addr {
				return nil, usagef("the pool has %d=%s and %d=%s: each id and each address once", s.ID, s.Addr, id, addr)
			}
		}
		pool = append(pool, wire.Server{ID: id, Addr: addr})
	}
	slices.SortFunc(pool, func(a, b wire.Server) int { return int(a.ID) - int(b.ID) })
	return pool, nil
}

func parseVoters(text string, pool []wire.Server) ([]uint16, error) {
	var voters []uint16
	if text == "" {
		for _, s := range pool {
			voters = append(voters, s.ID)
		}
		return voters, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		id, err := parseID(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(pool, func(s wire.Server) bool { return s.ID == id }) {
			return nil, usagef("voter %d is not in the pool", id)
		}
		if slices.Contains(voters, id) {
			return nil, usagef("voter %d is named twice", id)
		}
		voters = append(voters, id)
	}
	slices.Sort(voters)
	return voters, nil
}

// Ids 0 and 65535 mean "none" and "a client" in the formats.
func parseID(text string) (uint16, error) {
	id, err := strconv.ParseUint(text, 10, 16)
	if err != nil || id == 0 || id == 1<<16-1 {
		return 0, usagef("%q is no server id, want 1 to 65534", text)
	}
	return uint16(id), nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
		return usagef("%q is no address, want HOST:PORT", addr)
	}
	return nil
}

func noWords(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected word %q", unmarkWord(args[0]))
	}
	return nil
}
