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
	Distance uint8
	Tag      uint32
	Kind     fib.Kind
	Usable   bool
	Chosen   bool
	Stale    bool
	Reason   string    // why chosen, or which step of the decision it lost
	Vias     []ViaInfo // what the protocol said
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
	if f.Protocol != 0 && n.best != f.Protocol {
		return Route{}, false
	}
	if f.NextHop.IsValid() && !t.hasNextHop(n, f.NextHop) {
		return Route{}, false
	}
	return t.view(v, n, f.Explain), true
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
			r.Candidates = append(r.Candidates, t.viewCand(v, c, chosen, explain))
		}
		i = c.next
	}
	return r
}

func (t *Table) viewCand(v *vrf, c *cand, chosen uint32, explain bool) Candidate {
	s := t.sets.at(c.set)
	x := Candidate{
		Protocol: c.proto, Distance: c.dist, Kind: s.kind, Usable: s.usable, Stale: c.gen != v.gen[c.proto],
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
	switch c.proto {
	case Static:
		x.Tag = c.info
	case BGP:
		x.Paths = t.attrs.at(c.info).paths
	}
	for _, m := range s.members {
		h := t.hops.at(m.hop)
		via := ViaInfo{Via: Via{h.addr, h.iface, m.weight}, Usable: h.ok()}
		if explain {
			via.Chain = t.chainOf(h, nil, 0)
		}
		x.Vias = append(x.Vias, via)
	}
	return x
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
	case c.proto != best.proto:
		return fmt.Sprintf("step 3: %v comes behind %v", c.proto, best.proto)
	}
	return "step 4: higher interface number"
}

func (t *Table) whyUnusable(s *set) string {
	for _, m := range s.members {
		if h := t.hops.at(m.hop); !h.ok() {
			return h.why.String()
		}
	}
	return unusable.String()
}

// chainOf explains a resolution, a line a step.
func (t *Table) chainOf(h *hop, lines []string, depth int) []string {
	name := h.addr.String()
	if !h.addr.IsValid() {
		name = "interface"
	}
	if h.direct() {
		name += " on " + t.interfaceName(h.iface)
	}
	switch {
	case !h.ok():
		return append(lines, name+": "+h.why.String())
	case h.direct():
		return append(lines, name+": interface is up")
	}
	lines = append(lines, fmt.Sprintf("%s: through %v %v", name, h.viaProto, h.via.prefix(h.addr.Is4())))
	if h.kind != fib.Forward {
		return append(lines, fmt.Sprintf("%v: discards", h.kind))
	}
	s := t.sets.at(h.viaSet)
	for _, m := range s.members {
		if depth < t.opt.MaxDepth && len(lines) < 100 {
			lines = t.chainOf(t.hops.at(m.hop), lines, depth+1)
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

// Best lists a page of the chosen connected and static routes, for a speaker
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
			if n.best != Connected && n.best != Static {
				continue
			}
			b := BestChange{VRF: id, Prefix: n.prefix(n.is4), Protocol: n.best}
			if c := t.choose(n); c != 0 && n.best == Static {
				b.Tag = t.cands.at(c).info
			}
			list = append(list, b)
		}
	}
	return list, next, true
}
