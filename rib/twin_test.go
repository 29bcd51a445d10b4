package rib

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"godwit/fib"
)

var seed = flag.Uint64("seed", 0, "seed of the random histories; 0: 1 to 10")

// twin is the slow table: lists, and everything made anew each time.
type twin struct {
	maxDepth  int
	byDefault bool
	vrfs      map[fib.VRF]bool
	opts      map[fib.VRF]VRFOptions
	ifaces    map[fib.InterfaceID]Interface
	routes    []twinRoute
	leaks     []SetLeak
	lists     map[fib.VRF][]twinRoute // of the table in hand
	chosen    []twinRoute             // of the table in hand
	work      int                     // next hops resolved for the table in hand
}

// tooMuch is the work for one table at which the twin gives up.
const tooMuch = 5_000

type twinRoute struct {
	vrf      fib.VRF
	prefix   netip.Prefix
	proto    Protocol
	dist     uint8
	kind     fib.Kind
	vias     []Via
	iface    fib.InterfaceID // local, connected
	stale    bool
	internal bool
	tracks   []Via
	tag      uint32
	paths    []Path
	home     fib.VRF // where it was made
	was      uint8   // distance there
}

func (w *twin) del(match func(*twinRoute) bool) {
	w.routes = slices.DeleteFunc(w.routes, func(r twinRoute) bool { return match(&r) })
}

func (w *twin) apply(u Update) {
	switch u := u.(type) {
	case AddVRF:
		if !w.vrfs[u.VRF] {
			w.vrfs[u.VRF], w.opts[u.VRF] = true, VRFOptions{ResolveByDefault: w.byDefault, EBGP: 20, IBGP: 200}
		}
	case SetVRF:
		if w.vrfs[u.VRF] {
			w.opts[u.VRF] = u.Options
			for i := range w.routes {
				if r := &w.routes[i]; r.vrf == u.VRF && r.proto == BGP {
					r.dist = w.bgpDistance(u.VRF, r.internal)
				}
			}
		}
	case SetLeak:
		w.unleak(u.From, u.To)
		if w.vrfs[u.From] && w.vrfs[u.To] {
			w.leaks = append(w.leaks, u)
		}
	case DeleteLeak:
		w.unleak(u.From, u.To)
	case RemoveVRF:
		w.leaks = slices.DeleteFunc(w.leaks, func(l SetLeak) bool { return l.From == u.VRF || l.To == u.VRF })
		for id, f := range w.ifaces {
			if f.VRF == u.VRF {
				delete(w.ifaces, id)
			}
		}
		delete(w.vrfs, u.VRF)
		w.del(func(r *twinRoute) bool { return r.vrf == u.VRF })
	case SetInterface:
		if w.vrfs[u.Interface.VRF] {
			w.ifaces[u.Interface.ID] = u.Interface
		}
	case RemoveInterface:
		delete(w.ifaces, u.ID)
	case SetStatic:
		w.static(u.VRF, u.Route)
	case DeleteStatic:
		w.del(func(r *twinRoute) bool {
			return r.vrf == u.VRF && r.prefix == u.Prefix && r.proto == Static && r.dist == max(u.Distance, 1)
		})
	case BGPRoutes:
		for _, b := range u.Routes {
			w.bgp(u.VRF, b)
		}
	case MarkStale:
		for i := range w.routes {
			if r := &w.routes[i]; r.vrf == u.VRF && r.proto == u.Protocol {
				r.stale = true
			}
		}
	case Sweep:
		w.del(func(r *twinRoute) bool { return r.vrf == u.VRF && r.proto == u.Protocol && r.stale })
	}
}

func (w *twin) bgp(v fib.VRF, b BGPRoute) {
	w.del(func(r *twinRoute) bool { return r.vrf == v && r.prefix == b.Prefix && r.proto == BGP })
	if len(b.Paths) == 0 || !w.vrfs[v] {
		return
	}
	r := twinRoute{vrf: v, prefix: b.Prefix, proto: BGP, internal: b.Paths[0].Internal, home: v, paths: b.Paths}
	r.dist = w.bgpDistance(v, r.internal)
	for _, p := range b.Paths {
		if via := (Via{Address: p.NextHop, Interface: p.Interface, Weight: 1}); !slices.Contains(r.vias, via) {
			r.vias = append(r.vias, via)
		}
	}
	w.routes = append(w.routes, r)
}

