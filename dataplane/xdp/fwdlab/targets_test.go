package fwdlab

import (
	"net/netip"
	"testing"
	"time"
)

func TestTargets(t *testing.T) {
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32"),
	}
	count := make([]int, len(prefixes))
	for _, a := range Targets(prefixes, 3000, 1) {
		if a.IsLoopback() || a.IsMulticast() || InNet.Contains(a) || OutNet.Contains(a) {
			t.Fatalf("target %v", a)
		}
		for i := len(prefixes) - 1; i >= 0; i-- {
			if prefixes[i].Contains(a) {
				count[i]++
				break
			}
		}
	}
	for i, n := range count {
		if n < 500 {
			t.Errorf("%d targets in %v", n, prefixes[i])
		}
	}
	for _, a := range Targets(prefixes[2:], 8, 1) {
		if a != netip.MustParseAddr("203.0.113.7") {
			t.Errorf("target %v in a /32", a)
		}
	}
}

func TestQuantile(t *testing.T) {
	h := make([]uint64, 100)
	h[9], h[19], h[99] = 90, 9, 1
	for q, want := range map[float64]time.Duration{0.5: 10 * delayUnit, 0.95: 20 * delayUnit, 0.995: 100 * delayUnit} {
		if got := Quantile(h, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
