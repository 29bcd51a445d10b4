package patricia

import (
	"math/bits"
	"slices"

	"godwit/fib/compiled"
)

// Routes in a leaf and leaves in a branch of an ordered tree: a leaf is
// searched in a few cache lines.
const (
	leafRoutes   = 32
	branchLeaves = 128
)

// ordered is a B+ tree of fixed height, in order of address, then length. A
// change moves 16 routes on average, in memory without pointers, and misses
// the cache two or three times, where a binary trie does so for each node on
// its way.
type ordered struct {
	first    []compiled.Key // address of each branch's first route
	branches []*branch
	wide     bool   // addresses have a lower half
	hint     hint   // where the next change is likely to be
	sink     uint64 // keeps the compiler from dropping loads that only touch memory
}

type branch struct {
	first  []compiled.Key // address of each leaf's first route
	leaves []*leaf
}

// leaf holds n routes, at least one.
type leaf struct {
	n int
	// outer has bit m%64 of word m/64 set when the first route is within a
	// route of length m that comes before this leaf.
	outer [3]uint64
	hi    [leafRoutes]uint64
	tag   [leafRoutes]tag
	lo    *[leafRoutes]uint64 // IPv6 only
}

func newOrdered(f compiled.Family) *ordered { return &ordered{wide: f == compiled.IPv6} }

func (o *ordered) newLeaf() *leaf {
	l := &leaf{}
	if o.wide {
		l.lo = new([leafRoutes]uint64)
	}
	return l
}

func (l *leaf) key(i int) compiled.Key {
	k := compiled.Key{Hi: l.hi[i]}
	if l.lo != nil {
		k.Lo = l.lo[i]
	}
	return k
}

// above tells whether the route at i comes behind k/n.
func (l *leaf) above(i int, k compiled.Key, n uint) bool {
	if l.hi[i] != k.Hi {
		return l.hi[i] > k.Hi
	}
	if l.lo != nil && l.lo[i] != k.Lo {
		return l.lo[i] > k.Lo
	}
	return l.tag[i].length() > n
}

// upper is the index of the first route behind k/n. Which half a step takes is
// worked out without a branch: half of them would be mispredicted.
func (l *leaf) upper(k compiled.Key, n uint) int {
	low := 0
	for size := l.n; size > 0; {
		half := (size + 1) / 2
		i := (low + half - 1) & (leafRoutes - 1)
		_, less := bits.Sub64(uint64(n), uint64(l.tag[i].length()), 0)
		if l.lo != nil {
			_, less = bits.Sub64(k.Lo, l.lo[i], less)
		}
		_, less = bits.Sub64(k.Hi, l.hi[i], less)
		low += half & (int(less) - 1) // less: k/n comes before route i
		size -= half
	}
	return low
}

func (l *leaf) is(i int, k compiled.Key, n uint) bool {
	return l.hi[i] == k.Hi && l.tag[i].length() == n && (l.lo == nil || l.lo[i] == k.Lo)
}

// place is where a route is: a leaf of a branch, and the index in it.
type place struct{ branch, leaf, at int }

// last finds the last route that does not come behind k/n; at is -1 if there
// is none.
func (o *ordered) last(k compiled.Key, n uint) (p place, l *leaf) {
	if o.hint.leads(o, k) {
		p.branch, p.leaf = o.hint.branch, o.hint.leaf
		l = o.branches[p.branch].leaves[p.leaf]
		p.at = l.upper(k, n) - 1
		return p, l
	}
	p.branch = search(o.first, k)
	// Routes of the same address may begin behind k/n.
	for p.branch >= 0 && o.first[p.branch] == k && o.branches[p.branch].leaves[0].above(0, k, n) {
		p.branch--
	}
	if p.branch < 0 {
		return place{at: -1}, nil
	}
	b := o.branches[p.branch]
	p.leaf = search(b.first, k)
	for b.first[p.leaf] == k && b.leaves[p.leaf].above(0, k, n) {
		p.leaf--
	}
	l = b.leaves[p.leaf]
	o.sink += l.touch()
	p.at = l.upper(k, n) - 1
	return p, l
}

