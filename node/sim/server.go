package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"

	"github.com/cespare/xxhash/v2"

	"balsa/kv"
	"balsa/node"
	"balsa/node/raft"
	"balsa/wal"
	"balsa/wal/vfs"
	"balsa/wire"
)

const (
	dataDir    = "/data"
	inboxBytes = 1 << 20 // of a socket's buffer; more is dropped
	turnBatch  = 64      // datagrams of one turn
	turnNanos  = 5 * microsecond
	spareNanos = 300 * microsecond
)

type arrival struct {
	from netip.AddrPort
	b    []byte // nil: a refusal by from
}

// job is a batch on its way to the disk.
type job struct {
	batch *wal.Batch
	ops   []logOp
	err   error
}

// server is one machine of the pool: a disk that outlives processes, and at
// most one process, which does what the production loop does.
type server struct {
	*simulation
	id     uint16
	addr   netip.AddrPort
	random *rand.Rand
	disk   *vfs.Mem

	node     *node.Node
	stage    int  // of its secret file
	process  int  // numbers its processes; events of earlier ones are void
	datagram int  // largest that it sends; 0: what loopback carries
	powered  bool // the machine is on: it refuses when no process listens
	paused   bool
	blocked  bool // inside a sync of its own loop
	retired  bool // never started or resumed again, by the ending
	gone     bool // broken for ever, by the ending

	offset, drift int64 // of its clock; a new offset with every process
	turnAt        int64
	due           func() // takes the turn that turnAt announced, of this process
	drained       bool
	inbox         []arrival
	inboxSize     int
	finished      []job
	preparing     bool
	spares        int   // segments that this process has had prepared
	hangUntil     int64 // syncs end no earlier
	slowUntil     int64 // and take so many times longer until then
	slowBy        int64
	ill           illness
	logTime       int64  // of its store
	commit        uint64 // of its core

	unsynced []logOp // written and never synced, by a process that is gone
	rotted   bool    // a bit of its log was turned over
	freshRot bool    // and it has not been started since
	whole    bool    // nothing but kills since: the page cache has all of it
}

func (s *server) clock() int64 { return s.offset + s.now + s.now/1e6*s.drift }

// moment turns a time of this server's clock into virtual time, rounded up.
func (s *server) moment(local int64) int64 {
	if local >= never {
		return never
	}
	t := (local - s.offset) / (1e6 + s.drift) * 1e6
	for s.offset+t+t/1e6*s.drift < local {
		t += max(1, local-(s.offset+t+t/1e6*s.drift))
	}
	return t
}

// make gives the server a blank directory, made by init, which is done again when
// the disk fails it.
func (s *server) make() {
	s.disk, s.ill = vfs.NewMem(), illness{}
	if s.knobs.Faults[DiskError] && s.process > 0 && chance(s.random, 0.5) {
		s.ill = ail(DiskError, s.random, s.now)
		s.ill.skip = 0
	}
	s.hookDisk()
	err := node.Init(node.InitOptions{FS: s.disk, Dir: dataDir, ID: s.id, Pool: append([]wire.Server(nil), s.pool...), Voters: append([]uint16(nil), s.firstVoters...),
		Name: "sim", SegmentBytes: s.knobs.SegmentBytes, Random: s.random.Uint64, Leases: s.knobs.Leases})
	switch {
	case errors.Is(err, errInjected):
		s.tell("server %d: init: %v", s.id, err)
		s.make()
	case err != nil:
		s.violate("start", "server %d: init: %v", s.id, err)
	}
	s.unsynced, s.whole = nil, true
}

