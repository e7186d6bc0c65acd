package main

import (
	"bytes"
	"context"

	"balsa/kv"
	"balsa/kv/client"
)

// perform is where an order meets the client library.
func perform(ctx context.Context, c *client.Client, o *order) (*answer, error) {
	if o.word == "scan" {
		return performScan(ctx, c, o)
	}
	cmd := &client.Op{Key: o.key}
	switch o.word {
	case "get":
		cmd.Op = kv.Get
	case "put":
		cmd.Op, cmd.Value = kv.Put, o.value
	case "del":
		cmd.Op = kv.Delete
	case "cas":
		cmd.Op, cmd.Value, cmd.Old = kv.CompareAndSwap, o.value, o.old
		if o.absent {
			cmd.Flags |= kv.FlagOldAbsent
		}
	}
	r, err := c.Do(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &answer{word: o.word, key: o.key, value: r.Value, index: r.Index, term: r.Term, seq: r.Seq}, nil
}

// performScan gathers a whole range; it is read page by page, each page linearizably.
func performScan(ctx context.Context, c *client.Client, o *order) (*answer, error) {
	a := &answer{word: "scan"}
	err := c.Scan(ctx, o.key, o.from, o.to, o.limit, func(key, value []byte) bool {
		a.pairs = append(a.pairs, pair{bytes.Clone(key), bytes.Clone(value)})
		return true
	})
	return a, err
}
