package compiled

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
	if e>>codeShift != rootNode { // a small table: in the nearest cache
		for i, a := range addrs {
			groups[i] = s.Lookup4(vrf, a)
		}
		return
	}
	for root := e & refMask; len(addrs) > 0; {
		n := min(len(addrs), lanes)
		s.batch4(vrf, root, addrs[:n], groups[:n])
		addrs, groups = addrs[n:], groups[n:]
	}
}

// batch4 takes all lanes through the root and the node behind it, in loops
// whose loads do not wait for each other and without branches on what was
// loaded but the one that is nearly always taken. The few lanes that are not
// done then start again.
func (s *Space) batch4(vrf, root uint32, addrs, groups []uint32) {
	base := s.arena.base
	groups = groups[:len(addrs)]
	for i, a := range addrs {
		ref := root + a>>16
		if e := at(base, ref); e>>codeShift == byteNode {
			ref = e&refMask + a>>8&0xff
		}
		groups[i] = ref
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
	if e>>codeShift != rootNode {
		for i := range addrs {
			groups[i] = s.Lookup6(vrf, addrs[i][0], addrs[i][1])
		}
		return
	}
	for root := e & refMask; len(addrs) > 0; {
		n := min(len(addrs), lanes)
		s.batch6(vrf, root, addrs[:n], groups[:n])
		addrs, groups = addrs[n:], groups[n:]
	}
}

// lane is one lookup of a batch: what is left of the upper half of the
// address, the word to load next, and how many bits are done.
type lane struct {
	x   uint64
	ref uint32
	pos uint32
}

// batch6 takes all lanes down in step, a node a round; a lane drops out at a
// leaf, at a skip, and where a node might need the lower half of the address.
func (s *Space) batch6(vrf, root uint32, addrs [][2]uint64, groups []uint32) {
	base := s.arena.base
	groups = groups[:len(addrs)]
	var l [lanes]lane
	var todo [lanes]uint8
	n := 0
	for i := range addrs {
		x := addrs[i][0]
		e := at(base, root+uint32(x>>48))
		l[i&(lanes-1)] = lane{x << 16, 0, 16}
		groups[i] = e
		todo[n&(lanes-1)] = uint8(i)
		n += isNode(e)
	}
	for n > 0 {
		for _, i := range todo[:n] {
			e, p := groups[i], &l[i&(lanes-1)]
			w := e >> strideShift & strideMask
			p.ref = e&refMask + uint32(p.x>>(-w&63))
			p.x <<= w & 63
			p.pos += w
		}
		m := 0
		for _, i := range todo[:n] {
			p := &l[i&(lanes-1)]
			e := at(base, p.ref)
			groups[i] = e
			todo[m&(lanes-1)] = i
			m += isNode(e) & int((p.pos-upperOnly-1)>>31)
		}
		n = m
	}
	def := at(base, vrf*dirWords+default6)
	for i, e := range groups {
		if e >= child {
			e = s.rest6(e, addrs[i][0], addrs[i][1], uint(l[i&(lanes-1)].pos))
		}
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}

// isNode is 1 for a node, 0 for a skip or leaf.
func isNode(e uint32) int { return int((uint64(firstNode-1) - uint64(e)) >> 63) }
