package rib

import "cmp"

// cand is one protocol's offer for a prefix, of the VRF itself or a copy of
// another VRF's (see leak). The candidates of a prefix are a list in the order of the
// decision; those that say the same next-hop set are chained too, so that a set
// finds its routes.
type cand struct {
	next    uint32 // of the prefix
	node    uint32
	set     uint32
	setNext uint32
	setPrev uint32
	info    uint32 // connected, local: interface; static: tag; BGP: attrs
	leak    uint32 // that it came by, 0: it is the VRF's own
	gen     uint16 // stale if not the VRF's; of a copy: the distance in the other VRF
	proto   Protocol
	dist    uint8
}

// tag is the number that a static route has for filters.
func (c *cand) tag() uint32 {
	if c.proto == Static {
		return c.info
	}
	return 0
}

// compare is the fixed part of the decision, steps 2 to 7: it does not depend
// on what is usable.
func (t *Table) compare(c, o *cand) int {
	if n := cmp.Compare(c.dist, o.dist); n != 0 {
		return n // step 2: lowest administrative distance
	}
	if own := c.leak == 0; own != (o.leak == 0) {
		if own {
			return -1 // step 3: the VRF's own before leaked ones
		}
		return 1
	}
	if n := cmp.Compare(c.proto, o.proto); n != 0 {
		return n // step 4: local, connected, static, BGP
	}
	if c.leak != o.leak {
		return cmp.Compare(t.leaks.at(c.leak).from.id, t.leaks.at(o.leak).from.id) // step 5: lowest VRF number of origin
	}
	if c.proto == Local || c.proto == Connected {
		return cmp.Compare(c.info, o.info) // step 6: lowest interface number
	}
	if c.leak != 0 {
		return cmp.Compare(c.gen, o.gen) // step 7: lowest distance in the VRF of origin
	}
	return 0
}

// findCand finds a protocol's own candidate: for local and connected the
// interface's, for static the distance's.
func (t *Table) findCand(n *node, p Protocol, dist uint8, info uint32) uint32 {
	for i := n.first; i != 0; {
		c := t.cands.at(i)
		if c.proto == p && c.leak == 0 {
			switch p {
			case Local, Connected:
				if c.info == info {
					return i
				}
			case Static:
				if c.dist == dist {
					return i
				}
			default:
				return i
			}
		}
		i = c.next
	}
	return 0
}

// link adds a candidate for the prefix of node ni, and its copies where the
// VRF leaks to.
func (t *Table) link(v *vrf, ni uint32, x cand) {
	i, c := t.cands.get()
	*c = x
	c.node, c.setNext, c.setPrev = ni, 0, 0
	n := t.nodes.at(ni)
	if n.first == 0 {
		v.used++
	}
	at := &n.first
	for *at != 0 && t.compare(t.cands.at(*at), c) < 0 {
		at = &t.cands.at(*at).next
	}
	c.next, *at = *at, i
	t.chain(i, c)
	v.cands[c.proto]++
	t.touch(v, ni, n)
	if c.leak != 0 {
		v.leaked++
	} else if len(v.exports) > 0 {
		t.leakOut(v, n, c)
	}
}

// unlink removes a candidate. The node stays until it is decided.
func (t *Table) unlink(v *vrf, i uint32) {
	c := t.cands.at(i)
	n := t.nodes.at(c.node)
	if c.leak != 0 {
		v.leaked--
	} else if len(v.exports) > 0 {
		t.unleak(v, n, c)
	}
	at := &n.first
	for *at != i {
		at = &t.cands.at(*at).next
	}
	*at = c.next
	if n.first == 0 {
		v.used--
	}
	t.unchain(i, c)
	if c.proto == BGP {
		t.releaseAttrs(c.info)
	}
	v.cands[c.proto]--
	t.touch(v, c.node, n)
	t.cands.put(i)
}

// chain puts a candidate into its set's list.
func (t *Table) chain(i uint32, c *cand) {
	s := t.sets.at(c.set)
	c.setPrev, c.setNext = 0, s.users
	if s.users != 0 {
		t.cands.at(s.users).setPrev = i
	}
	s.users = i
}

func (t *Table) unchain(i uint32, c *cand) {
	s := t.sets.at(c.set)
	if s.cursor == i {
		s.cursor = c.setNext
	}
	if c.setPrev != 0 {
		t.cands.at(c.setPrev).setNext = c.setNext
	} else {
		s.users = c.setNext
	}
	if c.setNext != 0 {
		t.cands.at(c.setNext).setPrev = c.setPrev
	}
	if s.users == 0 {
		t.idle(c.set, s)
	}
}

// touch queues a route for decision, and the next hops below it for resolution.
func (t *Table) touch(v *vrf, ni uint32, n *node) {
	if !n.queued {
		n.queued = true
		t.touched = append(t.touched, touched{v, ni})
	}
}

// setRoute makes or replaces a protocol's candidate.
func (t *Table) setRoute(v *vrf, fam int, k key, p Protocol, dist uint8, info, set uint32) {
	ni := v.routes[fam].insert(&t.nodes, k)
	if i := t.findCand(t.nodes.at(ni), p, dist, info); i != 0 {
		c := t.cands.at(i)
		c.gen = v.gen[p]
		if c.set == set && c.dist == dist && c.info == info {
			t.release(set)
			return
		}
		t.unlink(v, i)
	}
	t.link(v, ni, cand{set: set, proto: p, dist: dist, info: info, gen: v.gen[p]})
	t.release(set)
}

// deleteRoute removes a protocol's candidate, if there is one.
func (t *Table) deleteRoute(v *vrf, fam int, k key, p Protocol, dist uint8, info uint32) {
	ni := v.routes[fam].get(&t.nodes, k)
	if ni == 0 {
		return
	}
	if i := t.findCand(t.nodes.at(ni), p, dist, info); i != 0 {
		t.unlink(v, i)
	}
}
