package compiled

// del removes p from what the slot holds: its leaves become p.leaf, the
// cover. path is the first pos bits that lead to the slot.
func (s *Space) del(slot uint32, pos uint, path Key, p *prefix) {
	e := s.load(slot)
	switch {
	case p.n <= pos:
		s.unfill(slot, pos, path, p)
	case e < child: // not here
	case code(e) == 0:
		k, kn := s.skipKey(e & refMask)
		if kn > p.n || CommonBits(k, p.key) < kn {
			return
		}
		s.del(e&refMask+skipHit, kn, k, p)
		s.tidySkip(slot)
	default:
		s.delNode(slot, pos, path, p)
	}
}

func (s *Space) delNode(slot uint32, pos uint, path Key, p *prefix) {
	e := s.load(slot)
	c, ref := code(e), e&refMask
	w := uint(4 * c)
	i := p.key.slice(pos, w)
	if p.n > pos+w {
		was := s.leads(ref + i)
		s.del(ref+i, pos+w, path.with(pos, w, i), p)
		if was && !s.leads(ref+i) && c > 1 {
			s.kids[ref>>8]--
		}
	} else {
		for end := i + 1<<(pos+w-p.n); i < end; i++ {
			s.unfillEntry(c, ref, i, pos, path, p)
		}
	}
	s.tidyNode(slot, pos, path)
}

// unfill gives the leaves of p, which covers all of the slot, to the cover.
func (s *Space) unfill(slot uint32, pos uint, path Key, p *prefix) {
	e := s.load(slot)
	if e < child {
		if leafLen(e) == p.n {
			s.store(slot, p.leaf)
		}
		return
	}
	c, ref := code(e), e&refMask
	if c == 0 {
		k, kn := s.skipKey(ref)
		s.unfill(ref+skipHit, kn, k, p)
		s.unfill(ref+skipMiss, kn, k, p)
		s.tidySkip(slot)
		return
	}
	for i := range classWords[c] {
		s.unfillEntry(c, ref, i, pos, path, p)
	}
	s.tidyNode(slot, pos, path)
}

func (s *Space) unfillEntry(c int, ref, i uint32, pos uint, path Key, p *prefix) {
	was, w := s.leads(ref+i), uint(4*c)
	s.unfill(ref+i, pos+w, path.with(pos, w, i), p)
	if was && !s.leads(ref+i) && c > 1 {
		s.kids[ref>>8]--
	}
}

// tidySkip removes a skip that decides nothing.
func (s *Space) tidySkip(slot uint32) {
	e := s.load(slot)
	ref := e & refMask
	hit, miss := s.load(ref+skipHit), s.load(ref+skipMiss)
	skips := hit >= child && code(hit) == 0 && s.load(hit&refMask+skipMiss) == miss
	if hit == miss || skips {
		s.store(slot, hit)
		s.retire(0, ref)
	}
}

// tidyAfter is after how many deletions below a node it is looked over, by class.
var tidyAfter = [classes]uint32{2: 4, 3: 64, 4: 4096}

// tidyNode replaces a node that has become too wide for what it holds. Wide
// nodes are looked over once in a while only.
func (s *Space) tidyNode(slot uint32, pos uint, path Key) {
	e := s.load(slot)
	c, ref := code(e), e&refMask
	switch {
	case c == 1:
		s.tidySmall(slot, pos, path)
		return
	case s.kids[ref>>8] == 0 && c == 2 && oneLeaf(s.arena.words(c, ref), pos):
		s.store(slot, s.load(ref))
		s.retire(c, ref)
		return
	}
	if s.fixed(c, pos) {
		return
	}
	if s.dels[ref>>8]++; s.dels[ref>>8] < tidyAfter[c] {
		return
	}
	s.dels[ref>>8] = 0
	s.shrink(slot, pos, path)
}

// shrink narrows the node in slot if fewer than half of what would make the
// narrower one grow again would lead on.
func (s *Space) shrink(slot uint32, pos uint, path Key) {
	e := s.load(slot)
	c, ref := code(e), e&refMask
	w := s.arena.words(c, ref)
	leads, end := uint32(0), pos+uint(4*c)-4
	for i := 0; i < len(w); i += 16 {
		if !oneLeaf(w[i:i+16], end) {
			leads++
		}
	}
	if s.keeps(c, pos, leads) {
		return
	}
	narrow := s.alloc(c - 1)
	to := s.arena.words(c-1, narrow)
	for i := range to {
		to[i] = s.part(1, ref+uint32(i)*16, end)
		if to[i] >= child {
			s.tidySmall(narrow+uint32(i), end, path.with(pos, end-pos, uint32(i)))
		}
	}
	if c > 2 {
		s.kids[narrow>>8] = s.count(c-1, narrow)
	}
	s.store(slot, node(c-1, narrow))
	if c == 2 {
		s.tidySmall(slot, pos, path)
		return
	}
	s.shrink(slot, pos, path)
}

// fixed tells whether the node has the form that lookups in large tables count on.
func (s *Space) fixed(c int, pos uint) bool {
	if *s.words < wideWords {
		return false
	}
	return pos == 0 && c == maxClass && *s.words-classWords[c] >= wideWords/2 || s.is4 && pos == 16 && c == 2
}

// keeps tells whether a node of which leads sixteenths lead on stays as wide as
// it is: the rules of tooNarrow with a margin.
func (s *Space) keeps(c int, pos uint, leads uint32) bool {
	if s.fixed(c, pos) {
		return true
	}
	share := growAt[c-1]
	if *s.words >= wideWords {
		share = growWide[c-1]
		if pos == 0 {
			return *s.words-classWords[c] >= wideWords/2
		}
	}
	return leads*2*share >= classWords[c]/16
}

// tidySmall replaces a node of stride 4 whose entries are all the same leaf,
// or all but one.
func (s *Space) tidySmall(slot uint32, pos uint, path Key) {
	ref := s.load(slot) & refMask
	w := s.arena.words(1, ref)
	leaf := w[0]
	if w[1] != leaf && w[2] != leaf {
		leaf = w[1]
	}
	if leaf >= child || leafLen(leaf) > pos {
		return
	}
	odd := -1
	for i, e := range w {
		if e == leaf {
			continue
		}
		if odd >= 0 {
			return
		}
		odd = i
	}
	e := leaf
	if odd >= 0 {
		e = w[odd]
		switch {
		case e < child || code(e) != 0:
			e = s.newSkip(path.with(pos, 4, uint32(odd)), pos+4, e, leaf)
		case s.load(e&refMask+skipMiss) != leaf:
			return
		}
	}
	s.store(slot, e)
	s.retire(1, ref)
}
