package compiled

import "math/bits"

// lanes is how many lookups of a batch go on side by side: enough to overlap
// their cache misses, few enough to stay in the first-level cache.
const lanes = 64

// LookupBatch4 does Lookup4 for each address; groups is at least as long.
func (s *Space) LookupBatch4(vrf uint32, addrs, groups []uint32) {
	groups = groups[:len(addrs)]
	if vrf > MaxVRF {
		clear(groups)
		return
	}
	e := s.load(vrf*dirWords + root4)
	if e>>codeShift != rootNode || len(addrs) < 4 { // a small table is in the nearest cache
		for i, a := range addrs {
			groups[i] = s.Lookup4(vrf, a)
		}
		return
	}
	for root := e & refMask; len(addrs) > 0; {
		n := min(len(addrs), lanes)
		if s.gathers {
			s.gather4(vrf, root, addrs[:n], groups[:n])
		} else {
			s.batch4(vrf, root, addrs[:n], groups[:n])
		}
		addrs, groups = addrs[n:], groups[n:]
	}
}

// gather4 takes all lanes through the root and the step behind it, 16 at a
// time, with the processor's gather instructions. Few lanes need more.
func (s *Space) gather4(vrf, root uint32, addrs, groups []uint32) {
	groups = groups[:len(addrs)]
	odd := gather4(s.arena.base, root, s.load(vrf*dirWords+default4), &addrs[0], &groups[0], len(addrs))
	for ; odd != 0; odd &= odd - 1 {
		if i := bits.TrailingZeros64(odd); i < len(addrs) {
			groups[i] = s.Lookup4(vrf, addrs[i])
		}
	}
}

// batch4 is gather4 for other processors: in loops whose loads do not wait for
// each other and without branches on what was loaded.
func (s *Space) batch4(vrf, root uint32, addrs, groups []uint32) {
	base := s.arena.base
	groups = groups[:len(addrs)]
	for i, a := range addrs {
		ref := root + a>>16
		e := at(base, ref)
		w := e >> strideShift & strideMask
		groups[i] = next(e, w, a<<16>>(-w&31), ref)
	}
	var odd [lanes]uint8
	n, def := 0, at(base, vrf*dirWords+default4)
	for i, ref := range groups {
		e := at(base, ref)
		odd[n&(lanes-1)] = uint8(i)
		n += int(e >> 31)
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
	for _, i := range odd[:n] {
		groups[i] = s.Lookup4(vrf, addrs[i])
	}
}

// LookupBatch6 does Lookup6 for each address (upper and lower 64 bits).
func (s *Space) LookupBatch6(vrf uint32, addrs [][2]uint64, groups []uint32) {
	groups = groups[:len(addrs)]
	if vrf > MaxVRF {
		clear(groups)
		return
	}
	e := s.load(vrf*dirWords + root6)
	if e>>codeShift != rootNode || len(addrs) < 4 {
		for i := range addrs {
			groups[i] = s.Lookup6(vrf, addrs[i][0], addrs[i][1])
		}
		return
	}
	for root := e & refMask; len(addrs) > 0; {
		n := min(len(addrs), wide)
		if s.gathers {
			s.gather6(vrf, root, addrs[:n], groups[:n])
		} else {
			s.batch6(vrf, root, addrs[:n], groups[:n])
		}
		addrs, groups = addrs[n:], groups[n:]
	}
}

// wide is how many IPv6 lookups go on side by side.
const wide = 32

// gather6 takes all lanes down in step, 8 at a time, through nodes and skips
// alike, as far as the upper half of the address leads.
func (s *Space) gather6(vrf, root uint32, addrs [][2]uint64, groups []uint32) {
	def := s.load(vrf*dirWords + default6)
	var odd uint64
	if len(addrs) == wide {
		odd = gather6(s.arena.base, root, def, (*[wide][2]uint64)(addrs), (*[wide]uint32)(groups))
	} else {
		var a [wide][2]uint64
		var g [wide]uint32
		copy(a[:], addrs)
		odd = gather6(s.arena.base, root, def, &a, &g)
		copy(groups, g[:])
	}
	for ; odd != 0; odd &= odd - 1 {
		if i := bits.TrailingZeros64(odd); i < len(addrs) {
			groups[i] = s.Lookup6(vrf, addrs[i][0], addrs[i][1])
		}
	}
}

// lane is one lookup of a batch: what is left of the upper half of the address.
type lane struct {
	x   uint64
	ref uint32 // of the entry at hand
}

// batch6 is gather6 for other processors: three steps for all lanes, a step a
// loop, as in Lookup6.
func (s *Space) batch6(vrf, root uint32, addrs [][2]uint64, groups []uint32) {
	base := s.arena.base
	groups = groups[:len(addrs)]
	var l [wide]lane
	for i := range addrs {
		x := addrs[i][0]
		l[i&(wide-1)] = lane{x << 16, root + uint32(x>>48)}
	}
	for range 3 {
		for i := range addrs {
			p := &l[i&(wide-1)]
			e := at(base, p.ref)
			w := e >> strideShift & strideMask
			p.ref = next(e, w, uint32(p.x>>(-w&63)), p.ref)
			p.x <<= w & 63
		}
	}
	def := at(base, vrf*dirWords+default6)
	for i := range addrs {
		p := &l[i&(wide-1)]
		e := at(base, p.ref)
		if e >= child {
			groups[i] = s.Lookup6(vrf, addrs[i][0], addrs[i][1])
			continue
		}
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}
