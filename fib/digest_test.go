package fib

import (
	"net/netip"
	"testing"
)

// Every part of a route and of a group counts.
func TestSumsDiffer(t *testing.T) {
	seen := map[uint64]string{}
	add := func(name string, s uint64) {
		t.Helper()
		if other, ok := seen[s]; ok {
			t.Errorf("%s has the sum of %s", name, other)
		}
		seen[s] = name
	}
	add("route", RouteSum(10<<56, 0, 8, false, 1))
	add("address", RouteSum(11<<56, 0, 8, false, 1))
	add("lower half", RouteSum(10<<56, 1, 8, true, 1))
	add("length", RouteSum(10<<56, 0, 9, false, 1))
	add("family", RouteSum(10<<56, 0, 8, true, 1))
	add("group", RouteSum(10<<56, 0, 8, false, 2))
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, g := range map[string]Group{
		"drop":      {ID: 1, Kind: Blackhole},
		"reject":    {ID: 1, Kind: Reject},
		"other":     {ID: 2, Kind: Reject},
		"one":       {ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: a, Weight: 1}}},
		"interface": {ID: 1, NextHops: []NextHop{{Interface: 2, Gateway: a, Weight: 1}}},
		"gateway":   {ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: b, Weight: 1}}},
		"glean":     {ID: 1, NextHops: []NextHop{{Interface: 1, Weight: 1}}},
		"weight":    {ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: a, Weight: 2}}},
		"backup":    {ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: a, Weight: 1, Backup: true}}},
		"two":       {ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: a, Weight: 1}, {Interface: 2, Gateway: a, Weight: 1}}},
		"swapped":   {ID: 1, NextHops: []NextHop{{Interface: 2, Gateway: a, Weight: 1}, {Interface: 1, Gateway: a, Weight: 1}}},
	} {
		add(name, g.Sum())
	}
	zero := Group{ID: 1, NextHops: []NextHop{{Interface: 1, Gateway: a, Weight: 0}}}
	if seen[zero.Sum()] != "one" {
		t.Error("weight 0 is not weight 1")
	}
}
