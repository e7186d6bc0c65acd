package node

import (
	"encoding/binary"
	"errors"

	"balsa/kv"
	"balsa/node/raft"
	"balsa/wire"
)

// pack gathers the commands of one turn into entries, each a batch that fits
// one datagram, so that the cost of an entry is shared and every AppendEntries
// datagram is complete in itself. The bytes a client sent are the bytes in the
// entry. A command larger than an entry becomes Parts in adjacent entries.
type pack struct {
	bodies  []byte // all bodies of this turn, one after another
	entries []packed
	open    bool // the last of entries still takes commands
}

type packed struct {
	kind        raft.Kind
	from, to    int // its body is bodies[from:to]
	count       uint32
	plain       int    // bytes that its packed values unpack to
	client, seq uint64 // of a part's command, to refuse it by
}

// plainBytes bounds what the packed values of one entry unpack to, unless one
// alone is more: an entry is applied as a whole, between two heartbeats.
const plainBytes = 4 << 20

// add takes one command, copied; no entry's body exceeds limit.
func (p *pack) add(op *kv.Command, encoded []byte, limit int) {
	if len(encoded) > limit {
		p.split(op, encoded, limit)
		return
	}
	plain := op.PlainBytes()
	if last := len(p.entries) - 1; p.open && len(p.bodies)-p.entries[last].from+len(encoded) <= limit && p.entries[last].plain+plain <= plainBytes {
		p.bodies = append(p.bodies, encoded...)
		p.entries[last].to = len(p.bodies)
		p.entries[last].count++
		p.entries[last].plain += plain
		return
	}
	from := len(p.bodies)
	p.bodies = append(p.bodies, encoded...)
	p.entries = append(p.entries, packed{kind: raft.Commands, from: from, to: len(p.bodies), count: 1, plain: plain})
	p.open = true
}

func (p *pack) split(op *kv.Command, encoded []byte, limit int) {
	p.open = false
	piece := limit - kv.PartHeaderBytes
	for offset := 0; offset < len(encoded); offset += piece {
		end := min(offset+piece, len(encoded))
		from := len(p.bodies)
		p.bodies = binary.LittleEndian.AppendUint32(p.bodies, uint32(len(encoded)))
		p.bodies = binary.LittleEndian.AppendUint32(p.bodies, uint32(offset))
		p.bodies = append(p.bodies, encoded[offset:end]...)
		e := packed{kind: raft.Part, from: from, to: len(p.bodies), client: op.Client, seq: op.Seq}
		if end == len(encoded) {
			e.count = 1
		}
		p.entries = append(p.entries, e)
	}
}

func (p *pack) reset() {
	p.bodies, p.entries, p.open = p.bodies[:0], p.entries[:0], false
}

// propose hands this turn's entries to the core. AppendEntries leave for the
// followers before our own write begins.
func (n *Node) propose(now int64) {
	if n.core.Transferring() != 0 && len(n.pack.bodies) < heldBytes {
		return // the next leader is being made: what is packed waits to be told who it is
	}
	for i := range n.pack.entries {
		p := &n.pack.entries[i]
		e := raft.Entry{Kind: p.kind, Size: p.to - p.from + wire.EntryHeaderBytes, Ref: i}
		if err := n.core.Propose(now, &e); err != nil {
			n.refusePacked(p, err)
			continue
		}
		n.Counters.Entries++
		n.Counters.Commands += uint64(p.count)
	}
	if len(n.pack.entries) > 0 {
		n.absorb(now)
		n.pack.reset()
	}
}

// heldBytes bounds the commands that wait while leadership is handed over.
const heldBytes = 4 << 20

// refusePacked tells the clients of an entry that the core did not take it:
// there is no room, or another server leads.
func (n *Node) refusePacked(p *packed, err error) {
	refuse := n.refuseBusy
	if errors.Is(err, raft.ErrNotLeader) {
		refuse = n.refuseMoved
	}
	if p.kind == raft.Part {
		if p.count > 0 { // once for the whole command
			refuse(p.client, p.seq)
		}
		return
	}
	rest := n.pack.bodies[p.from:p.to]
	for range p.count {
		op, size, err := kv.DecodeCommand(rest)
		if err != nil {
			panic("pack: a command that was checked on arrival does not decode: " + err.Error())
		}
		refuse(op.Client, op.Seq)
		rest = rest[size:]
	}
}
