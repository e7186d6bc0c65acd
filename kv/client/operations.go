package client

import (
	"context"
	"slices"

	"balsa/kv"
)

// Put writes a value.
func (c *Client) Put(ctx context.Context, key, value []byte) error {
	_, err := c.Do(ctx, &Op{Op: kv.Put, Key: key, Value: value})
	return err
}

// Get returns the key's value, the caller's own, or ErrNotFound.
func (c *Client) Get(ctx context.Context, key []byte) ([]byte, error) {
	a, err := c.Do(ctx, &Op{Op: kv.Get, Key: key})
	if err != nil {
		return nil, err
	}
	if a.Value == nil {
		a.Value = []byte{}
	}
	return a.Value, nil
}

// Delete removes the key, or returns ErrNotFound.
func (c *Client) Delete(ctx context.Context, key []byte) error {
	_, err := c.Do(ctx, &Op{Op: kv.Delete, Key: key})
	return err
}

// CompareAndSwap writes the new value if the present one is old, else it returns ErrConflict. A nil old means that the
// key must be absent; an empty one that its value must be empty.
func (c *Client) CompareAndSwap(ctx context.Context, key, old, new []byte) error {
	op := Op{Op: kv.CompareAndSwap, Key: key, Old: old, Value: new}
	if old == nil {
		op.Flags = kv.FlagOldAbsent
	}
	_, err := c.Do(ctx, &op)
	return err
}

// Scan visits, in order, the keys that begin with prefix, are at least from and below to (empty: no bound), at most
// limit of them (0: all), until visit returns false. Key and value are views, valid during the visit. Each page of the
// range is read linearizably; the scan as a whole is not one moment.
func (c *Client) Scan(ctx context.Context, prefix, from, to []byte, limit int, visit func(key, value []byte) bool) error {
	op := Op{Op: kv.Scan, Key: prefix, Value: slices.Clone(from), Old: to}
	for {
		op.Limit = uint32(limit)
		a, err := c.Do(ctx, &op)
		if err != nil {
			return err
		}
		var last []byte
		for b := a.Value; len(b) > 0; {
			key, value, rest, ok := kv.NextPair(b)
			if !ok {
				return &outcomeError{"scan: a server answered with pairs that cannot be read", ErrNotApplied, nil}
			}
			if !visit(key, value) {
				return nil
			}
			if limit > 0 {
				if limit--; limit == 0 {
					return nil
				}
			}
			last, b = key, rest
		}
		if !a.More || last == nil {
			return nil
		}
		op.Value = append(append(op.Value[:0], last...), 0)
		if len(op.Value) > kv.MaxKey { // no key of the largest size plus one can exist: step past last
			op.Value = next(op.Value[:kv.MaxKey])
			if op.Value == nil {
				return nil
			}
		}
	}
}

// next is the least key of at most its length that is above it; nil if there is none.
func next(key []byte) []byte {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] != 0xFF {
			key[i]++
			return key[:i+1]
		}
	}
	return nil
}
