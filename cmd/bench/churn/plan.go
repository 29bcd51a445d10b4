package churn

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"godwit/dataplane/xdp/fwdlab"
)

// plan says what flaps and where packets go.
type plan struct {
	flapping []netip.Prefix // /24, none with a more specific one, in random order
	targets  []netip.Addr   // even index: never touched by a change; odd: inside of a flapping prefix
}

// targets is how many destinations there are: a power of two.
const targets = 1 << 16

// newPlan picks n prefixes to flap, evenly over the table.
func newPlan(table []netip.Prefix, n int, seed uint64) (plan, error) {
	able := leaves24(table)
	if n < 1 || n > len(able)/2 {
		return plan{}, fmt.Errorf("pick %d flapping prefixes: the table has %d that are /24 without a more specific one, and half of them stay", n, len(able))
	}
	var p plan
	flaps := map[netip.Prefix]bool{}
	for i := range n {
		x := able[i*len(able)/n]
		p.flapping = append(p.flapping, x)
		flaps[x] = true
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	rng.Shuffle(n, func(i, j int) { p.flapping[i], p.flapping[j] = p.flapping[j], p.flapping[i] })
	var steady []netip.Addr
	for ; len(steady) < targets/2; seed++ {
		for _, a := range fwdlab.Targets(table, targets/2, seed) {
			if x, _ := a.Prefix(24); !flaps[x] {
				steady = append(steady, a)
			}
		}
	}
	moving := fwdlab.Targets(p.flapping, targets/2, seed)
	for i := range targets / 2 {
		p.targets = append(p.targets, steady[i], moving[i])
	}
	return p, nil
}

// leaves24 are the prefixes of 24 bits in which there is no longer one and to
// which packets may go.
func leaves24(table []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(table)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var list []netip.Prefix
	for i, p := range sorted {
		first := p.Addr().As4()[0]
		if p.Bits() != 24 || first == 0 || first == 127 || first >= 224 || p.Contains(fwdlab.RouterIn) {
			continue
		}
		if i+1 == len(sorted) || !p.Contains(sorted[i+1].Addr()) {
			list = append(list, p)
		}
	}
	return list
}
