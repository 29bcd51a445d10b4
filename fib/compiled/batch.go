package compiled

// lanes is how many lookups of a batch go on side by side: enough to overlap
// their cache misses, few enough to stay in the first-level cache.
const lanes = 64

// LookupBatch4 does Lookup4 for each address; groups is at least as long.
// Going a level at a time through all addresses overlaps their cache misses.
func (s *Space) LookupBatch4(vrf uint32, addrs, groups []uint32) {
	for len(addrs) > 0 {
		n := min(len(addrs), lanes)
		s.batch4(vrf, addrs[:n], groups[:n])
		addrs, groups = addrs[n:], groups[n:]
	}
}

func (s *Space) batch4(vrf uint32, addrs, groups []uint32) {
	groups = groups[:len(addrs)]
	if vrf > MaxVRF {
		clear(groups)
		return
	}
	var todo [lanes]uint8  // lanes whose entry leads on
	var rest [lanes]uint32 // of the address, shifted up
	e := s.arena.load(vrf*dirWords + root4)
	n := 0
	if w := e >> codeShift & codeMask * 4; e >= child && w != 0 {
		root, shift := e&refMask, (32-w)&31
		for i, a := range addrs {
			e := s.arena.load(root + a>>shift)
			groups[i], rest[i&(lanes-1)] = e, a<<(w&31)
			todo[n&(lanes-1)] = uint8(i)
			n += int(e >> 31)
		}
	} else {
		for i, a := range addrs {
			groups[i], rest[i&(lanes-1)], todo[i&(lanes-1)] = e, a, uint8(i)
		}
		n = len(addrs) * int(e>>31)
	}
	for n > 0 {
		n = s.step4(addrs, groups, &rest, &todo, n)
	}
	def := s.arena.load(vrf*dirWords + default4)
	for i, e := range groups {
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}

// step4 takes the first n lanes of todo one level down and returns how many
// go on.
func (s *Space) step4(addrs, groups []uint32, rest *[lanes]uint32, todo *[lanes]uint8, n int) int {
	m := 0
	for _, i := range todo[:n] {
		l := i & (lanes - 1)
		e, x := groups[i], rest[l]
		if w := e >> codeShift & codeMask * 4; w != 0 {
			e = s.arena.load(e&refMask + x>>((32-w)&31))
			rest[l] = x << (w & 31)
		} else {
			var pos uint32
			e, pos = s.skip4(e&refMask, addrs[i])
			rest[l] = uint32(uint64(addrs[i]) << (pos & 63))
		}
		groups[i] = e
		todo[m&(lanes-1)] = i
		m += int(e >> 31)
	}
	return m
}

// LookupBatch6 does Lookup6 for each address (upper and lower 64 bits).
func (s *Space) LookupBatch6(vrf uint32, addrs [][2]uint64, groups []uint32) {
	for len(addrs) > 0 {
		n := min(len(addrs), lanes)
		s.batch6(vrf, addrs[:n], groups[:n])
		addrs, groups = addrs[n:], groups[n:]
	}
}

func (s *Space) batch6(vrf uint32, addrs [][2]uint64, groups []uint32) {
	groups = groups[:len(addrs)]
	if vrf > MaxVRF {
		clear(groups)
		return
	}
	var todo, pos [lanes]uint8
	e := s.arena.load(vrf*dirWords + root6)
	for i := range addrs {
		groups[i], todo[i&(lanes-1)] = e, uint8(i)
	}
	for n := len(addrs) * int(e>>31); n > 0; {
		n = s.step6(addrs, groups, &pos, &todo, n)
	}
	def := s.arena.load(vrf*dirWords + default6)
	for i, e := range groups {
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}

func (s *Space) step6(addrs [][2]uint64, groups []uint32, pos, todo *[lanes]uint8, n int) int {
	m := 0
	for _, i := range todo[:n] {
		l := i & (lanes - 1)
		e, a := groups[i], &addrs[i]
		if w := uint64(e >> codeShift & codeMask * 4); w != 0 {
			x := Key{a[0], a[1]}.shl(uint(pos[l]))
			e = s.arena.load(e&refMask + uint32(x.Hi>>((64-w)&63)))
			pos[l] += uint8(w)
		} else {
			var p uint32
			e, p = s.skip6(e&refMask, a[0], a[1])
			pos[l] = uint8(p)
		}
		groups[i] = e
		todo[m&(lanes-1)] = i
		m += int(e >> 31)
	}
	return m
}
