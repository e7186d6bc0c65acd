package raft

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// TestScripts runs testdata/*.txt: lines that begin with "> " are commands, "#" is prose, the rest is what the cluster
// answered, and must be answered again.
//
//	cluster 1 2 3 [+4 learner]      new servers; the founding list names them
//	seed N                          before cluster
//	log ID TERMS [vote N] [term N]  what the disk of ID holds (1 1 2 2); a "!" after a term damages, "c:1,2/3,4" is a
//	                                configuration old/new before its term; restarts ID
//	tick ID                         advance the time to the deadline of ID, and tick it
//	wait MS                         advance the time; nobody is ticked
//	sync ID...                      all their batches become durable
//	deliver [A->B]... [Kind] [#N]   packets on the network now, in order, without those they cause; all if none is named;
//	                                with #N the N-th of those alone
//	drop [A->B]... [Kind] [#N]
//	repeat [A->B]... [Kind] [#N]    the same as deliver, and they stay on the network
//	settle [ID...]                  deliver and sync among these (all) until nothing moves; packets to others are dropped
//	lead ID MS [ID...]              ID ticks every 20 ms for so long, and all settles among these
//	hints                           after cluster: from now on silence is probed, and hints count
//	change ID OPERATION TARGET      the operation that makes TARGET (1,4,5) the voters; "3'" is a new incarnation of 3
//	cancel ID; hold ID PHASE MS; transfer ID TO; progress ID
//	refused ID WHO                  ICMP told ID that no process listens at WHO
//	wipe ID                         a new incarnation of ID, blank
//	ring N BYTES                    before cluster: how much may be held
//	propose ID [N]; configure ID OLD/NEW|NEW; read ID
//	crash ID [KEEP]; start ID
//	vote FROM TO TERM               a request for a vote, with the best of logs
//	state [ID...]
func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts in testdata")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := playScript(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", f, got, want)
			}
		})
	}
}

type script struct {
	*world
	seed uint64
	ring [2]int // Config.HeldEntries, HeldBytes
	out  strings.Builder
	seen int // packets on the network that were told
}

func playScript(t *testing.T, text string) string {
	s := &script{seed: 1}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		command, isCommand := strings.CutPrefix(line, "> ")
		if !isCommand {
			if strings.HasPrefix(line, "#") || line == "" {
				s.out.WriteString(line + "\n")
			}
			continue
		}
		s.out.WriteString(line + "\n")
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: %v", line, r)
				}
			}()
			s.run(strings.Fields(command))
			if s.world != nil {
				s.tellNet()
			}
		}()
	}
	return s.out.String()
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

func (s *script) tellNet() {
	for ; s.seen < len(s.net); s.seen++ {
		s.say("%s", describe(&s.net[s.seen]))
	}
}

