package compiled

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func families(t *testing.T, f func(*testing.T, Family)) {
	for _, family := range []Family{IPv4, IPv6} {
		t.Run(map[Family]string{IPv4: "IPv4", IPv6: "IPv6"}[family], func(t *testing.T) { f(t, family) })
	}
}

// Random changes in a crowded space against a linear scan: tables grow from
// nothing to large and back to nothing, each answer in every way.
func TestAgainstScan(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		large := 4000
		if raceDetector {
			large = 500
		}
		for _, most := range []int{3, 40, large} {
			t.Run(fmt.Sprint(most), func(t *testing.T) { againstScan(t, f, most) })
		}
	})
}

func againstScan(t *testing.T, f Family, most int) {
	g := newRig(t)
	const vrf = 7
	steps := max(6*most, 2000)
	for i := range steps {
		shrinking := i > steps/2
		if n := len(g.twin.list); n > 0 && (n >= most || g.r.IntN(4) == 0 != shrinking) {
			g.remove(g.twin.list[g.r.IntN(n)])
		} else {
			g.set(g.prefix(vrf, f), 1+g.r.Uint32N(20))
		}
		if i%max(1, steps/200) != 0 {
			continue
		}
		g.settle()
		addrs := make([]Key, 1+g.r.IntN(100))
		for j := range addrs {
			addrs[j] = g.addr(f)
			if n := len(g.twin.list); n > 0 && j%2 == 0 {
				addrs[j] = g.within(g.twin.list[g.r.IntN(n)])
			}
		}
		g.compare(vrf, f, addrs, g.scanned(vrf, f))
	}
	for len(g.twin.list) > 0 {
		g.remove(g.twin.list[0])
	}
	g.settle()
	g.s.Clear(vrf, f)
	g.settle()
	if n := g.s.Bytes(vrf, f); n != 0 {
		t.Errorf("%d bytes for no routes", n)
	}
}

// within is an address at the border of a prefix, or in its middle.
func (g *rig) within(k twinKey) Key {
	x := Key{g.r.Uint64(), g.r.Uint64()}
	switch g.r.IntN(3) {
	case 0:
		x = Key{}
	case 1:
		x = Key{^uint64(0), ^uint64(0)}
	}
	m := x.Mask(k.n)
	a := Key{k.key.Hi | x.Hi&^m.Hi, k.key.Lo | x.Lo&^m.Lo}
	if k.f == IPv4 {
		a = Key{Hi: a.Hi &^ 0xffffffff}
	}
	return a
}

// An address that no VRF number leads to has no route.
func TestBadVRF(t *testing.T) {
	g := newRig(t)
	g.set(twinKey{0, IPv4, Key{}, 0}, 5)
	g.set(twinKey{0, IPv6, Key{}, 0}, 5)
	out := []uint32{9, 9}
	for _, vrf := range []uint32{MaxVRF + 1, ^uint32(0)} {
		g.s.LookupBatch4(vrf, []uint32{1, 2}, out)
		if n := g.s.Lookup4(vrf, 1) | g.s.Lookup6(vrf, 1, 1) | out[0] | out[1]; n != 0 {
			t.Errorf("VRF %d: group %d", vrf, n)
		}
		out = []uint32{9, 9}
		g.s.LookupBatch6(vrf, [][2]uint64{{1, 1}, {2, 2}}, out)
		if out[0]|out[1] != 0 {
			t.Errorf("VRF %d: groups %v", vrf, out)
		}
	}
	g.s.LookupBatch4(0, nil, nil)
	g.s.LookupBatch6(0, nil, nil)
}

// The same prefixes lead to different groups in 1,000 VRFs; changes in one
// change nothing in the others.
func TestOverlap(t *testing.T) {
	g := newRig(t)
	const vrfs = 1000
	prefixes := map[Family][]twinKey{}
	for _, f := range []Family{IPv4, IPv6} {
		for range 10 {
			prefixes[f] = append(prefixes[f], g.prefix(0, f))
		}
	}
	each := func(do func(k twinKey)) {
		for vrf := range uint32(vrfs) {
			for _, f := range []Family{IPv4, IPv6} {
				for _, k := range prefixes[f] {
					k.vrf = vrf
					do(k)
				}
			}
		}
	}
	check := func() {
		g.settle()
		each(func(k twinKey) {
			if raceDetector && g.r.IntN(8) > 0 {
				return
			}
			want := func(a Key) uint32 {
				_, group := g.twin.longest(k.vrf, k.f, a, map[Family]int{IPv4: 32, IPv6: 128}[k.f])
				return group
			}
			g.compare(k.vrf, k.f, []Key{g.within(k), g.addr(k.f)}, want)
		})
	}
	each(func(k twinKey) { g.set(k, k.vrf*10+uint32(k.n)%10+1) })
	check()
	for vrf := range uint32(vrfs) {
		for _, f := range []Family{IPv4, IPv6} {
			if n := g.s.Bytes(vrf, f); n > 2048 {
				t.Fatalf("VRF %d: %d bytes for 10 routes", vrf, n)
			}
		}
	}
	each(func(k twinKey) {
		switch k.vrf % 3 {
		case 0:
			g.remove(k)
		case 1:
			g.set(k, 500_000+k.vrf)
		}
	})
	check()
}

// Lookups and batches of any length allocate nothing.
func TestLookupsDoNotAllocate(t *testing.T) {
	g := newRig(t)
	for len(g.twin.list) < 1500 {
		g.set(g.prefix(0, [...]Family{IPv4, IPv6}[len(g.twin.list)%2]), 1)
	}
	a4, a6, out := make([]uint32, 100), make([][2]uint64, 100), make([]uint32, 100)
	for _, g.s.gathers = range []bool{false, g.s.gathers} {
		if n := testing.AllocsPerRun(20, func() {
			for _, n := range []int{0, 1, 3, 31, 64, 100} {
				g.s.LookupBatch4(0, a4[:n], out)
				g.s.LookupBatch6(0, a6[:n], out)
			}
			g.s.Lookup4(0, 1)
			g.s.Lookup6(0, 1, 1)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