func (w *twin) static(v fib.VRF, s StaticRoute) {
	for _, via := range slices.Concat(s.Vias, s.Tracks) {
		if via.Foreign && !w.vrfs[via.VRF] {
			return
		}
	}
	if !w.vrfs[v] {
		return
	}
	d := max(s.Distance, 1)
	w.del(func(r *twinRoute) bool { return r.vrf == v && r.prefix == s.Prefix && r.proto == Static && r.dist == d })
	w.routes = append(w.routes, twinRoute{
		vrf: v, prefix: s.Prefix, proto: Static, dist: d, kind: s.Kind, vias: s.Vias, tracks: s.Tracks, tag: s.Tag, home: v,
	})
}

func (w *twin) unleak(from, to fib.VRF) {
	w.leaks = slices.DeleteFunc(w.leaks, func(l SetLeak) bool { return l.From == from && l.To == to })
}

func (w *twin) bgpDistance(v fib.VRF, internal bool) uint8 {
	if internal {
		return cmp.Or(w.opts[v].IBGP, 200)
	}
	return cmp.Or(w.opts[v].EBGP, 20)
}

// all lists a VRF's candidates, with those that are leaked, in the order of the decision.
func (w *twin) all(v fib.VRF) []twinRoute {
	list := w.own(v)
	for _, l := range w.leaks {
		if l.To != v {
			continue
		}
		for _, r := range w.own(l.From) {
			for _, rule := range l.Rules {
				if rule.Export.Accepts(r.prefix, r.proto, r.tag, r.paths) && rule.Import.Accepts(r.prefix, r.proto, r.tag, r.paths) {
					r.was = r.dist
					r.dist = cmp.Or(rule.Distance, r.dist)
					r.vrf = v
					if r.proto == Local {
						r.kind = fib.Reject
					}
					list = append(list, r)
					break
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b twinRoute) int {
		own := func(r twinRoute) int {
			if r.home == v {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.dist, b.dist), cmp.Compare(own(a), own(b)), cmp.Compare(a.proto, b.proto), cmp.Compare(a.home, b.home),
			cmp.Compare(a.iface, b.iface), cmp.Compare(a.was, b.was))
	})
	return list
}

// own lists a VRF's own candidates, with those of the interfaces.
func (w *twin) own(v fib.VRF) []twinRoute {
	var list []twinRoute
	for _, r := range w.routes {
		if r.vrf == v {
			list = append(list, r)
		}
	}
	for id, f := range w.ifaces {
		if f.VRF != v || !f.Up {
			continue
		}
		for _, a := range f.Addresses {
			if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
				continue
			}
			list = append(list,
				twinRoute{vrf: v, prefix: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), proto: Local, kind: fib.Local, iface: id, home: v},
				twinRoute{vrf: v, prefix: a.Masked(), proto: Connected, vias: []Via{{Interface: id, Weight: 1}}, iface: id, home: v})
		}
	}
	return list
}

// place is a next hop that is being resolved.
type place struct {
	vrf  fib.VRF
	addr netip.Addr
}

// outcome is what a next hop or a list of them leads to.
type outcome struct {
	ok     bool
	own    bool
	kind   fib.Kind
	leaves []fib.NextHop
	height int
}

