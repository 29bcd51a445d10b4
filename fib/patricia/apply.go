package patricia

import (
	"fmt"
	"slices"

	"godwit/fib"
	"godwit/fib/compiled"
)

// op is one change that the trees have taken and that the readers have not
// seen yet: enough to compile it, and to take it back.
type op struct {
	kind  opKind
	index uint32 // of the group
	vrf   fib.VRF
	table *table
	key   compiled.Key
	n     uint
	old   tag    // 0: was not there
	now   tag    // 0: deleted
	cover tag    // deleted: what takes its place
	saved *group // opReplace, opEnd: as it was
}

type opKind uint8

const (
	opRoute opKind = iota
	opCreate
	opReplace
	opEnd
)

// Room asked for before a batch: what the largest node and its parts take,
// and for each change a new path of nodes.
const (
	roomReserve   = 16 << 20
	roomPerChange = 4 << 10
	reclaimEvery  = 4096 // routes compiled between looks at the grace period
)

// Apply applies the batch whole or, with an error, not at all: it edits the
// trees, takes that back if a change is refused, and otherwise compiles it.
// Readers never see anything of a batch that is refused.
func (t *Tables) Apply(b fib.Batch) error {
	opens, err := t.admit(b)
	if err != nil {
		return err
	}
	epoch, gen, byID := t.epoch, t.gen, t.groups.byID
	if opens {
		t.open(b.Epoch)
	}
	t.ops = t.ops[:0]
	var next []ahead
	for i := range b.Changes {
		if i%aheadChanges == 0 && len(b.Changes) > 1 {
			next = t.lookAhead(b.Changes[i:min(i+aheadChanges, len(b.Changes))])
		}
		if next != nil {
			next[i%aheadChanges].use()
		}
		if err := t.edit(&b.Changes[i]); err != nil {
			t.rollBack()
			t.epoch, t.gen, t.groups.byID = epoch, gen, byID
			return fmt.Errorf("change %d of batch %d/%d: %w", i, b.Epoch, b.Seq, err)
		}
	}
	t.seq = b.Seq
	t.compile()
	if opens {
		for i := range t.groups.all {
			t.endIfStale(uint32(i))
		}
	}
	if b.Sweep {
		t.sweep()
	}
	t.settle()
	return nil
}

// admit checks the batch's place in the sequence and the shape of its changes.
func (t *Tables) admit(b fib.Batch) (opens bool, err error) {
	want := t.seq + 1
	if opens = b.Epoch > t.epoch; opens {
		want = 1
	}
	if b.Epoch < t.epoch || b.Seq != want {
		return false, fmt.Errorf("%w: %d/%d after %d/%d", fib.ErrOutOfSequence, b.Epoch, b.Seq, t.epoch, t.seq)
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		if err := c.Validate(); err != nil {
			return false, fmt.Errorf("change %d of batch %d/%d: %w", i, b.Epoch, b.Seq, err)
		}
		if c.Op >= fib.SetRoute && c.Route.VRF > compiled.MaxVRF {
			return false, fmt.Errorf("change %d of batch %d/%d: %w: VRF %d above %d",
				i, b.Epoch, b.Seq, fib.ErrBadRoute, c.Route.VRF, compiled.MaxVRF)
		}
	}
	if need := roomReserve + roomPerChange*len(b.Changes); t.space.Room() < need {
		return false, fmt.Errorf("%w: %d bytes left", ErrNoRoom, t.space.Room())
	}
	return opens, nil
}

// open starts an epoch: a new generation, and a new name space of group IDs.
func (t *Tables) open(epoch uint32) {
	t.epoch = epoch
	t.gen = (t.gen + 1) % generations
	t.groups.byID = map[fib.GroupID]uint32{}
	// After 15 replays that no sweep ended, the generation may still be in
	// use: its routes go to another old one.
	for _, v := range t.vrfs {
		for _, tb := range [...]*table{v.v4, v.v6} {
			if tb != nil && tb.perGen[t.gen] != 0 {
				tb.moveGen(t.gen, (t.gen+1)%generations)
			}
		}
	}
}

func (t *table) moveGen(from, to uint32) {
	for _, r := range t.collect(func(tg tag) bool { return tg.gen() == from }) {
		t.set(r.key, r.tag.length(), makeTag(to, r.tag.length(), r.tag.group()))
	}
}

type taggedKey struct {
	key compiled.Key
	tag tag
}

func (t *table) collect(want func(tag) bool) (routes []taggedKey) {
	t.each(compiled.Key{}, func(k compiled.Key, tg tag) bool {
		if want(tg) {
			routes = append(routes, taggedKey{k, tg})
		}
		return true
	})
	return routes
}

// edit puts one change into the trees and groups.
func (t *Tables) edit(c *fib.Change) error {
	switch c.Op {
	case fib.SetGroup:
		return t.setGroup(c.Group)
	case fib.DeleteGroup:
		return t.deleteGroup(c.Group.ID)
	case fib.SetRoute:
		return t.setRoute(&c.Route)
	}
	a := c.Route.Prefix.Addr()
	if tb := t.find(c.Route.VRF, a.Is4()); tb != nil {
		t.removeRoute(c.Route.VRF, tb, keyOf(a), uint(c.Route.Prefix.Bits()))
	}
	return nil
}

func (t *Tables) setGroup(n fib.Group) error {
	n = cloneGroup(n)
	if index, ok := t.groups.byID[n.ID]; ok {
		saved := t.groups.all[index]
		t.groups.all[index].Group = n
		t.ops = append(t.ops, op{kind: opReplace, index: index, saved: &saved})
		return nil
	}
	index, err := t.groups.create(t.epoch, n)
	if err != nil {
		return err
	}
	t.ops = append(t.ops, op{kind: opCreate, index: index})
	return nil
}

