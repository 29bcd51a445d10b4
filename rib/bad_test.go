package rib

import (
	"errors"
	"net/netip"
	"testing"

	"godwit/fib"
)

// TestBadPrefixesChangeNothing: invalid prefixes, host bits and IPv4-mapped IPv6, as
// prefixes and as next hops, are counted, named and left out, in every update that has one.
func TestBadPrefixesChangeNothing(t *testing.T) {
	t4 := New(Options{})
	t4.Apply(AddVRF{1}, AddVRF{2}, SetInterface{Interface{ID: 1, VRF: 1, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}})
	t4.Drain()
	before := t4.Stats()
	hop := netip.MustParseAddr("192.0.2.2")
	good := netip.MustParsePrefix("10.0.0.0/8")
	var bad []Update
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("2001:db8::1/32"), netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		bad = append(bad,
			SetStatic{1, StaticRoute{Prefix: p, Vias: []Via{{Address: hop}}}},
			DeleteStatic{1, p, 0},
			BGPRoutes{1, []BGPRoute{{p, []Path{{NextHop: hop}}}}},
			BGPRoutes{1, []BGPRoute{{Prefix: p}}})
	}
	mapped := netip.MustParseAddr("::ffff:192.0.2.2")
	bad = append(bad,
		SetStatic{1, StaticRoute{Prefix: good, Vias: []Via{{Address: mapped}}}},
		SetStatic{1, StaticRoute{Prefix: good, Vias: []Via{{Address: netip.MustParseAddr("fe80::1%a")}}}},
		SetStatic{1, StaticRoute{Prefix: good, Vias: []Via{{}}}},
		SetStatic{1, StaticRoute{Prefix: good, Kind: fib.Blackhole, Tracks: []Via{{Address: mapped}}}},
		BGPRoutes{1, []BGPRoute{{good, []Path{{NextHop: netip.IPv4Unspecified()}}}}},
		BGPRoutes{1, []BGPRoute{{good, []Path{{}}}}})
	for i, u := range bad {
		t4.Apply(u)
		if s := t4.Stats(); s.Rejected != before.Rejected+uint64(i)+1 || !errors.Is(s.LastReject, ErrBadRoute) {
			t.Fatalf("%T %+v: %d rejected, last %v", u, u, s.Rejected-before.Rejected, s.LastReject)
		}
		if out := t4.Drain(); len(out) > 0 {
			t.Errorf("%T %+v changes %v", u, u, out)
		}
	}
	after := t4.Stats()
	after.Rejected, after.LastReject = before.Rejected, before.LastReject
	if after != before {
		t.Errorf("%+v, before %+v", after, before)
	}
	// A BGP next hop that is IPv4-mapped is the IPv4 address that it holds.
	t4.Apply(BGPRoutes{1, []BGPRoute{{good, []Path{{NextHop: mapped}}}}})
	if n4, _ := t4.Count(1); n4 != 3 {
		t.Errorf("%d routes, want that of BGP too", n4)
	}
}
