package ip

import (
	"encoding/binary"
	"net/netip"

	"godwit/dataplane/ethernet"
	"godwit/fib"
)

type key4 struct {
	vrf  fib.VRF
	addr uint32
}

type key6 struct {
	vrf    fib.VRF
	hi, lo uint64
}

// Locals are the router's own addresses on this card, by VRF. Immutable. A
// bitmap answers for nearly all addresses that are not own ones, so asking
// for each packet's source costs one load.
type Locals struct {
	filter []uint64
	shift  uint
	v4     map[key4]struct{}
	v6     map[key6]struct{}
}

// NewLocals collects the addresses of the interfaces.
func NewLocals(t *ethernet.Table) *Locals {
	l := &Locals{v4: make(map[key4]struct{}), v6: make(map[key6]struct{})}
	for e := range t.All {
		for _, p := range e.Addresses {
			a := p.Addr()
			b := a.As16()
			if a.Is4() {
				l.v4[key4{e.VRF, binary.BigEndian.Uint32(b[12:])}] = struct{}{}
			} else {
				l.v6[key6{e.VRF, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}] = struct{}{}
			}
		}
	}
	bits := uint(10) // at least 32 bits of filter for each address
	for n := len(l.v4) + len(l.v6); n*32 > 1<<bits; {
		bits++
	}
	l.filter, l.shift = make([]uint64, 1<<bits/64), 64-bits
	for k := range l.v4 {
		l.mark(hash4(k.vrf, k.addr))
	}
	for k := range l.v6 {
		l.mark(hash6(k.vrf, k.hi, k.lo))
	}
	return l
}

func hash4(vrf fib.VRF, addr uint32) uint64 {
	return (uint64(vrf)<<32 | uint64(addr)) * 0x9e3779b97f4a7c15
}

func hash6(vrf fib.VRF, hi, lo uint64) uint64 {
	return (hi ^ lo*0xd6e8feb86659fd93 ^ uint64(vrf)<<32) * 0x9e3779b97f4a7c15
}

// LocalHash is the hash of an own address in the filter.
func LocalHash(vrf fib.VRF, a netip.Addr) uint64 {
	b := a.As16()
	if a.Is4() {
		return hash4(vrf, binary.BigEndian.Uint32(b[12:]))
	}
	return hash6(vrf, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

func (l *Locals) mark(h uint64) {
	b := h >> l.shift
	l.filter[b/64] |= 1 << (b % 64)
}

func (l *Locals) maybe(h uint64) bool {
	b := h >> l.shift
	return l.filter[b/64]&(1<<(b%64)) != 0
}

// Own4 tells that the address is the router's own in the VRF.
func (l *Locals) Own4(vrf fib.VRF, addr uint32) bool {
	if !l.maybe(hash4(vrf, addr)) {
		return false
	}
	_, ok := l.v4[key4{vrf, addr}]
	return ok
}

// Own6 tells that the address is the router's own in the VRF.
func (l *Locals) Own6(vrf fib.VRF, hi, lo uint64) bool {
	if !l.maybe(hash6(vrf, hi, lo)) {
		return false
	}
	_, ok := l.v6[key6{vrf, hi, lo}]
	return ok
}