// search is the index of the last key that is not above k, -1 if there is
// none; without branches, as upper.
func search(keys []compiled.Key, k compiled.Key) int {
	low := 0
	for size := len(keys); size > 0; {
		half := (size + 1) / 2
		m := &keys[low+half-1]
		_, less := bits.Sub64(k.Lo, m.Lo, 0)
		_, less = bits.Sub64(k.Hi, m.Hi, less)
		low += half & (int(less) - 1)
		size -= half
	}
	return low - 1
}

func (o *ordered) set(k compiled.Key, n uint, tg tag) (old tag) {
	p, l := o.last(k, n)
	switch {
	case l == nil && len(o.branches) == 0:
		l = o.newLeaf()
		o.first = append(o.first, k)
		o.branches = append(o.branches, &branch{first: []compiled.Key{k}, leaves: []*leaf{l}})
	case l == nil:
		l = o.branches[0].leaves[0]
	case l.is(p.at, k, n):
		old = l.tag[p.at]
		l.tag[p.at] = tg
		return old
	}
	if l.n == leafRoutes {
		o.split(p)
		if p, l = o.last(k, n); l == nil {
			l = o.branches[0].leaves[0]
		}
	}
	l.insert(p.at+1, k, tg)
	if p.at < 0 { // the first of all: no route comes before it
		o.begin(p, k)
	}
	o.mark(p, k, n, true)
	return 0
}

// mark sets or clears bit n in the leaves behind p that begin within k/n.
func (o *ordered) mark(p place, k compiled.Key, n uint, on bool) {
	for at := p.leaf + 1; p.branch < len(o.branches); p.branch, at = p.branch+1, 0 {
		b := o.branches[p.branch]
		for ; at < len(b.leaves); at++ {
			if compiled.CommonBits(b.first[at], k) < n {
				return
			}
			if l := b.leaves[at]; on {
				l.outer[n/64] |= 1 << (n % 64)
			} else {
				l.outer[n/64] &^= 1 << (n % 64)
			}
		}
	}
}

// limit clears the bits of outer above n.
func (l *leaf) limit(n uint) {
	for i := range l.outer {
		switch low := uint(64 * i); {
		case n < low:
			l.outer[i] = 0
		case n < low+63:
			l.outer[i] &= 1<<(n-low+1) - 1
		}
	}
}

// longest is the longest length in outer that is not above n, -1 if there is none.
func (l *leaf) longest(n uint) int {
	w := l.outer[n/64] << (63 - n%64)
	for i := int(n / 64); ; w = l.outer[i] {
		if w != 0 {
			top := 63 - bits.LeadingZeros64(w)
			if i == int(n/64) {
				top -= 63 - int(n%64)
			}
			return 64*i + top
		}
		if i--; i < 0 {
			return -1
		}
	}
}

// begin notes the first address of the leaf at p.
func (o *ordered) begin(p place, k compiled.Key) {
	o.branches[p.branch].first[p.leaf] = k
	if p.leaf == 0 {
		o.first[p.branch] = k
	}
}

func (l *leaf) insert(at int, k compiled.Key, tg tag) {
	copy(l.hi[at+1:l.n+1], l.hi[at:l.n])
	copy(l.tag[at+1:l.n+1], l.tag[at:l.n])
	l.hi[at], l.tag[at] = k.Hi, tg
	if l.lo != nil {
		copy(l.lo[at+1:l.n+1], l.lo[at:l.n])
		l.lo[at] = k.Lo
	}
	l.n++
}

// split halves the full leaf at p, and before that its branch if it is full.
func (o *ordered) split(p place) {
	b := o.branches[p.branch]
	if len(b.leaves) == branchLeaves {
		const half = branchLeaves / 2
		right := &branch{
			first:  append(make([]compiled.Key, 0, branchLeaves), b.first[half:]...),
			leaves: append(make([]*leaf, 0, branchLeaves), b.leaves[half:]...),
		}
		clear(b.leaves[half:])
		b.first, b.leaves = b.first[:half], b.leaves[:half]
		o.first = slices.Insert(o.first, p.branch+1, right.first[0])
		o.branches = slices.Insert(o.branches, p.branch+1, right)
		if p.leaf >= half {
			b, p.leaf = right, p.leaf-half
		}
	}
	l, r := b.leaves[p.leaf], o.newLeaf()
	const half = leafRoutes / 2
	r.take(l, half)
	l.n = half
	k := r.key(0)
	r.outer = l.outer
	r.limit(compiled.CommonBits(l.key(0), k))
	for i := range l.n {
		if n := l.tag[i].length(); l.contains(i, n, k) {
			r.outer[n/64] |= 1 << (n % 64)
		}
	}
	b.first = slices.Insert(b.first, p.leaf+1, r.key(0))
	b.leaves = slices.Insert(b.leaves, p.leaf+1, r)
}

