package patricia

import (
	"fmt"
	"testing"

	"godwit/fib/compiled"
	"godwit/fib/fibtest"
)

// Both trees against each other: random changes in a crowded space, full and
// empty again, each answer compared.
func TestOrderedAgainstKentik(t *testing.T) {
	for _, f := range []compiled.Family{compiled.IPv4, compiled.IPv6} {
		t.Run(fmt.Sprint(f), func(t *testing.T) { compareTrees(t, f) })
	}
}

func compareTrees(t *testing.T, f compiled.Family) {
	r := fibtest.Rand(t)
	ours, twin := newOrdered(f), newSharded(f)
	most := uint(32)
	if f == compiled.IPv6 {
		most = 128
	}
	key := func() (compiled.Key, uint) {
		k := compiled.Key{Hi: r.Uint64() & 0xf0f8_1c03_0000_0301, Lo: r.Uint64() & 0xc000_0000_0000_0003}
		n := r.UintN(most + 1)
		return k.Mask(min(n, most)), n
	}
	steps := 120_000 // enough for shards
	if RaceDetector {
		steps = 20_000
	}
	for i := range steps {
		k, n := key()
		if grow := 3; r.IntN(4) < grow != (i > steps/2) {
			tg := makeTag(uint32(i)%generations, n, 1+r.Uint32N(1000))
			if a, b := ours.set(k, n, tg), twin.set(k, n, tg); a != b {
				t.Fatalf("step %d: set %v/%d was %#x, want %#x", i, k, n, a, b)
			}
		} else {
			a, ac := ours.remove(k, n)
			b, bc := twin.remove(k, n)
			if a != b || ac != bc {
				t.Fatalf("step %d: remove %v/%d was %#x in %#x, want %#x in %#x", i, k, n, a, ac, b, bc)
			}
		}
		k, n = key()
		if a, b := ours.deepest(k, n), twin.deepest(k, n); a != b {
			t.Fatalf("step %d: deepest of %v/%d is %#x, want %#x", i, k, n, a, b)
		}
		if i%10_000 == 0 {
			compareWalks(t, ours, twin, k)
		}
	}
	twin.each(compiled.Key{}, func(k compiled.Key, tg tag) bool {
		if old, _ := ours.remove(k, tg.length()); old != tg {
			t.Fatalf("remove %v/%d was %#x, want %#x", k, tg.length(), old, tg)
		}
		return true
	})
	if len(ours.branches)+len(ours.first) != 0 {
		t.Errorf("%d branches and %d keys left", len(ours.branches), len(ours.first))
	}
}

func compareWalks(t *testing.T, ours, twin editable, first compiled.Key) {
	t.Helper()
	type route struct {
		k  compiled.Key
		tg tag
	}
	list := func(e editable) (all []route) {
		e.each(first, func(k compiled.Key, tg tag) bool {
			if compareKeys(k, first) >= 0 {
				all = append(all, route{k, tg})
			}
			return true
		})
		return all
	}
	a, b := list(ours), list(twin)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("walk from %v: route %d is %v, want %v", first, i, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Fatalf("walk from %v: %d routes, want %d", first, len(a), len(b))
	}
}
