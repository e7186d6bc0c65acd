package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Who may make which seal. A class is a direction: its keys are made from a secret that
// only those have who may speak that way, and from the sender's process (its source,
// incarnation and boot), so that a packet number, which a process never uses twice,
// is never used twice under a key.
//
//	the servers' secret of an epoch
//	 |-- peers       server -> server
//	 |-- operators   a client that holds it -> server
//	 `-- the clients' secret of that epoch, derived one way
//	      |-- asks      client -> server
//	      `-- answers   server -> client
//
// So a client cannot make what a server takes for another server's word. All clients
// share a secret: one could play a server to another, which only who may not be
// trusted as a client at all would do.
type class uint8

const (
	classPeers class = iota
	classOperators
	classAsks
	classAnswers
	classes
)

var classNames = [classes]string{"peers", "operators", "asks", "answers"}

const (
	// SecretBytes is the length of a secret of one epoch.
	SecretBytes = 32
	// MaxEpochs is how many epochs a set of keys may have at once.
	MaxEpochs = 8

	keyBytes   = 16 // AES-128: see docs/decisions/0013
	nonceBytes = 12
	tagBytes   = 16
)

const _ = uint(TrailerBytes-tagBytes) + uint(tagBytes-TrailerBytes) // the tag is the trailer

// Secret is what a secret file holds for one epoch: the servers' own, or what clients get.
type Secret struct {
	Epoch uint8 // 1 to 255
	Bytes [SecretBytes]byte
}

// ForClients is the clients' secret of the same epoch. There is no way back.
func (s Secret) ForClients() Secret {
	c := Secret{Epoch: s.Epoch}
	copy(c.Bytes[:], derive(s.Bytes[:], "balsa 1 clients", SecretBytes))
	return c
}

// Keys are the secrets of all epochs that are accepted. They do not change: other
// secrets are other Keys. Safe for many goroutines.
type Keys struct {
	servers bool
	epochs  []epoch // newest last
}

type epoch struct {
	number  uint8
	secrets [classes][]byte // nil: these Keys can't make or open that class
}

// ErrSecret is wrong input to NewKeys.
var ErrSecret = errors.New("wire: no usable secret")

// NewKeys takes the secrets of one or more epochs, the newest last; servers says that
// they are the servers' own. Seals are made with the newest that both ends hold.
func NewKeys(servers bool, secrets []Secret) (*Keys, error) {
	if len(secrets) == 0 || len(secrets) > MaxEpochs {
		return nil, fmt.Errorf("%w: %d epochs, want 1 to %d", ErrSecret, len(secrets), MaxEpochs)
	}
	k := &Keys{servers: servers}
	for _, s := range secrets {
		if s.Epoch == 0 || k.find(s.Epoch) != nil {
			return nil, fmt.Errorf("%w: epoch %d is 0 or stands there twice", ErrSecret, s.Epoch)
		}
		k.epochs = append(k.epochs, s.epoch(servers))
	}
	return k, nil
}

func (s Secret) epoch(servers bool) epoch {
	e := epoch{number: s.Epoch}
	make := func(c class, from *Secret) {
		e.secrets[c] = derive(from.Bytes[:], "balsa 1 "+classNames[c], SecretBytes)
	}
	forClients := s
	if servers {
		make(classPeers, &s)
		make(classOperators, &s)
		forClients = s.ForClients()
	}
	make(classAsks, &forClients)
	make(classAnswers, &forClients)
	return e
}

// Servers tells whether these are the servers' own.
func (k *Keys) Servers() bool { return k.servers }

// Epochs are the numbers of all epochs, newest last.
func (k *Keys) Epochs() []uint8 {
	var all []uint8
	for i := range k.epochs {
		all = append(all, k.epochs[i].number)
	}
	return all
}

// Newest is the number of the newest epoch.
func (k *Keys) Newest() uint8 { return k.epochs[len(k.epochs)-1].number }

// Has tells whether they have this epoch.
func (k *Keys) Has(epoch uint8) bool { return k.find(epoch) != nil }

// Choose is the epoch to seal with for a destination that said its newest is told (0:
// nothing is known of it). What it holds at best is used if we have it, else our best.
// To a stranger they are used in turn, try by try, so that one of them gets through.
func (k *Keys) Choose(told uint8, try uint64) uint8 {
	if told == 0 {
		return k.epochs[try%uint64(len(k.epochs))].number
	}
	if k.find(told) != nil {
		return told
	}
	return k.Newest()
}

// Equal tells whether both hold the same.
func (k *Keys) Equal(o *Keys) bool {
	return k.servers == o.servers && slices.EqualFunc(k.epochs, o.epochs, func(a, b epoch) bool {
		return a.number == b.number && string(a.secrets[classAsks]) == string(b.secrets[classAsks])
	})
}

func (k *Keys) find(number uint8) *epoch {
	for i := range k.epochs {
		if k.epochs[i].number == number {
			return &k.epochs[i]
		}
	}
	return nil
}

// generation is the part of a packet number that changes the key: no key seals more
// than 2^32 datagrams.
func generation(packet uint64) uint32 { return uint32(packet >> 32) }

// lane is one process's datagrams of one class, under one key.
type lane struct {
	Sender
	class      class
	epoch      uint8
	generation uint32
}

func laneOf(h *Header) lane {
	l := lane{Sender: Sender{h.Src, h.Incarnation, h.Boot}, epoch: h.KeyEpoch, generation: generation(h.Packet)}
	switch {
	case h.Src == ClientNode && h.Flags&FlagOperator != 0:
		l.class = classOperators
	case h.Src == ClientNode:
		l.class = classAsks
	case h.Dst == ClientNode:
		l.class = classAnswers
	default:
		l.class = classPeers
	}
	return l
}

// aead makes a lane's key ready; nil if these keys have no secret for it.
func (k *Keys) aead(l *lane) cipher.AEAD {
	e := k.find(l.epoch)
	if e == nil || e.secrets[l.class] == nil {
		return nil
	}
	var info [22]byte
	le.PutUint16(info[0:], l.Src)
	le.PutUint64(info[2:], l.Incarnation)
	le.PutUint64(info[10:], l.Boot)
	le.PutUint32(info[18:], l.generation)
	key, err := hkdf.Expand(sha256.New, e.secrets[l.class], string(info[:]), keyBytes)
	if err != nil {
		panic("wire: hkdf: " + err.Error())
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("wire: aes: " + err.Error())
	}
	a, err := cipher.NewGCM(block)
	if err != nil || a.NonceSize() != nonceBytes || a.Overhead() != tagBytes {
		panic(fmt.Sprintf("wire: gcm: %v", err))
	}
	return a
}

func derive(secret []byte, info string, n int) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, n)
	if err != nil {
		panic("wire: hkdf: " + err.Error())
	}
	return key
}
