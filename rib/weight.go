package rib

import (
	"cmp"
	"slices"

	"godwit/fib"
)

// merger joins the leaves of several next hops: each next hop's weight is
// shared out among its leaves, equal leaves are added up, and the sums are
// reduced to the 8 bits of a fib.NextHop. Backups are weighed among themselves.
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

func (m *merger) add(leaves []fib.NextHop, weight uint8, backup bool) {
	// Leaves have their backups at the end.
	if n := slices.IndexFunc(leaves, func(l fib.NextHop) bool { return l.Backup }); n == 0 {
		backup = true
	} else if n > 0 {
		if m.add(leaves[:n], weight, backup); !backup {
			m.add(leaves[n:], weight, true)
		}
		return
	}
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
		m.list = append(m.list, share{fib.NextHop{Interface: l.Interface, Gateway: l.Gateway, Backup: backup}, max(num, 1)})
	}
}

// hops makes the members of a group: sorted, backups behind the others, without
// duplicates, at most fib.MaxNextHops of them.
func (m *merger) hops() []fib.NextHop {
	if len(m.list) == 0 {
		return nil
	}
	slices.SortFunc(m.list, func(a, b share) int {
		return cmp.Or(order(a.hop.Backup)-order(b.hop.Backup), cmp.Compare(a.hop.Interface, b.hop.Interface), a.hop.Gateway.Compare(b.hop.Gateway))
	})
	out := m.list[:1]
	for _, s := range m.list[1:] {
		if last := &out[len(out)-1]; last.hop == s.hop {
			last.num += s.num
		} else {
			out = append(out, s)
		}
	}
	main := slices.IndexFunc(out, func(s share) bool { return s.hop.Backup })
	if main < 0 {
		return reduce(out[:min(len(out), fib.MaxNextHops)])
	}
	spare := slices.DeleteFunc(slices.Clone(out[main:]), func(x share) bool { // what is primary is no spare
		x.hop.Backup = false
		return slices.ContainsFunc(out[:main], func(s share) bool { return s.hop == x.hop })
	})
	hops := append(reduce(out[:main]), reduce(spare)...)
	return hops[:min(len(hops), fib.MaxNextHops)]
}

func order(backup bool) int {
	if backup {
		return 1
	}
	return 0
}

func reduce(list []share) []fib.NextHop {
	if len(list) == 0 {
		return nil
	}
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
