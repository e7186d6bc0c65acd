//go:build !linux

package vfs

import "fmt"

func osWith(m Mode) (FS, error) { return nil, fmt.Errorf("mode %s: %w", m, ErrUnsupported) }
