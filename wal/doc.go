// Package wal is the log: the only thing that a server keeps on disk.
//
// It promises: what a successful Sync covered is there after any crash of the process or of the machine; a failure of
// the disk is told, latches, and is never tried again; damage is found, told apart from a write that the power
// cut short, and never taken for the end of the log.
//
//	owner:   Append, Truncate, SetHardState ... -> Take -> Batch        (memory only; every place is decided here)
//	writer:  Batch.Write -> Batch.Sync                                  (one write, one fdatasync a batch)
//	owner:   Release
//
// On disk a log is a row of segments, each zeroed before its first use. A batch begins on a sector, fills its last
// one, and has no sector of zeros, so no synced sector ever changes, and a sector of zeros within a batch proves that
// the batch was never synced. Assumed: a sector of 512 bytes is written whole or not at all.
//
// What recovery does with a batch that is not whole:
//
//	a later record's watermark, or a later segment, proves it synced   corrupt: kept, told, its entries are Damaged
//	else, a sector of it is all zero                                   torn: cut from its beginning, zeroed, synced
//	else                                                               suspect: kept; it counts as present
//
// What a lost record was is told by its own header, whose checksum does not need the body; else by the headers
// around it and the trailer of its batch. Where nothing tells, Recovery.Voteless is set, and stays set for good.
//
// docs/wal-format.md has the bytes.
package wal
