package compiled

// prefix is a route on its way into a table.
type prefix struct {
	key  Key
	n    uint   // length, from 1
	leaf uint32 // its entry
	bits uint   // of an address: 32 or 128
}

func leafLen(e uint32) uint         { return uint(e >> lenShift & 0xff) }
func code(e uint32) int             { return int(e >> codeShift & codeMask) }
func node(c int, ref uint32) uint32 { return child | uint32(c)<<codeShift | ref }

func (s *Space) load(i uint32) uint32   { return s.arena.load(i) }
func (s *Space) leads(slot uint32) bool { return s.load(slot) >= child }

func (s *Space) store(i, v uint32) {
	s.arena.store(i, v)
	if s.journal.mirror != nil {
		s.journal.word(i)
	}
}

func (s *Space) alloc(c int) uint32 {
	*s.words += classWords[c]
	ref := s.arena.alloc(c)
	s.journal.block(c, ref)
	if c >= 2 {
		s.kids[ref>>8], s.dels[ref>>8] = 0, 0
	}
	return ref
}

// retire frees a block that was just unlinked, after a grace period.
func (s *Space) retire(c int, ref uint32) {
	*s.words -= classWords[c]
	s.grace.limbo = append(s.grace.limbo, retired{int32(c), ref})
}

// enter makes the table of the slot the one whose memory is counted.
func (s *Space) enter(slot uint32) {
	w := s.tables[tableID(slot)]
	if w == nil {
		w = new(uint32)
		s.tables[tableID(slot)] = w
	}
	s.words, s.is4 = w, slot%dirWords == root4
}

func addrBits(f Family) uint {
	if f == IPv4 {
		return 32
	}
	return 128
}

// Set makes prefix key/n lead to group, in place of the group it had, if any.
// The key is masked; vrf ≤ MaxVRF and 1 ≤ group ≤ MaxGroup. Writer only.
func (s *Space) Set(vrf uint32, f Family, key Key, n uint, group uint32) {
	slot := vrf*dirWords + uint32(f)
	if n == 0 {
		s.store(slot+1, group)
		return
	}
	s.enter(slot)
	p := &prefix{key, n, uint32(n)<<lenShift | group, addrBits(f)}
	s.set(slot, 0, p)
	if e := s.load(slot); e>>codeShift != rootNode {
		s.openRoot(slot, p)
	}
}

// Delete removes prefix key/n; cover is the longest shorter prefix that
// contains it: its length and group, both 0 for none or for the default route.
// Writer only.
func (s *Space) Delete(vrf uint32, f Family, key Key, n uint, coverLen uint, cover uint32) {
	slot := vrf*dirWords + uint32(f)
	if n == 0 {
		s.store(slot+1, 0)
		return
	}
	if coverLen == 0 {
		cover = 0
	}
	s.enter(slot)
	s.del(slot, 0, Key{}, &prefix{key, n, uint32(coverLen)<<lenShift | cover, addrBits(f)})
}

// Touch loads words that a change of a prefix with this key will need, so that
// the cache has them: many at once wait for each other's misses no longer than
// for one. The sum is of no use. Writer only.
func (s *Space) Touch(vrf uint32, f Family, key Key) (sum uint32) {
	e, pos := s.load(vrf*dirWords+uint32(f)), uint(0)
	for range 2 {
		w := uint(e >> strideShift & strideMask)
		if e < firstNode {
			break
		}
		ref := e & refMask
		e = s.load(ref + key.slice(pos, w))
		pos += w
		sum += e + s.load(ref) + s.kids[ref>>8]
	}
	return sum
}

// Clear empties a VRF's table of a family, but for the default route. Writer
// only.
func (s *Space) Clear(vrf uint32, f Family) {
	slot := vrf*dirWords + uint32(f)
	if w := s.tables[tableID(slot)]; w != nil {
		e := s.load(slot)
		s.store(slot, 0)
		s.enter(slot)
		s.drop(e)
		delete(s.tables, tableID(slot))
	}
}

