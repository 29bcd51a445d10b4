package rib

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"godwit/fib"
)

// attrs is what BGP said of a prefix beside the prefix: interned, shared.
type attrs struct {
	paths []Path
	key   attrKey // one path
	id    string  // several
	set   uint32  // held
	refs  int
}

type attrKey struct {
	vrf  fib.VRF
	path Path
}

func (u SetStatic) apply(t *Table) error {
	r := u.Route
	v, err := t.vrf(u.VRF)
	if err == nil {
		err = checkStatic(r)
	}
	if err != nil {
		return fmt.Errorf("set static route %v: %w", r.Prefix, err)
	}
	for _, via := range slices.Concat(r.Vias, r.Tracks) {
		if _, err := t.viaVRF(v, via); err != nil {
			return fmt.Errorf("set static route %v: next hop: %w", r.Prefix, err)
		}
	}
	t.members, t.tracks = t.members[:0], t.tracks[:0]
	for _, via := range r.Vias {
		in, _ := t.viaVRF(v, via)
		t.addMember(member{t.hop(in, via.Address, via.Interface), max(via.Weight, 1), via.Backup}, true)
	}
	for _, via := range r.Tracks {
		in, _ := t.viaVRF(v, via)
		t.tracks = append(t.tracks, t.hop(in, via.Address, via.Interface))
	}
	set := t.intern(v, r.Kind, t.members, t.tracks)
	t.setRoute(v, family(r.Prefix.Addr()), keyOf(r.Prefix), Static, staticDistance(r.Distance), r.Tag, set)
	return nil
}

// viaVRF is the VRF that a next hop is in.
func (t *Table) viaVRF(v *vrf, via Via) (*vrf, error) {
	if !via.Foreign {
		return v, nil
	}
	return t.vrf(via.VRF)
}

func (u DeleteStatic) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err == nil {
		err = checkPrefix(u.Prefix)
	}
	if err != nil {
		return fmt.Errorf("delete static route %v: %w", u.Prefix, err)
	}
	t.deleteRoute(v, family(u.Prefix.Addr()), keyOf(u.Prefix), Static, staticDistance(u.Distance), 0)
	return nil
}

func staticDistance(d uint8) uint8 {
	if d == 0 {
		return DistanceStatic
	}
	return d
}

// maxTracks bounds what one static route tracks.
const maxTracks = 16

func checkStatic(r StaticRoute) error {
	if err := checkPrefix(r.Prefix); err != nil {
		return err
	}
	switch {
	case r.Kind == fib.Local || r.Kind > fib.Reject:
		return fmt.Errorf("%w: kind %v", ErrBadRoute, r.Kind)
	case r.Kind == fib.Forward && (len(r.Vias) == 0 || len(r.Vias) > fib.MaxNextHops):
		return fmt.Errorf("%w: %d next hops, want 1 to %d", ErrBadRoute, len(r.Vias), fib.MaxNextHops)
	case r.Kind != fib.Forward && len(r.Vias) > 0:
		return fmt.Errorf("%w: %v with next hops", ErrBadRoute, r.Kind)
	}
	if len(r.Tracks) > maxTracks {
		return fmt.Errorf("%w: %d tracked, at most %d", ErrBadRoute, len(r.Tracks), maxTracks)
	}
	for _, v := range slices.Concat(r.Vias, r.Tracks) {
		if !v.Address.IsValid() && v.Interface == 0 || v.Address.Is4In6() || v.Address.Zone() != "" {
			return fmt.Errorf("%w: next hop %v interface %d", ErrBadRoute, v.Address, v.Interface)
		}
	}
	return nil
}

// addMember adds a next hop to the members in hand; one that is there already
// gets heavier, or (BGP: paths of several peers, one next hop) stays. As its own
// backup a next hop does not count.
func (t *Table) addMember(x member, sum bool) {
	for i := range t.members {
		switch m := &t.members[i]; {
		case m.hop != x.hop:
			continue
		case m.backup && !x.backup:
			*m = x
		case sum && m.backup == x.backup:
			m.weight = uint8(min(int(m.weight)+int(x.weight), 255))
		}
		return
	}
	if len(t.members) < fib.MaxNextHops {
		t.members = append(t.members, x)
	}
}

