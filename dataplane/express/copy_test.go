package express_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"godwit/dataplane/express"
	"godwit/dataplane/xdp"
	"godwit/fib"
	"godwit/fib/patricia"
)

// BenchmarkCopy is what the copy of the lookup tables for the program costs: a full table loaded, then
// changed in batches, with the copy and without.
func BenchmarkCopy(b *testing.B) {
	for _, name := range []string{"load", "load+copy", "change", "change+copy"} {
		b.Run(name, func(b *testing.B) { benchmarkCopy(b, name[:4] == "load", len(name) > 6) })
	}
}

const (
	copyRoutes = 900_000
	copyBatch  = 1000
)

func benchmarkCopy(b *testing.B, load, copied bool) {
	changes, runs := manyRoutes(copyRoutes), 0.0
	for b.Loop() {
		b.StopTimer()
		t := patricia.New(quiet{})
		bytes := 0
		var x *xdp.Express
		if copied {
			var err error
			if x, err = xdp.NewExpress(); err != nil {
				b.Fatal(err)
			}
			bytes = x.Bytes()
			t.SetMirror(express.New(x.State, x, express.NewGrace(), 1))
		}
		seq := uint64(0)
		apply := func(list []fib.Change) {
			for c := range slices.Chunk(list, copyBatch) {
				seq++
				if err := t.Apply(fib.Batch{Epoch: 1, Seq: seq, Changes: c}); err != nil {
					b.Fatal(err)
				}
			}
		}
		apply([]fib.Change{group(1), group(2)})
		if load {
			b.StartTimer()
		}
		apply(changes)
		if !load {
			next := slices.Clone(changes[:copyRoutes/9])
			for i := range next {
				next[i].Route.Group = 2
			}
			b.StartTimer()
			apply(next)
		}
		b.StopTimer()
		runs++
		if load {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/runs/copyRoutes, "ns/route")
		} else {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/runs/(copyRoutes/9), "ns/route")
		}
		if x != nil {
			b.ReportMetric(float64(x.Bytes()-bytes)/1e6, "MB")
			t.SetMirror(nil)
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func group(id fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: fib.Blackhole}}
}

// manyRoutes are different prefixes of 16 to 24 bits, most of 24.
func manyRoutes(n int) (list []fib.Change) {
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[netip.Prefix]bool{}
	for len(list) < n {
		bits := 24 - rng.IntN(9)*rng.IntN(2)
		p, _ := netip.AddrFrom4([4]byte{byte(1 + rng.IntN(126)), byte(rng.Uint32()), byte(rng.Uint32()), 0}).Prefix(bits)
		if !seen[p] {
			seen[p] = true
			list = append(list, fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: 1}})
		}
	}
	return list
}

// quiet takes groups and does nothing with them.
type quiet struct{}

func (quiet) GroupSet(uint32, fib.Group) {}
func (quiet) GroupFree(uint32)           {}

// TestManyRoutesAreDifferent: the benchmark's table has what it says.
func TestManyRoutesAreDifferent(t *testing.T) {
	if n := len(manyRoutes(1000)); n != 1000 {
		t.Errorf("%d routes", n)
	}
}