// hop resolves one next hop from nothing, given those that are being resolved.
func (w *twin) hop(v fib.VRF, via Via, above []place) outcome {
	if via.Foreign {
		v = via.VRF
	}
	if via.Interface != 0 {
		f, known := w.ifaces[via.Interface]
		if !known || !f.Up || f.VRF != v {
			return outcome{}
		}
		return outcome{ok: true, leaves: []fib.NextHop{{Interface: via.Interface, Gateway: via.Address, Weight: 1}}}
	}
	if w.work++; slices.Contains(above, place{v, via.Address}) || w.work > tooMuch || !w.vrfs[v] {
		return outcome{}
	}
	above = append(slices.Clone(above), place{v, via.Address})
	for bits := via.Address.BitLen(); bits >= 0; bits-- {
		if bits == 0 && !w.opts[v].ResolveByDefault {
			continue
		}
		p := netip.PrefixFrom(via.Address, bits).Masked()
		for _, r := range w.lists[v] {
			if r.prefix != p {
				continue
			}
			if r.proto == Local {
				return outcome{own: true}
			}
			o := w.vias(r, above, via.Address)
			if o.ok {
				return o
			}
			if o.own {
				// the route's own next hop is ours: it is not usable, others are tried
				continue
			}
		}
	}
	return outcome{}
}

// vias joins the next hops of a route; to is the address that is resolved
// through it, invalid for the route itself.
func (w *twin) vias(r twinRoute, above []place, to netip.Addr) outcome {
	for _, x := range r.tracks {
		if len(w.hop(r.home, x, above).leaves) == 0 {
			return outcome{}
		}
	}
	if r.kind != fib.Forward {
		return outcome{ok: true, kind: r.kind, height: 1}
	}
	var m merger
	out := outcome{height: 1}
	for _, via := range mergeVias(r.vias) {
		o := w.hop(r.home, via, above)
		if !o.ok || to.IsValid() && o.height >= w.maxDepth {
			continue
		}
		if len(o.leaves) == 0 {
			if out.kind != fib.Blackhole {
				out.kind = o.kind
			}
		} else if to.IsValid() && !via.Address.IsValid() {
			m.add([]fib.NextHop{{Interface: via.Interface, Gateway: to, Weight: 1}}, via.Weight, via.Backup)
		} else {
			m.add(o.leaves, via.Weight, via.Backup)
		}
		out.height = max(out.height, o.height+1)
	}
	if out.leaves = m.hops(); len(out.leaves) > 0 {
		out.kind = fib.Forward
	}
	out.ok = len(out.leaves) > 0 || out.kind != fib.Forward
	return out
}

func mergeVias(vias []Via) []Via {
	var out []Via
	for _, v := range vias {
		v.Weight = max(v.Weight, 1)
		at := slices.IndexFunc(out, func(o Via) bool {
			return o.Address == v.Address && o.Interface == v.Interface && o.Foreign == v.Foreign && o.VRF == v.VRF
		})
		switch {
		case at < 0:
			out = append(out, v)
		case out[at].Backup && !v.Backup:
			out[at] = v
		case out[at].Backup == v.Backup:
			out[at].Weight = uint8(min(int(out[at].Weight)+int(v.Weight), 255))
		}
	}
	return out
}

// table is the FIB as it has to be: "vrf prefix" to "kind hops".
func (w *twin) table() map[string]string {
	out := map[string]string{}
	w.work = 0
	w.lists, w.chosen = map[fib.VRF][]twinRoute{}, nil
	for v := range w.vrfs {
		w.lists[v] = w.all(v)
	}
	for v := range w.vrfs {
		for _, r := range w.lists[v] {
			k := fmt.Sprintf("%d %v", v, r.prefix)
			if _, done := out[k]; done {
				continue
			}
			if o := w.vias(r, nil, netip.Addr{}); o.ok {
				out[k] = fmt.Sprintf("%v %s", o.kind, formatHops(o.leaves))
				w.chosen = append(w.chosen, r)
			}
		}
	}
	return out
}

// offered is what redistribution in a VRF has to get.
func (w *twin) offered(v fib.VRF) map[string]BestChange {
	out := map[string]BestChange{}
	for _, r := range w.chosen {
		if r.vrf != v {
			continue
		}
		b := BestChange{VRF: v, Prefix: r.prefix, Protocol: r.proto, Leaked: r.home != v}
		if r.proto == Static {
			b.Tag = r.tag
		}
		switch {
		case r.proto == Local && r.home == v && slices.ContainsFunc(w.own(v), func(o twinRoute) bool { return o.proto == Connected && o.prefix == r.prefix }):
			b.Protocol = Connected
		case r.proto == Local, r.proto == BGP && r.home == v:
			continue
		}
		out[fmt.Sprintf("%d %v", v, r.prefix)] = b
	}
	return out
}

