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
	var l work
	e := s.arena.load(vrf*dirWords + root4)
	n := 0
	if w := e >> codeShift & codeMask * 4; e >= child && w != 0 {
		root, shift := e&refMask, (32-w)&31
		for i, a := range addrs {
			groups[i] = s.arena.load(root + a>>shift)
		}
		s.second4(addrs, groups, &l, w)
		n = l.compact(groups)
	} else {
		for i := range groups {
			groups[i], l.todo[i&(lanes-1)] = e, uint8(i)
		}
		n = len(addrs) * int(e>>31)
	}
	for n > 0 {
		n = s.step4(addrs, groups, &l, n)
	}
	def := s.arena.load(vrf*dirWords + default4)
	for i, e := range groups {
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}

// work is the lanes that go on and the bit each has come to.
type work struct{ todo, pos [lanes]uint8 }

// compact lists the lanes whose entry leads on. It is a loop of its own: where
// it writes depends on what was loaded, and no load waits behind it.
func (l *work) compact(groups []uint32) (n int) {
	for i, e := range groups {
		l.todo[n&(lanes-1)] = uint8(i)
		n += int(e >> 31)
	}
	return n
}

// second4 takes all lanes from the root, which took at bits, through a node,
// without a branch on what was loaded. Most lookups end here.
func (s *Space) second4(addrs, groups []uint32, l *work, at uint32) {
	for i, e := range groups {
		w := e >> codeShift & codeMask * 4
		ref := e&refMask + addrs[i]<<(at&31)>>((32-w)&31)
		if w == 0 { // a leaf or a skip: load a word that is always there
			ref = 0
		}
		l.pos[i&(lanes-1)] = uint8(at + w)
		next := s.arena.load(ref)
		if w == 0 {
			next = e
		}
		groups[i] = next
	}
}

// step4 takes the first n lanes of todo one level down and returns how many
// go on.
func (s *Space) step4(addrs, groups []uint32, l *work, n int) (m int) {
	for _, i := range l.todo[:n] {
		e, a, at := groups[i], addrs[i], &l.pos[i&(lanes-1)]
		if w := e >> codeShift & codeMask * 4; w != 0 {
			groups[i] = s.arena.load(e&refMask + a<<(*at&31)>>((32-w)&31))
			*at += uint8(w)
		} else {
			var pos uint32
			groups[i], pos = s.skip4(e&refMask, a)
			*at = uint8(pos)
		}
	}
	for _, i := range l.todo[:n] {
		l.todo[m&(lanes-1)] = i
		m += int(groups[i] >> 31)
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
	var l work
	e := s.arena.load(vrf*dirWords + root6)
	for i := range addrs {
		groups[i], l.todo[i&(lanes-1)] = e, uint8(i)
	}
	for n := len(addrs) * int(e>>31); n > 0; {
		n = s.step6(addrs, groups, &l, n)
	}
	def := s.arena.load(vrf*dirWords + default6)
	for i, e := range groups {
		if e &= groupMask; e == 0 {
			e = def
		}
		groups[i] = e
	}
}

func (s *Space) step6(addrs [][2]uint64, groups []uint32, l *work, n int) (m int) {
	for _, i := range l.todo[:n] {
		e, a, at := groups[i], &addrs[i], &l.pos[i&(lanes-1)]
		if w := uint64(e >> codeShift & codeMask * 4); w != 0 {
			x := Key{a[0], a[1]}.shl(uint(*at))
			groups[i] = s.arena.load(e&refMask + uint32(x.Hi>>((64-w)&63)))
			*at += uint8(w)
		} else {
			var pos uint32
			groups[i], pos = s.skip6(e&refMask, a[0], a[1])
			*at = uint8(pos)
		}
	}
	for _, i := range l.todo[:n] {
		l.todo[m&(lanes-1)] = i
		m += int(groups[i] >> 31)
	}
	return m
}
