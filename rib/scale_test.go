package rib

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"godwit/fib"
)

// feed makes n distinct prefixes of a family in an order without locality, as
// BGP paths with one of 40 next hops in 192.0.2.0/24, in batches.
func feed(n int, is4 bool, batch int, each func([]BGPRoute)) {
	paths := make([][]Path, 2000)
	for i := range paths {
		paths[i] = []Path{{
			NextHop: netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%40)}), Peer: netip.AddrFrom4([4]byte{192, 0, 2, 2}),
			PeerAS: 64500, MED: uint32(i / 40), LocalPref: 100, ASPathLen: uint16(i % 7),
		}}
	}
	routes := make([]BGPRoute, 0, batch)
	for i := range n {
		x := uint32(i) * 2654435761 // odd: a permutation of 24 bits too
		var p netip.Prefix
		if is4 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], (x&0xffffff)<<8)
			p = netip.PrefixFrom(netip.AddrFrom4(b), 24)
		} else {
			b := [16]byte{0x20, 1}
			binary.BigEndian.PutUint32(b[2:], x)
			p = netip.PrefixFrom(netip.AddrFrom16(b), 48)
		}
		routes = append(routes, BGPRoute{Prefix: p, Paths: paths[(i/5)%len(paths)]})
		if len(routes) == batch || i == n-1 {
			each(routes)
			routes = routes[:0]
		}
	}
}

func upstream(t testing.TB) *Table {
	t.Helper()
	table := New(Options{})
	table.Apply(AddVRF{1}, SetInterface{Interface{
		ID: 1, Name: "up", VRF: 1, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	}})
	table.Drain()
	return table
}

func load(table *Table, n4, n6 int) (changes int) {
	apply := func(routes []BGPRoute) {
		table.Apply(BGPRoutes{1, routes})
		changes += len(table.Drain())
	}
	feed(n4, true, 2000, apply)
	feed(n6, false, 2000, apply)
	return changes
}

// TestMemory bounds the table's memory for a route: 150 bytes.
func TestMemory(t *testing.T) {
	const n4, n6 = 300_000, 60_000
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table := upstream(t)
	load(table, n4, n6)
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(after.HeapAlloc-before.HeapAlloc) / (n4 + n6)
	t.Logf("%.0f bytes a route", per)
	if per > 150 {
		t.Errorf("%.0f bytes a route, want at most 150", per)
	}
	if n := table.Stats().Routes; n != n4+n6+2 {
		t.Errorf("%d routes", n)
	}
	runtime.KeepAlive(table)
}

// TestFailedNextHopIsOneChange: many routes, one of two next hops fails; only
// groups change.
func TestFailedNextHopIsOneChange(t *testing.T) {
	table := upstream(t)
	table.Apply(SetInterface{Interface{ID: 2, Name: "b", VRF: 1, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}}})
	two := []Path{{NextHop: netip.MustParseAddr("192.0.2.2")}, {NextHop: netip.MustParseAddr("198.51.100.2")}}
	feed(50_000, true, 2000, func(r []BGPRoute) {
		for i := range r {
			r[i].Paths = two
		}
		table.Apply(BGPRoutes{1, r})
	})
	table.Drain()
	table.Apply(SetInterface{Interface{ID: 2, Name: "b", VRF: 1}})
	var out []string
	for _, c := range table.Drain() {
		out = append(out, formatChange(c))
	}
	// the connected route's group and the shared one; connected and local route, their group
	if len(out) != 5 || out[1] != "set-group 4 forward 192.0.2.2@1" {
		t.Errorf("changes: %q", out)
	}
	if table.More() {
		t.Error("routes wait to be decided again")
	}
}

// TestLostNextHopGoesInSlices: the only next hop fails; the group discards at
// once, the routes go in bounded slices.
func TestLostNextHopGoesInSlices(t *testing.T) {
	table := upstream(t)
	load(table, 20_000, 0)
	table.Drain()
	table.Apply(SetInterface{Interface{ID: 1, Name: "up", VRF: 1}})
	first := table.Drain()
	if len(first) > 5000 || !table.More() {
		t.Fatalf("%d changes in one slice, more: %v", len(first), table.More())
	}
	n := 0
	for table.More() {
		table.Apply()
		n++
	}
	if n < 3 || n > 10 || table.Stats().Routes != 0 || table.Stats().Groups != 0 {
		t.Errorf("%d slices, left %+v", n, table.Stats())
	}
	if n := table.Stats().Candidates; n != 20_000 {
		t.Errorf("%d candidates, want 20,000 that wait for the next hop", n)
	}
}

func BenchmarkInsert(b *testing.B) {
	for b.Loop() {
		table := upstream(b)
		start := time.Now()
		load(table, 1_000_000, 200_000)
		b.ReportMetric(1_200_000/time.Since(start).Seconds(), "routes/s")
		start = time.Now()
		load(table, 1_000_000, 200_000)
		b.ReportMetric(1_200_000/time.Since(start).Seconds(), "refreshes/s")
		start = time.Now()
		feed(1_000_000, true, 2000, func(r []BGPRoute) {
			for i := range r {
				r[i].Paths = nil
			}
			table.Apply(BGPRoutes{1, r})
			table.Drain()
		})
		b.ReportMetric(1_000_000/time.Since(start).Seconds(), "withdrawals/s")
	}
}

func BenchmarkPage(b *testing.B) {
	table := upstream(b)
	load(table, 200_000, 0)
	n := 0
	for b.Loop() {
		for c, done := (Cursor{}), false; !done; {
			var page []Route
			page, c, done = table.Page(fib.VRF(1), Filter{}, c, 1000)
			n += len(page)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "routes/s")
}
