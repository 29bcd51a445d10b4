package bfd

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
)

// AuthType is how the packets of a session are authenticated (RFC 5880, 4.1).
type AuthType uint8

// The types.
const (
	NoAuth AuthType = iota
	Simple
	KeyedMD5
	MeticulousMD5
	KeyedSHA1
	MeticulousSHA1
)

var authNames = [...]string{"none", "simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1"}

func (t AuthType) String() string {
	if int(t) < len(authNames) {
		return authNames[t]
	}
	return fmt.Sprintf("auth(%d)", uint8(t))
}

// ParseAuthType finds a type by its name; empty is NoAuth.
func ParseAuthType(name string) (AuthType, error) {
	if name == "" {
		return NoAuth, nil
	}
	for t, s := range authNames {
		if s == name {
			return AuthType(t), nil
		}
	}
	return NoAuth, fmt.Errorf("parse BFD authentication: no type %q", name)
}

// MaxKey is the longest key of the type, bytes.
func (t AuthType) MaxKey() int {
	switch t {
	case KeyedSHA1, MeticulousSHA1:
		return sha1.Size
	case NoAuth:
		return 0
	}
	return md5.Size // a simple password's limit is the same 16
}

func (t AuthType) digest() int {
	switch t {
	case KeyedMD5, MeticulousMD5:
		return md5.Size
	case KeyedSHA1, MeticulousSHA1:
		return sha1.Size
	}
	return 0
}

func (t AuthType) meticulous() bool { return t == MeticulousMD5 || t == MeticulousSHA1 }

// Auth is the authentication of a session.
type Auth struct {
	Type  AuthType
	KeyID uint8
	Key   string // up to MaxKey bytes
}

// Offsets in an authentication section with a digest.
const (
	authKeyID  = 2
	authSeq    = 4
	authDigest = 8
)

// sign appends the authentication section to a control packet, which begins at
// b[0] and has its A bit set.
func (a *Auth) sign(b []byte, seq uint32) []byte {
	n := a.Type.digest()
	if n == 0 {
		b = append(b, byte(a.Type), byte(3+len(a.Key)), a.KeyID)
		b = append(b, a.Key...)
		b[3] = byte(len(b))
		return b
	}
	at := len(b)
	b = append(b, byte(a.Type), byte(authDigest+n), a.KeyID, 0)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, make([]byte, n)...)
	b[3] = byte(len(b))
	a.fill(b[at+authDigest:], b)
	return b
}

// fill writes the digest of the whole packet into its place: the key stands
// there while it is computed (RFC 5880, 6.7.3 and 6.7.4).
func (a *Auth) fill(place, packet []byte) {
	clear(place)
	copy(place, a.Key)
	switch a.Type.digest() {
	case md5.Size:
		sum := md5.Sum(packet)
		copy(place, sum[:])
	case sha1.Size:
		sum := sha1.Sum(packet)
		copy(place, sum[:])
	}
}

// verify checks type, key and digest of a received packet and returns its
// sequence number. It changes nothing.
func (a *Auth) verify(packet, section []byte) (seq uint32, ok bool) {
	if AuthType(section[0]) != a.Type || len(section) < 4 || section[authKeyID] != a.KeyID {
		return 0, false
	}
	n := a.Type.digest()
	if n == 0 {
		return 0, hmac.Equal(section[3:], []byte(a.Key))
	}
	if len(section) != authDigest+n {
		return 0, false
	}
	var scratch [headerLen + authDigest + sha1.Size]byte
	whole := scratch[:copy(scratch[:], packet)]
	at := len(whole) - n
	a.fill(whole[at:], whole)
	return binary.BigEndian.Uint32(section[authSeq:]), hmac.Equal(whole[at:], section[authDigest:])
}

// fresh tells whether a sequence number may follow the last one (RFC 5880,
// 6.7.3: up to three detection multipliers ahead, in circular order).
func (t AuthType) fresh(seq, last uint32, multiplier uint8) bool {
	if t.digest() == 0 {
		return true
	}
	ahead := seq - last
	if t.meticulous() && ahead == 0 {
		return false
	}
	return ahead <= 3*uint32(multiplier)
}
