package patricia

import (
	"maps"
	"slices"

	"godwit/fib/compiled"
)

// splitAt is how many routes one of kentik's trees holds before it is split.
// Trees below it are small in memory; above it, routes are in shards: trees of
// a few dozen routes, which grow by small steps and let a walk start in the
// middle.
const splitAt = 1 << 14

// sharded holds its routes in one of kentik's trees until there are splitAt;
// then those of at least shardBits bits move to the shard that their first
// bits select.
type sharded struct {
	family compiled.Family
	routes int
	short  editable
	shards map[uint32]*shard
	order  []uint32 // keys of shards, sorted; nil: to be made by the next walk
}

type shard struct {
	editable
	routes int
}

func newSharded(f compiled.Family) *sharded { return &sharded{family: f, short: newKentik(f)} }

// shardBits follows how address space is given out: nearly all prefixes of a
// full table are at least as long, and so many first bits are common to a few
// dozen of them.
func (t *sharded) shardBits() uint {
	if t.family == compiled.IPv4 {
		return 16
	}
	return 28
}

func (t *sharded) shardOf(k compiled.Key) uint32 { return uint32(k.Hi >> (64 - t.shardBits())) }

// at is the shard of keys that begin like k, or nil.
func (t *sharded) at(k compiled.Key) *shard { return t.shards[t.shardOf(k)] }

func (t *sharded) split(n uint) bool { return t.shards != nil && n >= t.shardBits() }

func (t *sharded) set(k compiled.Key, n uint, tg tag) (old tag) {
	if !t.split(n) {
		old = t.short.set(k, n, tg)
	} else {
		s := t.shard(k)
		if old = s.set(k, n, tg); old == 0 {
			s.routes++
		}
	}
	if old == 0 {
		if t.routes++; t.routes >= splitAt && t.shards == nil {
			t.splitUp()
		}
	}
	return old
}

func (t *sharded) shard(k compiled.Key) *shard {
	id := t.shardOf(k)
	s := t.shards[id]
	if s == nil {
		s = &shard{editable: newKentik(t.family)}
		t.shards[id] = s
		t.order = nil
	}
	return s
}

func (t *sharded) splitUp() {
	old := t.short
	t.short, t.shards = newKentik(t.family), map[uint32]*shard{}
	old.each(compiled.Key{}, func(k compiled.Key, tg tag) bool {
		n := tg.length()
		if !t.split(n) {
			t.short.set(k, n, tg)
			return true
		}
		s := t.shard(k)
		s.set(k, n, tg)
		s.routes++
		return true
	})
}

func (t *sharded) remove(k compiled.Key, n uint) (old, cover tag) {
	if !t.split(n) {
		old, cover = t.short.remove(k, n)
	} else if s := t.at(k); s != nil {
		if old, cover = s.remove(k, n); old != 0 {
			if s.routes--; s.routes == 0 {
				t.dropShard(t.shardOf(k))
			}
			if cover == 0 {
				cover = t.short.deepest(k, n)
			}
		}
	}
	if old != 0 {
		t.routes--
	}
	return old, cover
}

func (t *sharded) dropShard(id uint32) {
	delete(t.shards, id)
	t.order = nil
	if len(t.shards) == 0 {
		t.shards = nil // short holds what is left
	}
}

func (t *sharded) deepest(k compiled.Key, n uint) tag {
	if t.split(n) {
		if s := t.at(k); s != nil {
			if tg := s.deepest(k, n); tg != 0 {
				return tg
			}
		}
	}
	return t.short.deepest(k, n)
}

func (t *sharded) each(first compiled.Key, f func(k compiled.Key, tg tag) bool) {
	if t.shards == nil {
		t.short.each(first, f)
		return
	}
	type route struct {
		k  compiled.Key
		tg tag
	}
	var short []route
	t.short.each(compiled.Key{}, func(k compiled.Key, tg tag) bool {
		short = append(short, route{k, tg})
		return true
	})
	if t.order == nil {
		t.order = slices.Sorted(maps.Keys(t.shards))
	}
	from, _ := slices.BinarySearch(t.order, t.shardOf(first))
	more := true
	for _, id := range t.order[from:] {
		for more && len(short) > 0 && t.shardOf(short[0].k) <= id {
			more = f(short[0].k, short[0].tg)
			short = short[1:]
		}
		if more {
			t.shards[id].each(first, func(k compiled.Key, tg tag) bool {
				more = f(k, tg)
				return more
			})
		}
		if !more {
			return
		}
	}
	for _, r := range short {
		if !f(r.k, r.tg) {
			return
		}
	}
}