// start opens the directory as a new process.
func (s *server) start() {
	if s.node != nil || s.retired {
		return
	}
	s.process++
	s.powered, s.paused, s.blocked, s.preparing, s.drained, s.spares = true, false, false, false, false, 0
	s.offset = between(s.random, second, 1000*second)
	s.drift = between(s.random, -s.knobs.Drift, s.knobs.Drift)
	if s.drift > 10_000 || s.drift < -10_000 {
		s.hits[ClockDrift]++
	}
	s.inbox, s.inboxSize, s.finished, s.turnAt, s.logTime, s.commit = nil, 0, nil, never, 0, 0
	process := s.process
	s.due = func() {
		if s.process == process && s.turnAt == s.now && !s.paused && !s.blocked {
			s.turn()
		}
	}
	s.hookDisk()
	n, err := node.Open(node.Options{
		FS: s.disk, Dir: dataDir, Resolve: netip.ParseAddrPort, Random: s.random.Uint64, SegmentBytes: s.knobs.SegmentBytes,
		Timeout: s.knobs.Timeout, Heartbeat: s.knobs.Heartbeat, Resend: s.knobs.Resend, Datagram: s.datagram,
		Keys: s.seals.servers[s.stage], Chaos: true, Observe: (*witness)(s), Logger: s.logger(),
	}, s.clock())
	s.trace.add(2, uint64(s.now), uint64(s.id))
	s.tell("server %d starts: %v", s.id, err)
	if errors.Is(err, errInjected) {
		s.died(err)
		return
	}
	if err != nil {
		s.violate("S14", "server %d does not open its directory: %v", s.id, err)
		return
	}
	s.node = n
	if !s.unbounded.begun {
		s.checker.started(s.id, n.Incarnation())
		s.checkRecovery()
	}
	s.wake(s.now)
}

// logger puts a node's own log lines among what is told; without a listener
// there are none.
func (s *server) logger() *slog.Logger {
	if s.out == nil {
		return nil
	}
	return slog.New(slog.NewTextHandler(s.out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Int64(slog.TimeKey, s.now/millisecond)
		}
		return a
	}}))
}

// checkRecovery compares what the log says it holds with what was synced.
func (s *server) checkRecovery() {
	var found recovered
	if core := s.node.Core(); core != nil {
		st := core.Status()
		found.term, found.vote, found.voteless = st.Term, st.Vote, st.Voteless
	}
	s.disk.Fail(nil) // this is our reading, not the server's
	defer s.hookDisk()
	l := s.node.Log()
	var buf []byte
	for index := uint64(1); index <= l.Last(); index++ {
		e, grown, err := l.Read(index, buf)
		buf = grown
		switch {
		case errors.Is(err, wal.ErrDamaged):
			term, _ := s.node.Core().TermAt(index)
			found.log = append(found.log, identity{term: term})
			found.damaged = append(found.damaged, index)
		case err != nil:
			s.violate("S14", "server %d: entry %d after recovery: %v", s.id, index, err)
		default:
			found.log = append(found.log, identity{e.Term, e.Sum})
		}
	}
	if !s.rotted && (found.voteless || len(found.damaged) > 0) {
		s.violate("S14", "server %d: voteless %v, damaged are %d, without any rot", s.id, found.voteless, found.damaged)
	}
	if len(found.damaged) > 0 {
		s.met[MarkDamaged]++
	}
	if found.voteless {
		s.met[MarkVoteless]++
	}
	found.unsynced, found.whole, found.rot = s.unsynced, s.whole, s.freshRot
	s.checker.recovered(s.id, &found)
	s.unsynced, s.whole, s.freshRot = nil, true, false
}

// stop ends the process as kill -9 does: memory is gone, what was written is
// in the page cache, a sync under way may be seen through by nobody.
func (s *server) stop() {
	if s.node == nil {
		return
	}
	s.tell("server %d stops", s.id)
	s.met.process(s.node)
	s.checkCounters()
	s.trace.add(3, uint64(s.now), uint64(s.id))
	s.node = nil
	s.process++
	s.paused, s.blocked = false, false
	s.inbox, s.inboxSize, s.finished = nil, 0, nil
	s.disk.Fail(nil)
	s.disk.ReleaseLocks()
}

// checkCounters takes what the process has counted. Directories are wiped here,
// and rot, but none is cloned or restored, or only in some seeds: to say so
// without cause would refuse a good server.
func (s *server) checkCounters() {
	c := &s.node.Counters
	if s.unbounded.begun {
		s.unbounded.seen = s.unbounded.seen || c.Twins > 0 || c.Restored > 0
	} else if c.Twins > 0 || c.Restored > 0 {
		s.violate("R9", "%v saw %d twins and %d restored directories, there are none", s, c.Twins, c.Restored)
	}
}

