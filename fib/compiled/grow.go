package compiled

// growAt is the share of a node's entries that must lead on for it to grow,
// one in so many, by class: in small tables, which it keeps small, and in large
// ones, where memory buys shorter ways. With the latter, the full IPv6 table
// takes 35 MB and an announced address 3.3 loads; with the former, 11 MB and 5.4.
var (
	growAt   = [classes]uint32{1: 4, 2: 16, 3: 16}
	growWide = [classes]uint32{1: 16, 2: 32, 3: 64}
)

// wideWords is the size from which a table is large: 64 KiB.
const wideWords = 1 << 14

// grow widens the node in slot while enough of its entries lead on.
func (s *Space) grow(slot uint32, pos uint, p *prefix) {
	for {
		e := s.load(slot)
		c, ref := code(e), e&refMask
		if c == maxClass || !s.tooNarrow(c, ref, pos, p) {
			return
		}
		s.inflate(slot, pos)
	}
}

// tooNarrow tells whether a node is to grow. Lookups in large tables count on
// a root of 16 bits, and in IPv4 on nodes of at least 8 bits behind it.
func (s *Space) tooNarrow(c int, ref uint32, pos uint, p *prefix) bool {
	if *s.words < wideWords {
		return s.fanout(c, ref)*growAt[c] >= classWords[c]
	}
	if pos == 0 || p.bits == 32 && pos == 16 && c == 1 {
		return true
	}
	return s.fanout(c, ref)*growWide[c] >= classWords[c]
}

// openRoot replaces a skip at the root of a large table, which leads to a node,
// by a node.
func (s *Space) openRoot(slot uint32, p *prefix) {
	e := s.load(slot)
	ref := e & refMask
	if *s.words < wideWords || e < child {
		return
	}
	if code(e) == 0 {
		k, kn := s.skipKey(ref)
		hit, miss := s.load(ref+skipHit), s.load(ref+skipMiss)
		if hit < firstNode {
			return
		}
		n := s.alloc(1)
		w := s.arena.words(1, n)
		for i := range w {
			w[i] = miss
		}
		if kn == 4 {
			w[k.slice(0, 4)] = hit
			s.retire(0, ref)
		} else {
			w[k.slice(0, 4)] = e // keys count from bit 0: the skip is good one level down
		}
		s.store(slot, node(1, n))
	}
	s.grow(slot, 0, p)
}

func (s *Space) fanout(c int, ref uint32) (n uint32) {
	if c > 1 {
		return s.kids[ref>>8]
	}
	return s.count(c, ref)
}

func (s *Space) count(c int, ref uint32) (n uint32) {
	for _, e := range s.arena.words(c, ref) {
		n += e >> 31
	}
	return n
}

// inflate replaces the node in slot by one of the next stride. Blocks below
// that stay as they are keep their place: readers of the old node go on in them.
func (s *Space) inflate(slot uint32, pos uint) {
	e := s.load(slot)
	c, ref := code(e), e&refMask
	wide := s.alloc(c + 1)
	to := s.arena.words(c+1, wide)
	for i, e := range s.arena.words(c, ref) {
		s.widen(to[16*i:16*i+16], e, pos+uint(4*c)+4)
	}
	s.kids[wide>>8] = s.count(c+1, wide)
	s.store(slot, node(c+1, wide))
	s.retire(c, ref)
}

// widen spreads an entry over the 16 entries that take its place; what they
// lead to starts at bit end.
func (s *Space) widen(to []uint32, e uint32, end uint) {
	c, ref := code(e), e&refMask
	switch {
	case e < child:
		for i := range to {
			to[i] = e
		}
	case c == 0:
		s.widenSkip(to, e, end)
	case c == 1:
		copy(to, s.arena.words(1, ref))
		s.retire(1, ref)
	default: // its sixteenths are nodes themselves
		step := classWords[c-1]
		for i := range to {
			to[i] = s.part(c-1, ref+uint32(i)*step, end)
		}
	}
}

// part makes an entry of a block, for bit pos, that was part of a larger node:
// a node, or a leaf if that is all it holds.
func (s *Space) part(c int, ref uint32, pos uint) uint32 {
	w := s.arena.words(c, ref)
	if oneLeaf(w, pos) {
		s.retire(c, ref)
		return w[0]
	}
	if c > 1 {
		s.kids[ref>>8], s.dels[ref>>8] = s.count(c, ref), 0
	}
	return node(c, ref)
}

// oneLeaf tells whether all entries are one leaf of a prefix that covers them
// all. (Equal leaves of longer prefixes are different prefixes of one group.)
func oneLeaf(w []uint32, pos uint) bool {
	if w[0] >= child || leafLen(w[0]) > pos {
		return false
	}
	for _, e := range w {
		if e != w[0] {
			return false
		}
	}
	return true
}

func (s *Space) widenSkip(to []uint32, e uint32, end uint) {
	ref := e & refMask
	k, kn := s.skipKey(ref)
	hit, miss := s.load(ref+skipHit), s.load(ref+skipMiss)
	for i := range to {
		to[i] = miss
	}
	at := to[k.slice(end-4, 4):]
	if kn > end {
		at[0] = e // keys count from bit 0: the skip is good one level down
		return
	}
	for i := range 1 << (end - kn) {
		at[i] = hit
	}
	s.retire(0, ref)
}
