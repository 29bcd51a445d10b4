package patricia

import (
	"slices"

	"godwit/fib/compiled"
)

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

// editable is a Patricia tree with one tag a prefix.
type editable interface {
	set(k compiled.Key, n uint, t tag) (old tag)    // 0: new
	remove(k compiled.Key, n uint) (old tag)        // 0: was not there
	deepest(k compiled.Key, n uint) tag             // of the longest prefix of k/n, itself included
	each(f func(k func() compiled.Key, t tag) bool) // in order of prefix, until f returns false
}

// splitAt is how many routes a tree holds before it is split. Trees below it
// are small in memory; trees above it profit from shards: a shorter way down,
// growth by small steps, a start in the middle for walks.
const splitAt = 4096

// table is the routes of one VRF and family.
type table struct {
	family compiled.Family
	routes int
	perGen [generations]uint32 // routes by the generation they were set in

	// All routes are in short until there are splitAt; then those of at least
	// shardBits bits move to the shard that their first bits select.
	short  editable
	shards map[uint32]*shard
	order  []uint32 // keys of shards, sorted
}

type shard struct {
	editable
	routes int
}

func newTable(f compiled.Family) *table { return &table{family: f, short: newEditable(f)} }

// shardBits follows how address space is given out: 8 bits of IPv4 hold some
// 10,000 prefixes of a full table, 16 bits of IPv6 as many.
func (t *table) shardBits() uint {
	if t.family == compiled.IPv4 {
		return 8
	}
	return 16
}

func (t *table) shardOf(k compiled.Key) uint32 { return uint32(k.Hi >> (64 - t.shardBits())) }

// at is the shard of keys that begin like k, or nil.
func (t *table) at(k compiled.Key) *shard { return t.shards[t.shardOf(k)] }

func (t *table) sharded(n uint) bool { return t.shards != nil && n >= t.shardBits() }

// set returns the tag that k/n had, 0 if none.
func (t *table) set(k compiled.Key, n uint, tg tag) (old tag) {
	if !t.sharded(n) {
		old = t.short.set(k, n, tg)
	} else {
		s := t.shard(k)
		if old = s.set(k, n, tg); old == 0 {
			s.routes++
		}
	}
	t.perGen[tg.gen()]++
	if old != 0 {
		t.perGen[old.gen()]--
	} else {
		if t.routes++; t.routes >= splitAt && t.shards == nil {
			t.split()
		}
	}
	return old
}

func (t *table) shard(k compiled.Key) *shard {
	id := t.shardOf(k)
	s := t.shards[id]
	if s == nil {
		s = &shard{editable: newEditable(t.family)}
		t.shards[id] = s
		at, _ := slices.BinarySearch(t.order, id)
		t.order = slices.Insert(t.order, at, id)
	}
	return s
}

func (t *table) split() {
	old := t.short
	t.short, t.shards = newEditable(t.family), map[uint32]*shard{}
	old.each(func(key func() compiled.Key, tg tag) bool {
		k, n := key(), tg.length()
		if !t.sharded(n) {
			t.short.set(k, n, tg)
			return true
		}
		s := t.shard(k)
		s.set(k, n, tg)
		s.routes++
		return true
	})
}

// remove returns the tag that k/n had, 0 if none.
func (t *table) remove(k compiled.Key, n uint) (old tag) {
	if !t.sharded(n) {
		old = t.short.remove(k, n)
	} else if s := t.at(k); s != nil {
		if old = s.remove(k, n); old != 0 {
			if s.routes--; s.routes == 0 {
				t.dropShard(t.shardOf(k))
			}
		}
	}
	if old != 0 {
		t.routes--
		t.perGen[old.gen()]--
	}
	return old
}

func (t *table) dropShard(id uint32) {
	delete(t.shards, id)
	at, _ := slices.BinarySearch(t.order, id)
	t.order = slices.Delete(t.order, at, at+1)
	if len(t.shards) == 0 {
		t.shards = nil // short holds what is left, fewer than splitAt
	}
}

// deepest is the tag of the longest prefix that contains k/n, 0 if none.
func (t *table) deepest(k compiled.Key, n uint) tag {
	if t.sharded(n) {
		if s := t.at(k); s != nil {
			if tg := s.deepest(k, n); tg != 0 {
				return tg
			}
		}
	}
	return t.short.deepest(k, n)
}

// get is the tag of exactly k/n, 0 if none.
func (t *table) get(k compiled.Key, n uint) tag {
	if tg := t.deepest(k, n); tg != 0 && tg.length() == n {
		return tg
	}
	return 0
}

// each calls f for the routes from key first on, in order of prefix, until it
// returns false. Whole shards before first are passed over.
func (t *table) each(first compiled.Key, f func(k func() compiled.Key, tg tag) bool) {
	if t.shards == nil {
		t.short.each(f)
		return
	}
	type route struct {
		k  compiled.Key
		tg tag
	}
	var short []route // fewer than 2^shardBits
	t.short.each(func(k func() compiled.Key, tg tag) bool {
		short = append(short, route{k(), tg})
		return true
	})
	from, _ := slices.BinarySearch(t.order, t.shardOf(first))
	more := true
	for _, id := range t.order[from:] {
		for more && len(short) > 0 && t.shardOf(short[0].k) <= id {
			r := short[0]
			short = short[1:]
			more = f(func() compiled.Key { return r.k }, r.tg)
		}
		if more {
			t.shards[id].each(func(k func() compiled.Key, tg tag) bool {
				more = f(k, tg)
				return more
			})
		}
		if !more {
			return
		}
	}
	for _, r := range short {
		if !f(func() compiled.Key { return r.k }, r.tg) {
			return
		}
	}
}
