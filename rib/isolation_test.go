package rib

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"godwit/fib"
	"godwit/fib/patricia"
)

// isolated is the interface of a VRF in the isolation test.
func isolated(v fib.VRF) fib.InterfaceID { return fib.MakeInterfaceID(fib.CardID(1+v%2), uint16(v)) }

// TestThousandVRFsDoNotMix: 1,000 VRFs with the same prefixes and addresses;
// every address of each leads to its own interface, on the way through the RIB
// and a line card's table. One of them leaks one prefix to one other.
func TestThousandVRFsDoNotMix(t *testing.T) {
	const n = 1000
	table := New(Options{})
	vias := []Path{{NextHop: netip.MustParseAddr("10.0.0.2")}}
	var routes []BGPRoute
	for i := range 50 {
		routes = append(routes, BGPRoute{netip.MustParsePrefix(fmt.Sprintf("172.16.%d.0/24", i)), vias})
	}
	routes = append(routes, BGPRoute{netip.MustParsePrefix("0.0.0.0/0"), vias})
	for v := fib.VRF(1); v <= n; v++ {
		list := routes
		if v%2 == 0 {
			list = routes[:25] // what is behind it leads to nowhere, not to the neighbour VRF
		}
		table.Apply(AddVRF{v}, SetInterface{Interface{
			ID: isolated(v), VRF: v, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")},
		}}, BGPRoutes{v, list})
	}
	only := []PrefixRule{{Prefix: netip.MustParsePrefix("172.16.40.0/24")}}
	table.Apply(SetLeak{From: 501, To: 500, Rules: []LeakRule{{Export: Match{Prefixes: only}}}})
	for table.More() {
		table.Apply()
	}
	card := cardTable(t, table.Drain())
	for v := fib.VRF(1); v <= n; v++ {
		for i := range 50 {
			want := isolated(v)
			switch {
			case v == 500 && i == 40:
				want = isolated(501)
			case v%2 == 0 && i >= 25:
				want = 0
			}
			a := netip.MustParseAddr(fmt.Sprintf("172.16.%d.9", i))
			if got := card(v, a); got != want {
				t.Fatalf("VRF %d: %v leads to interface %d, want %d", v, a, got, want)
			}
		}
		if got := card(v, netip.MustParseAddr("10.0.0.7")); got != isolated(v) {
			t.Fatalf("VRF %d: its neighbour is on interface %d", v, got)
		}
	}
	if card(n+1, netip.MustParseAddr("10.0.0.7")) != 0 {
		t.Error("a VRF that is not there has routes")
	}
}

// TestRemovedVRFTakesNothingElse: of many VRFs alike, one goes.
func TestRemovedVRFTakesNothingElse(t *testing.T) {
	table := New(Options{})
	p := netip.MustParsePrefix("10.0.0.1/24")
	for v := fib.VRF(1); v <= 100; v++ {
		table.Apply(AddVRF{v}, SetInterface{Interface{ID: isolated(v), VRF: v, Up: true, Addresses: []netip.Prefix{p}}})
	}
	table.Apply(RemoveVRF{50})
	for table.More() {
		table.Apply()
	}
	for v := fib.VRF(1); v <= 100; v++ {
		want := 2
		if v == 50 {
			want = 0
		}
		if n, _ := table.Count(v); n != want {
			t.Errorf("VRF %d has %d routes, want %d", v, n, want)
		}
	}
}

// cardTable plays changes into a line card's tables and returns a lookup of the
// interface that an address leads to, 0 for none.
func cardTable(t *testing.T, changes []fib.Change) func(fib.VRF, netip.Addr) fib.InterfaceID {
	t.Helper()
	tables := patricia.New(nil)
	t.Cleanup(func() {
		if err := tables.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := tables.Apply(fib.Batch{Epoch: 1, Seq: 1, Changes: changes}); err != nil {
		t.Fatal(err)
	}
	return func(v fib.VRF, a netip.Addr) fib.InterfaceID {
		b := a.As4()
		g := tables.Group(tables.Lookup4(v, binary.BigEndian.Uint32(b[:])))
		if g.Kind != fib.Forward || len(g.NextHops) != 1 {
			return 0
		}
		return g.NextHops[0].Interface
	}
}
