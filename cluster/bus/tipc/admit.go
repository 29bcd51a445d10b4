package tipc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"godwit/cluster/bus"
)

// Anybody on a node may open a TIPC socket; the kernel does not tell who it is.
// Members with a secret admit connections of those only that know it:
//
//	dialler  → listener   a: 16 random bytes
//	listener → dialler    b: 16 random bytes, MAC("listener", a, b, both addresses)
//	dialler  → listener   MAC("dialler", a, b, both addresses)
//
// The kernel vouches for the addresses of a connection's ends, so that nobody
// can pass the messages on between two others and stand in the middle.
const (
	nonceLen = 16
	macLen   = sha256.Size
	// admitTime bounds the exchange; admitMost is how many wait for it at a listener.
	admitTime = 5 * time.Second
	admitMost = 64
)

// ErrNotAdmitted tells that the other end does not know the secret.
var ErrNotAdmitted = errors.New("the other end does not know the cluster's secret")

// Secret makes the secret of the cluster's members from its key.
func Secret(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("godwit: members of the bus"))
	return m.Sum(nil)
}

// Option changes how a process joins.
type Option func(*Member)

// Admit makes connections need a secret. refused is told of those without, from
// any goroutine; it may be nil.
func Admit(secret []byte, refused func(peer bus.Address, err error)) Option {
	return func(m *Member) { m.secret, m.refused = secret, refused }
}

func (m *Member) mac(side string, a, b []byte, dialler, listener bus.Address) []byte {
	h := hmac.New(sha256.New, m.secret)
	h.Write([]byte(side))
	h.Write(a)
	h.Write(b)
	var ends [16]byte
	for i, v := range [...]uint32{dialler.Ref, dialler.Node, listener.Ref, listener.Node} {
		binary.BigEndian.PutUint32(ends[4*i:], v)
	}
	h.Write(ends[:])
	return h.Sum(nil)
}

// exact receives n bytes. Of a SeqPacket's longer message it takes the first n,
// which then are not what was asked for.
func (s *sock) exact(n int) ([]byte, error) {
	b, oob := make([]byte, n), make([]byte, oobSize)
	for got := 0; ; {
		r, err := s.recv(b[got:], oob)
		if err != nil {
			return nil, err
		}
		if got += r.n; got == n {
			return b, nil
		}
		if r.n == 0 || r.info.code != bus.OK {
			return nil, bus.ErrPeerGone
		}
	}
}

// challenge is the dialler's side.
func (m *Member) challenge(s *sock, peer bus.Address) error {
	own, err := s.bounded()
	if err != nil {
		return err
	}
	a := make([]byte, nonceLen)
	rand.Read(a)
	if err := s.send(a, nil); err != nil {
		return err
	}
	answer, err := s.exact(nonceLen + macLen)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	b := answer[:nonceLen]
	if !hmac.Equal(answer[nonceLen:], m.mac("listener", a, b, own, peer)) {
		return ErrNotAdmitted
	}
	if err := s.send(m.mac("dialler", a, b, own, peer), nil); err != nil {
		return err
	}
	return s.f.SetDeadline(time.Time{})
}

// answer is the listener's side.
func (m *Member) answer(s *sock, peer bus.Address) error {
	own, err := s.bounded()
	if err != nil {
		return err
	}
	a, err := s.exact(nonceLen)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	b := make([]byte, nonceLen)
	rand.Read(b)
	if err := s.send(append(b[:nonceLen:nonceLen], m.mac("listener", a, b, peer, own)...), nil); err != nil {
		return err
	}
	proof, err := s.exact(macLen)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	if !hmac.Equal(proof, m.mac("dialler", a, b, peer, own)) {
		return ErrNotAdmitted
	}
	return s.f.SetDeadline(time.Time{})
}

// bounded sets the deadline of the exchange and tells the socket's own address.
func (s *sock) bounded() (own bus.Address, err error) {
	if err := s.f.SetDeadline(time.Now().Add(admitTime)); err != nil {
		return own, err
	}
	err = s.control(func(fd int) (err error) {
		own, err = name(fd)
		return err
	})
	return own, err
}
