package ip

import (
	"math/rand/v2"
	"slices"
	"testing"

	"godwit/fib"
)

// resilience checks one step of a table: which buckets may have moved.
func (b *buckets) checkStep(t *testing.T, before []uint8, was, is []bool) {
	t.Helper()
	for i, o := range before {
		n := b.now[i]
		switch {
		case is[n]:
			t.Fatalf("bucket %d is with dead member %d", i, n)
		case n == o || is[o]: // stayed, or its member died
		case was[n] && !is[n]: // to one that came back
		default:
			t.Fatalf("bucket %d moved from living %d to %d, which did not come back", i, o, n)
		}
	}
}

func (b *buckets) checkShares(t *testing.T, dead []bool, slack float64) {
	t.Helper()
	have := make([]int, len(b.weights))
	total := 0
	for _, m := range b.now {
		have[m]++
	}
	for m, w := range b.weights {
		if !dead[m] {
			total += w
		}
	}
	for m, w := range b.weights {
		if dead[m] {
			continue
		}
		if want := float64(w*len(b.now)) / float64(total); float64(have[m]) < want-slack || float64(have[m]) > want+slack {
			t.Fatalf("member %d of weight %d has %d of %d buckets, want %.1f (dead %v)", m, w, have[m], len(b.now), want, dead)
		}
	}
}

// TestBucketsAreResilient kills and revives members at random.
func TestBucketsAreResilient(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 60 {
		n := 2 + r.IntN(30)
		weights, ids := make([]int, n), make([]uint64, n)
		for i := range n {
			weights[i], ids[i] = 1+r.IntN(5), r.Uint64()
		}
		b := newBuckets(weights, ids, nil)
		home := slices.Clone(b.home)
		dead := make([]bool, n)
		b.checkShares(t, dead, 1)
		for range 40 {
			was := slices.Clone(dead)
			if m := r.IntN(n); b.living(dead) > 1 || dead[m] {
				dead[m] = !dead[m]
			}
			before := slices.Clone(b.now)
			b.follow(dead)
			b.checkStep(t, before, was, dead)
			if slices.Index(dead, true) < 0 && !slices.Equal(b.now, home) {
				t.Fatal("all live, and not all buckets are at home")
			}
			// Flows of living members stay, so shares even out late: 0.086 off at worst in seven million steps.
			b.checkShares(t, dead, 0.12*float64(len(b.now))+2)
		}
		clear(dead)
		b.follow(dead)
		if !slices.Equal(b.now, home) {
			t.Fatal("all live, and not all buckets are at home")
		}
	}
}

// TestBucketsFollowNewMembers: replacing a group moves no more than the shares need,
// and other groups with the same members look alike.
func TestBucketsFollowNewMembers(t *testing.T) {
	ids := []uint64{11, 22, 33, 44}
	three := newBuckets([]int{1, 1, 1}, ids[:3], nil)
	for _, c := range []struct {
		what  string
		b     *buckets
		moves int // of 256
	}{
		{"the same", newBuckets([]int{1, 1, 1}, ids[:3], three), 0},
		{"one more", newBuckets([]int{1, 1, 1, 1}, ids, three), 66},
		{"one less", newBuckets([]int{1, 1}, ids[:2], three), 86},
		{"another order", newBuckets([]int{1, 1, 1}, []uint64{33, 11, 22}, three), 2},
		{"a finer table", newBuckets([]int{100, 100, 101}, ids[:3], three), 4},
		{"a group of its own with one less", newBuckets([]int{1, 1}, ids[:2], nil), 86 + 256/8},
		{"a group of its own with one more", newBuckets([]int{1, 1, 1, 1}, ids, nil), 66 + 256/8},
	} {
		moved := 0
		for i := range three.home {
			if c.b.ids[c.b.home[i*len(c.b.home)/len(three.home)]] != three.ids[three.home[i]] {
				moved++
			}
		}
		if moved > c.moves {
			t.Errorf("%s: %d of 256 buckets moved, want at most %d", c.what, moved, c.moves)
		}
	}
}

// TestBackupsStandIn: flows go to backups when no primary lives, and back.
func TestBackupsStandIn(t *testing.T) {
	r := newGroupRig(t)
	g := fib.Group{ID: 1}
	for i := range 5 {
		g.NextHops = append(g.NextHops, fib.NextHop{Interface: ifaceID(i), Weight: 1, Backup: i >= 2})
	}
	r.groups.Set(r.now, 1, g)
	used := func() (list []int) {
		for i, id := range []fib.InterfaceID{ifaceID(0), ifaceID(1), ifaceID(2), ifaceID(3), ifaceID(4)} {
			if slices.Contains(r.choices(1), id) {
				list = append(list, i)
			}
		}
		return list
	}
	whole := r.choices(1)
	for _, c := range []struct {
		down, use []int
	}{
		{nil, []int{0, 1}}, {[]int{0}, []int{1}}, {[]int{0, 1}, []int{2, 3, 4}}, {[]int{0, 1, 3}, []int{2, 4}},
		{[]int{0, 1, 2, 3}, []int{4}}, {[]int{0, 1, 2, 3, 4}, []int{0, 1}}, {[]int{0, 2, 3, 4}, []int{1}}, {nil, []int{0, 1}},
	} {
		for i := range r.up {
			r.up[i] = !slices.Contains(c.down, i)
		}
		r.links()
		if got := used(); !slices.Equal(got, c.use) {
			t.Errorf("with %v down, %v have packets, want %v", c.down, got, c.use)
		}
	}
	if !slices.Equal(r.choices(1), whole) {
		t.Error("flows are not where they were")
	}
	// Backups alone serve as if they were none.
	for i := range g.NextHops {
		g.NextHops[i].Backup = true
	}
	r.groups.Set(r.now, 1, g)
	if got := used(); len(got) != 5 {
		t.Errorf("of five backups without a primary %v have packets", got)
	}
}

func TestHashPlan(t *testing.T) {
	h := NewHashPlan(map[fib.VRF]fib.HashFields{3: fib.HashNoPorts, 7: fib.HashLabel, 1 << 30: fib.HashLabel, 9: 0})
	for v, want := range map[fib.VRF]fib.HashFields{0: 0, 3: fib.HashNoPorts, 4: 0, 7: fib.HashLabel, 9: 0, 1 << 30: 0} {
		if got := h.Fields(v); got != want {
			t.Errorf("VRF %d: %v, want %v", v, got, want)
		}
	}
	if len(h.byVRF) > 8 {
		t.Errorf("%d entries", len(h.byVRF))
	}
}

// BenchmarkGroupSet is the making of a group of four members.
func BenchmarkGroupSet(b *testing.B) {
	ids, weights := []uint64{1, 2, 3, 4}, []int{1, 1, 1, 1}
	for b.Loop() {
		newBuckets(weights, ids, nil)
	}
}
