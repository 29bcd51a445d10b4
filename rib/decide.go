package rib

import "godwit/fib"

// The decision among the candidates of one prefix (docs/rib.md has the same list):
//
//  1. A candidate is usable if at least one of its next hops resolves;
//     blackhole, reject and local ones always are. Others are left out.
//  2. The lowest administrative distance wins.
//  3. At equal distance: the VRF's own before those leaked from other VRFs.
//  4. Local, connected, static, BGP.
//  5. Among leaked ones: the lowest number of the VRF of origin.
//  6. Among local and connected ones: the lowest interface number.
//  7. Among static ones of another VRF: the lowest distance there.
//
// Steps 2 to 7 are the order of the list (Table.compare), so the choice is the
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
		touched = true
		t.install(v, n, want, proto)
	}
	n.best = proto
	t.noteBest(v, n, c, touched)
	if n.empty() {
		v.routes[n.family()].remove(&t.nodes, ni)
	}
}

// install moves a prefix from its set to another, or out of the FIB.
func (t *Table) install(v *vrf, n *node, want uint32, proto Protocol) {
	r := fib.Route{VRF: v.id, Prefix: n.prefix(n.is4)}
	fam := n.family()
	log := RouteChange{VRF: v.id, Prefix: r.Prefix}
	if n.setInst != 0 {
		s := t.sets.at(n.setInst)
		log.Old = Installed{n.best, s.vrf.id, s.is.ID}
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
		log.New = Installed{proto, s.vrf.id, s.is.ID}
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
	t.hist.add(log)
}

// offered is what redistribution was told of a prefix: a protocol, and whether
// the route is leaked.
type offered uint8

const offeredLeaked offered = 0x80

func (o offered) protocol() Protocol { return Protocol(o &^ offeredLeaked) }

// offer is what redistribution gets for a choice: connected, static, and all
// that is leaked from other VRFs. An interface's address that is its whole subnet is
// connected as much as it is local.
func (t *Table) offer(c *cand) offered {
	switch {
	case c == nil:
		return 0
	case c.leak != 0 && c.proto != Local:
		return offered(c.proto) | offeredLeaked
	case c.proto == Local && c.leak == 0:
		for i := c.next; i != 0; i = t.cands.at(i).next {
			if o := t.cands.at(i); o.proto == Connected && o.leak == 0 {
				return offered(Connected)
			}
		}
	case c.proto == Connected, c.proto == Static:
		return offered(c.proto)
	}
	return 0
}

func (t *Table) bestChange(v *vrf, n *node, c *cand, o offered) BestChange {
	b := BestChange{VRF: v.id, Prefix: n.prefix(n.is4), Protocol: o.protocol(), Leaked: o&offeredLeaked != 0}
	if o != 0 {
		b.Tag = c.tag()
	}
	return b
}

// noteBest tells redistribution of a choice that is or was offered to it.
func (t *Table) noteBest(v *vrf, n *node, c *cand, changed bool) {
	o := t.offer(c)
	if o != n.offered || o.protocol() == Static && changed {
		n.offered = o
		t.best = append(t.best, t.bestChange(v, n, c, o))
	}
}