// fibOf plays changes into a table, checking the order of groups and routes.
type fibOf struct {
	t      *testing.T
	groups map[fib.GroupID]fib.Group
	routes map[string]fib.GroupID
}

func (f *fibOf) play(changes []fib.Change) {
	for _, c := range changes {
		if err := c.Validate(); err != nil {
			f.t.Fatalf("%s: %v", formatChange(c), err)
		}
		k := fmt.Sprintf("%d %v", c.Route.VRF, c.Route.Prefix)
		switch c.Op {
		case fib.SetGroup:
			f.groups[c.Group.ID] = c.Group
		case fib.DeleteGroup:
			for k, g := range f.routes {
				if g == c.Group.ID {
					f.t.Fatalf("%s while %s uses it", formatChange(c), k)
				}
			}
			delete(f.groups, c.Group.ID)
		case fib.SetRoute:
			if _, ok := f.groups[c.Route.Group]; !ok {
				f.t.Fatalf("%s: no such group", formatChange(c))
			}
			f.routes[k] = c.Route.Group
		case fib.DeleteRoute:
			delete(f.routes, k)
		}
	}
}

func (f *fibOf) table() map[string]string {
	out := map[string]string{}
	for k, g := range f.routes {
		out[k] = fmt.Sprintf("%v %s", f.groups[g].Kind, formatHops(f.groups[g].NextHops))
	}
	return out
}

// TestTwin runs random histories through the table and its twin.
func TestTwin(t *testing.T) {
	from, to := uint64(1), uint64(10)
	if *seed != 0 {
		from, to = *seed, *seed
	}
	for s := from; s <= to; s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel()
			randomHistory(t, s)
		})
	}
}

func randomHistory(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	opt := Options{ResolveByDefault: seed%3 == 0, MaxDepth: 2 + int(seed%5), Slice: 3}
	table := New(opt)
	w := &twin{maxDepth: opt.MaxDepth, byDefault: opt.ResolveByDefault, vrfs: map[fib.VRF]bool{}, opts: map[fib.VRF]VRFOptions{}, ifaces: map[fib.InterfaceID]Interface{}}
	f := &fibOf{t: t, groups: map[fib.GroupID]fib.Group{}, routes: map[string]fib.GroupID{}}
	best, skipped := map[string]BestChange{}, 0
	for step := 0; step < 100; step++ {
		var updates []Update
		for range 1 + r.IntN(4) {
			u := randomUpdate(r)
			if _, ok := u.(MarkStale); ok { // it stops a sweep: not in the middle of one
				if table.More() || len(updates) > 0 {
					continue
				}
			}
			updates = append(updates, u)
			if _, ok := u.(Sweep); ok {
				w.apply(u)
				break
			}
			w.apply(u)
		}
		table.Apply(updates...)
		f.play(table.Drain())
		if r.IntN(4) == 0 && step < 99 { // let work pile up
			continue
		}
		for table.More() {
			table.Apply()
			f.play(table.Drain())
		}
		for _, b := range table.DrainBest() {
			best[fmt.Sprintf("%d %v", b.VRF, b.Prefix)] = b
		}
		want := w.table()
		if w.work > tooMuch {
			skipped++
			continue
		}
		compareTables(t, step, updates, f.table(), want)
		if len(f.groups) != table.Stats().Groups || len(f.routes) != table.Stats().Routes {
			t.Fatalf("step %d: stats %+v, FIB has %d groups, %d routes", step, table.Stats(), len(f.groups), len(f.routes))
		}
		comparePages(t, table, w, f, best)
	}
	if skipped > 60 {
		t.Errorf("the twin gave up on %d tables", skipped)
	}
	emptyAgain(t, table)
}

func compareTables(t *testing.T, step int, updates []Update, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: got %q, want none", k, v)
		}
	}
	if t.Failed() {
		t.Fatalf("step %d: after %+v", step, updates)
	}
}

