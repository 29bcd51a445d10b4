package rib

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"godwit/fib"
)

// A leak gives the routes of one VRF to another. Every candidate of the one that
// the rules accept has a copy in the other, with the same next-hop set: the next
// hops stay in the VRF that they came from, and so does the group. Copies are
// not leaked on, so there is no loop. A local route is copied as reject: the
// router answers to an address in its own VRF only.

// SetLeak makes or replaces the leak from one VRF to another; a route is
// leaked if one of the rules accepts it. Large tables go in slices (see More).
type SetLeak struct {
	From, To fib.VRF
	Rules    []LeakRule
}

// DeleteLeak ends a leak, in slices (see More).
type DeleteLeak struct{ From, To fib.VRF }

// LeakRule accepts what both sides accept.
type LeakRule struct {
	Export, Import Match
	Distance       uint8 // in the importing VRF; 0: as in the other
}

// Match selects routes; what is empty accepts all.
type Match struct {
	Prefixes  []PrefixRule // the first that fits decides; if none does: no
	Protocols []Protocol
	Tags      []uint32
	// Communities are names as Path has them. Each path of a route has to have one;
	// routes of other protocols than BGP have none.
	Communities []string
}

// PrefixRule accepts or denies the prefixes inside one, of a length from Min to
// Max; both zero: itself only.
type PrefixRule struct {
	Prefix   netip.Prefix
	Min, Max uint8
	Deny     bool
}

// Accepts tells whether a route fits; paths are those of a BGP route.
func (m *Match) Accepts(p netip.Prefix, proto Protocol, tag uint32, paths []Path) bool {
	if len(m.Protocols) > 0 && !slices.Contains(m.Protocols, proto) || len(m.Tags) > 0 && !slices.Contains(m.Tags, tag) {
		return false
	}
	if len(m.Communities) > 0 && !m.named(paths) {
		return false
	}
	if len(m.Prefixes) == 0 {
		return true
	}
	for i := range m.Prefixes {
		if m.Prefixes[i].fits(p) {
			return !m.Prefixes[i].Deny
		}
	}
	return false
}

// named tells whether each path has one of the communities.
func (m *Match) named(paths []Path) bool {
	for i := range paths {
		if !m.namedPath(paths[i].Communities) {
			return false
		}
	}
	return len(paths) > 0
}

func (m *Match) namedPath(names string) bool {
	for name := range strings.SplitSeq(names, " ") {
		if name != "" && slices.Contains(m.Communities, name) {
			return true
		}
	}
	return false
}

func (r *PrefixRule) fits(p netip.Prefix) bool {
	if p.Bits() < r.Prefix.Bits() || !r.Prefix.Contains(p.Addr()) {
		return false
	}
	if r.Min == 0 && r.Max == 0 {
		return p.Bits() == r.Prefix.Bits()
	}
	return p.Bits() >= int(r.Min) && p.Bits() <= int(r.Max)
}

// leak is in from.exports and to.imports until it is dead and no copy is left.
type leak struct {
	from, to *vrf
	rules    []LeakRule
	dead     bool
}

func (u SetLeak) apply(t *Table) error {
	from, err := t.vrf(u.From)
	if err != nil {
		return fmt.Errorf("leak routes from: %w", err)
	}
	to, err := t.vrf(u.To)
	if err != nil {
		return fmt.Errorf("leak routes to: %w", err)
	}
	if from == to {
		return fmt.Errorf("leak routes: %w: from VRF %d to itself", ErrBadRoute, u.From)
	}
	i := t.findLeak(u.From, u.To)
	if i == 0 {
		var l *leak
		i, l = t.leaks.get()
		l.from, l.to = from, to
		from.exports, to.imports = append(from.exports, i), append(to.imports, i)
	}
	l := t.leaks.at(i)
	l.rules, l.dead = slices.Clone(u.Rules), false
	t.startLeak(i, l)
	return nil
}

func (u DeleteLeak) apply(t *Table) error {
	if i := t.findLeak(u.From, u.To); i != 0 {
		t.endLeak(i)
	}
	return nil
}

func (t *Table) findLeak(from, to fib.VRF) uint32 {
	v := t.vrfs[from]
	if v == nil {
		return 0
	}
	for _, i := range v.exports {
		if t.leaks.at(i).to.id == to {
			return i
		}
	}
	return 0
}

func (t *Table) endLeak(i uint32) {
	l := t.leaks.at(i)
	l.dead = true
	t.startLeak(i, l)
}