func (t *Tables) deleteGroup(id fib.GroupID) error {
	index, ok := t.groups.byID[id]
	if !ok {
		return fmt.Errorf("delete %w %d", fib.ErrUnknownGroup, id)
	}
	saved := t.groups.all[index]
	if saved.refs > 0 {
		return fmt.Errorf("delete %w: %d by %d routes", fib.ErrGroupInUse, id, saved.refs)
	}
	delete(t.groups.byID, id)
	t.ops = append(t.ops, op{kind: opEnd, index: index, saved: &saved})
	return nil
}

func (t *Tables) setRoute(r *fib.Route) error {
	index, ok := t.groups.byID[r.Group]
	if !ok {
		return fmt.Errorf("route %v: %w %d", r.Prefix, fib.ErrUnknownGroup, r.Group)
	}
	a := r.Prefix.Addr()
	o := op{
		vrf: r.VRF, table: t.table(r.VRF, a.Is4()), key: keyOf(a), n: uint(r.Prefix.Bits()),
		now: makeTag(t.gen, uint(r.Prefix.Bits()), index),
	}
	o.old = o.table.set(o.key, o.n, o.now)
	t.account(&o, 1)
	t.ops = append(t.ops, o)
	return nil
}

func (t *Tables) removeRoute(vrf fib.VRF, tb *table, k compiled.Key, n uint) {
	old, cover := tb.remove(k, n)
	if old == 0 {
		return
	}
	o := op{vrf: vrf, table: tb, key: k, n: n, old: old, cover: cover}
	t.account(&o, 1)
	t.ops = append(t.ops, o)
}

// account moves a route from its old group to the new one, in the counts and
// the digest; by -1 takes that back.
func (t *Tables) account(o *op, by int) {
	v6 := o.table.family == compiled.IPv6
	if o.old != 0 {
		g := &t.groups.all[o.old.group()]
		g.refs -= by
		o.table.sum -= uint64(by) * fib.RouteSum(o.key.Hi, o.key.Lo, o.n, v6, g.ID)
	}
	if o.now != 0 {
		g := &t.groups.all[o.now.group()]
		g.refs += by
		o.table.sum += uint64(by) * fib.RouteSum(o.key.Hi, o.key.Lo, o.n, v6, g.ID)
	}
}

// rollBack takes the edits of the batch back, last first.
func (t *Tables) rollBack() {
	for i := len(t.ops) - 1; i >= 0; i-- {
		o := &t.ops[i]
		switch o.kind {
		case opCreate:
			t.groups.uncreate(o.index)
		case opReplace:
			t.groups.all[o.index].Group = o.saved.Group
		case opEnd:
			t.groups.byID[o.saved.ID] = o.index
		case opRoute:
			t.takeBack(o)
		}
	}
	for i := range t.ops {
		if v := t.vrfs[t.ops[i].vrf]; v != nil && v.routes() == 0 {
			delete(t.vrfs, t.ops[i].vrf)
		}
	}
}

func (t *Tables) takeBack(o *op) {
	t.account(o, -1)
	if o.old == 0 {
		o.table.remove(o.key, o.n)
	} else {
		o.table.set(o.key, o.n, o.old)
	}
}

// compile shows the edits of the batch to the readers.
func (t *Tables) compile() {
	for i := range t.ops {
		if i%aheadChanges == 0 {
			t.touch(t.ops[i:min(i+aheadChanges, len(t.ops))])
		}
		o := &t.ops[i]
		switch o.kind {
		case opCreate, opReplace:
			t.hooks.GroupSet(o.index, t.groups.all[o.index].Group)
		case opEnd:
			t.groups.end(o.index)
		case opRoute:
			t.compileRoute(o)
		}
		if i%reclaimEvery == reclaimEvery-1 { // memory only: groups that end wait for the last route of the batch
			t.space.Seal()
			t.space.Reclaim()
		}
	}
}

func (t *Tables) compileRoute(o *op) {
	vrf, f := uint32(o.vrf), o.table.family
	switch {
	case o.now == 0:
		t.space.Delete(vrf, f, o.key, o.n, o.cover.length(), o.cover.group())
		t.forget(o.vrf, o.table)
	case o.old.group() != o.now.group():
		t.space.Set(vrf, f, o.key, o.n, o.now.group())
	}
	if o.old != 0 {
		t.endIfStale(o.old.group())
	}
}

// forget gives the memory of a table without routes back.
func (t *Tables) forget(vrf fib.VRF, tb *table) {
	if tb.routes > 1 || tb.routes == 1 && tb.deepest(compiled.Key{}, 0) == 0 {
		return
	}
	t.space.Clear(uint32(vrf), tb.family)
	if v := t.vrfs[vrf]; v != nil && v.routes() == 0 {
		delete(t.vrfs, vrf)
	}
}

// sweep removes the routes and groups that this epoch has not set.
func (t *Tables) sweep() {
	for vrf, v := range t.vrfs {
		for _, tb := range [...]*table{v.v4, v.v6} {
			if tb != nil && tb.perGen[t.gen] != uint32(tb.routes) {
				t.sweepTable(vrf, tb)
			}
		}
	}
}

func (t *Tables) sweepTable(vrf fib.VRF, tb *table) {
	stale := tb.collect(func(tg tag) bool { return tg.gen() != t.gen })
	for chunk := range slices.Chunk(stale, reclaimEvery) {
		t.ops = t.ops[:0]
		for _, r := range chunk {
			t.removeRoute(vrf, tb, r.key, r.tag.length())
		}
		t.compile()
	}
}
