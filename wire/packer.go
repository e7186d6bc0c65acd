package wire

import (
	"fmt"
	"math/bits"
	"net/netip"
)

// A Packer takes slabBytes of memory at a time, and datagrams lie in it one behind the
// other. Only the first slab grows from leastSlab with what it holds: to many
// destinations goes no more than a small answer.
const (
	slabBytes = 64 << 10
	leastSlab = 2 << 10
)

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
// next Frame or Flush; they hold whatever was there. It begins another datagram when the
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
		p.begin(need)
	}
	p.roomFor(need)
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
	p.roomFor(rest)
	f := p.slabs[p.slab][p.used+p.open:][:rest]
	clear(f)
	f[0] = uint8(KindPad)
	le.PutUint16(f[2:], uint16(rest-FrameHeaderBytes))
	p.open += rest
}

// begin opens a datagram where the slab has room for the largest one, or, in a first slab
// that is still small, for its first frame.
func (p *Packer) begin(need int) {
	if len(p.slabs) > 0 {
		if room := len(p.slabs[p.slab]) - p.used; room < p.Limit && (len(p.slabs[p.slab]) == slabBytes || room < HeaderBytes+need+TrailerBytes) {
			p.next()
		}
	} else {
		p.slabs = append(p.slabs, make([]byte, slabFor(HeaderBytes+need+TrailerBytes)))
	}
	p.open = HeaderBytes
}

// roomFor sees to it that the open datagram can take so many bytes more. In a first slab
// that is too small it moves: to a larger one instead, or behind it what is finished stays.
func (p *Packer) roomFor(need int) {
	slab := p.slabs[p.slab]
	if p.used+p.open+need+TrailerBytes <= len(slab) {
		return
	}
	open := slab[p.used:][:p.open]
	if p.used == 0 {
		p.slabs[p.slab] = make([]byte, slabFor(max(2*len(slab), p.open+need+TrailerBytes)))
	} else {
		p.next()
	}
	copy(p.slabs[p.slab], open)
}

// next goes on to the slab behind.
func (p *Packer) next() {
	if p.slab, p.used = p.slab+1, 0; p.slab == len(p.slabs) {
		p.slabs = append(p.slabs, make([]byte, slabBytes))
	}
}

// slabFor is the size of a slab that holds so many bytes.
func slabFor(bytes int) int {
	return min(max(leastSlab, 1<<bits.Len(uint(bytes-1))), slabBytes)
}

// Held is how much memory the Packer has, which Reset does not give away.
func (p *Packer) Held() (bytes int) {
	for _, s := range p.slabs {
		bytes += len(s)
	}
	return bytes
}

// finish closes the open datagram and gives back what it did not need.
func (p *Packer) finish() {
	n := p.open + TrailerBytes
	p.done = append(p.done, p.slabs[p.slab][p.used:][:n:n])
	p.used += n
	p.open = 0
}
