package compiled

// Lookup4 and Lookup6 wait for memory most of the time. The processor hides
// that by beginning the next lookups meanwhile, as many as its window of some
// hundred instructions takes: what counts is the number of instructions
// on the usual way. So both are leaf functions (no stack frame), begin with the forms that
// nearly all entries of a large table have, and take an entry apart by a
// subtraction: what is left of a node of the expected stride is its reference.

const (
	root16 = child | 4<<codeShift // node of stride 16, without its reference
	byte8  = child | 2<<codeShift // node of stride 8
)

// Lookup4 returns the group of the longest prefix that has the address, 0 if
// there is none.
func (s *Space) Lookup4(vrf, addr uint32) uint32 {
	if vrf > MaxVRF {
		return 0
	}
	base := s.arena.base
	e, pos := at(base, vrf*dirWords+root4), uint32(0)
	if r := e - root16; r <= refMask {
		e, pos = at(base, r+addr>>16), 16
		if r := e - byte8; r <= refMask {
			e, pos = at(base, r+addr>>8&0xff), 24
		}
	}
	for e >= child {
		if w := e >> strideShift & strideMask; w != 0 {
			e = at(base, e&refMask+addr<<(pos&31)>>(-w&31))
			pos += w
			continue
		}
		e &= refMask
		pos = at(base, e+skipLen)
		if (addr^at(base, e))>>(-pos&31) != 0 {
			e = at(base, e+skipMiss)
			break
		}
		e = at(base, e+skipHit)
	}
	if e &= groupMask; e != 0 {
		return e
	}
	return at(base, vrf*dirWords+default4)
}

// Lookup6 is Lookup4 for an IPv6 address: its upper and lower 64 bits.
func (s *Space) Lookup6(vrf uint32, hi, lo uint64) uint32 {
	if vrf > MaxVRF {
		return 0
	}
	base := s.arena.base
	e, pos := at(base, vrf*dirWords+root6), uint32(0)
	if r := e - root16; r <= refMask {
		e, pos = at(base, r+uint32(hi>>48)), 16
		if r := e - root16; r <= refMask {
			e, pos = at(base, r+uint32(hi>>32)&0xffff), 32
		}
	}
	for e >= child {
		if w := e >> strideShift & strideMask; w != 0 {
			x := hi << (pos & 63)
			if pos+w > 64 { // the node needs the lower half
				x = Key{hi, lo}.shl(uint(pos)).Hi
			}
			e = at(base, e&refMask+uint32(x>>(-w&63)))
			pos += w
			continue
		}
		e &= refMask
		pos = at(base, e+skipLen)
		d := hi ^ (uint64(at(base, e))<<32 | uint64(at(base, e+1)))
		if pos <= 64 {
			d >>= -pos & 63
		} else {
			d |= (lo ^ (uint64(at(base, e+2))<<32 | uint64(at(base, e+3)))) >> (-pos & 63)
		}
		if d != 0 {
			e = at(base, e+skipMiss)
			break
		}
		e = at(base, e+skipHit)
	}
	if e &= groupMask; e != 0 {
		return e
	}
	return at(base, vrf*dirWords+default6)
}

// next is the number of the entry behind e, which is entry i and has stride w: at
// index sub of the node it leads to; i again if e is no node. Without a
// branch: one that is mispredicted waits for the load that it depends on.
func next(e, w, sub, i uint32) uint32 {
	j := e&refMask + sub
	return j ^ (i^j)&uint32(int32(w-1)>>31)
}