// cutPower ends process and page cache: each unsynced sector is lost or kept.
func (s *server) cutPower() {
	s.stop()
	s.powered = false
	s.disk = s.disk.Crash(s.random.IntN)
	s.whole = len(s.unsynced) == 0
}

// wipe ends the process and replaces the directory by a fresh one, of another
// incarnation.
func (s *server) wipe() {
	s.stop()
	s.checker.wiped(s.id)
	s.rotted, s.freshRot = false, false
	s.make()
}

func (s *server) listens() (process, machine bool) { return s.node != nil, s.powered }

func (s *server) receive(from netip.AddrPort, b []byte) {
	if s.inboxSize+len(b) > inboxBytes {
		s.overflows++
		s.net.over(b)
		return
	}
	s.inboxSize += len(b)
	s.inbox = append(s.inbox, arrival{from, b})
	s.wake(s.now + turnNanos)
}

func (s *server) refused(to netip.AddrPort) {
	if s.node == nil {
		return
	}
	s.inbox = append(s.inbox, arrival{to, nil})
	s.wake(s.now + turnNanos)
}

// wake lets the loop turn at the given time, or earlier if it will anyway.
func (s *server) wake(at int64) {
	at = max(at, s.now)
	if s.node == nil || s.paused || s.blocked || at >= s.turnAt {
		return
	}
	s.turnAt = at
	s.at(at, s.due)
}

// turn is one round of the production loop (node/serve.go): receive, finished
// batches, turn, send, start the next batch.
func (s *server) turn() {
	s.turnAt = never
	now := s.clock()
	if !s.knobs.DrainFirst {
		s.collect(now)
	}
	count := min(len(s.inbox), turnBatch)
	for _, a := range s.inbox[:count] {
		if a.b == nil {
			s.node.Refused(now, a.from)
			continue
		}
		s.inboxSize -= len(a.b)
		s.trace.add(4, uint64(s.now), uint64(s.id), xxhash.Sum64(a.b))
		s.node.Deliver(now, a.from, a.b)
		s.net.over(a.b)
	}
	s.inbox = append(s.inbox[:0], s.inbox[count:]...)
	if s.knobs.DrainFirst {
		s.collect(now)
	}
	s.drained = count < turnBatch
	s.node.Turn(now, s.drained)
	s.flush()
	s.checkCommit()
	s.persist()
	s.prepare()
	if err := s.node.Err(); err != nil {
		s.died(err)
		return
	}
	if len(s.inbox) > 0 || !s.drained {
		s.wake(s.now + turnNanos)
		return
	}
	s.wake(max(s.moment(s.node.Deadline()), s.now+turnNanos))
}

// checkCommit: thesis 3.6.2, only an entry of its own term lets a leader's
// commit index move; that every seed had to wait for a second crash to see it
// go wrong would hide it.
func (s *server) checkCommit() {
	core := s.node.Core()
	if core == nil || core.Commit() == s.commit || s.unbounded.begun {
		return
	}
	s.commit = core.Commit()
	if got, ok := at(s.checker.servers[s.id].memory, s.commit); s.node.Leading() && (!ok || got.term != core.Term()) {
		s.violate("S3", "server %d leads term %d and commits up to %d, an entry of term %d", s.id, core.Term(), s.commit, got.term)
	}
}

func (s *server) collect(now int64) {
	for _, j := range s.finished {
		s.trace.add(5, uint64(s.now), uint64(s.id), j.batch.LastIndex)
		s.node.Persisted(now, j.batch, j.err)
	}
	s.finished = s.finished[:0]
}

func (s *server) flush() {
	packets := s.node.Out()
	for i := range packets {
		frames, ok := s.look(packets[i].Bytes)
		if !ok {
			continue
		}
		s.met.frames(frames)
		if (s.node.Blank() || s.checker.first == nil) && !s.unbounded.begun {
			s.inspectFounding(frames)
		}
	}
	s.net.send(int(s.id)-1, s.addr, packets)
}

// inspectFounding: SAFETY 7, a server offers one founding list in its life,
// and only when it is durable here; until then it is blank.
func (s *server) inspectFounding(frames wire.Frames) {
	for {
		kind, payload, ok := frames.Next()
		if !ok {
			return
		}
		if kind != wire.KindFoundList {
			continue
		}
		if s.node.Blank() {
			s.violate("R7", "server %d offers a founding list that is not durable here", s.id)
		}
		s.checker.offered(s.id, xxhash.Sum64(payload))
	}
}

