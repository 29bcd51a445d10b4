package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rewriteRoutes = flag.Bool("rewrite-routes", false, "write testdata/routes.hex anew")

func routePath(nextHop, peer string, as uint32, length uint16) RoutePath {
	return RoutePath{NextHop: netip.MustParseAddr(nextHop), Peer: netip.MustParseAddr(peer), PeerAS: as, LocalPref: 100, ASPathLen: length}
}

func sampleRoutes() RouteBatchBody {
	a := []RoutePath{routePath("192.0.2.1", "192.0.2.1", 65001, 3)}
	b := []RoutePath{routePath("192.0.2.1", "192.0.2.1", 65001, 3), routePath("192.0.2.5", "192.0.2.5", 4200000000, 3)}
	c := []RoutePath{routePath("fe80::1", "fe80::1%eth0", 65001, 1)}
	c[0].MED = 1 << 31
	c[0].Communities = "65000:* no-export"
	return RouteBatchBody{Seq: 7, Changes: []RouteChange{
		{netip.MustParsePrefix("10.0.0.0/8"), a},
		{netip.MustParsePrefix("10.1.2.0/23"), a},
		{netip.MustParsePrefix("0.0.0.0/0"), b},
		{netip.MustParsePrefix("198.51.100.7/32"), nil},
		{netip.MustParsePrefix("2001:db8::/33"), c},
		{netip.MustParsePrefix("::/0"), c},
		{netip.MustParsePrefix("2001:db8::1/128"), nil},
	}}
}

func TestRouteBatchGolden(t *testing.T) {
	p, err := EncodeRouteBatch(sampleRoutes())
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/routes.hex"
	if *rewriteRoutes {
		if err := os.WriteFile(file, []byte(hex.EncodeToString(p)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(p); got != strings.TrimSpace(string(want)) {
		t.Errorf("encoding changed:\n got %s\nwant %s", got, want)
	}
	got, err := DecodeRouteBatch(p)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sampleRoutes()) {
		t.Errorf("got %+v, want %+v", got, sampleRoutes())
	}
	if &got.Changes[0].Paths[0] != &got.Changes[1].Paths[0] {
		t.Error("equal path sets are not shared")
	}
}

func drawAddr(t *rapid.T, label string) netip.Addr {
	b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)
	if rapid.Bool().Draw(t, label+"4") {
		return netip.AddrFrom4([4]byte(b))
	}
	b[0] |= 0x20 // not IPv4-mapped
	return netip.AddrFrom16([16]byte(b))
}

func TestRouteBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := RouteBatchBody{Seq: rapid.Uint64().Draw(t, "seq"), Changes: []RouteChange{}}
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			a := drawAddr(t, "prefix")
			p, _ := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			var paths []RoutePath
			for range rapid.IntRange(0, 3).Draw(t, "paths") {
				paths = append(paths, RoutePath{drawAddr(t, "next hop"), drawAddr(t, "peer"), rapid.Uint32().Draw(t, "as"),
					rapid.Uint32().Draw(t, "med"), rapid.Uint32().Draw(t, "pref"), rapid.Uint16().Draw(t, "length"), rapid.StringN(0, 20, 80).Draw(t, "communities")})
			}
			batch.Changes = append(batch.Changes, RouteChange{p, paths})
		}
		b, err := EncodeRouteBatch(batch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRouteBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, batch) {
			t.Fatalf("got %+v, want %+v", got, batch)
		}
	})
}

func TestRouteBatchSize(t *testing.T) {
	set, err := EncodeRoutePaths(sampleRoutes().Changes[0].Paths)
	if err != nil {
		t.Fatal(err)
	}
	var b RouteBatchBuilder
	b.Begin(1)
	for i := 0; ; i++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		if !b.Add(p, set) {
			break
		}
	}
	n := b.Len()
	p := b.Bytes()
	if n < 8000 || len(p) > RouteBatchSize {
		t.Errorf("a batch holds %d changes in %d bytes", n, len(p))
	}
	got, err := DecodeRouteBatch(p)
	if err != nil || len(got.Changes) != n {
		t.Errorf("decoded %d of %d changes: %v", len(got.Changes), n, err)
	}
}

