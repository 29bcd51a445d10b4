package rib

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"godwit/fib"
)

func prefixes(table *Table, f Filter) string {
	var out []string
	for c, done := (Cursor{}), false; !done; {
		var page []Route
		page, c, done = table.Page(1, f, c, 1)
		for _, r := range page {
			out = append(out, r.Prefix.String())
		}
	}
	return strings.Join(out, " ")
}

func TestFilters(t *testing.T) {
	table := upstream(t)
	nh := netip.MustParseAddr("192.0.2.9")
	one := func(p string, via netip.Addr) BGPRoute {
		return BGPRoute{netip.MustParsePrefix(p), []Path{{NextHop: via}}}
	}
	table.Apply(BGPRoutes{1, []BGPRoute{
		one("10.0.0.0/8", nh), one("10.1.0.0/16", netip.MustParseAddr("192.0.2.8")), one("10.1.1.0/24", nh),
		one("11.0.0.0/8", netip.MustParseAddr("203.0.113.1")), one("2001:db8::/32", nh),
	}}, SetStatic{1, StaticRoute{Prefix: netip.MustParsePrefix("10.2.0.0/16"), Kind: fib.Reject}})
	pfx := netip.MustParsePrefix
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "10.0.0.0/8 10.1.0.0/16 10.1.1.0/24 10.2.0.0/16 11.0.0.0/8 192.0.2.0/24 192.0.2.1/32 2001:db8::/32"},
		{Filter{Installed: true, Family: 4}, "10.0.0.0/8 10.1.0.0/16 10.1.1.0/24 10.2.0.0/16 192.0.2.0/24 192.0.2.1/32"},
		{Filter{Family: 6}, "2001:db8::/32"},
		{Filter{Prefix: pfx("10.1.0.0/16")}, "10.1.0.0/16"},
		{Filter{Prefix: pfx("10.1.0.0/16"), Longer: true}, "10.1.0.0/16 10.1.1.0/24"},
		{Filter{Prefix: pfx("10.0.0.0/7"), Longer: true}, "10.0.0.0/8 10.1.0.0/16 10.1.1.0/24 10.2.0.0/16 11.0.0.0/8"},
		{Filter{Prefix: pfx("0.0.0.0/0")}, ""},
		{Filter{Protocol: Static}, "10.2.0.0/16"},
		{Filter{Protocol: Local}, "192.0.2.1/32"},
		{Filter{NextHop: nh}, "10.0.0.0/8 10.1.1.0/24 2001:db8::/32"},
		{Filter{NextHop: nh, Prefix: pfx("10.1.0.0/16"), Longer: true}, "10.1.1.0/24"},
	} {
		if got := prefixes(table, c.f); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.f, got, c.want)
		}
	}
	if r, _, done := table.Page(9, Filter{}, Cursor{}, 10); r != nil || !done {
		t.Error("routes of a VRF that is not there")
	}
	if table.Lookup(1, netip.Addr{}) != nil || table.Lookup(9, nh) != nil {
		t.Error("lookup of nothing")
	}
}

func TestWeights(t *testing.T) {
	hop := func(i int, w uint8) fib.NextHop { return fib.NextHop{Interface: fib.InterfaceID(i), Weight: w} }
	for _, c := range []struct {
		add  func(*merger)
		want []fib.NextHop
	}{
		{func(*merger) {}, nil},
		{func(m *merger) { m.add([]fib.NextHop{hop(1, 9)}, 7, false) }, []fib.NextHop{hop(1, 1)}},
		{func(m *merger) { m.add([]fib.NextHop{hop(2, 1)}, 1, false); m.add([]fib.NextHop{hop(1, 1)}, 3, false) }, []fib.NextHop{hop(1, 3), hop(2, 1)}},
		// one behind one neighbour, one behind three: 3 to 1, 1, 1
		{func(m *merger) {
			m.add([]fib.NextHop{hop(1, 1)}, 1, false)
			m.add([]fib.NextHop{hop(2, 1), hop(3, 1), hop(4, 1)}, 1, false)
		}, []fib.NextHop{hop(1, 3), hop(2, 1), hop(3, 1), hop(4, 1)}},
		// the same neighbour twice
		{func(m *merger) {
			m.add([]fib.NextHop{hop(1, 1), hop(2, 1)}, 2, false)
			m.add([]fib.NextHop{hop(1, 1)}, 1, false)
		}, []fib.NextHop{hop(1, 2), hop(2, 1)}},
		{func(m *merger) {
			m.add([]fib.NextHop{hop(1, 1)}, 255, false)
			m.add([]fib.NextHop{hop(2, 1), hop(3, 254)}, 1, false)
		},
			[]fib.NextHop{hop(1, 255), hop(2, 1), hop(3, 1)}},
	} {
		var m merger
		c.add(&m)
		if got := m.hops(); !slices.Equal(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
	var m merger
	for i := range 100 {
		m.add([]fib.NextHop{hop(i+1, 1)}, uint8(i), false)
	}
	if n := len(m.hops()); n != fib.MaxNextHops {
		t.Errorf("%d members", n)
	}
}

// TestBackups: backups stand behind the others, weighed among themselves.
func TestBackups(t *testing.T) {
	hop := func(i int, w uint8, backup bool) fib.NextHop {
		return fib.NextHop{Interface: fib.InterfaceID(i), Weight: w, Backup: backup}
	}
	mixed := []fib.NextHop{hop(5, 2, false), hop(1, 1, true), hop(2, 3, true)}
	for _, c := range []struct {
		add  func(*merger)
		want []fib.NextHop
	}{
		{func(m *merger) { m.add(mixed, 1, false) }, []fib.NextHop{hop(5, 1, false), hop(1, 1, true), hop(2, 3, true)}},
		// a backup that resolves to both: its primary ones only
		{func(m *merger) { m.add(mixed, 1, true); m.add([]fib.NextHop{hop(7, 1, false)}, 9, false) },
			[]fib.NextHop{hop(7, 1, false), hop(5, 1, true)}},
		// what is primary is no spare
		{func(m *merger) { m.add(mixed, 1, false); m.add([]fib.NextHop{hop(1, 1, false)}, 1, false) },
			[]fib.NextHop{hop(1, 1, false), hop(5, 1, false), hop(2, 1, true)}},
		{func(m *merger) { m.add(mixed[1:], 1, false) }, []fib.NextHop{hop(1, 1, true), hop(2, 3, true)}},
	} {
		var m merger
		c.add(&m)
		if got := m.hops(); !slices.Equal(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
	var m merger
	for i := range 100 {
		m.add([]fib.NextHop{hop(i+1, 1, false)}, 1, i < 50)
	}
	got := m.hops()
	if len(got) != fib.MaxNextHops || got[49].Backup || !got[50].Backup {
		t.Errorf("%d members: %v", len(got), got)
	}
}

// TestTangleIsGivenUp: many routes through each other end in bounded time.
func TestTangleIsGivenUp(t *testing.T) {
	table := upstream(t)
	var routes []BGPRoute
	for i := range 40 {
		for bits := 9; bits <= 32; bits++ {
			a := netip.AddrFrom4([4]byte{10, byte(i), 0, 1})
			to := netip.AddrFrom4([4]byte{10, byte((i*7 + bits) % 40), 0, 1})
			routes = append(routes, BGPRoute{netip.PrefixFrom(a, bits).Masked(), []Path{{NextHop: to}}})
		}
	}
	table.Apply(BGPRoutes{1, routes})
	for table.More() {
		table.Apply()
	}
	if n, _ := table.Count(1); n != 2 {
		t.Errorf("%d routes installed, want the interface's only", n)
	}
}
