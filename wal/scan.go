package wal

import (
	"slices"

	"balsa/wal/vfs"
)

// Record is one record as Scan shows it, good or bad, or a stretch of bytes in which records are lost (TypeNone). Its
// slices are valid during the visit only.
type Record struct {
	Segment  string // file name
	Offset   int64  // bytes into the file
	Size     int64  // bytes on disk, with the header
	Type     Type
	Index    uint64 // the entry's; of other records the last entry's at that time
	Term     uint64 // the entry's; of other records the current term
	Entry    Entry  // TypeEntry; without a body where that is damaged
	Hard     HardState
	From     uint64 // TypeTruncate: entries from here on are void
	Founding []byte
	Rewrite  bool // an entry that was damaged, written again
	Stored   int  // bytes of the body, as stored
	Batch    BatchInfo
	Synced   bool // something later proves it durable
	Verdict  Verdict
	Reason   string
}

// BatchInfo is the batch that a record was written with, as its header tells.
type BatchInfo struct {
	Offset, Bytes int64
	Records       int
}

// SegmentInfo is a line of `balsa wal ls`.
type SegmentInfo struct {
	Name    string
	Seq     uint64
	Bytes   int64  // of the file
	Written int64  // bytes in use
	State   string // active, sealed, spare, retired, unreadable
	Base    uint64 // index of the last entry before this segment
	Entries int    // entry records in it
	First   uint64 // lowest and highest index among them; 0 if there are none
	Last    uint64
}

// Report is what Scan comes to. All problems are in it; Verdict is the one that counts most.
type Report struct {
	Verdict  Verdict
	Reason   string
	Problems []Problem
	Segments []SegmentInfo
	Records  int
	Live     bool // a server has the directory: what is at the very end may still be moving
}

// ScanOptions are what a scan can be given besides. The zero value is a plain one.
type ScanOptions struct {
	Each     func(n int, do func(i int)) // lends hands, as in Options
	Progress func(read, total int64)     // called now and then, in bytes of all segments
	File     string                      // only this file of the directory, whatever it is called
	Newest   int                         // only so many of the segments in use, the newest ones; 0 is all
}

// Scan visits every record of a log, oldest first, past any damage, and judges the log as the next Open would. It only
// reads and takes no lock, so it may run beside a server. visit may be nil; its error ends the scan.
func Scan(fs vfs.FS, dir string, visit func(*Record) error) (Report, error) {
	return ScanWith(fs, dir, ScanOptions{}, visit)
}

// ScanWith is Scan with more to say.
func ScanWith(fs vfs.FS, dir string, o ScanOptions, visit func(*Record) error) (Report, error) {
	var rep Report
	segments := map[uint64]*SegmentInfo{}
	s := survey{fs: fs, dir: dir, each: o.Each, progress: o.Progress, beside: true}
	var r recovery // finds what no single record shows: that some are missing
	s.follow(&r)
	s.visit = func(f *segmentFile, g *finding) error {
		if err := r.visit(f, g); err != nil {
			return err
		}
		if g.kind == foundEnd || g.kind == foundGap && g.verdict == Clean {
			return nil
		}
		rep.Records++
		if g.kind == foundRecord && g.h.typ == TypeEntry && g.verdict != Torn {
			info := segments[f.seq]
			if info == nil {
				info = &SegmentInfo{First: g.h.index}
				segments[f.seq] = info
			}
			info.Entries++
			info.First, info.Last = min(info.First, g.h.index), max(info.Last, g.h.index)
		}
		if visit == nil {
			return nil
		}
		return visit(g.show(f))
	}
	if err := s.runWith(&o); err != nil {
		return rep, err
	}
	s.forgiveLive(&rep)
	rep.Problems = s.problems
	rep.Verdict, rep.Reason = s.worst()
	for i := range s.stale {
		f := &s.stale[i]
		rep.Segments = append(rep.Segments, SegmentInfo{Name: f.name, Seq: f.seq, Bytes: f.bytes, Base: f.h.base, State: "retired"})
	}
	for i := range s.files {
		f := &s.files[i]
		info := SegmentInfo{}
		if seen := segments[f.seq]; seen != nil {
			info = *seen
		}
		info.Name, info.Seq, info.Bytes, info.Written, info.Base = f.name, f.seq, f.bytes, f.end, f.h.base
		info.State = f.use()
		rep.Segments = append(rep.Segments, info)
	}
	return rep, nil
}

func (f *segmentFile) use() string {
	switch {
	case f.page == pageLost || f.page == pageNewer:
		return "unreadable"
	case f.page == pageGone:
		return "retired"
	case f.page == pageSpare:
		return "spare"
	case f.sealed:
		return "sealed"
	}
	return "active"
}

func (g *finding) show(f *segmentFile) *Record {
	r := &Record{Segment: f.name, Offset: g.off, Size: g.size, Synced: g.synced, Verdict: g.verdict, Reason: g.reason}
	if g.kind != foundRecord {
		return r
	}
	h := &g.h
	r.Type, r.Index, r.Term, r.Rewrite = h.typ, h.index, h.current, h.flags&flagRewrite != 0
	r.Stored, r.Batch = int(h.body), BatchInfo{g.off - h.at, h.batch, h.records}
	switch h.typ {
	case TypeEntry:
		r.Term, r.Entry = h.term, h.entry(g.body)
	case TypeHardState:
		r.Hard = HardState{h.current, h.vote}
	case TypeTruncate:
		r.From, r.Index = h.index, h.index-1
	case TypeFounding:
		r.Founding = g.body
	}
	return r
}

// forgiveLive drops what a server that writes at this moment may be the reason of: an end that was read while it moved.
func (s *survey) forgiveLive(rep *Report) {
	if v, _ := s.worst(); v != Torn && v != Suspect {
		return
	}
	if !s.live() {
		return
	}
	rep.Live = true
	s.problems = slices.DeleteFunc(s.problems, func(p Problem) bool { return p.Verdict == Torn || p.Verdict == Suspect })
}

// List tells of the segments of a log, oldest first, beside a server or not.
func List(fs vfs.FS, dir string) ([]SegmentInfo, error) {
	rep, err := Scan(fs, dir, nil)
	return rep.Segments, err
}
