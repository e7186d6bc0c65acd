#!/usr/bin/env bash
# The log on file systems of its own: an ext4 with a journal and an XFS, each in a file mounted by loop. What is run is
# `balsa wal bench` and `balsa bench wal` there (or the command given), whose reports count the journal's transactions.
# It needs root, loop devices and the mkfs of each file system; what is missing is said and passed over.
#
#   bench/fs.sh [COMMAND...]      {} in the command is the mounted directory, FS its file system
#   SIZE=3072 FILESYSTEMS="ext4 xfs" IMAGES=/var/tmp OUT=out/fs bench/fs.sh
set -euo pipefail
cd "$(dirname "$0")/.."
size=${SIZE:-3072} # MiB of each image
images=${IMAGES:-${TMPDIR:-/tmp}}
out=${OUT:-out/fs}

skip() { echo "skipped: $*" >&2; }

if [ "$(id -u)" != 0 ]; then skip "mounting needs root"; exit 0; fi
for tool in losetup mount umount; do
	command -v "$tool" >/dev/null || { skip "$tool is not here"; exit 0; }
done
losetup -f >/dev/null 2>&1 || { skip "no loop device"; exit 0; }

place=$(mktemp -d "$images/balsa-fs-XXXXXX")
loop=
cleanup() {
	mountpoint -q "$place/mnt" && umount "$place/mnt"
	if [ -n "$loop" ]; then losetup -d "$loop"; fi
	rm -rf "$place"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The image is written whole before: the file system below it has nothing left to allocate.
make_image() {
	mkdir -p "$place/mnt"
	dd if=/dev/zero of="$place/image" bs=1M count="$size" conv=fsync status=none
	# Past the page cache of the file below, where that can be had: else every byte is cached twice.
	loop=$(losetup -f --show --direct-io=on "$place/image" 2>/dev/null || losetup -f --show "$place/image")
}

drop_image() {
	umount "$place/mnt"
	losetup -d "$loop"
	loop=
	rm -f "$place/image"
}

run_in() { # FS, DIR
	if [ $# -gt 2 ]; then
		local fs=$1 dir=$2
		shift 2
		FS=$fs "${@//\{\}/$dir}"
		return
	fi
	bin/balsa wal bench "$2"
	bin/balsa bench wal --dir "$2" --out "$out/$1"
}

for fs in ${FILESYSTEMS:-ext4 xfs}; do
	command -v "mkfs.$fs" >/dev/null || { skip "$fs: mkfs.$fs is not here"; continue; }
	case $fs in
	ext4) options=(-q -F -O has_journal -E lazy_itable_init=0,lazy_journal_init=0) ;;
	xfs) options=(-q -f) ;;
	*) options=() ;;
	esac
	make_image
	"mkfs.$fs" "${options[@]}" "$loop"
	mount "$loop" "$place/mnt"
	echo "== $fs, $(findmnt -no OPTIONS "$place/mnt")"
	run_in "$fs" "$place/mnt" "$@"
	drop_image
done
