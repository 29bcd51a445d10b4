package rib

import (
	"fmt"
	"net/netip"
	"slices"

	"godwit/fib"
)

// Route is one prefix as queries show it.
type Route struct {
	VRF        fib.VRF
	Prefix     netip.Prefix
	Group      fib.GroupID // 0: not in the FIB
	Candidates []Candidate // in the order of the decision
}

// Candidate is one protocol's offer for a prefix.
type Candidate struct {
	Protocol Protocol
	Leaked   bool    // from another VRF
	Origin   fib.VRF // the VRF that it was made in
	Distance uint8
	Tag      uint32
	Kind     fib.Kind
	Usable   bool
	Chosen   bool
	Stale    bool
	Reason   string    // why chosen, or which step of the decision it lost
	Vias     []ViaInfo // what the protocol said
	Tracks   []ViaInfo // what a static route depends on besides
	Resolved []fib.NextHop
	Paths    []Path // BGP; the table's, not to be changed
}

// ViaInfo is a next hop as the protocol said it and what became of it.
type ViaInfo struct {
	Via
	Usable bool
	Chain  []string // how it was resolved, a line a step
}

// Filter selects routes.
type Filter struct {
	Family    int          // 4, 6; 0: both
	Prefix    netip.Prefix // with Longer: it and its more-specifics; else itself
	Longer    bool
	Protocol  Protocol   // of the chosen candidate
	NextHop   netip.Addr // said or resolved
	Tag       *uint32    // of the chosen candidate, or if none is, of one
	Leaked    bool       // the chosen candidate is from another VRF
	Installed bool       // only what is in the FIB
	Explain   bool       // all candidates, with reasons and chains; else the chosen one, or all if none is
}

// Cursor is a place in a listing; the zero Cursor is the start.
type Cursor struct {
	fam   int
	key   key
	begun bool
}

// Page lists up to limit routes of a VRF behind a cursor, in the order of
// family, address and length; it looks at no more than 8 times as many. done
// tells that there are no more. Routes that change meanwhile are seen as they
// are when the page that has them is made.
func (t *Table) Page(id fib.VRF, f Filter, from Cursor, limit int) (routes []Route, next Cursor, done bool) {
	v, err := t.vrf(id)
	if err != nil {
		return nil, from, true
	}
	next = from
	for looks := 8 * limit; next.fam < 2; next = (Cursor{fam: next.fam + 1}) {
		if f.Family == 4 && next.fam != 0 || f.Family == 6 && next.fam != 1 ||
			f.Prefix.IsValid() && family(f.Prefix.Addr()) != next.fam {
			continue
		}
		for i := t.place(v, f, next); i != 0; i = v.routes[next.fam].step(&t.nodes, i) {
			n := t.nodes.at(i)
			if f.Prefix.IsValid() && !f.within(n) {
				break
			}
			if looks == 0 || len(routes) == limit {
				return routes, next, false
			}
			looks--
			next.key, next.begun = n.key, true
			if r, ok := t.show(v, n, f); ok {
				routes = append(routes, r)
			}
		}
	}
	return routes, next, true
}

// place finds the first node that a page looks at.
func (t *Table) place(v *vrf, f Filter, c Cursor) uint32 {
	tr := &v.routes[c.fam]
	switch {
	case c.begun:
		return tr.after(&t.nodes, c.key)
	case f.Prefix.IsValid():
		return tr.seek(&t.nodes, keyOf(f.Prefix.Masked()))
	}
	return tr.seek(&t.nodes, key{})
}

func (f *Filter) within(n *node) bool {
	k := keyOf(f.Prefix.Masked())
	return n.bits == k.bits && n.key == k || f.Longer && n.bits > k.bits && n.common(k) == k.bits
}

// show makes the view of a node, if the filter wants it.
func (t *Table) show(v *vrf, n *node, f Filter) (Route, bool) {
	if n.first == 0 || f.Installed && n.setInst == 0 {
		return Route{}, false
	}
	if f.Protocol != 0 && n.best != f.Protocol || f.Leaked && n.offered&offeredLeaked == 0 {
		return Route{}, false
	}
	if f.Tag != nil && !t.hasTag(n, *f.Tag) {
		return Route{}, false
	}
	if f.NextHop.IsValid() && !t.hasNextHop(n, f.NextHop) {
		return Route{}, false
	}
	return t.view(v, n, f.Explain), true
}

