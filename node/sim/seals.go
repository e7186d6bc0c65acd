package sim

import (
	"encoding/binary"
	"math/rand/v2"

	"balsa/wire"
)

// Seals in a run: a part of the seeds have a secret, and change it meanwhile, machine by
// machine and client by client, as an operator does. The others are open. In both,
// whoever is no client.Core gets itself tokens as one does.

// seals are the keys of a run.
type seals struct {
	servers, clients [3]*wire.Keys // by stage: the first secret, both, the second
	looker           *wire.Opener  // opens what the checks look at
	buffer           []byte
}

// makeSeals draws the secrets of a run, if it has any.
func (s *simulation) makeSeals() {
	if !s.knobs.Sealed {
		return
	}
	r := stream(s.seed, "seals", 0)
	var secrets [2]wire.Secret
	for i := range secrets {
		secrets[i].Epoch = uint8(i + 1)
		for at := 0; at < wire.SecretBytes; at += 8 {
			binary.LittleEndian.PutUint64(secrets[i].Bytes[at:], r.Uint64())
		}
	}
	for stage, of := range [][]wire.Secret{secrets[:1], secrets[:], secrets[1:]} {
		var derived []wire.Secret
		for _, one := range of {
			derived = append(derived, one.ForClients())
		}
		s.seals.servers[stage], s.seals.clients[stage] = s.keys(true, of), s.keys(false, derived)
	}
	s.seals.looker = wire.NewOpener(s.seals.servers[1])
	s.rotate(r)
}

func (s *simulation) keys(servers bool, secrets []wire.Secret) *wire.Keys {
	k, err := wire.NewKeys(servers, secrets)
	if err != nil {
		s.violate("seal", "keys: %v", err)
	}
	return k
}

// rotate has everybody take the second secret, each at a time of its own, and when all
// have it, the servers drop the first, and then the clients.
func (s *simulation) rotate(r *rand.Rand) {
	for i := range s.knobs.Servers + s.knobs.Spares {
		for stage, at := range []int64{between(r, 4*second, 9*second), between(r, 15*second, 20*second)} {
			s.at(at, func() { s.servers[i].take(stage + 1) })
		}
	}
	for i := range s.knobs.Clients {
		for stage, at := range []int64{between(r, 4*second, 14*second), between(r, 15*second, 25*second)} {
			s.at(at, func() { s.actors[i].take(stage + 1) })
		}
	}
}

// take is a changed secret file on a server's machine, and SIGHUP.
func (s *server) take(stage int) {
	s.stage = stage
	if s.node != nil {
		s.node.Rekey(s.seals.servers[stage])
	}
}

// take is a changed secret file that a client has read.
func (a *actor) take(stage int) {
	a.stage = stage
	a.core.Rekey(a.seals.clients[stage])
}

// look opens a datagram of a server for the checks, and leaves it as it is.
func (s *simulation) look(datagram []byte) (wire.Frames, bool) {
	if s.seals.looker == nil {
		_, frames, err := wire.Open(datagram)
		return frames, err == nil // an answer to another version has no frames
	}
	s.seals.buffer = append(s.seals.buffer[:0], datagram...)
	h, err := wire.Peek(s.seals.buffer)
	if err != nil {
		return wire.Frames{}, false
	}
	s.seals.looker.Turn()
	frames, err := s.seals.looker.Open(s.now, &h, s.seals.buffer, true)
	if err != nil {
		s.violate("seal", "server %d sends what does not open: %v", h.Src, err)
	}
	return frames, true
}

// speaker is how a raw client speaks: it holds the token of each server and, where there
// is a secret, the servers' own, as an operator who asks for drills does.
type speaker struct {
	tokens map[uint16]uint64
	opener *wire.Opener
	packer wire.Packer
}

func (p *speaker) begin(s *simulation, id uint64) {
	p.tokens = make(map[uint16]uint64)
	p.packer.Limit = wire.MaxDatagram
	p.packer.Header = wire.Header{Src: wire.ClientNode, Incarnation: id, Boot: id}
	if s.knobs.Sealed {
		both := s.seals.servers[1]
		p.packer.Sealer, p.opener = wire.NewSealer(both), wire.NewOpener(both)
	}
}

// to begins a datagram for a server.
func (p *speaker) to(s *simulation, v *server) *wire.Packer {
	p.packer.Reset()
	p.packer.Header.Dst, p.packer.Header.Token, p.packer.Header.KeyEpoch = v.id, p.tokens[v.id], 0
	if s.knobs.Sealed {
		p.packer.Header.KeyEpoch = s.seals.servers[v.stage].Newest()
	}
	return &p.packer
}

// hear opens an answer and keeps the token that is in it; told says that there was one.
func (p *speaker) hear(now int64, b []byte) (frames wire.Frames, told, ok bool) {
	h, err := wire.Peek(b)
	if err != nil {
		return frames, false, false
	}
	if p.opener == nil {
		_, frames, err = wire.Open(b)
	} else {
		p.opener.Turn()
		frames, err = p.opener.Open(now, &h, b, true)
	}
	if err != nil {
		return frames, false, false
	}
	rest := frames
	for kind, payload, ok := rest.Next(); ok; kind, payload, ok = rest.Next() {
		var t wire.Token
		if kind == wire.KindToken && t.Decode(payload) == nil {
			p.tokens[h.Src], told = t.Token, true
		}
	}
	return frames, told, true
}