// comparePages checks listings against the FIB: complete, in order; and the
// drained best routes against the listed ones.
func comparePages(t *testing.T, table *Table, w *twin, f *fibOf, best map[string]BestChange) {
	t.Helper()
	listed := 0
	for v := range w.vrfs {
		var last netip.Prefix
		for c, done := (Cursor{}), false; !done; {
			var page []Route
			page, c, done = table.Page(v, Filter{Installed: true}, c, 3)
			for _, r := range page {
				if last.IsValid() && last.Addr().Is4() == r.Prefix.Addr().Is4() && last.Compare(r.Prefix) >= 0 {
					t.Fatalf("%v listed behind %v", r.Prefix, last)
				}
				last = r.Prefix
				k := fmt.Sprintf("%d %v", v, r.Prefix)
				if f.routes[k] != r.Group {
					t.Fatalf("%s listed with group %d, FIB has %d", k, r.Group, f.routes[k])
				}
				listed++
			}
		}
		offered := w.offered(v)
		for c, done := (Cursor{}), false; !done; {
			var page []BestChange
			page, c, done = table.Best(v, c, 3)
			for _, b := range page {
				k := fmt.Sprintf("%d %v", v, b.Prefix)
				if offered[k] != b || best[k] != b {
					t.Fatalf("%s: best %v, want %v, drained %v", k, b, offered[k], best[k])
				}
				delete(offered, k)
			}
		}
		if len(offered) > 0 {
			t.Fatalf("not offered: %v", offered)
		}
	}
	if listed != len(f.routes) {
		t.Fatalf("%d routes listed, FIB has %d", listed, len(f.routes))
	}
}

// emptyAgain removes everything and looks for what leaked.
func emptyAgain(t *testing.T, table *Table) {
	t.Helper()
	table.Apply(RemoveVRF{0}, RemoveVRF{1}, RemoveVRF{2})
	for table.More() {
		table.Apply()
	}
	table.Apply()
	s := table.Stats()
	s.Rejected, s.LastReject = 0, nil
	if s != (Stats{}) || table.nodes.len() != 0 || table.attrs.len() != 0 || len(table.ifaces) != 0 || table.leaks.len() != 0 ||
		len(table.hopIndex)+len(table.setIndex)+len(table.attrIndex1)+len(table.attrIndexN) != 0 {
		t.Fatalf("left behind: %+v, %d nodes, %d attributes, %d interfaces", s, table.nodes.len(), table.attrs.len(), len(table.ifaces))
	}
}

func randomUpdate(r *rand.Rand) Update {
	v := fib.VRF(r.IntN(3))
	switch n := r.IntN(115); {
	case n < 4:
		return AddVRF{v}
	case n >= 112:
		return DeleteLeak{v, fib.VRF(r.IntN(3))}
	case n >= 103:
		return randomLeak(r, v)
	case n >= 100:
		return SetVRF{v, VRFOptions{ResolveByDefault: r.IntN(2) == 0, EBGP: uint8(r.IntN(3)), IBGP: uint8(r.IntN(3))}}
	case n < 5:
		return RemoveVRF{v}
	case n < 20:
		return SetInterface{randomInterface(r, v)}
	case n < 22:
		return RemoveInterface{fib.InterfaceID(1 + r.IntN(3))}
	case n < 45:
		return SetStatic{v, randomStatic(r)}
	case n < 55:
		return DeleteStatic{v, randomPrefix(r), uint8(r.IntN(3))}
	case n < 94:
		return randomBGP(r, v)
	case n < 97:
		return MarkStale{v, BGP}
	}
	return Sweep{v, BGP}
}

// randomHop is mostly an address of a subnet that interfaces have: a table of
// nothing but routes through each other takes the twin longer than the universe.
func randomHop(r *rand.Rand) netip.Addr {
	if r.IntN(5) == 0 {
		return randomAddr(r)
	}
	return netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(4)), byte(r.IntN(4))})
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 1, 13, 184, byte(r.IntN(2)), 15: byte(r.IntN(4))})
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(2)), byte(r.IntN(4))})
}

