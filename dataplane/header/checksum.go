package header

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to a ones' complement sum (RFC 1071), 8 bytes at a time.
// The sum of parts is the sum of the whole if all but the last are even.
func Sum(sum uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(tail[:]), carry)
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}

// Fold makes the 16-bit ones' complement sum (not inverted).
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}

// Checksum is the Internet checksum of b: what goes into a header whose
// checksum field is zero in b.
func Checksum(b []byte) uint16 { return ^Fold(Sum(0, b)) }

// Update16 is the checksum after one 16-bit word changed (RFC 1624, eqn. 3).
func Update16(checksum, from, to uint16) uint16 {
	s := uint32(^checksum) + uint32(^from) + uint32(to)
	s = s>>16 + s&0xffff
	return ^uint16(s>>16 + s&0xffff)
}

// Pseudo6 is the sum of the IPv6 pseudo-header (RFC 8200, 8.1).
func Pseudo6(src, dst *[16]byte, proto uint8, length int) uint64 {
	sum := Sum(0, src[:])
	sum = Sum(sum, dst[:])
	var t [8]byte
	binary.BigEndian.PutUint32(t[:], uint32(length))
	t[7] = proto
	return Sum(sum, t[:])
}