func number(word string) uint64 {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (s *script) run(words []string) {
	args := words[1:]
	one := func() *host { return s.host(uint16(number(args[0]))) }
	switch words[0] {
	case "seed":
		s.seed = number(args[0])
	case "ring":
		s.ring = [2]int{int(number(args[0])), int(number(args[1]))}
	case "cluster":
		s.cluster(args)
	case "log":
		s.setLog(one(), args[1:])
	case "tick":
		s.now = max(s.now, one().core.Deadline())
		one().core.Tick(s.now)
		s.take(one())
	case "wait":
		s.now += int64(number(args[0])) * msec
	case "sync":
		for _, a := range args {
			for s.sync(s.host(uint16(number(a)))) {
			}
		}
	case "deliver", "drop", "repeat":
		s.pick(args, words[0] != "drop", words[0] == "repeat")
	case "settle":
		s.settle(args)
	case "lead":
		for until := s.now + int64(number(args[1]))*msec; s.now < until; s.now += 20 * msec {
			one().core.Tick(s.now)
			s.take(one())
			s.settle(args[2:])
		}
	case "propose":
		n := 1
		if len(args) > 1 {
			n = int(number(args[1]))
		}
		for range n {
			if err := s.propose(one(), Entry{Kind: Commands}); err != nil {
				s.say("%v", err)
			}
		}
	case "configure":
		k := configuration(args[1])
		if err := s.propose(one(), Entry{Kind: Configuring, Config: &k}); err != nil {
			s.say("%v", err)
		}
	case "read":
		if err := s.read(one()); err != nil {
			s.say("%v", err)
		}
	case "vote":
		h := s.host(uint16(number(args[1])))
		h.core.Step(s.now, &Message{Kind: Vote, From: one().id, To: h.id, FromIncarnation: one().incarnation, FromBoot: one().boot,
			Term: number(args[2]), LastIndex: 1000, LastTerm: number(args[2])})
		s.take(h)
	case "crash":
		keep := 0
		if len(args) > 1 {
			keep = int(number(args[1]))
		}
		s.crash(one(), keep)
	case "start":
		s.start(one())
	case "hints":
		s.config.ProbeAfter = 25 * msec
		for _, h := range s.hosts {
			h.core.cfg.ProbeAfter = s.config.ProbeAfter
		}
	case "change", "cancel", "hold", "transfer", "progress", "refused", "wipe":
		s.operate(words[0], one(), args[1:])
	case "state":
		s.state(args)
	default:
		panic("no such command")
	}
}

// operate is what an operator, or fate, does to the membership.
func (s *script) operate(verb string, h *host, args []string) {
	var err error
	switch verb {
	case "change":
		err = h.core.Change(s.now, Change{Operation: number(args[0]), Target: target(args[1])})
	case "cancel":
		err = h.core.Cancel(s.now)
	case "hold":
		h.core.Hold(args[0], s.now+int64(number(args[1]))*msec)
	case "transfer":
		err = h.core.Transfer(s.now, uint16(number(args[0])))
	case "refused":
		h.core.Refused(s.now, uint16(number(args[0])))
	case "progress":
		p := h.core.Progress()
		s.say("operation %d, phase %s, waits: %q, learners %+v", p.Operation, p.Phase, p.Waits, p.Learners)
		return
	case "wipe":
		if h.up {
			s.crash(h, 0)
		}
		s.judge.held[h.incarnation] = uint64(len(h.disk))
		h.incarnation, h.blank = h.incarnation+1, true
		h.log, h.disk, h.hard = nil, nil, HardState{}
		s.start(h)
		return
	}
	if err != nil {
		s.say("%v", err)
	}
	s.take(h)
}

// target reads "1,2,3'".
func target(word string) []Member {
	var ms []Member
	for _, w := range strings.Split(word, ",") {
		name, again := strings.CutSuffix(w, "'")
		m := Member{ID: uint16(number(name)), Voter: true}
		if m.Incarnation = uint64(m.ID) * 1000; again {
			m.Incarnation++
		}
		ms = append(ms, m)
	}
	return ms
}

func (s *script) cluster(args []string) {
	var ids []uint16
	var k Configuration
	for _, a := range args {
		id := uint16(number(strings.TrimPrefix(a, "+")))
		ids = append(ids, id)
		k.Members = append(k.Members, Member{id, uint64(id) * 1000, a[0] != '+'})
	}
	cfg := Config{Timeout: 100 * msec, Heartbeat: 10 * msec, Resend: 20 * msec, ProbeAfter: -1, HeldEntries: s.ring[0], HeldBytes: s.ring[1]}
	s.world = newWorld(s.seed, cfg, k, ids...)
	s.world.trace = s.say
	s.chunk = 100
}

// configuration reads "1,2,3" or, joint, "1,2,3/3,4,5"; "+4" is a learner.
func configuration(word string) Configuration {
	var k Configuration
	old, now, joint := strings.Cut(word, "/")
	if !joint {
		old, now = "", old
	}
	for _, w := range strings.Split(now, ",") {
		id := uint16(number(strings.TrimPrefix(w, "+")))
		k.Members = append(k.Members, Member{id, uint64(id) * 1000, w[0] != '+'})
	}
	if joint {
		for _, w := range strings.Split(old, ",") {
			id := uint16(number(w))
			k.Old = append(k.Old, id)
			if k.member(id) == nil {
				k.Members = append(k.Members, Member{id, uint64(id) * 1000, false})
			}
		}
	}
	return k
}

// setLog gives h a past: bodies of one (index, term) are the same everywhere.
func (s *script) setLog(h *host, args []string) {
	h.disk = nil
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "vote":
			h.hard.Vote = uint16(number(args[i+1]))
			s.judge.votes[[2]uint64{h.incarnation, h.hard.Term}] = h.hard.Vote
			i++
			continue
		case "term":
			h.hard.Term = number(args[i+1])
			i++
			continue
		}
		word, damaged := strings.CutSuffix(args[i], "!")
		e := body{damaged: damaged}
		e.Kind, e.Size = Commands, 100
		if config, ok := strings.CutPrefix(word, "c:"); ok {
			k := configuration(config)
			e.Kind, e.Config = Configuring, &k
			i++
			word = args[i]
		}
		e.Index, e.Term = uint64(len(h.disk))+1, number(word)
		e.value = -int(e.Term*1000 + e.Index)
		e.Ref = e.value
		h.disk = append(h.disk, e)
		h.hard.Term = max(h.hard.Term, e.Term)
	}
	s.start(h)
}

