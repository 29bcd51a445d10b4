package neigh

import "sync/atomic"

// Cache finds adjacencies by key: open addressing with linear probing. One
// goroutine inserts and removes; any number look up without locks.
// A lookup that races with a rebuild may miss an entry, once; the slow path
// then finds it in its own table.
type Cache struct{ table atomic.Pointer[cacheTable] }

type cacheTable struct {
	mask  uint64
	slots []atomic.Pointer[Adjacency]
	used  int // slots not empty, graves too; the writer's
}

var grave = new(Adjacency) // a removed entry: probing goes on behind it

const cacheMin = 256 // slots, a power of two

// NewCache makes an empty cache.
func NewCache() *Cache {
	c := &Cache{}
	c.table.Store(newCacheTable(cacheMin))
	return c
}

func newCacheTable(size int) *cacheTable {
	return &cacheTable{mask: uint64(size - 1), slots: make([]atomic.Pointer[Adjacency], size)}
}

// Find looks a neighbour up; nil if it is not there.
func (c *Cache) Find(k Key) *Adjacency {
	t := c.table.Load()
	for i := k.hash() & t.mask; ; i = (i + 1) & t.mask {
		a := t.slots[i].Load()
		if a == nil {
			return nil
		}
		if a.Key == k && a != grave {
			return a
		}
	}
}

// insert adds an adjacency whose key is not there.
func (c *Cache) insert(a *Adjacency, live int) {
	t := c.table.Load()
	if t.used*2 >= len(t.slots) {
		t = c.rebuild(t, live+1)
	}
	t.put(a)
}

func (t *cacheTable) put(a *Adjacency) {
	for i := a.hash() & t.mask; ; i = (i + 1) & t.mask {
		if old := t.slots[i].Load(); old == nil || old == grave {
			if old == nil {
				t.used++
			}
			t.slots[i].Store(a)
			return
		}
	}
}

// rebuild makes a table without graves for n entries, at most a quarter full.
func (c *Cache) rebuild(old *cacheTable, n int) *cacheTable {
	size := cacheMin
	for size < 4*n {
		size *= 2
	}
	t := newCacheTable(size)
	for i := range old.slots {
		if a := old.slots[i].Load(); a != nil && a != grave {
			t.put(a)
		}
	}
	c.table.Store(t)
	return t
}

// remove takes an adjacency out.
func (c *Cache) remove(a *Adjacency) {
	t := c.table.Load()
	for i := a.hash() & t.mask; ; i = (i + 1) & t.mask {
		switch t.slots[i].Load() {
		case a:
			t.slots[i].Store(grave)
			return
		case nil:
			return
		}
	}
}
