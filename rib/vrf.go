package rib

import (
	"fmt"

	"godwit/fib"
)

// SetVRF sets a VRF's options; the zero VRFOptions are the default.
type SetVRF struct {
	VRF     fib.VRF
	Options VRFOptions
}

// VRFOptions tune one VRF.
type VRFOptions struct {
	Name string // for explanations; empty: the number
	// ResolveByDefault lets next hops in the VRF resolve through 0.0.0.0/0 and ::/0.
	ResolveByDefault bool
	// EBGP and IBGP are the distances of external and internal BGP routes. 0:
	// DistanceEBGP, DistanceIBGP.
	EBGP, IBGP uint8
	// Limit is the number of prefixes, of both families, at which Notice says
	// LimitReached; with Refuse, BGP and leaked routes to further prefixes are left out
	// from then on, and asked for again (DrainMissing) once a twentieth of the limit is
	// free. Interfaces' and static routes are always taken. 0: no limit.
	Limit  int
	Refuse bool
	// Warn is the number at which Notice says LimitNear. 0: none.
	Warn int
}

// Notice tells that a VRF came near its limit, reached it, or left it.
type Notice struct {
	VRF   fib.VRF
	State LimitState
	Count int // prefixes
	Limit int
}

// LimitState says how full a VRF is.
type LimitState uint8

// The states.
const (
	LimitClear   LimitState = iota
	LimitNear               // at the warning
	LimitReached            // at the limit
)

func (s LimitState) String() string {
	switch s {
	case LimitClear:
		return "clear"
	case LimitNear:
		return "near"
	}
	return "reached"
}

func (u SetVRF) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err != nil {
		return fmt.Errorf("set VRF options: %w", err)
	}
	o := u.Options
	if o.EBGP == 0 {
		o.EBGP = DistanceEBGP
	}
	if o.IBGP == 0 {
		o.IBGP = DistanceIBGP
	}
	old := v.opt
	v.opt = o
	if old.ResolveByDefault != o.ResolveByDefault {
		t.markHops(v)
	}
	if old.EBGP != o.EBGP || old.IBGP != o.IBGP {
		t.sweeps = append(t.sweeps, &sweep{vrf: v, each: (*Table).redistance})
	}
	if old.Limit != o.Limit || old.Refuse != o.Refuse {
		t.relist(v)
	}
	return nil
}

func (t *Table) markHops(v *vrf) {
	for f := range v.hops {
		tr := &v.hops[f]
		for i := tr.seek(&t.nodes, key{}); i != 0; i = tr.step(&t.nodes, i) {
			if h := t.nodes.at(i).first; h != 0 {
				t.markHop(h, t.hops.at(h))
			}
		}
	}
}

// distanceOf is the distance of a BGP route.
func (v *vrf) distanceOf(a *attrs) uint8 {
	if a.paths[0].Internal {
		return v.opt.IBGP
	}
	return v.opt.EBGP
}

// redistance gives a node's BGP route the distance that it has now.
func (t *Table) redistance(w *sweep, n *node) {
	i := t.findCand(n, BGP, 0, 0)
	if i == 0 {
		return
	}
	c := *t.cands.at(i)
	a := t.attrs.at(c.info)
	if c.dist == w.vrf.distanceOf(a) {
		return
	}
	c.dist = w.vrf.distanceOf(a)
	t.hold(c.set)
	a.refs++
	t.unlink(w.vrf, i)
	t.link(w.vrf, c.node, c)
	t.release(c.set)
}

// full tells whether a prefix is one too many. always is for routes that are
// taken all the same.
func (t *Table) full(v *vrf, fam int, k key, always bool) bool {
	if always || !v.opt.Refuse || v.opt.Limit == 0 || v.used < v.opt.Limit {
		return false
	}
	if ni := v.routes[fam].get(&t.nodes, k); ni != 0 && t.nodes.at(ni).first != 0 {
		return false
	}
	v.refused++
	return true
}

// relist looks again at what is leaked into a VRF, and was refused.
func (t *Table) relist(v *vrf) {
	v.relist = false
	for _, i := range v.imports {
		t.startLeak(i, t.leaks.at(i))
	}
}

// checkLimits says which VRFs have another state, and takes leaked routes
// that were refused, and asks for those of BGP, when there is room again, a twentieth of the
// limit.
func (t *Table) checkLimits() {
	for _, v := range t.vrfs {
		s := v.state()
		if s != v.said {
			v.said = s
			t.notices = append(t.notices, Notice{v.id, s, v.used, v.opt.Limit})
		}
		if v.removing || v.opt.Refuse && v.opt.Limit > 0 && v.used >= v.opt.Limit-v.opt.Limit/20 {
			continue
		}
		if v.relist {
			t.relist(v)
		}
		if v.lacks {
			v.lacks = false
			t.missing = append(t.missing, v.id)
		}
	}
}

func (v *vrf) state() LimitState {
	switch {
	case v.opt.Limit > 0 && v.used >= v.opt.Limit:
		return LimitReached
	case v.opt.Warn > 0 && v.used >= v.opt.Warn:
		return LimitNear
	}
	return LimitClear
}

func (v *vrf) String() string {
	if v.opt.Name != "" {
		return v.opt.Name
	}
	return fmt.Sprint(uint32(v.id))
}

// DrainNotices takes the notices since the last time.
func (t *Table) DrainNotices() []Notice {
	n := t.notices
	t.notices = nil
	return n
}

// DrainMissing takes the VRFs that have room again for BGP routes that were refused:
// whoever applied them shall do so once more.
func (t *Table) DrainMissing() []fib.VRF {
	m := t.missing
	t.missing = nil
	return m
}

// VRFStats counts what a VRF holds.
type VRFStats struct {
	Routes4, Routes6 int // installed prefixes
	Prefixes         int // with a candidate, of both families: what Limit counts
	Leaked           int // candidates from other VRFs
	Refused          uint64
	Limit            int
	State            LimitState
}

// VRFStats tells a VRF's counts.
func (t *Table) VRFStats(id fib.VRF) VRFStats {
	v := t.vrfs[id]
	if v == nil {
		return VRFStats{}
	}
	return VRFStats{
		Routes4: v.counts[0], Routes6: v.counts[1], Prefixes: v.used, Leaked: v.leaked,
		Refused: v.refused, Limit: v.opt.Limit, State: v.state(),
	}
}
