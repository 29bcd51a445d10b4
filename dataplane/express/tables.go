package express

import (
	"sync/atomic"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

// Bucket blocks: the first half of Bucket in blocks of 256, the second in blocks of 1,024.
const (
	smallBlock = 256
	largeBlock = 1024
	largeBase  = Buckets / 2
)

// Tables writes a State.
type Tables struct {
	st     *State
	kernel Kernel
	grace  *Grace

	small, large, adjs, rewrites, ifaces pool

	groups  map[uint32]block
	adjOf   map[*neigh.Adjacency]*adjacency
	ports   map[fib.PortID]*port
	locals  map[Address]struct{}
	ifTable *ethernet.Table
	hash    *ip.HashPlan
	mtu     map[uint16]int       // of devices, by port slot
	failed  uint64               // entries that the kernel refused
	short   bool                 // something did not fit
	gone    func(index uint32)   // told of groups that are; may be nil
	waiting map[uint32]*ip.Group // groups that did not
}

// block is the buckets of a group.
type block struct {
	large bool
	index uint32
}

// adjacency is what is known of a neighbour.
type adjacency struct {
	index, rewrite uint32
	content        Rewrite
	entered        bool           // among the kernel's neighbours
	rw             *neigh.Rewrite // as last told
}

type port struct {
	mem *Port
	now map[uint16]Interface // by tag, as stored
}

// New begins with an empty, zeroed state.
func New(st *State, k Kernel, g *Grace, seed uint64) *Tables {
	none, _ := ethernet.NewTable(0, nil, ethernet.NewSlots())
	st.Seed, st.Layout = seed, Layout
	return &Tables{
		st: st, kernel: k, grace: g,
		small: newPool(g, largeBase/smallBlock), large: newPool(g, (Buckets-largeBase)/largeBlock),
		adjs: newPool(g, Adjacencies), rewrites: newPool(g, Adjacencies), ifaces: newPool(g, Interfaces),
		groups: make(map[uint32]block), adjOf: make(map[*neigh.Adjacency]*adjacency), ports: make(map[fib.PortID]*port),
		locals: make(map[Address]struct{}), ifTable: none, hash: ip.NewHashPlan(nil), mtu: make(map[uint16]int),
		waiting: make(map[uint32]*ip.Group),
	}
}

// OnGone names the function that is told of each group that is gone: its number may be used again.
func (t *Tables) OnGone(f func(index uint32)) { t.gone = f }

// Group mirrors a next-hop group; nil: it is gone.
func (t *Tables) Group(index uint32, g *ip.Group) {
	if index == 0 || index >= Groups {
		return
	}
	delete(t.waiting, index)
	if g == nil && t.gone != nil {
		t.gone(index)
	}
	word, b := t.group(g)
	if word == 0 && g != nil && g.Kind == fib.Forward && g.One() == nil {
		t.short, t.waiting[index] = true, g
	}
	atomic.StoreUint64(&t.st.Group[index], word)
	if old, ok := t.groups[index]; ok {
		t.pool(old).retire(old.index)
		delete(t.groups, index)
	}
	if b.index != 0 {
		t.groups[index] = b
	}
}

func (t *Tables) pool(b block) *pool {
	if b.large {
		return &t.large
	}
	return &t.small
}

// group makes the word of a group, and its buckets.
func (t *Tables) group(g *ip.Group) (uint64, block) {
	switch {
	case g == nil:
		return 0, block{}
	case g.Kind == fib.Blackhole:
		return groupBlackhole << 32, block{}
	case g.Kind != fib.Forward:
		return 0, block{}
	}
	if m := g.One(); m != nil {
		switch {
		case m.Adj != nil:
			if i := t.adjacency(m.Adj).index; i != 0 {
				return groupAdjacency<<32 | uint64(i), block{}
			}
		case m.Card == 0:
			return groupGlean<<32 | uint64(m.Out), block{}
		}
		return 0, block{}
	}
	return t.buckets(g)
}

func (t *Tables) buckets(g *ip.Group) (uint64, block) {
	table := g.Table()
	b := block{large: len(table) == largeBlock}
	if b.index = t.pool(b).get(); b.index == 0 {
		return 0, b
	}
	base, shift := b.index*smallBlock, uint64(32-8)
	if b.large {
		base, shift = largeBase+b.index*largeBlock, 32-10
	}
	if uint64(len(table)) != 1<<(32-shift) || base+uint32(len(table)) > Buckets {
		t.pool(b).retire(b.index)
		return 0, block{}
	}
	members := g.Members()
	to := make([]uint32, len(members))
	for i, m := range members {
		if m.Adj != nil {
			to[i] = t.adjacency(m.Adj).index
		}
	}
	for i, m := range table {
		atomic.StoreUint32(&t.st.Bucket[base+uint32(i)], to[m])
	}
	return groupBuckets<<32 | shift<<40 | uint64(base), b
}

// adjacency finds or makes the mirror of a neighbour; its index is 0 if there is no room.
func (t *Tables) adjacency(a *neigh.Adjacency) *adjacency {
	x := t.adjOf[a]
	if x == nil {
		x = &adjacency{index: t.adjs.get()}
		t.adjOf[a] = x
		if x.index != 0 {
			atomic.StoreUint32(&t.st.Used[x.index], 0)
			a.SetExpress(&t.st.Used[x.index])
		}
	}
	return x
}

// Neighbor mirrors what sending to a neighbour takes; nil: it is not resolved.
func (t *Tables) Neighbor(a *neigh.Adjacency, rw *neigh.Rewrite) {
	if rw == nil && t.adjOf[a] == nil {
		return
	}
	x := t.adjacency(a)
	x.rw = rw
	t.store(x)
	if rw != nil {
		t.enter(a, x)
	}
}

// store publishes the rewrite of a neighbour.
func (t *Tables) store(x *adjacency) {
	if x.index == 0 {
		return
	}
	content, ok := t.rewrite(x.rw)
	if ok && x.rewrite != 0 && content == x.content {
		return
	}
	next := uint32(0)
	if ok {
		if next = t.rewrites.get(); next != 0 {
			t.st.Rewrite[next] = content
		} else {
			t.short = true
		}
	}
	atomic.StoreUint32(&t.st.Adjacency[x.index], next)
	t.rewrites.retire(x.rewrite)
	x.rewrite, x.content = next, content
}

func (t *Tables) rewrite(rw *neigh.Rewrite) (r Rewrite, ok bool) {
	if rw == nil || rw.PortSlot >= Devices || rw.Slot >= Interfaces {
		return r, false
	}
	r = Rewrite{Port: uint32(rw.PortSlot), Slot: uint32(rw.Slot), Limit: uint32(rw.MTU)}
	if mtu, known := t.mtu[rw.PortSlot]; known {
		r.Limit = min(r.Limit, uint32(mtu))
	}
	copy(r.MAC[:], rw.IP4[:12])
	if rw.Len > 14 {
		copy(r.Tag[:], rw.IP4[14:16])
	}
	return r, true
}

// enter makes a neighbour known as a destination of its own.
func (t *Tables) enter(a *neigh.Adjacency, x *adjacency) {
	in := t.ifTable.Out(a.Interface)
	plain := in != nil && x.index != 0
	if plain && a.Addr().Is4() {
		plain = !in.IsBroadcast(uint32(a.Lo))
	}
	switch key := neighborKey(a); {
	case plain && !x.entered:
		if err := t.kernel.SetNeighbor(key, x.index); err != nil {
			t.failed++
			return
		}
		x.entered = true
	case !plain && x.entered:
		t.leave(key, x)
	}
}

func (t *Tables) leave(key Address, x *adjacency) {
	if err := t.kernel.DeleteNeighbor(key); err != nil {
		t.failed++
	}
	x.entered = false
}

func neighborKey(a *neigh.Adjacency) Address {
	return Address{Scope: uint32(a.Interface), Hi: a.Hi, Lo: a.Lo}
}

// Forget ends the mirror of a neighbour that is gone; no group has it.
func (t *Tables) Forget(a *neigh.Adjacency) {
	x := t.adjOf[a]
	if x == nil {
		return
	}
	if x.entered {
		t.leave(neighborKey(a), x)
	}
	x.rw = nil
	t.store(x)
	a.SetExpress(nil)
	t.adjs.retire(x.index)
	delete(t.adjOf, a)
}

// SetMTU tells the largest packet that a port's device takes.
func (t *Tables) SetMTU(slot uint16, mtu int) {
	if t.mtu[slot] == mtu {
		return
	}
	t.mtu[slot] = mtu
	for _, x := range t.adjOf {
		if x.rw != nil && x.rw.PortSlot == slot {
			t.store(x)
		}
	}
}

// Retry stores what did not fit before, now that grace periods may have passed.
func (t *Tables) Retry() {
	if !t.short {
		return
	}
	t.short = false
	for index, g := range t.waiting {
		t.Group(index, g)
	}
	for _, x := range t.adjOf {
		if x.rw != nil && x.rewrite == 0 {
			t.store(x)
		}
	}
	t.demux()
}

// Usage is how much of the arrays is taken.
type Usage struct {
	Groups, Adjacencies, Rewrites, Neighbors int
	Refused                                  uint64 // by the kernel's maps: these packets are AF_XDP's
}

// Usage counts what is in use or waits for its grace period.
func (t *Tables) Usage() Usage {
	for _, p := range []*pool{&t.small, &t.large, &t.adjs, &t.rewrites, &t.ifaces} {
		p.reclaim()
	}
	return Usage{Groups: t.small.used() + t.large.used(), Adjacencies: t.adjs.used(), Rewrites: t.rewrites.used(),
		Neighbors: len(t.adjOf), Refused: t.failed}
}
