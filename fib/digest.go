package fib

import (
	"math/bits"
	"net/netip"
)

// Digest sums the routes of a VRF up: two tables of one epoch with equal
// digests hold the same routes but for a chance of 2^-64. It is kept up to
// date with each change.
type Digest struct {
	Routes int
	Sum    uint64 // of RouteSum, modulo 2^64
}

// RouteSum is a route's share of Digest.Sum. The address is given as its upper
// and lower 64 bits, IPv4 in the upper 32 of hi.
func RouteSum(hi, lo uint64, length uint, v6 bool, g GroupID) uint64 {
	x := uint64(g)<<16 | uint64(length)<<1
	if v6 {
		x |= 1
	}
	return mix(mix(hi^0x9e3779b97f4a7c15, x^0xd1b54a32d192ed03), lo^0x8ebc6af09c88c6e3)
}

// Sum is the group's share of the sum over a table's groups.
func (g *Group) Sum() uint64 {
	s := mix(uint64(g.ID)^0x9e3779b97f4a7c15, uint64(g.Kind)^0xd1b54a32d192ed03)
	for _, nh := range g.NextHops {
		hi, lo := words(nh.Gateway)
		way := uint64(max(nh.Weight, 1))
		if nh.Backup {
			way |= 1 << 8
		}
		s = mix(s^hi, lo^0x8ebc6af09c88c6e3) ^ mix(uint64(nh.Interface)^s, way^0x589965cc75374cc3)
	}
	return s
}

func words(a netip.Addr) (hi, lo uint64) {
	if !a.IsValid() {
		return 0, 0
	}
	b := a.As16()
	for i := range 8 {
		hi, lo = hi<<8|uint64(b[i]), lo<<8|uint64(b[8+i])
	}
	return hi, lo
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