// startLeak walks over the exporting VRF and makes the copies what they shall be.
func (t *Table) startLeak(i uint32, l *leak) {
	t.sweeps = slices.DeleteFunc(t.sweeps, func(w *sweep) bool { return w.leak == i })
	t.sweeps = append(t.sweeps, &sweep{vrf: l.from, leak: i, each: (*Table).releak, done: (*Table).leakDone})
}

// releak checks the copies of one node's candidates.
func (t *Table) releak(w *sweep, n *node) {
	l := t.leaks.at(w.leak)
	for i := n.first; i != 0; {
		c := t.cands.at(i)
		if c.leak == 0 {
			has := t.findCopy(w.leak, l, n, c)
			dist, want := t.accepts(l, n, c)
			if has != 0 && (!want || t.cands.at(has).dist != dist) {
				t.unlink(l.to, has)
				has = 0
			}
			if has == 0 && want {
				t.copyTo(w.leak, l, n, c, dist)
			}
		}
		i = c.next
	}
}

// leakDone forgets a dead leak behind its last walk.
func (t *Table) leakDone(w *sweep) {
	l := t.leaks.at(w.leak)
	if !l.dead {
		return
	}
	l.from.exports = slices.DeleteFunc(l.from.exports, func(i uint32) bool { return i == w.leak })
	l.to.imports = slices.DeleteFunc(l.to.imports, func(i uint32) bool { return i == w.leak })
	t.leaks.put(w.leak)
}

// accepts tells whether a candidate is leaked, and with what distance.
func (t *Table) accepts(l *leak, n *node, c *cand) (dist uint8, ok bool) {
	if l.dead {
		return 0, false
	}
	p := n.prefix(n.is4)
	var paths []Path
	if c.proto == BGP {
		paths = t.attrs.at(c.info).paths
	}
	for i := range l.rules {
		r := &l.rules[i]
		if r.Export.Accepts(p, c.proto, c.tag(), paths) && r.Import.Accepts(p, c.proto, c.tag(), paths) {
			if r.Distance != 0 {
				return r.Distance, true
			}
			return c.dist, true
		}
	}
	return 0, false
}

// leakOut copies a new candidate to where its VRF leaks.
func (t *Table) leakOut(v *vrf, n *node, c *cand) {
	for _, i := range v.exports {
		l := t.leaks.at(i)
		if dist, ok := t.accepts(l, n, c); ok {
			t.copyTo(i, l, n, c, dist)
		}
	}
}

// unleak removes the copies of a candidate that goes.
func (t *Table) unleak(v *vrf, n *node, c *cand) {
	for _, i := range v.exports {
		l := t.leaks.at(i)
		if copied := t.findCopy(i, l, n, c); copied != 0 {
			t.unlink(l.to, copied)
		}
	}
}

func (t *Table) copyTo(i uint32, l *leak, n *node, c *cand, dist uint8) {
	fam := n.family()
	if t.full(l.to, fam, n.key, false) {
		l.to.relist = true
		return
	}
	set := c.set
	if c.proto == Local {
		set = t.intern(l.to, fib.Reject, nil, nil)
	} else {
		t.hold(set)
	}
	if c.proto == BGP {
		t.attrs.at(c.info).refs++
	}
	ni := l.to.routes[fam].insert(&t.nodes, n.key)
	t.link(l.to, ni, cand{set: set, proto: c.proto, dist: dist, info: c.info, leak: i, gen: uint16(c.dist)})
	t.release(set)
}

// findCopy finds the copy of a candidate. Two that are alike (static routes with
// equal tags and next hops, whose distances the rules make equal) have copies that are alike.
func (t *Table) findCopy(i uint32, l *leak, n *node, c *cand) uint32 {
	ni := l.to.routes[n.family()].get(&t.nodes, n.key)
	if ni == 0 {
		return 0
	}
	for at := t.nodes.at(ni).first; at != 0; {
		o := t.cands.at(at)
		if o.leak == i && o.proto == c.proto && o.info == c.info && o.gen == uint16(c.dist) && (o.set == c.set || c.proto == Local) {
			return at
		}
		at = o.next
	}
	return 0
}

// origin is the VRF that a candidate was made in: it has a copy in v.
func (t *Table) origin(v *vrf, c *cand) *vrf {
	if c.leak == 0 {
		return v
	}
	return t.leaks.at(c.leak).from
}

// home is the VRF whose table a candidate of a set is in.
func (t *Table) home(s *set, c *cand) *vrf {
	if c.leak == 0 {
		return s.vrf
	}
	return t.leaks.at(c.leak).to
}