// persist starts the node's next batch: written now, synced when its time has
// passed. The loop may block in it, though not for long.
func (s *server) persist() {
	inline, patience := s.node.Inline() && s.knobs.Inline, s.node.Patience()
	b := s.node.Batch()
	if b == nil {
		return
	}
	j := job{batch: b, ops: s.checker.takeOps(s.id)}
	j.err = b.Write()
	s.unsynced = append(s.unsynced, j.ops...)
	if j.err != nil || !b.NeedsSync {
		s.finished = append(s.finished, j)
		s.wake(s.now + turnNanos)
		return
	}
	end := s.now + between(s.random, s.knobs.SyncMin, s.knobs.SyncMax)
	if s.slowUntil > s.now {
		s.hits[SlowDisk]++
		end = s.now + (end-s.now)*s.slowBy
	}
	if s.hangUntil > end {
		s.hits[Hang]++
		end = s.hangUntil
	}
	s.blocked = inline
	process := s.process
	if inline && end-s.now > patience {
		inline = false
		s.after(patience, func() {
			if s.process == process { // the guard takes the loop over
				s.blocked = false
				s.wake(s.now)
			}
		})
	}
	s.at(end, func() {
		if s.process == process {
			s.complete(j, inline)
		}
	})
}

// complete is the moment a sync ends: what it covered is durable, though a
// paused process hears of it later.
func (s *server) complete(j job, inline bool) {
	if j.err = j.batch.Sync(); j.err == nil {
		if !s.unbounded.begun {
			s.checker.synced(s.id, j.ops)
		}
		s.unsynced = s.unsynced[:copy(s.unsynced, s.unsynced[len(j.ops):])]
	}
	s.blocked = false
	s.finished = append(s.finished, j)
	if inline && !s.paused {
		s.collect(s.clock())
		s.flush()
		s.drained = false
	}
	s.wake(s.now)
}

// prepare has the next segment zeroed beside the loop.
func (s *server) prepare() {
	if s.preparing || s.node.Err() != nil || !s.node.Log().NeedsSpare() {
		return
	}
	s.preparing = true
	process, log := s.process, s.node.Log()
	s.after(spareNanos, func() {
		if s.process != process {
			return
		}
		s.preparing = false
		switch err := log.Prepare(); {
		case err == nil:
			if s.spares++; s.spares > 1 {
				s.met[MarkRoll]++
			}
		case !errors.Is(err, errInjected):
			s.violate("disk", "server %d: the next segment: %v", s.id, err)
		}
		s.wake(s.now)
	})
}

// died is a node that ended itself. Only a disk may make it; it is started again
// by its supervisor, and then the disk is well, or not yet.
func (s *server) died(err error) {
	if !errors.Is(err, errInjected) && !(s.unbounded.begun && errors.Is(err, node.ErrTwin)) {
		s.violate("stopped", "server %d stops: %v", s.id, err)
		return
	}
	s.recover()
	s.stop()
	s.disk.Fail(nil)
	s.disk.ReleaseLocks()
	s.whole = len(s.unsynced) == 0
	s.after(between(s.random, 50*millisecond, second), s.start)
}

// resume ends a pause: what waited in the socket is heard first.
func (s *server) resume() {
	if s.node == nil || !s.paused {
		return
	}
	s.paused = false
	s.turnAt = never
	s.wake(s.now)
}

func (s *server) pause() {
	if s.node != nil {
		s.paused, s.turnAt = true, never
	}
}

func (s *server) String() string { return fmt.Sprintf("server %d", s.id) }

// witness is a server's node.Observer: it tells the ledger.
type witness server

func (w *witness) Leader(term uint64) {
	if w.unbounded.begun {
		return
	}
	w.tell("server %d leads term %d", w.id, term)
	w.trace.add(6, uint64(w.now), uint64(w.id), term)
	w.leaders++
	w.checker.leader(w.id, term)
	w.leasesOver(w.id, term)
}

