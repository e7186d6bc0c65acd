#!/usr/bin/env bash
# A file system of 20 MiB under three servers, filled to the brim under load: TestAFullDiskRefusesWritesAndRecovers, on an
# ext4 of its own, mounted by loop. Needs root; says so where it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-20} FILESYSTEMS=${FILESYSTEMS:-ext4} exec bench/fs.sh \
	env "BALSA_FULL_DIR={}" "${GO:-go}" test ./cmd/balsa -run '^TestAFullDisk' -count=1 -v