func (t *Table) hasTag(n *node, tag uint32) bool {
	if i := t.choose(n); i != 0 {
		return t.cands.at(i).tag() == tag
	}
	for i := n.first; i != 0; i = t.cands.at(i).next {
		if t.cands.at(i).tag() == tag {
			return true
		}
	}
	return false
}

func (t *Table) hasNextHop(n *node, a netip.Addr) bool {
	for i := n.first; i != 0; i = t.cands.at(i).next {
		s := t.sets.at(t.cands.at(i).set)
		for _, m := range s.members {
			if t.hops.at(m.hop).addr == a {
				return true
			}
		}
		for _, h := range s.is.NextHops {
			if h.Gateway == a {
				return true
			}
		}
	}
	return false
}

func (t *Table) view(v *vrf, n *node, explain bool) Route {
	r := Route{VRF: v.id, Prefix: n.prefix(n.is4)}
	if n.setInst != 0 {
		r.Group = t.sets.at(n.setInst).is.ID
	}
	chosen := t.choose(n)
	for i := n.first; i != 0; {
		c := t.cands.at(i)
		if explain || chosen == 0 || i == chosen {
			r.Candidates = append(r.Candidates, t.viewCand(v, n, c, chosen, explain))
		}
		i = c.next
	}
	return r
}

func (t *Table) viewCand(v *vrf, n *node, c *cand, chosen uint32, explain bool) Candidate {
	s := t.sets.at(c.set)
	x := Candidate{
		Protocol: c.proto, Distance: c.dist, Kind: s.kind, Usable: s.usable, Stale: t.stale(v, n, c),
		Leaked: c.leak != 0, Origin: t.origin(v, c).id, Tag: c.tag(),
	}
	var best *cand
	if chosen != 0 {
		best = t.cands.at(chosen)
	}
	x.Chosen = best == c
	x.Reason = t.reason(c, s, best)
	if s.usable {
		x.Resolved = slices.Clone(s.is.NextHops)
	}
	if c.proto == BGP {
		x.Paths = t.attrs.at(c.info).paths
	}
	for _, m := range s.members {
		via := t.viewVia(v, m.hop, m.weight, explain)
		via.Backup = m.backup
		x.Vias = append(x.Vias, via)
	}
	for _, h := range s.tracks {
		x.Tracks = append(x.Tracks, t.viewVia(v, h, 0, explain))
	}
	return x
}

// viewVia shows a next hop of a route of VRF v.
func (t *Table) viewVia(v *vrf, i uint32, weight uint8, explain bool) ViaInfo {
	h := t.hops.at(i)
	via := ViaInfo{Via: Via{Address: h.addr, Interface: h.iface, Weight: weight}, Usable: h.ok()}
	if h.vrf != v.id {
		via.Foreign, via.VRF = true, h.vrf
	}
	if explain {
		via.Chain = t.chainOf(h, nil, 0, v.id)
	}
	return via
}

// stale tells whether a candidate is kept from before a restart; a copy is if
// its original is.
func (t *Table) stale(v *vrf, n *node, c *cand) bool {
	if c.leak == 0 {
		return c.gen != v.gen[c.proto]
	}
	from := t.leaks.at(c.leak).from
	if ni := from.routes[n.family()].get(&t.nodes, n.key); ni != 0 {
		if i := t.findCand(t.nodes.at(ni), c.proto, uint8(c.gen), c.info); i != 0 {
			return t.cands.at(i).gen != from.gen[c.proto]
		}
	}
	return false
}

// reason names the step of the decision that chose a candidate, or left it.
func (t *Table) reason(c *cand, s *set, best *cand) string {
	switch {
	case !s.usable:
		return "step 1: no next hop is usable: " + t.whyUnusable(s)
	case best == c:
		if c.next != 0 {
			return "chosen: first usable one"
		}
		return "chosen: the only usable one"
	case c.dist != best.dist:
		return fmt.Sprintf("step 2: distance %d is higher than %d", c.dist, best.dist)
	case c.leak != 0 && best.leak == 0:
		return "step 3: leaked from another VRF, behind the VRF's own"
	case c.proto != best.proto:
		return fmt.Sprintf("step 4: %v comes behind %v", c.proto, best.proto)
	case c.leak != best.leak:
		return fmt.Sprintf("step 5: VRF %v has a higher number than VRF %v", t.leaks.at(c.leak).from, t.leaks.at(best.leak).from)
	case c.proto == Static:
		return "step 7: higher distance in the VRF of origin"
	}
	return "step 6: higher interface number"
}

