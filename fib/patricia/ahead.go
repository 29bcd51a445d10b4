package patricia

import (
	"godwit/fib"
	"godwit/fib/compiled"
)

// A change misses the cache several times, each time because of what the last
// miss has brought: half a microsecond of waiting. The misses of different
// changes do not depend on each other. So Apply takes a few changes at a time and
// loads what they will need, step by step, each step for all of them; then it
// makes the changes.

// aheadChanges is how many changes are looked ahead for: what they touch fits
// the first-level cache.
const aheadChanges = 32

// hint is where a key was in an ordered tree some changes ago.
type hint struct{ branch, leaf int }

// ahead is a change to come.
type ahead struct {
	tree *ordered // nil: not a change of a route in an ordered tree
	key  compiled.Key
	hint hint
	leaf *leaf
}

// lookAhead loads what the changes will need in the trees.
func (t *Tables) lookAhead(changes []fib.Change) []ahead {
	a := t.ahead[:len(changes)]
	for i := range changes {
		a[i] = ahead{}
		r := &changes[i].Route
		if changes[i].Op < fib.SetRoute {
			continue
		}
		if tb := t.find(r.VRF, r.Prefix.Addr().Is4()); tb != nil {
			if o, ok := tb.editable.(*ordered); ok {
				a[i].tree, a[i].key = o, keyOf(r.Prefix.Addr())
			}
		}
	}
	for i := range a {
		if x := &a[i]; x.tree != nil {
			x.hint.branch = search(x.tree.first, x.key)
		}
	}
	for i := range a {
		if x := &a[i]; x.tree != nil && x.hint.branch >= 0 {
			b := x.tree.branches[x.hint.branch]
			x.hint.leaf = search(b.first, x.key)
			x.leaf = b.leaves[x.hint.leaf]
		}
	}
	for i := range a {
		if x := &a[i]; x.leaf != nil {
			x.tree.sink += x.leaf.touch()
		}
	}
	return a
}

// use makes the tree of the change look at the hint first.
func (a *ahead) use() {
	if a.leaf != nil {
		a.tree.hint = a.hint
	}
}

// leads tells whether k is in the leaf of the hint: behind its first route and
// before the next leaf's. An address equal to one of them needs more care.
func (h *hint) leads(o *ordered, k compiled.Key) bool {
	if h.branch >= len(o.branches) {
		return false
	}
	first := o.branches[h.branch].first
	return h.leaf+1 < len(first) && compareKeys(first[h.leaf], k) < 0 && compareKeys(k, first[h.leaf+1]) < 0
}

// touch loads a word of each cache line that a search may need.
func (l *leaf) touch() (sum uint64) {
	for i := 0; i < leafRoutes; i += 8 {
		sum += l.hi[i] + uint64(l.tag[i])
	}
	if l.lo != nil {
		for i := 0; i < leafRoutes; i += 8 {
			sum += l.lo[i]
		}
	}
	return sum + uint64(l.n)
}

// touch loads what the compiled tables of the next changes will need.
func (t *Tables) touch(ops []op) {
	for i := range ops {
		if o := &ops[i]; o.kind == opRoute {
			t.sink += t.space.Touch(uint32(o.vrf), o.table.family, o.key)
		}
	}
}