func (u BGPRoutes) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err != nil {
		return fmt.Errorf("apply %d BGP routes: %w", len(u.Routes), err)
	}
	var last []Path
	var ai uint32
	for i := range u.Routes {
		r := &u.Routes[i]
		if err := checkPrefix(r.Prefix); err != nil {
			t.reject(err)
			continue
		}
		fam, k := family(r.Prefix.Addr()), keyOf(r.Prefix)
		if len(r.Paths) == 0 {
			t.deleteRoute(v, fam, k, BGP, 0, 0)
			continue
		}
		if ai == 0 || !samePaths(last, r.Paths) {
			if ai != 0 {
				t.releaseAttrs(ai)
			}
			last = r.Paths
			if ai = t.internPaths(v, r.Paths); ai == 0 {
				t.reject(fmt.Errorf("%w: %v without a valid next hop", ErrBadRoute, r.Prefix))
				t.deleteRoute(v, fam, k, BGP, 0, 0)
				continue
			}
		}
		t.setBGP(v, fam, k, ai)
	}
	if ai != 0 {
		t.releaseAttrs(ai)
	}
	return nil
}

func samePaths(a, b []Path) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// setBGP makes or replaces the candidate of BGP for a prefix.
func (t *Table) setBGP(v *vrf, fam int, k key, ai uint32) {
	a := t.attrs.at(ai)
	dist := v.distanceOf(a)
	if t.full(v, fam, k, false) {
		v.lacks = true
		return
	}
	ni := v.routes[fam].insert(&t.nodes, k)
	if i := t.findCand(t.nodes.at(ni), BGP, 0, 0); i != 0 {
		c := t.cands.at(i)
		c.gen = v.gen[BGP]
		if c.info == ai {
			return
		}
		if c.set == a.set && c.dist == dist && len(v.exports) == 0 {
			t.releaseAttrs(c.info)
			c.info = ai
			a.refs++
			return
		}
		t.unlink(v, i)
	}
	a.refs++
	t.link(v, ni, cand{set: a.set, proto: BGP, dist: dist, info: ai, gen: v.gen[BGP]})
}

// internPaths finds or makes the attributes of a list of paths and holds
// them; 0 if no path has a valid next hop.
func (t *Table) internPaths(v *vrf, paths []Path) uint32 {
	one := attrKey{}
	if len(paths) == 1 {
		one = attrKey{v.id, paths[0]}
		if i, ok := t.attrIndex1[one]; ok {
			t.attrs.at(i).refs++
			return i
		}
	} else {
		t.scratch = encodePaths(t.scratch[:0], v.id, paths)
		if i, ok := t.attrIndexN[string(t.scratch)]; ok {
			t.attrs.at(i).refs++
			return i
		}
	}
	id := string(t.scratch)
	t.members = t.members[:0]
	for _, p := range paths {
		if nh := p.NextHop.Unmap().WithZone(""); nh.IsValid() && !nh.IsUnspecified() {
			t.addMember(member{hop: t.hop(v, nh, p.Interface), weight: 1}, false)
		}
	}
	if len(t.members) == 0 {
		return 0
	}
	set := t.intern(v, fib.Forward, t.members, nil)
	i, a := t.attrs.get()
	*a = attrs{paths: append([]Path(nil), paths...), set: set, refs: 1}
	if len(paths) == 1 {
		a.key = one
		t.attrIndex1[one] = i
	} else {
		a.id = id
		t.attrIndexN[id] = i
	}
	return i
}

func (t *Table) releaseAttrs(i uint32) {
	a := t.attrs.at(i)
	if a.refs--; a.refs > 0 {
		return
	}
	if len(a.paths) == 1 {
		delete(t.attrIndex1, a.key)
	} else {
		delete(t.attrIndexN, a.id)
	}
	t.release(a.set)
	t.attrs.put(i)
}

func encodePaths(b []byte, id fib.VRF, paths []Path) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	addr := func(a netip.Addr) {
		s := a.AsSlice()
		b = append(b, byte(len(s)), byte(len(a.Zone())))
		b = append(append(b, s...), a.Zone()...)
	}
	for _, p := range paths {
		addr(p.NextHop)
		addr(p.Peer)
		b = binary.BigEndian.AppendUint32(b, uint32(p.Interface))
		b = binary.BigEndian.AppendUint32(b, p.PeerAS)
		b = binary.BigEndian.AppendUint32(b, p.MED)
		b = binary.BigEndian.AppendUint32(b, p.LocalPref)
		b = binary.BigEndian.AppendUint16(b, p.ASPathLen)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p.Communities))), p.Communities...)
		if p.Internal {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}
