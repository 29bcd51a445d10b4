package rib

import "godwit/fib"

// The decision among the candidates of one prefix (docs/rib.md has the same list):
//
//  1. A candidate is usable if at least one of its next hops resolves;
//     blackhole, reject and local ones always are. Others are left out.
//  2. The lowest administrative distance wins.
//  3. At equal distance: local, connected, static, BGP.
//  4. Among local and connected ones: the lowest interface number.
//
// Steps 2 to 4 are the order of the list (cand.precedes), so the choice is the
// first usable one.
func (t *Table) choose(n *node) uint32 {
	for i := n.first; i != 0; {
		c := t.cands.at(i)
		if t.sets.at(c.set).usable {
			return i
		}
		i = c.next
	}
	return 0
}

// decide chooses a prefix's route and makes the changes; a node that holds
// nothing any more goes. touched tells that its candidates changed.
func (t *Table) decide(v *vrf, ni uint32, touched bool) {
	n := t.nodes.at(ni)
	var c *cand
	want := uint32(0)
	proto := Protocol(0)
	if i := t.choose(n); i != 0 {
		c = t.cands.at(i)
		want, proto = c.set, c.proto
	}
	if want != n.setInst {
		t.install(v, n, want)
	}
	if proto != n.best || proto == Static && touched {
		t.noteBest(v, n, proto, c)
	}
	n.best = proto
	if n.empty() {
		fam := 1
		if n.is4 {
			fam = 0
		}
		v.routes[fam].remove(&t.nodes, ni)
	}
}

// install moves a prefix from its set to another, or out of the FIB.
func (t *Table) install(v *vrf, n *node, want uint32) {
	r := fib.Route{VRF: v.id, Prefix: n.prefix(n.is4)}
	fam := 1
	if n.is4 {
		fam = 0
	}
	if want != 0 {
		s := t.sets.at(want)
		if s.is.ID == 0 {
			t.nextGroup++
			s.is.ID = t.nextGroup
			t.groups++
			t.out = append(t.out, fib.Change{Op: fib.SetGroup, Group: s.is})
		}
		s.routes++
		r.Group = s.is.ID
		t.out = append(t.out, fib.Change{Op: fib.SetRoute, Route: r})
	} else {
		t.out = append(t.out, fib.Change{Op: fib.DeleteRoute, Route: r})
		v.counts[fam]--
	}
	if old := n.setInst; old != 0 {
		s := t.sets.at(old)
		if s.routes--; s.routes == 0 {
			t.idle(old, s)
		}
	} else {
		v.counts[fam]++
	}
	n.setInst = want
}

// noteBest tells redistribution of a choice that is or was connected or static.
func (t *Table) noteBest(v *vrf, n *node, p Protocol, c *cand) {
	was := n.best == Connected || n.best == Static
	is := p == Connected || p == Static
	if !was && !is {
		return
	}
	b := BestChange{VRF: v.id, Prefix: n.prefix(n.is4)}
	if is {
		b.Protocol = p
		if p == Static {
			b.Tag = c.info
		}
	}
	t.best = append(t.best, b)
}
