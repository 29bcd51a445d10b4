package compiled

import "unsafe"

// Lookup4 returns the group of the longest prefix that has the address, 0 if
// there is none.
//
// A large table starts with a root of 16 bits, and nearly all addresses need
// one more node at most. They are looked up without a branch that depends on
// what was loaded: a branch that is mispredicted waits for the load and throws
// the lookups away that the processor has begun behind it. An entry that is no
// node has stride 0: the step behind it loads the same entry again.
func (s *Space) Lookup4(vrf, addr uint32) uint32 {
	if vrf > MaxVRF {
		return 0
	}
	base := s.arena.base
	e := at(base, vrf*dirWords+root4)
	if e>>codeShift != rootNode {
		return s.small4(vrf, e, addr)
	}
	e, pos := step4(base, e&refMask+addr>>16, addr)
	if e >= child {
		e = s.rest4(e, addr, pos)
	}
	g := at(base, vrf*dirWords+default4)
	if e &= groupMask; e != 0 {
		g = e
	}
	return g
}

// step4 takes the step from the entry at i of a root of 16 bits.
func step4(base unsafe.Pointer, i, addr uint32) (e, pos uint32) {
	e = at(base, i)
	w := e >> strideShift & strideMask
	j := e&refMask + addr<<16>>(-w&31)
	if w == 0 {
		j = i
	}
	return at(base, j), 16 + w
}

// small4 looks up in a table whose root entry e is not a root of 16 bits.
func (s *Space) small4(vrf, e, addr uint32) uint32 {
	if e = s.rest4(e, addr, 0) & groupMask; e != 0 {
		return e
	}
	return s.load(vrf*dirWords + default4)
}

// rest4 goes on from e, at bit pos, to the leaf.
func (s *Space) rest4(e, addr, pos uint32) uint32 {
	x := addr << (pos & 31)
	for e >= child {
		if w := e >> strideShift & strideMask; w != 0 {
			e = s.load(e&refMask + x>>(-w&31))
			x <<= w & 31
			continue
		}
		var n uint32
		e, n = s.skip4(e&refMask, addr)
		x = uint32(uint64(addr) << (n & 63))
	}
	return e
}

// skip4 returns the entry behind a skip and the bit it starts at.
func (s *Space) skip4(ref, addr uint32) (e, pos uint32) {
	n := s.load(ref + skipLen)
	if (addr^s.load(ref))>>((32-n)&31) != 0 {
		return s.load(ref + skipMiss), 0
	}
	return s.load(ref + skipHit), n
}

// Lookup6 is Lookup4 for an IPv6 address: its upper and lower 64 bits. Three
// steps behind the root stay within the upper half.
func (s *Space) Lookup6(vrf uint32, hi, lo uint64) uint32 {
	if vrf > MaxVRF {
		return 0
	}
	base := s.arena.base
	e := at(base, vrf*dirWords+root6)
	if e>>codeShift != rootNode {
		return s.small6(vrf, e, hi, lo)
	}
	e, pos := steps6(base, e&refMask+uint32(hi>>48), hi)
	if e >= child {
		e = s.rest6(e, hi, lo, uint(pos))
	}
	g := at(base, vrf*dirWords+default6)
	if e &= groupMask; e != 0 {
		g = e
	}
	return g
}

// steps6 takes three steps from the entry at i of a root of 16 bits.
func steps6(base unsafe.Pointer, i uint32, hi uint64) (e, pos uint32) {
	x := hi << 16
	e = at(base, i)
	for range 3 {
		w := e >> strideShift & strideMask
		j := e&refMask + uint32(x>>(-w&63))
		if w != 0 {
			i = j
		}
		x <<= w & 63
		pos += w
		e = at(base, i)
	}
	return e, pos + 16
}

// small6 looks up in a table whose root entry e is not a root of 16 bits.
func (s *Space) small6(vrf, e uint32, hi, lo uint64) uint32 {
	if e = s.rest6(e, hi, lo, 0) & groupMask; e != 0 {
		return e
	}
	return s.load(vrf*dirWords + default6)
}

// rest6 goes on from e, at bit pos, to the leaf.
func (s *Space) rest6(e uint32, hi, lo uint64, pos uint) uint32 {
	for e >= child {
		if w := uint(e >> strideShift & strideMask); w != 0 {
			e = s.load(e&refMask + Key{hi, lo}.slice(pos, w))
			pos += w
			continue
		}
		var n uint32
		e, n = s.skip6(e&refMask, hi, lo)
		pos = uint(n)
	}
	return e
}

func (s *Space) skip6(ref uint32, hi, lo uint64) (e, pos uint32) {
	n := s.load(ref + skipLen)
	d := hi ^ (uint64(s.load(ref))<<32 | uint64(s.load(ref+1)))
	if n > 64 {
		if d == 0 {
			d = (lo ^ (uint64(s.load(ref+2))<<32 | uint64(s.load(ref+3)))) >> ((128 - n) & 63)
		}
	} else {
		d >>= (64 - n) & 63
	}
	if d != 0 {
		return s.load(ref + skipMiss), 0
	}
	return s.load(ref + skipHit), n
}
