package fwdlab

import (
	"math/rand/v2"
	"net/netip"
)

// Targets picks n addresses, each at random inside a random one of the
// prefixes, and none that a router must not forward. All are of one family.
func Targets(prefixes []netip.Prefix, n int, seed uint64) []netip.Addr {
	return TargetsIn(func(int) []netip.Prefix { return prefixes }, n, seed)
}

// TargetsIn is Targets with other prefixes for each number of a target.
func TargetsIn(prefixes func(i int) []netip.Prefix, n int, seed uint64) []netip.Addr {
	rng := rand.New(rand.NewPCG(seed, 0))
	list := make([]netip.Addr, 0, n)
	for len(list) < n {
		of := prefixes(len(list))
		p := of[rng.IntN(len(of))]
		if p.Addr().Is6() {
			if a := random6(rng, p); a.IsGlobalUnicast() && !OutNet6.Contains(a) {
				list = append(list, a)
			}
			continue
		}
		a := p.Masked().Addr().As4()
		host := uint32(rng.Uint64() & (1<<(32-p.Bits()) - 1))
		for i := range a {
			a[i] |= byte(host >> (24 - 8*i))
		}
		addr := netip.AddrFrom4(a)
		if a[0] == 0 || a[0] == 127 || a[0] >= 224 || InNet.Contains(addr) || OutNet.Contains(addr) {
			continue
		}
		list = append(list, addr)
	}
	return list
}

func random6(rng *rand.Rand, p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As16()
	for bit := p.Bits(); bit < 128; bit++ {
		if rng.IntN(2) == 0 {
			a[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	return netip.AddrFrom16(a)
}