// take appends the routes of l from index i on.
func (r *leaf) take(l *leaf, i int) {
	copy(r.hi[r.n:], l.hi[i:l.n])
	copy(r.tag[r.n:], l.tag[i:l.n])
	if l.lo != nil {
		copy(r.lo[r.n:], l.lo[i:l.n])
	}
	r.n += l.n - i
}

func (o *ordered) remove(k compiled.Key, n uint) (old, cover tag) {
	p, l := o.last(k, n)
	if l == nil || !l.is(p.at, k, n) {
		return 0, 0
	}
	old = l.tag[p.at]
	if n > 0 {
		cover = o.cover(l, p.at-1, k, n-1)
	}
	o.mark(p, k, n, false)
	copy(l.hi[p.at:], l.hi[p.at+1:l.n])
	copy(l.tag[p.at:], l.tag[p.at+1:l.n])
	if l.lo != nil {
		copy(l.lo[p.at:], l.lo[p.at+1:l.n])
	}
	l.n--
	b := o.branches[p.branch]
	switch {
	case l.n == 0:
		o.drop(p)
		return old, cover
	case p.at == 0:
		o.begin(p, l.key(0))
		l.limit(compiled.CommonBits(k, l.key(0)))
	}
	if l.n < leafRoutes/2 && p.leaf+1 < len(b.leaves) && l.n+b.leaves[p.leaf+1].n <= leafRoutes/2 {
		l.take(b.leaves[p.leaf+1], 0)
		p.leaf++
		o.drop(p)
	}
	return old, cover
}

// drop unlinks the leaf at p.
func (o *ordered) drop(p place) {
	b := o.branches[p.branch]
	b.first = slices.Delete(b.first, p.leaf, p.leaf+1)
	b.leaves = slices.Delete(b.leaves, p.leaf, p.leaf+1)
	switch {
	case len(b.leaves) == 0:
		o.first = slices.Delete(o.first, p.branch, p.branch+1)
		o.branches = slices.Delete(o.branches, p.branch, p.branch+1)
	case p.leaf == 0:
		o.first[p.branch] = b.first[0]
	}
}

func (o *ordered) deepest(k compiled.Key, n uint) tag {
	p, l := o.last(k, n)
	if l == nil {
		return 0
	}
	return o.cover(l, p.at, k, n)
}

// cover is the longest route of at most n bits that contains k. The last route
// that does not come behind k/n is the one at i in l, or, if i is -1, before l.
// What contains k/n and begins before l contains the first route of l, too.
func (o *ordered) cover(l *leaf, i int, k compiled.Key, n uint) tag {
	for ; i >= 0; i-- {
		if tg := l.tag[i]; l.contains(i, tg.length(), k) {
			return tg
		}
	}
	m := l.longest(min(compiled.CommonBits(l.key(0), k), n))
	if m < 0 {
		return 0
	}
	p, l := o.last(k.Mask(uint(m)), uint(m))
	return l.tag[p.at]
}

// contains tells whether the route at i, of length n, contains k.
func (l *leaf) contains(i int, n uint, k compiled.Key) bool {
	d := l.hi[i] ^ k.Hi
	if n <= 64 {
		return d>>(64-n) == 0
	}
	return d == 0 && (l.lo[i]^k.Lo)>>(128-n) == 0
}

func (o *ordered) each(first compiled.Key, f func(k compiled.Key, tg tag) bool) {
	p, l := o.last(first, 0)
	if l == nil {
		p = place{}
	}
	for _, b := range o.branches[min(p.branch, len(o.branches)):] {
		for _, l := range b.leaves[p.leaf:] {
			for i := range l.n {
				if k := l.key(i); compareKeys(k, first) >= 0 && !f(k, l.tag[i]) {
					return
				}
			}
		}
		p.leaf = 0
	}
}
