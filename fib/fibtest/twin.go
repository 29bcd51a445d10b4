// Package fibtest tests forwarding tables: a slow, obviously right twin of
// them, and a suite of random operations that compares the two.
package fibtest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"godwit/fib"
)

// Key is a route's place.
type Key struct {
	VRF    fib.VRF
	Prefix netip.Prefix
}

// Twin is forwarding tables as maps. A batch is applied to a copy, which
// replaces the tables if nothing was refused. A lookup tries every length.
type Twin struct {
	Epoch  uint32
	Seq    uint64
	groups map[fib.GroupID]*twinGroup // of this epoch
	routes map[Key]twinRoute
}

type twinGroup struct{ g fib.Group }

type twinRoute struct {
	group *twinGroup
	epoch uint32
}

var _ fib.Applier = (*Twin)(nil)

// NewTwin returns empty tables.
func NewTwin() *Twin {
	return &Twin{groups: map[fib.GroupID]*twinGroup{}, routes: map[Key]twinRoute{}}
}

// Apply follows the rules of fib.Batch. What a batch has changed before an
// error is put back, last change first.
func (t *Twin) Apply(b fib.Batch) error {
	was := *t
	switch {
	case b.Epoch > t.Epoch && b.Seq == 1:
		t.Epoch, t.groups = b.Epoch, map[fib.GroupID]*twinGroup{}
	case b.Epoch == t.Epoch && b.Seq == t.Seq+1:
	default:
		return fmt.Errorf("%w: %d/%d", fib.ErrOutOfSequence, b.Epoch, b.Seq)
	}
	t.Seq = b.Seq
	var undo []func()
	for i := range b.Changes {
		undo = append(undo, t.putBack(&b.Changes[i]))
		if err := t.change(b.Changes[i]); err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
			t.Epoch, t.Seq, t.groups = was.Epoch, was.Seq, was.groups
			return err
		}
	}
	if b.Sweep {
		maps.DeleteFunc(t.routes, func(_ Key, r twinRoute) bool { return r.epoch != t.Epoch })
	}
	return nil
}

// putBack returns what undoes a change that is to come.
func (t *Twin) putBack(c *fib.Change) func() {
	if k := (Key{c.Route.VRF, c.Route.Prefix}); c.Op == fib.SetRoute || c.Op == fib.DeleteRoute {
		old, had := t.routes[k]
		return func() {
			if delete(t.routes, k); had {
				t.routes[k] = old
			}
		}
	}
	id, g := c.Group.ID, t.groups[c.Group.ID]
	if g == nil {
		return func() { delete(t.groups, id) }
	}
	old := g.g
	return func() { g.g, t.groups[id] = old, g }
}

func (t *Twin) change(c fib.Change) error {
	if err := c.Validate(); err != nil {
		return err
	}
	k := Key{c.Route.VRF, c.Route.Prefix}
	switch c.Op {
	case fib.SetGroup:
		if t.groups[c.Group.ID] == nil {
			t.groups[c.Group.ID] = &twinGroup{}
		}
		t.groups[c.Group.ID].g = c.Group
	case fib.DeleteGroup:
		g := t.groups[c.Group.ID]
		if g == nil {
			return fib.ErrUnknownGroup
		}
		for _, r := range t.routes {
			if r.group == g {
				return fib.ErrGroupInUse
			}
		}
		delete(t.groups, c.Group.ID)
	case fib.SetRoute:
		g := t.groups[c.Route.Group]
		if g == nil {
			return fib.ErrUnknownGroup
		}
		t.routes[k] = twinRoute{g, t.Epoch}
	case fib.DeleteRoute:
		delete(t.routes, k)
	}
	return nil
}

// Find returns the longest prefix that has the address, and its group.
func (t *Twin) Find(vrf fib.VRF, a netip.Addr) (netip.Prefix, fib.Group, bool) {
	for n := a.BitLen(); n >= 0; n-- {
		p, err := a.Prefix(n)
		if err != nil {
			panic(err)
		}
		if r, ok := t.routes[Key{vrf, p}]; ok {
			return p, r.group.g, true
		}
	}
	return netip.Prefix{}, fib.Group{}, false
}

// Routes returns all routes and their groups.
func (t *Twin) Routes() map[Key]fib.Group {
	all := map[Key]fib.Group{}
	for k, r := range t.routes {
		all[k] = r.group.g
	}
	return all
}

// Digest sums the routes of a VRF up, from scratch.
func (t *Twin) Digest(vrf fib.VRF) (d fib.Digest) {
	for k, g := range t.Routes() {
		if k.VRF != vrf {
			continue
		}
		d.Routes++
		a := k.Prefix.Addr().As16()
		hi, lo := word(a[:])<<32|word(a[4:]), word(a[8:])<<32|word(a[12:])
		if k.Prefix.Addr().Is4() {
			hi, lo = word(a[12:])<<32, 0
		}
		d.Sum += fib.RouteSum(hi, lo, uint(k.Prefix.Bits()), k.Prefix.Addr().Is6(), g.ID)
	}
	return d
}
