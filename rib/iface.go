package rib

import (
	"fmt"
	"net/netip"
	"slices"

	"godwit/fib"
)

// iface is an interface and the next hops that name it. It may be named
// before it is known.
type iface struct {
	Interface
	known bool
	hops  map[uint32]struct{}
}

// ifRoute is a route that an interface makes.
type ifRoute struct {
	fam   int
	key   key
	proto Protocol
}

// iface finds or makes the record of an interface.
func (t *Table) iface(id fib.InterfaceID) *iface {
	f := t.ifaces[id]
	if f == nil {
		f = &iface{hops: map[uint32]struct{}{}}
		t.ifaces[id] = f
	}
	return f
}

func (t *Table) leaveIface(id fib.InterfaceID, hop uint32) {
	f := t.ifaces[id]
	delete(f.hops, hop)
	if !f.known && len(f.hops) == 0 {
		delete(t.ifaces, id)
	}
}

func (u SetInterface) apply(t *Table) error {
	n := u.Interface
	if n.ID == 0 {
		return fmt.Errorf("set interface %q: no number", n.Name)
	}
	v, err := t.vrf(n.VRF)
	if err != nil {
		return fmt.Errorf("set interface %q: %w", n.Name, err)
	}
	n.Addresses = slices.Clone(n.Addresses)
	f := t.iface(n.ID)
	old := f.Interface
	want := n.routes()
	t.dropIfRoutes(old, want, old.VRF == n.VRF)
	f.Interface, f.known = n, true
	if old.Up != n.Up || old.VRF != n.VRF || old.ID == 0 {
		t.markIface(f)
	}
	for _, r := range want {
		t.setRoute(v, r.fam, r.key, r.proto, DistanceConnected, uint32(n.ID), t.ifSet(v, r.proto, n.ID))
	}
	return nil
}

func (u RemoveInterface) apply(t *Table) error {
	f := t.ifaces[u.ID]
	if f == nil || !f.known {
		return nil
	}
	t.dropIfRoutes(f.Interface, nil, true)
	f.known, f.Interface = false, Interface{}
	t.markIface(f)
	if len(f.hops) == 0 {
		delete(t.ifaces, u.ID)
	}
	return nil
}

// dropIfRoutes removes the routes of an interface that are not wanted any more.
func (t *Table) dropIfRoutes(old Interface, want []ifRoute, sameVRF bool) {
	v := t.vrfs[old.VRF]
	if old.ID == 0 || v == nil {
		return
	}
	for _, r := range old.routes() {
		if !sameVRF || !slices.Contains(want, r) {
			t.deleteRoute(v, r.fam, r.key, r.proto, DistanceConnected, uint32(old.ID))
		}
	}
}

func (t *Table) markIface(f *iface) {
	for i := range f.hops {
		t.markHop(i, t.hops.at(i))
	}
}

// ifSet interns the set of an interface's routes.
func (t *Table) ifSet(v *vrf, p Protocol, id fib.InterfaceID) uint32 {
	if p == Local {
		return t.intern(v, fib.Local, nil, nil)
	}
	t.members = append(t.members[:0], member{hop: t.hop(v, netip.Addr{}, id), weight: 1})
	return t.intern(v, fib.Forward, t.members, nil)
}

// routes lists what an interface makes while it is up: for each address a
// local route and its connected prefix. Link-local IPv6 addresses make none: they
// mean something on their interface only, where the line card knows them.
func (n *Interface) routes() []ifRoute {
	if !n.Up {
		return nil
	}
	var list []ifRoute
	add := func(fam int, k key, p Protocol) {
		if r := (ifRoute{fam, k, p}); !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	for _, p := range n.Addresses {
		a := p.Addr()
		if !p.IsValid() || a.Is4In6() || a.Is6() && a.IsLinkLocalUnicast() {
			continue
		}
		fam := family(a)
		add(fam, addrKey(a, uint8(a.BitLen())), Local)
		add(fam, keyOf(p.Masked()), Connected)
	}
	return list
}