func (t *Table) whyUnusable(s *set) string {
	for _, x := range s.tracks {
		if h := t.hops.at(x); len(h.leaves) == 0 {
			return fmt.Sprintf("tracked %s: %v", t.hopName(h, s.vrf.id), h.why)
		}
	}
	for _, m := range s.members {
		if h := t.hops.at(m.hop); !h.ok() {
			return h.why.String()
		}
	}
	return unusable.String()
}

// hopName names a next hop, with its VRF if that is another than at.
func (t *Table) hopName(h *hop, at fib.VRF) string {
	name := h.addr.String()
	if !h.addr.IsValid() {
		name = "interface"
	}
	if h.direct() {
		name += " on " + t.interfaceName(h.iface)
	}
	if h.vrf != at {
		name += fmt.Sprintf(" in VRF %v", h.v)
	}
	return name
}

// chainOf explains a resolution, a line a step; at is the VRF that the line
// before was in.
func (t *Table) chainOf(h *hop, lines []string, depth int, at fib.VRF) []string {
	name := t.hopName(h, at)
	switch {
	case !h.ok():
		return append(lines, name+": "+h.why.String())
	case h.direct():
		return append(lines, name+": interface is up")
	}
	leaked := ""
	if h.viaVRF != h.v {
		leaked = fmt.Sprintf(", leaked from VRF %v", h.viaVRF)
	}
	lines = append(lines, fmt.Sprintf("%s: through %v %v%s", name, h.viaProto, h.via.prefix(h.addr.Is4()), leaked))
	if h.kind != fib.Forward {
		return append(lines, fmt.Sprintf("%v: discards", h.kind))
	}
	s := t.sets.at(h.viaSet)
	for _, m := range s.members {
		if depth < t.opt.MaxDepth && len(lines) < 100 {
			lines = t.chainOf(t.hops.at(m.hop), lines, depth+1, h.vrf)
		}
	}
	return lines
}

func (t *Table) interfaceName(id fib.InterfaceID) string {
	if f := t.ifaces[id]; f != nil && f.Name != "" {
		return f.Name
	}
	return fmt.Sprintf("interface %d", id)
}

// Lookup finds the route that serves an address: the longest prefix that is
// in the FIB, explained, behind the longer ones that have no usable candidate.
func (t *Table) Lookup(id fib.VRF, a netip.Addr) []Route {
	v, err := t.vrf(id)
	if err != nil || !a.IsValid() {
		return nil
	}
	a = a.Unmap().WithZone("")
	var list []Route
	tr := &v.routes[family(a)]
	for i := tr.deepest(&t.nodes, addrKey(a, uint8(a.BitLen()))); i != 0; {
		n := t.nodes.at(i)
		if n.first != 0 {
			list = append(list, t.view(v, n, true))
		}
		if n.setInst != 0 {
			break
		}
		i = n.up
	}
	return list
}

// Best lists a page of the chosen routes that DrainBest tells of, for a speaker
// that starts; see Page.
func (t *Table) Best(id fib.VRF, from Cursor, limit int) (list []BestChange, next Cursor, done bool) {
	v, err := t.vrf(id)
	if err != nil {
		return nil, from, true
	}
	next = from
	for looks := limit; next.fam < 2; next = (Cursor{fam: next.fam + 1}) {
		for i := t.place(v, Filter{}, next); i != 0; i = v.routes[next.fam].step(&t.nodes, i) {
			if looks == 0 {
				return list, next, false
			}
			looks--
			n := t.nodes.at(i)
			next.key, next.begun = n.key, true
			if i := t.choose(n); i != 0 && n.offered != 0 {
				list = append(list, t.bestChange(v, n, t.cands.at(i), n.offered))
			}
		}
	}
	return list, next, true
}
