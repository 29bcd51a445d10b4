package rib

import (
	"cmp"
	"slices"

	"godwit/fib"
)

// merger joins the leaves of several next hops: each next hop's weight is
// shared out among its leaves, equal leaves are added up, and the sums are
// reduced to the 8 bits of a fib.NextHop.
type merger struct {
	list []share
	den  uint64 // common denominator of the shares
}

type share struct {
	hop fib.NextHop
	num uint64
}

// maxDen bounds the common denominator; beyond it shares are rounded.
const maxDen = 1 << 40

func (m *merger) add(leaves []fib.NextHop, weight uint8) {
	if len(leaves) == 0 {
		return
	}
	if m.den == 0 {
		m.den = 1
	}
	total := uint64(0)
	for _, l := range leaves {
		total += uint64(max(l.Weight, 1))
	}
	if lcm := m.den / gcd(m.den, total) * total; lcm <= maxDen && lcm != m.den {
		for i := range m.list {
			m.list[i].num *= lcm / m.den
		}
		m.den = lcm
	}
	for _, l := range leaves {
		num := uint64(max(weight, 1)) * uint64(max(l.Weight, 1)) * m.den / total
		m.list = append(m.list, share{fib.NextHop{Interface: l.Interface, Gateway: l.Gateway}, max(num, 1)})
	}
}

// hops makes the members of a group: sorted, without duplicates, at most
// fib.MaxNextHops of them.
func (m *merger) hops() []fib.NextHop {
	if len(m.list) == 0 {
		return nil
	}
	slices.SortFunc(m.list, func(a, b share) int {
		return cmp.Or(cmp.Compare(a.hop.Interface, b.hop.Interface), a.hop.Gateway.Compare(b.hop.Gateway))
	})
	out := m.list[:1]
	for _, s := range m.list[1:] {
		if last := &out[len(out)-1]; last.hop == s.hop {
			last.num += s.num
		} else {
			out = append(out, s)
		}
	}
	out = out[:min(len(out), fib.MaxNextHops)]
	return reduce(out)
}

func reduce(list []share) []fib.NextHop {
	div, most := list[0].num, uint64(0)
	for _, s := range list {
		div = gcd(div, s.num)
		most = max(most, s.num)
	}
	most /= div
	hops := make([]fib.NextHop, len(list))
	for i, s := range list {
		w := s.num / div
		if most > 255 {
			w = max(1, uint64(float64(w)/float64(most)*255+0.5))
		}
		hops[i] = s.hop
		hops[i].Weight = uint8(w)
	}
	return hops
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
