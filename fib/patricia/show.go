package patricia

import (
	"cmp"
	"net/netip"
	"slices"

	"godwit/fib"
	"godwit/fib/compiled"
)

// Stats counts what the tables hold.
type Stats struct {
	Epoch  uint32
	Seq    uint64
	Groups int
	VRFs   []VRFStats // with routes, in order of number
}

// VRFStats counts one VRF. Bytes is the memory of its compiled tables.
type VRFStats struct {
	VRF              fib.VRF
	Routes4, Routes6 int
	Bytes            int
}

// Stats counts routes, groups and memory.
func (t *Tables) Stats() Stats {
	s := Stats{Epoch: t.epoch, Seq: t.seq, Groups: t.groups.live}
	for vrf, v := range t.vrfs {
		c := VRFStats{VRF: vrf}
		c.Bytes = t.space.Bytes(uint32(vrf), compiled.IPv4) + t.space.Bytes(uint32(vrf), compiled.IPv6)
		if v.v4 != nil {
			c.Routes4 = v.v4.routes
		}
		if v.v6 != nil {
			c.Routes6 = v.v6.routes
		}
		s.VRFs = append(s.VRFs, c)
	}
	slices.SortFunc(s.VRFs, func(a, b VRFStats) int { return cmp.Compare(a.VRF, b.VRF) })
	return s
}

// Digest sums up the routes of a VRF.
func (t *Tables) Digest(vrf fib.VRF) (d fib.Digest) {
	if v := t.vrfs[vrf]; v != nil {
		for _, tb := range [...]*table{v.v4, v.v6} {
			if tb != nil {
				d.Routes += tb.routes
				d.Sum += tb.sum
			}
		}
	}
	return d
}

// GroupSum is the sum of fib.Group.Sum over all groups, modulo 2^64.
func (t *Tables) GroupSum() (sum uint64) {
	for i := range t.groups.all {
		if g := &t.groups.all[i]; g.live {
			sum += g.Sum()
		}
	}
	return sum
}

// Group returns the group with an index; its ID is 0 if there is none.
func (t *Tables) Group(index uint32) fib.Group {
	if index >= uint32(len(t.groups.all)) {
		return fib.Group{}
	}
	return cloneGroup(t.groups.all[index].Group)
}

// Get returns the route of exactly this prefix.
func (t *Tables) Get(vrf fib.VRF, p netip.Prefix) (fib.Route, fib.Group, bool) {
	if !p.IsValid() || p.Addr().Is4In6() {
		return fib.Route{}, fib.Group{}, false
	}
	tb := t.find(vrf, p.Addr().Is4())
	if tb == nil {
		return fib.Route{}, fib.Group{}, false
	}
	p = p.Masked()
	return t.route(vrf, p, tb.get(keyOf(p.Addr()), uint(p.Bits())))
}

// Find returns the route of the longest prefix that has the address.
func (t *Tables) Find(vrf fib.VRF, addr netip.Addr) (fib.Route, fib.Group, bool) {
	p, index, ok := t.Longest(vrf, addr)
	if !ok {
		return fib.Route{}, fib.Group{}, false
	}
	g := t.Group(index)
	return fib.Route{VRF: vrf, Prefix: p, Group: g.ID}, g, true
}

// Longest returns the longest prefix that has the address, and the index of its group.
func (t *Tables) Longest(vrf fib.VRF, addr netip.Addr) (p netip.Prefix, group uint32, ok bool) {
	addr = addr.Unmap().WithZone("")
	tb := t.find(vrf, addr.Is4())
	if tb == nil || !addr.IsValid() {
		return p, 0, false
	}
	tg := tb.deepest(keyOf(addr), uint(addr.BitLen()))
	if tg == 0 {
		return p, 0, false
	}
	p, _ = addr.Prefix(int(tg.length()))
	return p, tg.group(), true
}

func (t *Tables) route(vrf fib.VRF, p netip.Prefix, tg tag) (fib.Route, fib.Group, bool) {
	if tg == 0 {
		return fib.Route{}, fib.Group{}, false
	}
	g := t.Group(tg.group())
	return fib.Route{VRF: vrf, Prefix: p, Group: g.ID}, g, true
}

// Walk calls f for the VRF's routes within under (all of them, IPv4 first, if
// it is the zero Prefix) that come behind after (from the start, if that is
// the zero Prefix), in order of address, then length, until f returns false.
// f must not change the tables.
func (t *Tables) Walk(vrf fib.VRF, under, after netip.Prefix, f func(p netip.Prefix, group uint32) bool) {
	v := t.vrfs[vrf]
	if v == nil {
		return
	}
	under = under.Masked()
	for _, tb := range [...]*table{v.v4, v.v6} {
		if tb == nil {
			continue
		}
		is4 := tb.family == compiled.IPv4
		if under.IsValid() && under.Addr().Is4() != is4 || after.IsValid() && after.Addr().Is4() && !is4 && under.IsValid() {
			continue
		}
		if is4 && after.IsValid() && !after.Addr().Is4() {
			continue
		}
		w := walk{f: f}
		if under.IsValid() {
			w.under, w.underLen = keyOf(under.Addr()), uint(under.Bits())
			w.first = w.under
		}
		if after.IsValid() && after.Addr().Is4() == is4 {
			w.after, w.afterLen, w.behind = keyOf(after.Addr()), after.Bits(), true
			if compareKeys(w.after, w.first) > 0 {
				w.first = w.after
			}
		}
		if !w.run(tb) {
			return
		}
	}
}

type walk struct {
	f        func(netip.Prefix, uint32) bool
	under    compiled.Key
	underLen uint
	after    compiled.Key
	afterLen int
	behind   bool // after is set
	first    compiled.Key
}

// run returns false once f has.
func (w *walk) run(tb *table) (more bool) {
	more = true
	tb.each(w.first, func(k compiled.Key, tg tag) bool {
		n := tg.length()
		if n < w.underLen || k.Mask(w.underLen) != w.under {
			return compareKeys(k, w.under) <= 0 // behind under: nothing more
		}
		if w.behind {
			if c := compareKeys(k, w.after); c < 0 || c == 0 && int(n) <= w.afterLen {
				return true
			}
		}
		more = w.f(prefixOf(tb.family, k, n), tg.group())
		return more
	})
	return more
}

func compareKeys(a, b compiled.Key) int {
	return cmp.Or(cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Lo, b.Lo))
}