func (s *Space) drop(e uint32) {
	if e < child {
		return
	}
	c, ref := code(e), e&refMask
	if c == 0 {
		s.drop(s.load(ref + skipHit))
	} else {
		for _, e := range s.arena.words(c, ref) {
			s.drop(e)
		}
	}
	s.retire(c, ref)
}

// newSkip makes a skip to hit at bit n of key.
func (s *Space) newSkip(key Key, n uint, hit, miss uint32) uint32 {
	ref := s.alloc(0)
	key = key.Mask(n)
	s.store(ref, uint32(key.Hi>>32))
	s.store(ref+1, uint32(key.Hi))
	s.store(ref+2, uint32(key.Lo>>32))
	s.store(ref+3, uint32(key.Lo))
	s.store(ref+skipLen, uint32(n))
	s.store(ref+skipHit, hit)
	s.store(ref+skipMiss, miss)
	return node(0, ref)
}

func (s *Space) skipKey(ref uint32) (Key, uint) {
	return Key{
		uint64(s.load(ref))<<32 | uint64(s.load(ref+1)),
		uint64(s.load(ref+2))<<32 | uint64(s.load(ref+3)),
	}, uint(s.load(ref + skipLen))
}

// set puts p into what the slot holds, which starts at bit pos.
func (s *Space) set(slot uint32, pos uint, p *prefix) {
	e := s.load(slot)
	switch {
	case p.n <= pos:
		s.fill(slot, p)
	case e < child:
		s.store(slot, s.newSkip(p.key, p.n, p.leaf, e))
	case code(e) == 0:
		s.setSkip(slot, pos, e, p)
	default:
		s.setNode(slot, pos, e, p)
	}
}

// fill gives p, which covers all of the slot, the leaves that no longer prefix owns.
func (s *Space) fill(slot uint32, p *prefix) {
	e := s.load(slot)
	if e < child {
		if leafLen(e) <= p.n {
			s.store(slot, p.leaf)
		}
		return
	}
	c, ref := code(e), e&refMask
	if c == 0 {
		s.fill(ref+skipHit, p)
		s.fill(ref+skipMiss, p)
		return
	}
	for i := range classWords[c] {
		s.fill(ref+i, p)
	}
}

func (s *Space) setSkip(slot uint32, pos uint, e uint32, p *prefix) {
	ref := e & refMask
	k, kn := s.skipKey(ref)
	common := min(CommonBits(k, p.key), kn, p.n)
	hit, miss := s.load(ref+skipHit), s.load(ref+skipMiss)
	if common == kn && (p.n == kn || hit >= child) {
		s.set(ref+skipHit, kn, p)
		return
	}
	// Both go into a node at the last common border of a stride.
	q := min(common, kn-1, p.n-1) &^ 3
	n := s.alloc(1)
	w := s.arena.words(1, n)
	for i := range w {
		w[i] = miss
	}
	i := k.slice(q, 4)
	keep := false
	switch {
	case kn == q+4:
		w[i] = hit
	case kn < q+4: // then hit is a leaf
		for j := range uint32(1) << (q + 4 - kn) {
			w[i+j] = hit
		}
	case common == p.n: // p covers the key and changes its miss: not in the readers' copy
		w[i] = s.newSkip(k, kn, hit, miss)
	default:
		w[i], keep = e, true
	}
	s.store(s.scratch, node(1, n))
	s.set(s.scratch, q, p)
	e = s.load(s.scratch)
	if q > pos {
		e = s.newSkip(p.key, q, e, miss)
	}
	s.store(slot, e)
	if !keep {
		s.retire(0, ref)
	}
	if q == pos {
		s.grow(slot, pos, p)
	}
}

func (s *Space) setNode(slot uint32, pos uint, e uint32, p *prefix) {
	c, ref := code(e), e&refMask
	end := pos + uint(4*c)
	sub := ref + p.key.slice(pos, uint(4*c))
	if p.n <= end {
		for i := range uint32(1) << (end - p.n) {
			s.fill(sub+i, p)
		}
		return
	}
	was := s.leads(sub)
	s.set(sub, end, p)
	if !was && s.leads(sub) {
		if c > 1 {
			s.kids[ref>>8]++
		}
		s.grow(slot, pos, p)
	}
}
