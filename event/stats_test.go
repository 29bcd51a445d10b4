package event

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsCoverEverything(t *testing.T) {
	last := -1
	for ns := int64(0); ns < 1<<20; ns++ {
		b := bucketOf(ns)
		if b != last && b != last+1 {
			t.Fatalf("%d ns in bucket %d behind %d", ns, b, last)
		}
		if upper(b) < ns || (ns > 8 && float64(upper(b)) > 1.125*float64(ns)+1) {
			t.Fatalf("%d ns in bucket %d up to %d", ns, b, upper(b))
		}
		last = b
	}
	for _, ns := range []int64{1<<maxBits - 1, 1 << maxBits, 1 << 62} {
		if b := bucketOf(ns); b != buckets-1 {
			t.Errorf("%d ns in bucket %d of %d", ns, b, buckets)
		}
	}
}

func TestQuantilesAgainstSortedList(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var g histogram
	if g.distribution() != (Distribution{}) {
		t.Error("an empty histogram has figures")
	}
	var all []int64
	total := int64(0)
	for range 10_000 {
		ns := rng.Int64N(1 << rng.IntN(35))
		all = append(all, ns)
		total += ns
		g.add(ns)
	}
	g.add(-5) // a clock that went back counts as 0
	all = append(all, 0)
	slices.Sort(all)
	d := g.distribution()
	if d.Total != time.Duration(total) || d.Max != time.Duration(all[len(all)-1]) || d.Avg != d.Total/time.Duration(len(all)) {
		t.Errorf("distribution %+v", d)
	}
	for _, c := range []struct {
		got time.Duration
		q   float64
	}{{d.P99, 0.99}, {d.P999, 0.999}} {
		exact := all[int(c.q*float64(len(all)))]
		if r := float64(c.got) / float64(exact); r < 0.99 || r > 1.13 {
			t.Errorf("quantile %v is %v, want %v", c.q, c.got, time.Duration(exact))
		}
	}
}

func TestQuantileOfFew(t *testing.T) {
	var g histogram
	g.add(1000)
	if d := g.distribution(); d.P99 != 1000 || d.P999 != 1000 {
		t.Errorf("of one value: %+v", d)
	}
	g.add(1 << 50)
	if d := g.distribution(); d.P99 != 1<<50 {
		t.Errorf("beyond the last bucket: %+v", d)
	}
}