func TestRouteBatchRefuses(t *testing.T) {
	good, err := EncodeRouteBatch(sampleRoutes())
	if err != nil {
		t.Fatal(err)
	}
	for i := range good { // truncation ends inside a change, or behind one
		if b, err := DecodeRouteBatch(good[:i]); err == nil && len(b.Changes) >= len(sampleRoutes().Changes) {
			t.Errorf("truncated to %d bytes: accepted whole", i)
		}
	}
	head := append([]byte{2}, make([]byte, 8)...)
	for name, tail := range map[string][]byte{
		"unknown set":          {2, 8, 10},
		"host bits":            {0, 8 + 1, 10, 1},
		"length 33":            {0, 33, 1, 2, 3, 4, 5},
		"length 193":           append([]byte{0, 193}, make([]byte, 17)...),
		"IPv4-mapped":          append(append([]byte{0, 192}, make([]byte, 10)...), 255, 255, 1, 2, 3, 4),
		"no paths":             {1, 0, 8, 10},
		"65 paths":             {1, 65, 8, 10},
		"no next hop":          {1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 8, 10},
		"zone on IPv4":         {1, 1, 4, 1, 'x', 1, 2, 3, 4, 0, 0, 1, 1, 1, 1, 8, 10},
		"long number":          {0x80, 0x00, 8, 10},
		"AS above 32 bits":     {1, 1, 4, 0, 1, 2, 3, 4, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1, 1, 8, 10},
		"long communities":     {1, 1, 4, 0, 1, 2, 3, 4, 0, 0, 1, 1, 1, 1, 0x81, 6, 8, 10},
		"cut communities":      {1, 1, 4, 0, 1, 2, 3, 4, 0, 0, 1, 1, 1, 1, 9, 8, 10},
		"AS path above 16 bit": {1, 1, 4, 0, 1, 2, 3, 4, 0, 0, 1, 1, 1, 0x80, 0x80, 4, 8, 10},
	} {
		if _, err := DecodeRouteBatch(append(bytes.Clone(head), tail...)); !errors.Is(err, ErrBadRoutes) {
			t.Errorf("%s: %v, want ErrBadRoutes", name, err)
		}
	}
	if _, err := DecodeRouteBatch([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0}); !errors.Is(err, ErrBadRoutes) {
		t.Errorf("version 1: %v", err)
	}
	for _, p := range []string{"10.0.0.1/8", "::ffff:10.0.0.0/104"} {
		if _, err := EncodeRouteBatch(RouteBatchBody{Changes: []RouteChange{{Prefix: netip.MustParsePrefix(p)}}}); err == nil {
			t.Errorf("encoded %s", p)
		}
	}
	if _, err := EncodeRoutePaths(make([]RoutePath, 1)); err == nil {
		t.Error("encoded a path without next hop")
	}
	long := routePath("192.0.2.1", "192.0.2.1", 1, 1)
	long.Communities = strings.Repeat("x", maxNames)
	if set, err := EncodeRoutePaths(slices.Repeat([]RoutePath{long}, MaxRoutePaths)); err != nil || len(set) > RouteBatchSize-100 {
		t.Errorf("the largest set has %d bytes: %v", len(set), err)
	}
	long.Communities += "x"
	if _, err := EncodeRoutePaths([]RoutePath{long}); err == nil {
		t.Error("encoded too long communities")
	}
	if _, err := EncodeRoutePaths(make([]RoutePath, MaxRoutePaths+1)); err == nil {
		t.Error("encoded too many paths")
	}
}

func FuzzRouteBatch(f *testing.F) {
	good, err := EncodeRouteBatch(sampleRoutes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, p []byte) {
		batch, err := DecodeRouteBatch(p)
		if err != nil || len(p) > RouteBatchSize/2 {
			return
		}
		again, err := EncodeRouteBatch(batch)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		twice, err := DecodeRouteBatch(again)
		if err != nil || !reflect.DeepEqual(batch, twice) {
			t.Fatalf("decode again: %v\n%+v\n%+v", err, batch, twice)
		}
	})
}

func BenchmarkDecodeRouteBatch(b *testing.B) {
	set, _ := EncodeRoutePaths(sampleRoutes().Changes[0].Paths)
	var w RouteBatchBuilder
	w.Begin(1)
	for i := 0; w.Add(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), set); i++ {
	}
	n := w.Len()
	p := w.Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRouteBatch(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/route")
}
