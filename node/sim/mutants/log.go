package main

// logged are bugs of the log: what a sync covers, what damage is, what a file's earlier life left.
var logged = []mutant{
	{31, "a segment is not synced when the log goes on in the next", "S14", walTests, []edit{
		{"wal/batch.go", "\tif e.seal {\n\t\tif err := l.syncFile()", "\tif e.seal && e.seq == 0 {\n\t\tif err := l.syncFile()"},
	}},
	{32, "the directory of a new segment is not synced", "S14", walTests, []edit{
		{"wal/spare.go", "\treturn m.fs.SyncDir(m.dir)\n", "\treturn nil\n"},
	}},
	{33, "a failed sync is tried again", "S14", walTests, []edit{
		{"wal/batch.go", "\tl.unsynced = false\n\treturn l.file.Sync()", "\tl.unsynced = false\n\tif l.file.Sync() == nil {\n\t\treturn nil\n\t}\n\treturn l.file.Sync()"},
	}},
	{34, "damage to synced bytes is taken for a torn tail", "S14", walTests, []edit{
		{"wal/walk.go", "if !proven && (region == 0 || w.hasZeroSector(x, x+region)) {", "if region == 0 || w.hasZeroSector(x, x+region) {"},
	}},
	{35, "zeros are a valid record", "log fuzz", walTests, []edit{
		{"wal/record.go", "\ts := le.Uint64(b[8:])\n", "\tif isZero(b) {\n\t\t*h = header{salt: salt, typ: TypeSync, batch: sectorBytes, records: 1}\n\t\treturn headerGood\n\t}\n\ts := le.Uint64(b[8:])\n"},
	}},
	{36, "records of a segment's earlier life are valid", "S14", walTests, []edit{
		{"wal/record.go", "if s == 0 || salt != 0 && s != salt || le", "if s == 0 || le"},
		{"wal/record.go", "if le.Uint64(b[8:]) != salt || magic", "if magic"},
	}},
	{37, "the checksum of a header omits the length of the body", "flip test", walTests, []edit{
		{"wal/record.go", "\tsum := xxhash.Sum64(b[8:])\n", "\tsum := xxhash.Sum64(b[24:])\n"},
		{"wal/record.go", "|| le.Uint64(b) != xxhash.Sum64(b[8:]) {\n\t\treturn headerBad\n\t}\n\tif b[19]", "|| le.Uint64(b) != xxhash.Sum64(b[24:]) {\n\t\treturn headerBad\n\t}\n\tif b[19]"},
	}},
	{38, "the watermark is ahead of its sync", "S14", walTests, []edit{
		{"wal/wal.go", "durable, synced := l.durable.Load(), int64(0)", "durable, synced := place(l.seg.seq, l.off), int64(0)"},
	}},
	// Beyond the survey's list.
	{800, "the file of a retired segment keeps its old name after a power cut", "tests", walTests, []edit{
		{"wal/spare.go", "return true, m.fs.SyncDir(m.dir)", "return true, nil"},
	}},
	{801, "a retired segment is used again before a durable header says that it is retired", "tests", walTests, []edit{
		{"wal/wal.go", "\tl.seg.oldest = from.seq\n", "\tl.seg.oldest = from.seq\n\tl.spares.unused.Store(from.seq)\n"},
	}},
	{802, "a full disk latches", "tests", append(walTests, nodeTests...), []edit{
		{"wal/batch.go", "errors.Is(err, ErrFull) {\n\t\t\treturn err", "errors.Is(err, ErrFull) {\n\t\t\treturn l.fail(err)"},
	}},
	{803, "a write with a sync of its own skips what was written before it", "tests", append(walTests, "./wal/vfs"), []edit{
		{"wal/batch.go", "&& !b.slot && !b.l.unsynced", ""},
		{"wal/batch.go", "\t\t_, err := f.WriteSyncAt(p, off)\n", "\t\tl.unsynced = false\n\t\t_, err := f.WriteSyncAt(p, off)\n"},
	}},
	{804, "a leader with a full disk goes on taking writes", "tests", nodeTests, []edit{
		{"node/inbound.go", "if n.log.Low() || n.core.Full() { // the disk", "if n.log.Low() && !n.Leading() { // the disk"},
	}},
	{807, "a leader takes what no quorum has room for", "tests", nodeTests, []edit{
		{"node/inbound.go", "if n.log.Low() || n.core.Full() {", "if n.log.Low() {"},
	}},
	{808, "a follower with a full disk takes nothing at all", "tests", nodeTests, []edit{
		{"node/inbound.go", "e.Kind != raft.NoOp && e.Kind != raft.Configuring && !n.log.Fits(bytes)", "n.log.Low()"},
	}},
	{805, "a whole body is not looked at when the log is read", "tests", walTests, []edit{
		{"wal/whole.go", "if !c.fits(h, rec) || !isAll", "if !isAll"},
	}},
	{806, "the chain between batches is not looked at", "tests", walTests, []edit{
		{"wal/whole.go", "if found[0].h.prev != w.prev && !w.broken {", "if found[0].h.prev == 0 {"},
	}},
}