// pick delivers, or drops, the packets that match: links "1->2" and kinds, any if none is named; of these the one with
// the number "#2", all if none is.
func (s *script) pick(args []string, deliver, stays bool) {
	var links, kinds []string
	which := uint64(0)
	for _, a := range args {
		if n, ok := strings.CutPrefix(a, "#"); ok {
			which = number(n)
		} else if strings.Contains(a, "->") {
			links = append(links, a)
		} else {
			kinds = append(kinds, a)
		}
	}
	now := slices.Clone(s.net)
	s.net, s.seen = nil, 0
	var chosen []packet
	matched := uint64(0)
	for _, p := range now {
		link := fmt.Sprintf("%d->%d", p.From, p.To)
		matches := (links == nil || slices.Contains(links, link)) && (kinds == nil || slices.Contains(kinds, p.Kind.String()))
		if matches {
			matched++
			matches = which == 0 || which == matched
		}
		if matches {
			chosen = append(chosen, p)
		}
		if !matches || stays {
			s.net = append(s.net, p)
		}
	}
	s.seen = len(s.net)
	if !deliver {
		return
	}
	for _, p := range chosen {
		s.deliver(p)
	}
}

func (s *script) settle(args []string) {
	among := func(id uint16) bool { return len(args) == 0 || slices.Contains(args, fmt.Sprint(id)) }
	for range 1000 {
		moved := false
		for len(s.net) > 0 {
			p := s.net[0]
			s.net = s.net[1:]
			if among(p.From) && among(p.To) {
				s.deliver(p)
				moved = true
			}
		}
		for _, h := range s.hosts {
			if h.up && among(h.id) && s.sync(h) {
				moved = true
			}
		}
		if !moved {
			s.seen = 0
			return
		}
	}
	panic("does not settle")
}

func (s *script) state(args []string) {
	for _, h := range s.hosts {
		if len(args) > 0 && !slices.Contains(args, fmt.Sprint(h.id)) {
			continue
		}
		if !h.up {
			s.say("%d: down, synced log %s", h.id, describeLog(h.disk))
			continue
		}
		c := h.core
		s.say("%d: %s of term %d, vote %d, commit %d, log %s", h.id, c.role, c.hard.Term, c.hard.Vote, c.commit, describeLog(h.log))
	}
}
