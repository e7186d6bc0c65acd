package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// serveWord makes this program an etcd server: `serve-etcd NAME DIR PEER CLIENT CLUSTER`, until standard input ends.
const serveWord = "serve-etcd"

func serveEtcd(args []string) error {
	if len(args) != 5 {
		return errors.New("serve-etcd NAME DIR PEER CLIENT CLUSTER")
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.InitialClusterToken = args[0], args[1], args[4], "bench-peers"
	peer, err := url.Parse(args[2])
	if err != nil {
		return err
	}
	client, err := url.Parse(args[3])
	if err != nil {
		return err
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.LogLevel, cfg.QuotaBackendBytes = "fatal", 8<<30
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return err
	}
	fmt.Println("ready")
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case err := <-server.Err():
		return err
	}
}

// etcdCluster is three etcd servers on loopback, each a process of its own, with their defaults.
type etcdCluster struct {
	dir     string
	servers []*exec.Cmd
	inputs  []io.Closer
	clients []*clientv3.Client
	addrs   []string
}

// etcdConnections is how many gRPC connections all clients share.
const etcdConnections = 32

func startEtcd(ctx context.Context, parent string) (*etcdCluster, error) {
	dir, err := os.MkdirTemp(parent, "bench-etcd-")
	if err != nil {
		return nil, err
	}
	c := &etcdCluster{dir: dir}
	if err := c.start(); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.connect(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *etcdCluster) start() error {
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	var cluster []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("s%d=http://127.0.0.1:%d", i, ports[i]))
	}
	var outputs []io.Reader
	for i := range 3 {
		client := fmt.Sprintf("127.0.0.1:%d", ports[3+i])
		cmd := exec.Command(binary, serveWord, fmt.Sprintf("s%d", i), filepath.Join(c.dir, fmt.Sprint(i)),
			fmt.Sprintf("http://127.0.0.1:%d", ports[i]), "http://"+client, strings.Join(cluster, ","))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		c.servers, c.inputs, outputs, c.addrs = append(c.servers, cmd), append(c.inputs, in), append(outputs, out), append(c.addrs, client)
	}
	for _, out := range outputs {
		var ready string
		if _, err := fmt.Fscan(out, &ready); err != nil {
			return fmt.Errorf("an etcd server ended early: %w", err)
		}
	}
	return nil
}

// connect makes the connections, all to the leader: no request takes a second hop.
func (c *etcdCluster) connect(ctx context.Context) error {
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	for range etcdConnections {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{leader}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second})
		if err != nil {
			return err
		}
		c.clients = append(c.clients, client)
	}
	return nil
}

func (c *etcdCluster) leader(ctx context.Context) (string, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: c.addrs, Logger: zap.NewNop(), DialTimeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for _, addr := range c.addrs {
			s, err := client.Status(ctx, addr)
			if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
				return addr, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", fmt.Errorf("etcd has no leader: %w", ctx.Err())
}

func (c *etcdCluster) pids() []int {
	var pids []int
	for _, s := range c.servers {
		pids = append(pids, s.Process.Pid)
	}
	return pids
}

func (c *etcdCluster) Close() {
	for _, client := range c.clients {
		client.Close()
	}
	for _, in := range c.inputs {
		in.Close()
	}
	for _, s := range c.servers {
		s.Process.Kill() // what it has is thrown away
		s.Wait()
	}
	os.RemoveAll(c.dir)
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
