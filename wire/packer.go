package wire

import (
	"fmt"
	"net/netip"
)

// slabBytes is how much memory a Packer takes at a time. Datagrams lie in it one
// behind the other, so small ones to many destinations stay small.
const slabBytes = 64 << 10

// Packer gathers frames for one destination into datagrams of at most Limit bytes.
//
// A turn: Frame (and fill what it gives), Frame, ..., Flush, send, Reset. After a
// Flush the same Packer may gather for another destination, with a Header set
// anew; all datagrams stay valid until Reset. The zero value needs Header and
// Limit. Not safe for two goroutines.
type Packer struct {
	Header Header  // template. Packet is the last number used: Flush counts it up
	Limit  int     // MinDatagram..MaxDatagram, the largest datagram the path takes
	Sealer *Sealer // nil: datagrams carry a checksum. Else the header's KeyEpoch says which key
	Even   bool    // a datagram that another one follows is filled up to Limit, as equal ones leave together

	slabs [][]byte // reused over Resets
	slab  int      // index of the one being filled
	used  int      // bytes of it that finished datagrams hold
	open  int      // bytes of the open datagram, trailer not counted; 0 = none is open
	done  [][]byte // finished but for header and trailer, since the last Flush
}

// MaxFrame is the largest payload of one frame in a datagram of at most limit bytes.
func MaxFrame(limit int) int {
	return (limit - HeaderBytes - TrailerBytes - FrameHeaderBytes) &^ 7
}

// Frame adds a frame of size bytes and gives them to be filled in place, before the
// next Flush; they hold whatever was there. It begins another datagram when the
// open one is full. It gives nil when size is above MaxFrame(Limit): fragment it.
func (p *Packer) Frame(k Kind, size int) []byte {
	if p.Limit < MinDatagram || p.Limit > MaxDatagram {
		panic(fmt.Sprintf("wire: packer limit %d, want %d..%d", p.Limit, MinDatagram, MaxDatagram))
	}
	if size < 0 || size > MaxFrame(p.Limit) {
		return nil
	}
	need := FrameHeaderBytes + pad8(size)
	if p.open > 0 && p.open+need+TrailerBytes > p.Limit {
		p.even()
		p.finish()
	}
	if p.open == 0 {
		p.begin()
	}
	f := p.slabs[p.slab][p.used+p.open:][:need:need]
	p.open += need
	le.PutUint64(f[need-8:], 0) // the padding; the payload or the header covers the rest
	f[0], f[1] = uint8(k), 0
	le.PutUint16(f[2:], uint16(size))
	le.PutUint32(f[4:], 0)
	return f[FrameHeaderBytes : FrameHeaderBytes+size : FrameHeaderBytes+size]
}

// Room is the largest payload that one more frame may have without beginning
// another datagram; MaxFrame(Limit) when none is open.
func (p *Packer) Room() int {
	if p.open == 0 {
		return MaxFrame(p.Limit)
	}
	return max(0, (p.Limit-TrailerBytes-p.open-FrameHeaderBytes)&^7)
}

// Empty tells whether nothing was added since the last Flush.
func (p *Packer) Empty() bool { return p.open == 0 && len(p.done) == 0 }

// Flush finishes all datagrams (numbers, lengths, checksums or seals), appends them to out
// and gives it back. Their bytes stay valid until Reset.
func (p *Packer) Flush(to netip.AddrPort, out []Packet) []Packet {
	if p.open > 0 {
		p.finish()
	}
	for i, b := range p.done {
		p.Header.Packet++
		if p.Sealer != nil {
			p.Sealer.seal(b, &p.Header)
		} else {
			finish(b, &p.Header)
		}
		out = append(out, Packet{To: to, Bytes: b})
		p.done[i] = nil
	}
	p.done = p.done[:0]
	return out
}

// Reset takes back all memory that Flush gave out, and drops what was not flushed.
func (p *Packer) Reset() {
	p.slab, p.used, p.open = 0, 0, 0
	p.done = p.done[:0]
}

// even fills the open datagram, unless that is more than there is in it.
func (p *Packer) even() {
	rest := p.Limit&^7 - TrailerBytes - p.open
	if !p.Even || rest < FrameHeaderBytes || rest > p.Limit/2 {
		return
	}
	f := p.slabs[p.slab][p.used+p.open:][:rest]
	clear(f)
	f[0] = uint8(KindPad)
	le.PutUint16(f[2:], uint16(rest-FrameHeaderBytes))
	p.open += rest
}

// begin opens a datagram where the slab has room for the largest one.
func (p *Packer) begin() {
	if len(p.slabs) > 0 && len(p.slabs[p.slab])-p.used < p.Limit {
		p.slab, p.used = p.slab+1, 0
	}
	if p.slab == len(p.slabs) {
		p.slabs = append(p.slabs, make([]byte, slabBytes))
	}
	p.open = HeaderBytes
}

// finish closes the open datagram and gives back what it did not need.
func (p *Packer) finish() {
	n := p.open + TrailerBytes
	p.done = append(p.done, p.slabs[p.slab][p.used:][:n:n])
	p.used += n
	p.open = 0
}
