package rib

import (
	"fmt"
	"net/netip"
	"slices"

	"godwit/fib"
)

// hopKey is what makes a next hop: with an interface it is used as it is
// (direct), without it is resolved through the routes of its VRF (tracked).
type hopKey struct {
	vrf   fib.VRF
	addr  netip.Addr
	iface fib.InterfaceID
}

// hop is a next hop, shared by all sets that have it.
type hop struct {
	hopKey
	v *vrf
	resolution
	sets   []uint32            // that have it
	inputs []uint32            // hops that its resolution looked at
	deps   map[uint32]struct{} // hops whose resolution looked at it
	valid  bool                // resolution is up to date
	dirty  bool                // in Table.dirtyHops
	round  uint32              // in which the resolution was made
	search uint32              // that came by last
	pos    int                 // place on the resolver's stack, from 1; 0: not on it
}

func (k hopKey) direct() bool { return k.iface != 0 }

// hop finds or makes a next hop.
func (t *Table) hop(v *vrf, addr netip.Addr, iface fib.InterfaceID) uint32 {
	k := hopKey{v.id, addr, iface}
	if i, ok := t.hopIndex[k]; ok {
		return i
	}
	i, h := t.hops.get()
	h.hopKey, h.v = k, v
	t.hopIndex[k] = i
	if k.direct() {
		t.iface(iface).hops[i] = struct{}{}
	} else {
		n := v.hops[family(addr)].insert(&t.nodes, addrKey(addr, uint8(addr.BitLen())))
		t.nodes.at(n).first = i
	}
	t.markHop(i, h)
	return i
}

// leave takes a set off a next hop; the last one removes it.
func (t *Table) leave(i, set uint32) {
	h := t.hops.at(i)
	at := slices.Index(h.sets, set)
	h.sets[at] = h.sets[len(h.sets)-1]
	h.sets = h.sets[:len(h.sets)-1]
	if len(h.sets) > 0 {
		return
	}
	t.forgetInputs(i, h)
	for d := range h.deps {
		x := t.hops.at(d)
		x.inputs = slices.DeleteFunc(x.inputs, func(in uint32) bool { return in == i })
	}
	delete(t.hopIndex, h.hopKey)
	if h.direct() {
		t.leaveIface(h.iface, i)
	} else {
		tr := &h.v.hops[family(h.addr)]
		n := tr.get(&t.nodes, addrKey(h.addr, uint8(h.addr.BitLen())))
		t.nodes.at(n).first = 0
		tr.remove(&t.nodes, n)
	}
	t.hops.put(i)
}

func (t *Table) markHop(i uint32, h *hop) {
	if !h.dirty {
		h.dirty = true
		t.dirtyHops = append(t.dirtyHops, i)
	}
}

func (t *Table) forgetInputs(i uint32, h *hop) {
	for _, in := range h.inputs {
		delete(t.hops.at(in).deps, i)
	}
	h.inputs = h.inputs[:0]
}

// settle resolves again what the touched routes and interfaces can have
// changed, and refreshes the sets of the next hops that changed.
func (t *Table) settle() {
	for _, x := range t.touched {
		t.markBelow(x.vrf, t.nodes.at(x.node))
	}
	if len(t.dirtyHops) > 0 {
		t.resolveDirty()
	}
	for len(t.dirtySets) > 0 {
		list := t.dirtySets
		t.dirtySets = nil
		for _, i := range list {
			t.refresh(i, t.sets.at(i))
		}
	}
}

// markBelow marks the tracked next hops that a route covers.
func (t *Table) markBelow(v *vrf, n *node) {
	tr := &v.hops[n.family()]
	if tr.root == 0 || n.bits == 0 && !v.opt.ResolveByDefault {
		return
	}
	for i := tr.seek(&t.nodes, n.key); i != 0; i = tr.step(&t.nodes, i) {
		x := t.nodes.at(i)
		if n.common(x.key) < n.bits {
			return
		}
		if x.first != 0 {
			t.markHop(x.first, t.hops.at(x.first))
		}
	}
}

// resolveDirty resolves the dirty next hops and all that looked at them.
func (t *Table) resolveDirty() {
	t.res.round++
	for at := 0; at < len(t.dirtyHops); at++ {
		for d := range t.hops.at(t.dirtyHops[at]).deps {
			t.markHop(d, t.hops.at(d))
		}
	}
	slices.Sort(t.dirtyHops) // the same history makes the same changes
	was := make([]resolution, len(t.dirtyHops))
	for at, i := range t.dirtyHops {
		h := t.hops.at(i)
		was[at] = h.resolution
		h.valid = false
		t.forgetInputs(i, h)
	}
	for at, i := range t.dirtyHops {
		h := t.hops.at(i)
		h.dirty = false
		t.res.log, t.res.steps = t.res.log[:0], 0
		t.resolve(i, 1)
		if h.kind != was[at].kind || !slices.Equal(h.leaves, was[at].leaves) {
			for _, s := range h.sets {
				t.markSet(s, t.sets.at(s))
			}
		}
	}
	t.dirtyHops = t.dirtyHops[:0]
}

// failure says why a next hop does not resolve.
type failure uint8

const (
	resolved failure = iota
	noRoute
	onlyDefault
	ownAddress
	looped
	tooDeep
	tooComplex
	interfaceDown
	unusable
	trackDown
)

var failureNames = [...]string{
	"resolved", "no route to it", "only the default route covers it", "it is an address of this router",
	"it resolves through itself", "too many routes resolve through each other", "the resolution is too complex",
	"interface is down", "the covering route is not usable", "what is tracked is down",
}

func (f failure) String() string {
	if int(f) < len(failureNames) {
		return failureNames[f]
	}
	return fmt.Sprintf("failure(%d)", uint8(f))
}
