package fwdlab

import (
	"math/rand/v2"
	"net/netip"
)

// Targets picks n addresses, each at random inside a random one of the
// prefixes, and none that a router must not forward.
func Targets(prefixes []netip.Prefix, n int, seed uint64) []netip.Addr {
	rng := rand.New(rand.NewPCG(seed, 0))
	list := make([]netip.Addr, 0, n)
	for len(list) < n {
		p := prefixes[rng.IntN(len(prefixes))]
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