func randomPrefix(r *rand.Rand) netip.Prefix {
	a := randomAddr(r)
	if r.IntN(5) == 0 {
		a = randomHop(r)
	}
	bits := []int{0, 8, 15, 16, 24, 31, 32}[r.IntN(7)]
	if a.Is6() {
		bits = []int{0, 32, 39, 40, 64, 127, 128}[r.IntN(7)]
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func randomInterface(r *rand.Rand, v fib.VRF) Interface {
	f := Interface{ID: fib.InterfaceID(1 + r.IntN(3)), VRF: v, Up: r.IntN(3) > 0}
	for range r.IntN(3) {
		a := randomHop(r)
		f.Addresses = append(f.Addresses, netip.PrefixFrom(a, a.BitLen()-[]int{0, 1, 8, 16}[r.IntN(4)]))
	}
	f.Addresses = append(f.Addresses, netip.MustParsePrefix("fe80::1/64"))
	return f
}

func randomVias(r *rand.Rand) []Via {
	var vias []Via
	for range 1 + r.IntN(3) {
		v := Via{Address: randomHop(r), Weight: uint8(r.IntN(4)), Backup: r.IntN(4) == 0}
		if r.IntN(5) == 0 {
			v.Foreign, v.VRF = true, fib.VRF(r.IntN(3))
		}
		switch r.IntN(6) {
		case 0:
			v.Address, v.Interface = netip.Addr{}, fib.InterfaceID(1+r.IntN(3))
		case 1:
			v.Interface = fib.InterfaceID(1 + r.IntN(3))
		}
		vias = append(vias, v)
	}
	return vias
}

func randomStatic(r *rand.Rand) StaticRoute {
	s := StaticRoute{Prefix: randomPrefix(r), Distance: uint8(r.IntN(3)), Tag: uint32(r.IntN(2))}
	switch r.IntN(6) {
	case 0:
		s.Kind = fib.Blackhole
	case 1:
		s.Kind = fib.Reject
	default:
		s.Vias = randomVias(r)
	}
	if r.IntN(6) == 0 {
		s.Tracks = randomVias(r)
	}
	return s
}

func randomLeak(r *rand.Rand, from fib.VRF) Update {
	l := SetLeak{From: from, To: fib.VRF(r.IntN(3))}
	if l.To == from {
		l.To = (from + 1) % 3
	}
	for range r.IntN(3) {
		l.Rules = append(l.Rules, LeakRule{Export: randomMatch(r), Import: randomMatch(r), Distance: uint8(r.IntN(4))})
	}
	return l
}

func randomMatch(r *rand.Rand) Match {
	var m Match
	switch r.IntN(7) {
	case 6:
		m.Communities = []string{randomCommunities[r.IntN(4)], "65000:1"}
	case 0:
		m.Protocols = []Protocol{Protocol(1 + r.IntN(4)), Protocol(1 + r.IntN(4))}
	case 1:
		m.Tags = []uint32{uint32(r.IntN(2))}
	case 2:
		for range 1 + r.IntN(3) {
			p := PrefixRule{Prefix: randomPrefix(r), Deny: r.IntN(2) == 0}
			if r.IntN(2) == 0 {
				p.Min, p.Max = uint8(r.IntN(33)), uint8(24+r.IntN(105))
			}
			m.Prefixes = append(m.Prefixes, p)
		}
	}
	return m
}

var randomCommunities = [...]string{"", "65000:1", "65000:1 65000:2", "65000:3"}

func randomBGP(r *rand.Rand, v fib.VRF) Update {
	b := BGPRoutes{VRF: v}
	for range 1 + r.IntN(4) {
		x := BGPRoute{Prefix: randomPrefix(r)}
		if r.IntN(4) > 0 {
			internal := r.IntN(2) == 0
			for range 1 + r.IntN(2) {
				x.Paths = append(x.Paths, Path{NextHop: randomHop(r), MED: uint32(r.IntN(3)), Internal: internal, Communities: randomCommunities[r.IntN(4)]})
			}
		}
		b.Routes = append(b.Routes, x)
	}
	return b
}
