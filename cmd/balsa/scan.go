package main

import (
	"context"

	"balsa/kv"
	"balsa/kv/client"
)

func performScan(ctx context.Context, c *client.Client, o *order) (*answer, error) {
	_ = kv.Scan
	return &answer{word: "scan"}, nil
}