func (w *witness) Appended(index, term, sum uint64, kind uint8) {
	if w.unbounded.begun {
		return
	}
	if kind == uint8(raft.Part) {
		w.met[MarkPart]++
	}
	if index <= uint64(len(w.checker.servers[w.id].memory)) {
		w.met[MarkRewrite]++
	}
	w.trace.add(7, uint64(w.id), index, term, sum)
	w.checker.appended(w.id, index, term, sum)
}

// Configured is told of the founding list while the node is being opened, too.
func (w *witness) Configured(index uint64, c *wire.Configuration) {
	if w.unbounded.begun {
		return
	}
	leading, commit := false, uint64(0)
	if index > 0 {
		leading, commit = w.node.Leading(), w.node.Core().Commit()
	}
	before := w.checker.inForce(w.id)
	k := w.checker.configured(w.id, index, c, leading, commit)
	w.tell("server %d: in force is %v", w.id, k)
	if leading {
		w.met.configuration(w.id, before, k)
		w.faults.killIn(k, (*server)(w))
		if k.joint() {
			w.operator.joint((*server)(w))
		}
	}
}

func (w *witness) Truncated(from uint64) {
	if w.unbounded.begun {
		return
	}
	w.tell("server %d cuts its log from %d", w.id, from)
	w.trace.add(8, uint64(w.id), from)
	w.met[MarkTruncate]++
	w.checker.truncated(w.id, from, w.node.Leading())
}

func (w *witness) Synced(index, term uint64) {
	if !w.unbounded.begun {
		w.checker.claimedSynced(w.id, index, term)
	}
}

func (w *witness) Hard(term uint64, vote uint16) {
	if w.unbounded.begun {
		return
	}
	w.tell("server %d: durable are term %d, vote %d", w.id, term, vote)
	w.trace.add(9, uint64(w.id), term, uint64(vote))
	w.checker.hard(w.id, term, vote)
}

func (w *witness) Committed(index, term, sum uint64) {
	if w.unbounded.begun {
		return
	}
	w.trace.add(10, uint64(w.id), index, term, sum)
	w.checker.commits(w.id, index, identity{term, sum})
	w.checkLogTime()
	if index%stateEvery == 0 {
		w.checker.sameState(w.id, index-1, w.node.Store().Hash())
	}
}

// checkLogTime: SAFETY 19, log time moves by leaders' clocks only while they
// lead: it is never ahead of the time since the run began, and never falls.
func (w *witness) checkLogTime() {
	now, most := w.node.Store().LogTime(), w.now+w.now/1e6*w.knobs.Drift+w.jumped*2+millisecond
	if now > most || now < w.logTime {
		w.violate("R19", "server %d: log time is %d ms, it was %d ms", w.id, now/millisecond, w.logTime/millisecond)
	}
	w.logTime = now
}

func (w *witness) Sent(m *raft.Message) {
	if w.unbounded.begun {
		return
	}
	if w.out != nil && (m.Kind == raft.Vote || m.Kind == raft.VoteReply || m.Reject) {
		w.tell("server %d sends %+v", w.id, *m)
	}
	if m.Kind == raft.Vote && m.Pre && !w.drained {
		w.violate("R4", "server %d stands for election before it has heard what lies in its socket", w.id)
	}
	w.met.message(m, w.sent)
	if m.Kind == raft.VoteReply && m.Pre && m.Granted && w.node.Core().Leader() == 0 && w.hinted[m.To] {
		w.met[MarkHintGrant]++
	}
	if m.Kind == raft.Vote && m.Pre {
		w.hinted[w.id] = m.Probe != 0
	}
	w.checker.sent(w.id, w.node.Core().Term(), m)
}

func (w *witness) Applied(index, client, seq uint64, r kv.Result) {
	if w.unbounded.begun {
		return
	}
	w.checker.applies(w.id, index, client, seq, &r)
}

// Read: S13, a read is served at least at the ledger's head of the moment when
// it was asked.
func (w *witness) Read(index, client, seq uint64) {
	if w.unbounded.begun {
		return
	}
	w.reads++
	o := w.asked[clientSeq{client, seq}]
	if o == nil {
		w.violate("S13", "server %d serves a read of client %x seq %d that nobody asked", w.id, client, seq)
	}
	if index < o.Head {
		w.violate("S13", "server %d serves at %d a read that was asked when the ledger ended at %d: %v", w.id, index, o.Head, o)
	}
}
