package express_test

import (
	"net/netip"
	"testing"
	"time"

	"godwit/dataplane/header"
	"godwit/fib"
)

// BenchmarkProgram is the time of the XDP program itself, with all its data in the nearest
// caches and without a driver: `go test -run xxx -bench Program ./dataplane/express`.
func BenchmarkProgram(b *testing.B) {
	for _, c := range []struct {
		name string
		ip6  bool
		many int // members of the group
	}{{"IPv4", false, 1}, {"IPv6", true, 1}, {"IPv4 of two members", false, 2}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			group := fib.Group{ID: 77}
			for i := range c.many {
				group.NextHops = append(group.NextHops, fib.NextHop{Interface: ifaceID(2+i, 0), Gateway: host4(2+i, 3)})
			}
			dst := netip.MustParseAddr("198.51.100.9")
			f := make([]byte, 14, 64)
			if c.ip6 {
				dst = host6(99, 9)
				f = append(f, make([]byte, header.IPv6Len+20)...)
				header.PutEthernet(f, portMAC(1), hostMAC(1, 0, 3), header.TypeIPv6)
				header.PutIPv6(f[14:], 20, 0, 17, 255, host6(1, 9), dst)
			} else {
				f = append(f, make([]byte, header.IPv4Len+20)...)
				header.PutEthernet(f, portMAC(1), hostMAC(1, 0, 3), header.TypeIPv4)
				header.PutIPv4(f[14:], header.IPv4Len+20, 1, 0, 0, 255, 17, host4(1, 9), dst)
			}
			p, _ := dst.Prefix(dst.BitLen() - 8)
			r.apply(fib.Change{Op: fib.SetGroup, Group: group}, route(0, p, 77))
			if verdict, _, err := r.port[1].Test(f); err != nil || verdict != 4 {
				b.Fatalf("verdict %d, %v", verdict, err)
			}
			const runs = 200
			var total time.Duration
			for b.Loop() {
				d, err := r.port[1].Time(f, runs)
				if err != nil {
					b.Fatal(err)
				}
				total += d
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/packet")
		})
	}
}
