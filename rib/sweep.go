package rib

// sweep is a walk over a VRF's routes: it removes a protocol's stale ones, or
// does for each what its owner says.
type sweep struct {
	vrf   *vrf
	proto Protocol // whose stale routes go; 0: another walk
	leak  uint32
	each  func(*Table, *sweep, *node)
	done  func(*Table, *sweep) // may be nil
	fam   int
	at    key
	begun bool
}

func (t *Table) startSweep(v *vrf, p Protocol) {
	t.stopSweep(v, p)
	t.sweeps = append(t.sweeps, &sweep{vrf: v, proto: p, each: (*Table).sweepNode})
}

// stopSweep ends a walk: what is stale was marked again, and waits for the
// next one.
func (t *Table) stopSweep(v *vrf, p Protocol) {
	for i, w := range t.sweeps {
		if w.vrf == v && w.proto == p && !v.removing {
			t.sweeps = append(t.sweeps[:i], t.sweeps[i+1:]...)
			return
		}
	}
}

// runSweeps goes on with the walks.
func (t *Table) runSweeps(budget *int) {
	for len(t.sweeps) > 0 && *budget > 0 {
		w := t.sweeps[0]
		if !t.runSweep(w, budget) {
			return
		}
		t.sweeps = t.sweeps[1:]
		if w.done != nil {
			w.done(t, w)
		}
	}
	if len(t.sweeps) == 0 {
		t.sweeps = nil
	}
}

// runSweep walks within the budget and reports whether it reached the end.
func (t *Table) runSweep(w *sweep, budget *int) bool {
	for ; w.fam < 2; w.fam, w.begun, w.at = w.fam+1, false, (key{}) {
		tr := &w.vrf.routes[w.fam]
		i := tr.seek(&t.nodes, w.at)
		if w.begun {
			i = tr.after(&t.nodes, w.at)
		}
		for ; i != 0; i = tr.step(&t.nodes, i) {
			if *budget == 0 {
				return false
			}
			*budget--
			n := t.nodes.at(i)
			w.each(t, w, n)
			w.at, w.begun = n.key, true
		}
	}
	return true
}

func (t *Table) sweepNode(w *sweep, n *node) {
	for i := n.first; i != 0; {
		c := t.cands.at(i)
		next := c.next
		if c.leak == 0 && c.proto == w.proto && c.gen != w.vrf.gen[w.proto] {
			t.unlink(w.vrf, i)
		}
		i = next
	}
}

// dropVRFs forgets the VRFs that were to be removed, once nothing of them is left.
func (t *Table) dropVRFs() {
	if t.removing == 0 || t.More() {
		return
	}
	for id, v := range t.vrfs {
		if v.removing && v.idle() {
			delete(t.vrfs, id)
			t.removing--
		}
	}
}

// idle tells whether nothing is left of a VRF, and no other one refers to it.
func (v *vrf) idle() bool {
	return v.cands == ([numProtocols]int{}) && v.hops[0].root == 0 && v.hops[1].root == 0 && len(v.exports)+len(v.imports) == 0
}
