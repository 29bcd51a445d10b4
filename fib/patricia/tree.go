package patricia

import "godwit/fib/compiled"

// A tag is what the trees hold for a route: generation (bits 31-28), prefix
// length (bits 27-20), group index (bits 19-0). It is never 0.
type tag uint32

func makeTag(gen uint32, n uint, group uint32) tag {
	return tag(gen<<28 | uint32(n)<<20 | group)
}

func (t tag) gen() uint32   { return uint32(t >> 28) }
func (t tag) length() uint  { return uint(t >> 20 & 0xff) }
func (t tag) group() uint32 { return uint32(t & compiled.MaxGroup) }

const generations = 16

// editable is a tree with one tag a prefix, in order of address, then length.
type editable interface {
	set(k compiled.Key, n uint, t tag) (old tag) // 0: new
	// remove returns the tag of k/n, 0 if it was not there, and that of the longest prefix that is left of k/n.
	remove(k compiled.Key, n uint) (old, cover tag)
	deepest(k compiled.Key, n uint) tag // of the longest prefix of k/n, itself included
	// each calls f in order until it returns false. Routes before address
	// first may be passed over.
	each(first compiled.Key, f func(k compiled.Key, t tag) bool)
}

// table is the routes of one VRF and family.
type table struct {
	editable
	family compiled.Family
	routes int
	perGen [generations]uint32 // routes by the generation they were set in
	sum    uint64              // fib.Digest.Sum
}

// set returns the tag that k/n had, 0 if none.
func (t *table) set(k compiled.Key, n uint, tg tag) (old tag) {
	old = t.editable.set(k, n, tg)
	t.perGen[tg.gen()]++
	if old != 0 {
		t.perGen[old.gen()]--
	} else {
		t.routes++
	}
	return old
}

// remove returns the tag that k/n had, 0 if none, and that of its cover.
func (t *table) remove(k compiled.Key, n uint) (old, cover tag) {
	if old, cover = t.editable.remove(k, n); old != 0 {
		t.routes--
		t.perGen[old.gen()]--
	}
	return old, cover
}

// get is the tag of exactly k/n, 0 if none.
func (t *table) get(k compiled.Key, n uint) tag {
	if tg := t.deepest(k, n); tg.length() == n {
		return tg
	}
	return 0
}
